"""A sharp scan beside thick slices of other contrasts: it loses nothing, and they gain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.demo.phantom import Anatomy, build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, acquire, add_rician_noise
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.model import super_resolve
from bids_unires.model.result import SuperResolution
from bids_unires.volume import Volume

SETTINGS = ModelSettings(voxel_size=(1.25, 1.25, 1.25))
# As far apart as scans of one session may be.
MOTIONS = (Motion(), Motion((0.4, 0.3, 0.2), (3.0, -2.0, 4.0)), Motion((-1.7, 2.6, 1.2)))
T1W, T2W, FLAIR = range(3)


class Examination:
    """T1w of 1 mm, T2w and FLAIR of 4 mm slices in two planes."""

    def __init__(self) -> None:
        anatomy: Anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
        affine = anatomy.grid.affine
        self.truths = [
            Volume(anatomy.image(p.intensities, p.texture_gain).astype(np.float32), affine)
            for p in PROTOCOLS
        ]
        self.head = Volume(anatomy.head.astype(np.float32), affine)
        noise = 0.01 * float(self.truths[T1W].data.max())
        sharp = add_rician_noise(self.truths[T1W].data, noise, np.random.default_rng(0))
        self.scans = [Volume(sharp, affine)] + [
            acquire(truth, protocol, motion, np.random.default_rng(number))
            for number, (truth, protocol, motion) in enumerate(
                zip(self.truths[1:], PROTOCOLS[1:], MOTIONS[1:], strict=True), start=1
            )
        ]

    def fit(self, contrasts: Sequence[int]) -> SuperResolution:
        """The contrasts, with the scans where they were."""
        poses = [[MOTIONS[contrast].scanner_to_head] for contrast in contrasts]
        scans = [[self.scans[contrast]] for contrast in contrasts]
        return super_resolve(scans, SETTINGS, "cpu", poses=poses)

    def quality(self, contrast: int, result: SuperResolution, index: int) -> float:
        """PSNR inside the head, in dB."""
        inside = resample(self.head, result.grid, np.eye(4), order=0, mode="constant") > 0.5
        truth = resample(self.truths[contrast], result.grid, np.eye(4), order=3)
        return psnr(result.images[index], truth, inside & result.coverage)


@pytest.fixture(scope="module")
def examination() -> Examination:
    return Examination()


@pytest.fixture(scope="module")
def together(examination: Examination) -> SuperResolution:
    return examination.fit([T1W, T2W, FLAIR])


def test_the_sharp_contrast_is_as_if_alone(
    examination: Examination, together: SuperResolution
) -> None:
    alone = examination.fit([T1W])
    joint = together.images[T1W]
    # Summed, since the grid that holds all scans is larger.
    energy = [float(np.sum(np.square(np.gradient(image)))) for image in (joint, alone.images[0])]
    assert energy[0] == pytest.approx(energy[1], rel=0.02)
    ahead = examination.quality(T1W, together, T1W) - examination.quality(T1W, alone, 0)
    assert ahead > -0.02


@pytest.mark.parametrize("contrast", [T2W, FLAIR])
def test_thick_slices_are_better_beside_it_than_alone(
    examination: Examination, together: SuperResolution, contrast: int
) -> None:
    alone = examination.fit([contrast])
    joint = examination.quality(contrast, together, contrast)
    detail = together.details[contrast]
    assert detail is not None
    assert detail.shown
    print(f"{joint:.2f} dB, alone {examination.quality(contrast, alone, 0):.2f} dB")
    assert joint > examination.quality(contrast, alone, 0) + 1.5
