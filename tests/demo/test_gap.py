"""Slices with gaps between them: what the sidecar says about them is worth reading."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bids_unires.acquisition import acquisition_from_sidecar
from bids_unires.config import ModelSettings
from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, acquire
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.model import super_resolve
from bids_unires.model.profile import profile_for_voxels
from bids_unires.volume import Volume

SETTINGS = ModelSettings(voxel_size=(1.25, 1.25, 1.25))


def test_reading_the_gap_gains_on_assuming_none() -> None:
    anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
    protocol = replace(PROTOCOLS[1], slice_thickness=4.0, slice_spacing=5.0)
    image = anatomy.image(protocol.intensities, protocol.texture_gain).astype(np.float32)
    truth = Volume(image, anatomy.grid.affine)
    head = Volume(anatomy.head.astype(np.float32), anatomy.grid.affine)
    scan = acquire(truth, protocol, Motion(), np.random.default_rng(0))
    gap = acquisition_from_sidecar(protocol.sidecar(), scan.affine).gap
    assert round(gap, 6) == 0.2

    def quality(assumed: float) -> float:
        profile = profile_for_voxels(scan.grid, SETTINGS.voxel_size, gap=assumed)
        result = super_resolve([[scan]], SETTINGS, "cpu", profiles=[[profile]])
        inside = resample(head, result.grid, np.eye(4), order=0, mode="constant") > 0.5
        inside &= result.coverage
        return psnr(result.images[0], resample(truth, result.grid, np.eye(4), order=3), inside)

    assert quality(gap) > quality(0.0)
