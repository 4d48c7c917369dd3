"""Intensities of one contrast follow from those of others, as far as they do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bids_unires.model.intensity.correlation_ratio import (
    conditional_means,
    grey_levels,
    interpolate_means,
    robust_maximum,
)


def predicted(values: NDArray[np.float32], *others: NDArray[np.float32]) -> NDArray[np.float64]:
    levels = grey_levels(others, [robust_maximum(other) for other in others])
    return interpolate_means(conditional_means(values, levels), levels)


@pytest.fixture
def others() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(0, 100, (2, 40_000)).astype(np.float32)
    return first, second


@pytest.mark.parametrize("count", [1, 2])
def test_a_function_of_the_others_is_found(
    others: tuple[NDArray[np.float32], ...], count: int
) -> None:
    shown = others[:count]
    truth = np.sum([50 * np.cos(other / 25) for other in shown], axis=0).astype(np.float32)
    assert np.abs(predicted(truth, *shown) - truth).mean() < 0.1 * truth.std()


def test_what_they_do_not_tell_has_its_mean_everywhere(
    others: tuple[NDArray[np.float32], ...],
) -> None:
    first, second = others
    assert predicted(second, first) == pytest.approx(float(second.mean()), rel=0.1)


def test_units_of_the_others_do_not_matter(others: tuple[NDArray[np.float32], ...]) -> None:
    first, second = others
    values = (first - second**2 / 100).astype(np.float32)
    np.testing.assert_allclose(
        predicted(values, 7 * first, second), predicted(values, first, second), atol=1e-3
    )


def test_levels_that_nothing_has_take_the_mean_of_those_around() -> None:
    levels = grey_levels([np.array([0.0, 100.0], np.float32)], [100.0])
    table = conditional_means(np.array([10.0, 20.0], np.float32), levels)
    assert np.isfinite(table).all()
    assert (np.diff(table) >= -1e-9).all()
    assert table[0] == pytest.approx(10.0)
    assert table[-1] == pytest.approx(20.0)


def test_a_few_outliers_are_not_the_brightest() -> None:
    image = np.full(10_000, 50.0, np.float32)
    image[:7] = 1e6
    assert robust_maximum(image) == 50.0
    assert robust_maximum(np.zeros(100, np.float32)) == 1.0
