"""Noise of smooth blocks: white and correlated noise is found, anatomy is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from bids_unires.model.intensity.smooth_blocks import high_pass_noise


def found(data: np.ndarray, low: float = 50.0, missing: tuple[float, ...] = (0.0,)) -> float:
    noise = high_pass_noise(data.astype(np.float32), low, math.inf, missing)
    assert noise is not None
    return noise.sd


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("shape", [(48, 40, 44), (64, 64, 3), (12, 12, 12)])
def test_white_noise(shape: tuple[int, int, int], seed: int) -> None:
    data = np.random.default_rng(seed).normal(100, 4, shape)
    assert found(data) == pytest.approx(4, rel=0.12)


@pytest.mark.parametrize("seed", [0, 1])
def test_half_of_the_image_full_of_anatomy_changes_little(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 4, (64, 64, 40))
    data[32:] += 40 * ndimage.gaussian_filter(rng.standard_normal((32, 64, 40)), 1.0)
    assert found(data) == pytest.approx(4, rel=0.12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_anatomy_across_slices_changes_little(axis: int) -> None:
    rng = np.random.default_rng(0)
    sides = [1, 1, 1]
    sides[axis] = 40
    data = rng.normal(100, 4, (40, 40, 40)) + rng.uniform(0, 60, 40).reshape(sides)
    assert found(data) == pytest.approx(4, rel=0.12)


def test_masked_voxels_are_left_out() -> None:
    data = np.random.default_rng(0).normal(100, 4, (48, 48, 40))
    data[20:24] = 0
    data[:, 30] = np.nan
    assert found(data) == pytest.approx(4, rel=0.12)
    data[20:24] = -3024
    assert found(data, missing=(-3024.0,)) == pytest.approx(4, rel=0.12)


def test_only_intensities_between_the_bounds_count() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(100, 4, (48, 48, 40))
    data[24:] = rng.normal(30, 1, (24, 48, 40))
    assert found(data) == pytest.approx(4, rel=0.12)


def test_too_little_tissue() -> None:
    assert high_pass_noise(np.zeros((16, 16, 16), np.float32), 1, math.inf, (0.0,)) is None
    assert high_pass_noise(np.ones((3, 3, 3), np.float32), 0, math.inf, (0.0,)) is None


def test_floor_is_the_noise_unless_anatomy_is_left() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(100, 4, (64, 64, 40)).astype(np.float32)
    noise = high_pass_noise(data, 50, math.inf, (0.0,))
    assert noise is not None
    assert noise.floor == pytest.approx(4, rel=0.15)
