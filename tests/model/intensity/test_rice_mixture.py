"""Rice mixtures: known parameters are found, and air of several noise levels is noticed."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model.intensity.histogram import square_root_histogram
from bids_unires.model.intensity.rice_mixture import fit_rice_mixture


def rician(signal: float, sd: float, count: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(scale=sd, size=(2, count))
    return np.hypot(signal + noise[0], noise[1]).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("sd", [0.5, 5.0, 40.0])
def test_known_mixture_is_found(sd: float, seed: int) -> None:
    air, head = rician(0, sd, 40_000, seed), rician(500, 60, 30_000, seed + 9)
    histogram = square_root_histogram(np.r_[air, head])
    mixture = fit_rice_mixture(histogram)
    assert mixture.has_air
    assert mixture.fits_air(histogram)
    assert mixture.background_sd == pytest.approx(sd, rel=0.05)
    assert mixture.mean.tolist() == pytest.approx([air.mean(), head.mean()], rel=0.02)


def test_air_of_two_noise_levels_does_not_fit() -> None:
    air = np.r_[rician(0, 2, 20_000, 0), rician(0, 12, 20_000, 1)]
    histogram = square_root_histogram(np.r_[air, rician(500, 60, 30_000, 2)])
    assert not fit_rice_mixture(histogram).fits_air(histogram)


def test_dark_tissue_is_not_air() -> None:
    histogram = square_root_histogram(np.r_[rician(200, 10, 20_000, 0), rician(500, 30, 30_000, 1)])
    assert not fit_rice_mixture(histogram).has_air
