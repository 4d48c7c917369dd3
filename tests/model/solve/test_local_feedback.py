"""What a fit took from CT is given back, but for fine noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bids_unires.model import NoiseEstimate, Observation, SliceProfile
from bids_unires.model.solve.local_feedback import (
    DEFAULTS,
    LocalFeedback,
    with_local_residuals,
    without_fine_noise,
)
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from tests.model.states import contrast_of

Image = NDArray[np.float32]

SIDE, RATIO = 40, 4
GRID = Grid((SIDE,) * 3, np.eye(4))
NOISE = NoiseEstimate(4.0, 0.0, 1000.0, "high-pass-mad")
WIDTHS = (0.5, 0.5, 0.0)
# Away from the outermost slices.
INNER = (slice(RATIO, -RATIO),) * 3


def affine_of(axis: int) -> Affine:
    steps = np.where(np.arange(3) == axis, RATIO, 1)
    return translation((steps - 1) / 2) @ scaling(steps)


def scanned(image: Image, axis: int, noise_sd: float = 0.0) -> Observation:
    """Slices of a head along an axis, as the model scans it."""
    sides = [SIDE] * 3
    sides[axis] = SIDE // RATIO
    profile = SliceProfile("point", "rect", axis=axis)
    empty = Observation(np.ones(sides), affine_of(axis), 1.0, profile, zero_is_missing=False)
    data = empty.operator(GRID).forward(torch.as_tensor(image)).numpy()
    data += np.random.default_rng(0).normal(scale=noise_sd, size=data.shape).astype(np.float32)
    return Observation(data, affine_of(axis), 1 / 16, profile, zero_is_missing=False)


def given_back(scan: Observation, image: Image, parameters: LocalFeedback = DEFAULTS) -> Image:
    contrast = contrast_of([scan], 1.0, NOISE, "CT")
    return with_local_residuals(contrast, GRID, torch.as_tensor(image), parameters).numpy()


def brain(lesion: float = 0.0) -> Image:
    image = np.full((SIDE,) * 3, 1035, dtype=np.float32)
    image[16:22, 16:22, 16:24] += lesion
    return image


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("lesion", [25.0, -10.0])
def test_a_lesion_that_the_fit_has_erased_comes_back(axis: int, lesion: float) -> None:
    scan = scanned(brain(lesion), axis)
    inside = given_back(scan, brain())[17:21, 17:21, 17:23].mean() - 1035
    assert inside == pytest.approx(lesion, rel=0.3)


def test_every_round_gives_back_more_of_a_lesion() -> None:
    scan = scanned(brain(25.0), 2)
    kept = [
        given_back(scan, brain(), LocalFeedback(rounds=rounds))[17:21, 17:21, 17:23].mean() - 1035
        for rounds in range(4)
    ]
    assert kept[0] == 0
    assert kept[1] > 10
    assert kept[2] > kept[1] + 0.1
    assert kept[3] > kept[2] + 0.1


def test_means_are_those_of_the_scan() -> None:
    scan = scanned(brain(), 2, noise_sd=4.0)
    image = given_back(scan, brain() + np.float32(7))
    assert image[INNER].mean() == pytest.approx(1035, abs=0.3)


def test_the_finest_noise_is_not_given_back() -> None:
    scan = scanned(brain(), 2, noise_sd=4.0)
    everything = given_back(scan, brain(), LocalFeedback(width=0.1))[INNER].std()
    assert everything > 4.0
    assert given_back(scan, brain())[INNER].std() < 0.95 * everything


def test_an_image_that_explains_its_scan_stays() -> None:
    image = brain(25.0)
    np.testing.assert_allclose(given_back(scanned(image, 2), image), image, atol=1e-2)


def test_edges_stronger_than_noise_are_given_back_in_full() -> None:
    noise = np.random.default_rng(0).normal(scale=4, size=(60, 60, 3)).astype(np.float32)
    noise[30] += 200
    kept = without_fine_noise(noise, np.ones(noise.shape, dtype=bool), WIDTHS)
    assert kept[30].mean() > 0.9 * 200


def test_slices_are_independent() -> None:
    residual = np.zeros((30, 30, 3), np.float32)
    residual[15, 15, 1] = 100
    kept = without_fine_noise(residual, np.ones(residual.shape, dtype=bool), WIDTHS)
    assert np.abs(kept[..., [0, 2]]).max() == 0
