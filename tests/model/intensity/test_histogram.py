"""Histograms: whole grey levels stay exact, and thresholds lie between the classes."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model.intensity.histogram import (
    grey_level_step,
    sample_voxels,
    square_root_histogram,
    uniform_histogram,
)


@pytest.mark.parametrize("seed", [0, 1])
def test_grey_levels_stay_exact(seed: int) -> None:
    values = np.random.default_rng(seed).integers(1, 200, 20_000).astype(np.float32)
    for histogram in (square_root_histogram(values), uniform_histogram(values, 1000)):
        levels, counts = np.unique(values, return_counts=True)
        kept = histogram.centres.size
        np.testing.assert_allclose(histogram.centres, levels[:kept])
        np.testing.assert_allclose(histogram.counts, counts[:kept])
        assert kept >= levels.size - 1


def test_threshold_separates_two_classes() -> None:
    rng = np.random.default_rng(0)
    dark, bright = rng.normal(20, 3, 5000), rng.normal(100, 10, 5000)
    histogram = uniform_histogram(np.r_[dark, bright].astype(np.float32), 500)
    assert (dark <= histogram.otsu_threshold).mean() > 0.999
    assert (bright > histogram.otsu_threshold).all()
    assert histogram.means_around(histogram.otsu_threshold) == pytest.approx((20, 100), abs=1)


@pytest.mark.parametrize(("dark_count", "bright_count"), [(50_000, 1000), (1000, 50_000)])
def test_a_rare_class_is_separated_as_well(dark_count: int, bright_count: int) -> None:
    rng = np.random.default_rng(0)
    dark, bright = rng.normal(20, 3, dark_count), rng.normal(100, 4, bright_count)
    threshold = uniform_histogram(np.r_[dark, bright].astype(np.float32), 500).otsu_threshold
    assert dark.max() - 1 < threshold < bright.min() + 1


def test_masked_air_is_the_dark_class() -> None:
    values = np.random.default_rng(0).normal(100, 10, 5000).astype(np.float32)
    histogram = square_root_histogram(values).with_level(0.0, 5000)
    assert histogram.otsu_threshold < values.min()


def test_sample_is_even_and_finite() -> None:
    data = np.ones((300, 200, 100), dtype=np.float32)
    data[::2] = 3
    data[0] = np.nan
    sample = sample_voxels(data)
    assert 1e6 < sample.size <= 2_000_000
    assert np.isfinite(sample).all()
    assert sample.mean() == pytest.approx(2, rel=0.01)


def test_grey_level_step() -> None:
    assert grey_level_step(np.array([8, 2, 5, 2], dtype=np.float32)) == 3
    assert grey_level_step(np.full(4, 2, dtype=np.float32)) == 0
