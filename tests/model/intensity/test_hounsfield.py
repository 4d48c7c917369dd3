"""Classes of CT values: air, soft tissue and padding are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model.intensity.hounsfield import constant_values, head_densities


def head_values(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    air, brain = rng.normal(-1000, 8, 40_000), rng.normal(34, 6, 30_000)
    fat, bone = rng.normal(-80, 40, 6_000), rng.uniform(200, 1600, 9_000)
    return np.round(np.r_[air, brain, fat, bone]).clip(-1024).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("padding", [-1024.0, -1500.0, -2000.0, -3024.0])
def test_classes_of_a_head(padding: float, seed: int) -> None:
    values = np.r_[head_values(seed), np.full(20_000, padding, dtype=np.float32)]
    densities = head_densities(values)
    assert densities is not None
    assert densities.padding == (padding,)
    assert densities.tissue_mean == pytest.approx(34, abs=1)
    assert densities.tissue_sd == pytest.approx(6, rel=0.1)
    assert densities.air_mean == pytest.approx(-1008, abs=3)
    assert densities.head_mean > 100


@pytest.mark.parametrize("padding", [-1024.0, -1500.0, -3024.0])
def test_more_padding_than_air_does_not_make_air_tissue(padding: float) -> None:
    values = np.r_[head_values(), np.full(200_000, padding, dtype=np.float32)]
    densities = head_densities(values)
    assert densities is not None
    assert densities.tissue_mean == pytest.approx(34, abs=1)
    assert densities.head_mean > 100


def test_water_is_not_padding() -> None:
    values = np.random.default_rng(0).normal(0, 3, 50_000).round().astype(np.float32)
    assert constant_values(values) == ()


def test_clipped_values_are_padding() -> None:
    values = np.clip(head_values(), 0, 80)
    assert constant_values(values) == (0.0, 80.0)


def test_nothing_but_constants() -> None:
    assert head_densities(np.full(1000, -1024, dtype=np.float32)) is None
    two = np.repeat(np.array([-1024, 40], dtype=np.float32), 1000)
    assert head_densities(two) is None


def test_three_values() -> None:
    values = np.repeat(np.array([-1000, 0, 40], dtype=np.float32), [5000, 3000, 2000])
    densities = head_densities(values)
    assert densities is not None
    assert densities.air_mean == -1000
    assert densities.tissue_mean == pytest.approx(0, abs=1)
