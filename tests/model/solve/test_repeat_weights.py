"""Repeats that agree, and repeats that do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.model import NoiseEstimate, Observation
from bids_unires.model.intensity.scan_state import ScanState
from bids_unires.model.solve.repeat_weights import (
    DEGREES_OF_FREEDOM,
    RepeatResidual,
    common_scale,
)

SHAPE = (24, 20, 16)
NOISE_SD = 2.0
INSIDE = np.ones(SHAPE, dtype=bool)


def normal(sd: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=sd, size=SHAPE).astype(np.float32)


def repeat_of(residual: np.ndarray, inside: np.ndarray, noise_sd: float) -> RepeatResidual:
    scan = Observation(np.ones(SHAPE, np.float32), np.eye(4))
    noise = NoiseEstimate(noise_sd, 0.0, 100.0, "rice-mixture")
    return RepeatResidual(ScanState.as_acquired(scan, noise), residual, inside)


def reweighted(
    residual: np.ndarray, inside: np.ndarray, noise_sd: float
) -> tuple[float, np.ndarray]:
    repeat = repeat_of(residual, inside, noise_sd)
    found = repeat.reweighted(common_scale([repeat]))
    return found.residual_scale, np.asarray(found.observation.tau)


def test_residuals_like_noise_leave_least_squares() -> None:
    scale, precision = reweighted(np.clip(normal(NOISE_SD), -7, 7), INSIDE, NOISE_SD)
    assert scale == NOISE_SD
    assert np.unique(precision).tolist() == [np.float32(NOISE_SD**-2)]


def test_outliers_among_noise_have_low_precision() -> None:
    residual = normal(NOISE_SD)
    residual[0, 0, 0] = 100 * NOISE_SD
    scale, precision = reweighted(residual, INSIDE, NOISE_SD)
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
    scale, precision = reweighted(residual, INSIDE, NOISE_SD)
    assert scale == pytest.approx(factor * NOISE_SD, rel=0.1)
    # The larger a residual, the lower its precision.
    order = np.argsort(np.abs(residual), axis=None)
    assert (np.diff(precision.ravel()[order]) <= 0).all()


def test_units_do_not_matter() -> None:
    one, thousand = (reweighted(k * normal(20.0), INSIDE, k * NOISE_SD) for k in (1, 1000))
    assert thousand[0] == pytest.approx(1000 * one[0], rel=1e-4)
    np.testing.assert_allclose(thousand[1] * 1e6, one[1], rtol=1e-3)


def test_repeats_share_a_scale_but_keep_their_noise() -> None:
    residuals = [normal(1.0, 1), normal(20.0, 2), normal(20.0, 3)]
    repeats = [
        repeat_of(residual, INSIDE, noise_sd)
        for residual, noise_sd in zip(residuals, (1.0, 2.0, 50.0), strict=True)
    ]
    common = common_scale(repeats)
    scales = [repeat.reweighted(common).residual_scale for repeat in repeats]
    assert scales[0] == scales[1]
    assert 5 < scales[0] < 20
    assert scales[2] == 50


def test_air_does_not_hide_disagreement() -> None:
    residual, inside = normal(20.0), INSIDE.copy()
    residual[:18], inside[:18] = 0, False
    assert reweighted(residual, inside, NOISE_SD)[0] > 7 * NOISE_SD


def test_a_scan_without_head_keeps_its_noise() -> None:
    assert reweighted(normal(NOISE_SD), np.zeros(SHAPE, dtype=bool), NOISE_SD)[0] == NOISE_SD
