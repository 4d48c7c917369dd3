"""Reconstructing on the grid of the study against interpolating onto it, fairly scored.

The truth must be known between voxels, or interpolating it would blur truth and
interpolated image alike and hide what interpolation costs. So the heads have twice the
resolution of the images, and no detail that these could not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial.transform import Rotation

from bids_unires.config import ModelSettings
from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, acquire
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.model import Reconstruction, super_resolve
from bids_unires.model.detail.term import DetailStatement
from bids_unires.model.scanner.profile import profile_for_voxels
from bids_unires.pipeline.group.study_images import RECALLING_ORDER, WARM_TOLERANCE, spline
from bids_unires.space.affines import Affine
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

pytestmark = pytest.mark.slow

Image = NDArray[np.float32]
Images = NDArray[np.float32]

SETTINGS = ModelSettings(voxel_size=(1.0, 1.0, 1.0), unified_rigid=False, learning_effort="brief")
MOTIONS = (
    Motion((0.4, 0.3, 0.2), (4, -3, 5)),
    Motion((2.3, -1.4, 3.1), (3, -2, 4)),
    Motion((-1.7, 2.6, 1.2), (-4, 3, 2)),
)


def half_band(image: Image) -> Image:
    """Without the upper half of the frequencies along every axis."""
    spectrum = fft.rfftn(image, workers=2)
    for axis in range(3):
        samples = image.shape[axis]
        frequencies = fft.rfftfreq(samples) if axis == 2 else fft.fftfreq(samples)
        keep = np.abs(frequencies) < 0.25
        spectrum *= keep.reshape([-1 if k == axis else 1 for k in range(3)])
    return np.asarray(fft.irfftn(spectrum, image.shape, workers=2), dtype=np.float32)


class Case:
    """Three contrasts of a head of half the size, scanned wherever it lay."""

    def __init__(self) -> None:
        anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
        halved = np.diag([0.5, 0.5, 0.5, 1.0]) @ anatomy.grid.affine
        self.truths = [
            Volume(half_band(anatomy.image(p.intensities, p.texture_gain)), halved)
            for p in PROTOCOLS
        ]
        self.head = Volume(anatomy.head.astype(np.float32), halved)
        self.grid = Grid((92, 110, 92), halved @ np.diag([2.0, 2.0, 2.0, 1.0]))
        self.scans = [
            acquire(truth, protocol, motion, np.random.default_rng(index))
            for index, (truth, protocol, motion) in enumerate(
                zip(self.truths, PROTOCOLS, MOTIONS, strict=True)
            )
        ]

    def fit(
        self,
        head_to_grid: Affine,
        settings: ModelSettings,
        start: NDArray[np.float32] | None = None,
        lam: Sequence[float] | None = None,
        details: Sequence[DetailStatement | None] | None = None,
    ) -> Reconstruction:
        return super_resolve(
            [[scan] for scan in self.scans],
            settings,
            "cpu",
            profiles=[[profile_for_voxels(s.grid, settings.voxel_size)] for s in self.scans],
            poses=[[head_to_grid @ motion.scanner_to_head] for motion in MOTIONS],
            grid=self.grid,
            start=start,
            lam=lam,
            details=details,
        )

    def quality(self, images: list[Image], head_to_grid: Affine) -> NDArray[np.float64]:
        back = np.linalg.inv(head_to_grid)
        inside = resample(self.head, self.grid, back, order=0, mode="constant") > 0.5
        return np.array(
            [
                psnr(image, resample(truth, self.grid, back, order=3), inside)
                for image, truth in zip(images, self.truths, strict=True)
            ]
        )


def gradient_energy(image: Image) -> float:
    return float(sum(np.square(np.diff(image, axis=axis)).sum() for axis in range(3)))


def test_reconstruction_on_the_grid_is_sharper_than_interpolation_and_closer() -> None:
    case = Case()
    own = np.asarray(np.linalg.inv(MOTIONS[0].scanner_to_head))
    study = np.eye(4)
    study[:3, :3] = Rotation.from_euler("xyz", [8, -6, 10], degrees=True).as_matrix()
    study[:3, 3] = [3.3, 2.2, 1.7]
    participant = case.fit(own, SETTINGS)
    own_to_study = study @ np.linalg.inv(own)
    volumes = [Volume(image, case.grid.affine) for image in participant.images]
    resliced = [spline(volume, case.grid, own_to_study) for volume in volumes]
    warm = replace(SETTINGS, tolerance=WARM_TOLERANCE * SETTINGS.tolerance)
    start = np.stack([spline(v, case.grid, own_to_study, RECALLING_ORDER) for v in volumes])
    refitted = case.fit(study, warm, start, participant.fit.lam, [None, None, None])
    gain = case.quality(list(refitted.images), study) - case.quality(resliced, study)
    assert (gain > 0.05).all()
    for sharp, soft in zip(refitted.images, resliced, strict=True):
        assert gradient_energy(sharp) > 1.02 * gradient_energy(soft)
