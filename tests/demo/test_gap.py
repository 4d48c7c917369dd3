"""Slices with gaps between them: what the sidecar says about them is worth reading."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.dataset.acquisition import acquisition_from_sidecar
from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, Plane, acquire
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.model import super_resolve
from bids_unires.model.scanner.profile import profile_for_voxels
from bids_unires.space.volume import Volume

pytestmark = [pytest.mark.learns, pytest.mark.slow]

SETTINGS = ModelSettings(voxel_size=(1.25, 1.25, 1.25))
PLANES: tuple[Plane, ...] = ("transverse", "sagittal", "coronal")


@pytest.mark.parametrize(
    ("planes", "noise", "least_gain"),
    [(PLANES[:1], 0.015, 0.1), (PLANES, 0.015, 0.8)],
    ids=["one stack", "three stacks"],
)
def test_reading_the_gap_gains(planes: tuple[Plane, ...], noise: float, least_gain: float) -> None:
    anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
    protocol = replace(PROTOCOLS[1], slice_thickness=4.0, slice_spacing=5.0, noise=noise)
    image = anatomy.image(protocol.intensities, protocol.texture_gain).astype(np.float32)
    truth = Volume(image, anatomy.grid.affine)
    head = Volume(anatomy.head.astype(np.float32), anatomy.grid.affine)
    scans = [
        acquire(truth, replace(protocol, plane=plane), Motion(), np.random.default_rng(index))
        for index, plane in enumerate(planes)
    ]
    gap = acquisition_from_sidecar(protocol.sidecar(), scans[0].affine).gap
    assert round(gap, 6) == 0.2

    def quality(assumed: float) -> float:
        profiles = [profile_for_voxels(s.grid, SETTINGS.voxel_size, gap=assumed) for s in scans]
        poses = [np.eye(4) for _ in scans]
        result = super_resolve([scans], SETTINGS, "cpu", profiles=[profiles], poses=[poses])
        inside = resample(head, result.grid, np.eye(4), order=0, mode="constant") > 0.5
        inside &= result.coverage
        return psnr(result.images[0], resample(truth, result.grid, np.eye(4), order=3), inside)

    assert quality(gap) > quality(0.0) + least_gain
