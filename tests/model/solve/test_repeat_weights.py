"""Repeats that agree, and repeats that do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.model.solve.repeat_weights import DEGREES_OF_FREEDOM, weigh

SHAPE = (24, 20, 16)
NOISE_SD = 2.0
INSIDE = np.ones(SHAPE, dtype=bool)


def normal(sd: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=sd, size=SHAPE).astype(np.float32)


def weigh_one(
    residual: np.ndarray, inside: np.ndarray, noise_sd: float
) -> tuple[float, np.ndarray]:
    found = weigh([residual], [inside], [noise_sd])
    return found.scales[0], found.precisions[0]


def test_residuals_like_noise_leave_least_squares() -> None:
    scale, precision = weigh_one(np.clip(normal(NOISE_SD), -7, 7), INSIDE, NOISE_SD)
    assert scale == NOISE_SD
    assert np.unique(precision).tolist() == [np.float32(NOISE_SD**-2)]


def test_outliers_among_noise_are_not_believed() -> None:
    residual = normal(NOISE_SD)
    residual[0, 0, 0] = 100 * NOISE_SD
    scale, precision = weigh_one(residual, INSIDE, NOISE_SD)
    assert scale == NOISE_SD
    assert precision[0, 0, 0] < 1e-3 * np.median(precision)


@settings(max_examples=30, deadline=None)
@given(factor=st.floats(2, 100), seed=st.integers(0, 1000))
def test_scale_follows_the_residuals(factor: float, seed: int) -> None:
    residual = (
        factor
        * NOISE_SD
        * np.random.default_rng(seed).standard_t(DEGREES_OF_FREEDOM, SHAPE).astype(np.float32)
    )
    scale, precision = weigh_one(residual, INSIDE, NOISE_SD)
    assert scale == pytest.approx(factor * NOISE_SD, rel=0.1)
    # The further off a voxel is, the less it is believed.
    order = np.argsort(np.abs(residual), axis=None)
    assert (np.diff(precision.ravel()[order]) <= 0).all()


def test_units_do_not_matter() -> None:
    one, thousand = (weigh_one(k * normal(20.0), INSIDE, k * NOISE_SD) for k in (1, 1000))
    assert thousand[0] == pytest.approx(1000 * one[0], rel=1e-4)
    np.testing.assert_allclose(thousand[1] * 1e6, one[1], rtol=1e-3)


def test_repeats_share_a_scale_but_keep_their_noise() -> None:
    residuals = [normal(1.0, 1), normal(20.0, 2), normal(20.0, 3)]
    scales = weigh(residuals, [INSIDE] * 3, [1.0, 2.0, 50.0]).scales
    assert scales[0] == scales[1]
    assert 5 < scales[0] < 20
    assert scales[2] == 50


def test_air_does_not_hide_disagreement() -> None:
    residual, inside = normal(20.0), INSIDE.copy()
    residual[:18], inside[:18] = 0, False
    assert weigh_one(residual, inside, NOISE_SD)[0] > 7 * NOISE_SD


def test_a_scan_without_head_keeps_its_noise() -> None:
    assert weigh_one(normal(NOISE_SD), np.zeros(SHAPE, dtype=bool), NOISE_SD)[0] == NOISE_SD
