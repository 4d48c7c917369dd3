"""A sharp scan beside thick slices of other contrasts: it loses nothing, and they gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from bids_unires.config import ModelSettings
from bids_unires.demo.phantom import Anatomy, build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, acquire, add_rician_noise
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.model import Reconstruction, super_resolve
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

pytestmark = [pytest.mark.learns, pytest.mark.slow]

SETTINGS = ModelSettings(voxel_size=(1.25, 1.25, 1.25))
# As far apart as scans of one session may be.
MOTIONS = (Motion(), Motion((0.4, 0.3, 0.2), (3.0, -2.0, 4.0)), Motion((-1.7, 2.6, 1.2)))
T1W, T2W, FLAIR = range(3)
# Balls of 4 mm in white matter: world mm of their middle, and how much brighter they are.
LESIONS = {T1W: ((-26.0, -8.0, 26.0), 0.6), FLAIR: ((26.0, -8.0, 26.0), 1.5)}
RADIUS_MM = 4.0


def ball(grid: Grid, centre: Sequence[float]) -> NDArray[np.float32]:
    """1 within a lesion and 0 outside."""
    places = np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.affine[:3, :3].T
    distance = np.linalg.norm(places + grid.affine[:3, 3] - centre, axis=-1)
    return np.clip(RADIUS_MM - distance + 0.5, 0, 1).astype(np.float32)


class Examination:
    """T1w of 1 mm, T2w and FLAIR of 4 mm slices in two planes.

    Parameters
    ----------
    lesions
        Of contrasts that show one: the middle in world mm, and its brightness over that of
        what it replaces.
    """

    def __init__(self, lesions: Mapping[int, tuple[Sequence[float], float]]) -> None:
        anatomy: Anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
        affine = anatomy.grid.affine
        self.truths = [
            Volume(anatomy.image(p.intensities, p.texture_gain).astype(np.float32), affine)
            for p in PROTOCOLS
        ]
        for contrast, (centre, factor) in lesions.items():
            self.truths[contrast].data[:] *= 1 + (factor - 1) * ball(anatomy.grid, centre)
        self.head = Volume(anatomy.head.astype(np.float32), affine)
        noise = 0.01 * float(self.truths[T1W].data.max())
        sharp = add_rician_noise(self.truths[T1W].data, noise, np.random.default_rng(0))
        self.scans = [Volume(sharp, affine)] + [
            acquire(truth, protocol, motion, np.random.default_rng(number))
            for number, (truth, protocol, motion) in enumerate(
                zip(self.truths[1:], PROTOCOLS[1:], MOTIONS[1:], strict=True), start=1
            )
        ]

    def fit(self, contrasts: Sequence[int]) -> Reconstruction:
        """The contrasts, with the scans where they were."""
        poses = [[MOTIONS[contrast].scanner_to_head] for contrast in contrasts]
        scans = [[self.scans[contrast]] for contrast in contrasts]
        return super_resolve(scans, SETTINGS, "cpu", poses=poses)

    def quality(self, contrast: int, result: Reconstruction, index: int) -> float:
        """PSNR inside the head, in dB."""
        inside = resample(self.head, result.grid, np.eye(4), order=0, mode="constant") > 0.5
        truth = resample(self.truths[contrast], result.grid, np.eye(4), order=3)
        return psnr(result.images[index], truth, inside & result.coverage)


@pytest.fixture(scope="module")
def examination() -> Examination:
    return Examination({})


@pytest.fixture(scope="module")
def together(examination: Examination) -> Reconstruction:
    return examination.fit([T1W, T2W, FLAIR])


def test_the_sharp_contrast_is_as_if_alone(
    examination: Examination, together: Reconstruction
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
    examination: Examination, together: Reconstruction, contrast: int
) -> None:
    alone = examination.fit([contrast])
    joint = examination.quality(contrast, together, contrast)
    detail = together.fit.details[contrast]
    assert detail is not None
    assert detail.used_other_contrast
    print(f"{joint:.2f} dB, alone {examination.quality(contrast, alone, 0):.2f} dB")
    assert joint > examination.quality(contrast, alone, 0) + 1.5


def test_a_lesion_of_one_contrast_stays_its_own(together: Reconstruction) -> None:
    diseased = Examination(LESIONS).fit([T1W, T2W, FLAIR])

    def change(contrast: int, lesion: int) -> float:
        """Of a contrast where another one may have a lesion, relative to the healthy head."""
        inside = ball(together.grid, LESIONS[lesion][0]) > 0.9
        now, before = (float(r.images[contrast][inside].mean()) for r in (diseased, together))
        return now / before - 1

    assert change(T1W, T1W) == pytest.approx(-0.4, abs=0.02)
    assert change(FLAIR, FLAIR) == pytest.approx(0.5, abs=0.1)
    for contrast, lesion in ((T2W, T1W), (FLAIR, T1W), (T1W, FLAIR), (T2W, FLAIR)):
        assert abs(change(contrast, lesion)) < 0.05
