"""Noise of CT: how a kernel colours it within slices is found, whatever the order of the axes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bids_unires.model.intensity.noise import NoiseEstimate, coloured, estimate_noise
from bids_unires.model.intensity.smooth_blocks import coloured_noise

Image = NDArray[np.float32]
Kernel = tuple[float, float, float]

SHAPE = (96, 90, 14)
SD = 8.0
WHITE: Kernel = (0.0, 0.0, 0.0)


def noise(kernel: Kernel, seed: int = 0) -> Image:
    white = np.random.default_rng(seed).standard_normal(SHAPE, dtype=np.float32)
    return np.float32(SD) * coloured(white, kernel)


def head(kernel: Kernel) -> Image:
    """Air, a skull, and brain with ventricles, in Hounsfield units."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    radius = np.hypot(x, y)
    image = np.where(radius < 0.9, 1000, -1000)
    image = np.where(radius < 0.8, 35, image)
    image = np.where(radius < 0.2, 8, image)
    return np.asarray(image + noise(kernel), dtype=np.float32)


@pytest.mark.parametrize("kernel", [WHITE, (0.5, 0.5, 0.0), (0.9, 0.6, 0.0)])
def test_coloured_noise_has_the_variance_of_white_noise(kernel: Kernel) -> None:
    assert noise(kernel).std() == pytest.approx(SD, rel=0.03)


@pytest.mark.parametrize("kernel", [WHITE, (0.5, 0.5, 0.0), (0.9, 0.6, 0.0)])
def test_sd_and_kernel_are_found(kernel: Kernel) -> None:
    found = estimate_noise(head(kernel), "CT", 2)
    assert found.kernel == pytest.approx(kernel, abs=0.08)
    assert found.noise_sd == pytest.approx(SD, rel=0.12)


@pytest.mark.parametrize("axis", range(3))
def test_the_order_of_axes_does_not_matter(axis: int) -> None:
    image = np.moveaxis(head((0.8, 0.8, 0.0)), 2, axis)
    found = estimate_noise(np.ascontiguousarray(image), "CT", axis)
    assert found.kernel[axis] == 0
    assert all(found.kernel[other] > 0.6 for other in range(3) if other != axis)


def test_without_a_slice_axis_and_in_mr_noise_is_white() -> None:
    image = head((0.8, 0.8, 0.0))
    assert estimate_noise(image, "CT").kernel == WHITE
    assert estimate_noise(np.abs(image) + 1, "MR", 2).kernel == WHITE


def test_neighbours_are_as_correlated_as_they_are_said_to_be() -> None:
    kernel = (0.8, 0.5, 0.0)
    values = noise(kernel) / SD
    found = [
        float(np.mean(np.delete(values, 0, axis) * np.delete(values, -1, axis)))
        for axis in range(3)
    ]
    known = NoiseEstimate(SD, -1000.0, 35.0, "high-pass-mad", kernel).autocorrelation
    assert found == pytest.approx(known, abs=0.03)


def test_voxels_that_show_the_same_noise_share_its_precision() -> None:
    kernel = (0.9, 0.9, 0.0)
    estimate = NoiseEstimate(SD, -1000.0, 35.0, "high-pass-mad", kernel)
    # The mean of a region has the variance that white noise of that precision would give it.
    side = 30
    means = noise(kernel, 3)[:90].reshape(3, side, 3, side, SHAPE[2]).mean(axis=(1, 3))
    assert means.var() == pytest.approx(1 / (estimate.tau * side**2), rel=0.3)


def test_slow_anatomy_is_no_noise() -> None:
    x = np.arange(SHAPE[0], dtype=np.float32)[:, None, None]
    found = coloured_noise(noise(WHITE) + 0.3 * x, 2, (-np.inf, np.inf), ())
    assert found is not None
    assert found.sd == pytest.approx(SD, rel=0.05)
    assert found.kernel == pytest.approx(WHITE, abs=0.3)


def test_without_enough_tissue_nothing_is_said() -> None:
    assert coloured_noise(noise(WHITE), 2, (1e6, 2e6), ()) is None


def test_vessels_without_tissue_do_not_count_as_noise() -> None:
    """An angiogram of which vessels alone are left: their edges are no noise."""
    rng = np.random.default_rng(1)
    image = noise(WHITE)
    for first, second in zip(rng.integers(8, 82, 60), rng.integers(8, 82, 60), strict=True):
        image[first : first + 5, second : second + 5, rng.integers(0, 14)] += 300
    assert estimate_noise(image, "CT", 2).noise_sd == pytest.approx(SD, rel=0.15)
