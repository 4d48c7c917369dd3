"""What is left over: noise is called noise, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from bids_unires.model import ForwardOperator, NoiseEstimate, Observation, SliceProfile
from bids_unires.model.assess.residuals import describe_residuals, residual_statement
from bids_unires.model.intensity.scan_state import ScanState
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid

SHAPE = (40, 36, 32)
EVERYWHERE = np.ones(SHAPE, dtype=bool)


def noise(sd: float = 1.0, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=sd, size=shape).astype(np.float32)


def test_white_noise_looks_like_noise() -> None:
    found = describe_residuals(noise(), EVERYWHERE)
    assert found.deviations == ()
    assert found.mean == pytest.approx(0, abs=0.02)
    assert found.sd == pytest.approx(1, abs=0.02)
    assert np.abs(found.autocorrelation).max() < 0.02
    assert found.far_share < 3e-4
    assert found.voxels == noise().size


@pytest.mark.parametrize("axis", range(3))
def test_correlation_is_found_along_its_axis(axis: int) -> None:
    white = noise()
    smooth = (white + np.roll(white, 1, axis) + np.roll(white, 2, axis)) / np.float32(np.sqrt(3))
    found = describe_residuals(smooth, EVERYWHERE)
    expected = np.zeros(3)
    expected[axis] = 2 / 3
    np.testing.assert_allclose(found.autocorrelation, expected, atol=0.03)
    assert any(f"along {'ijk'[axis]}" in text for text in found.deviations)


@pytest.mark.parametrize(
    ("residual", "said"),
    [
        (noise(2.0), "2.0 times the noise"),
        (noise(0.3), "only 0.30 times the noise"),
        (noise() + np.float32(0.5), "mean is +0.50 sd"),
        (np.where(noise(seed=1) > 2, 6, noise()).astype(np.float32), "beyond 4 sd"),
    ],
)
def test_what_is_no_noise_is_named(residual: np.ndarray, said: str) -> None:
    assert any(said in text for text in describe_residuals(residual, EVERYWHERE).deviations)


def blurred(residual: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.gaussian_filter(residual, 1.5), dtype=np.float32)


def test_large_residuals_in_few_voxels_are_no_fault() -> None:
    edges = np.where(noise(seed=1) > 1.5, 6 * noise(seed=2), noise()).astype(np.float32)
    found = describe_residuals(edges, EVERYWHERE)
    assert found.sd > 1.5
    assert found.deviations
    assert not found.shows_structure
    # Nor does noise that interpolation has correlated.
    assert not describe_residuals(8 * blurred(noise()), EVERYWHERE).shows_structure
    # Nor a fit that follows the noise.
    assert not describe_residuals(noise(0.2), EVERYWHERE).shows_structure


def test_residuals_that_show_the_head_are_a_fault() -> None:
    anatomy = 40 * blurred(noise(seed=3))
    assert describe_residuals(noise() + anatomy, EVERYWHERE).shows_structure
    assert describe_residuals(noise(2.2), EVERYWHERE).shows_structure


def test_only_what_is_inside_counts() -> None:
    inside = np.zeros(SHAPE, dtype=bool)
    inside[10:30, 10:26, 8:24] = True
    residual = np.where(inside, noise(), 100).astype(np.float32)
    assert describe_residuals(residual, inside).deviations == ()
    assert describe_residuals(residual, np.zeros(SHAPE, dtype=bool)).voxels == 0


def test_the_true_image_leaves_noise_and_a_wrong_one_does_not() -> None:
    grid = Grid((40, 40, 40), np.eye(4))
    thick = Grid((40, 40, 10), translation([0, 0, 1.5]) @ scaling([1, 1, 4]))
    profile = SliceProfile("dirac", "rect")
    x, y, z = np.ogrid[:40, :40, :40]
    image = torch.as_tensor(100 + 20 * np.sin(x / 4) * np.cos(y / 5) + z, dtype=torch.float32)
    clean = ForwardOperator(grid, thick, profile=profile).forward(image).numpy()
    data = np.exp(0.1) * clean
    data[..., 1::2] = np.exp(-0.1) * clean[..., 1::2]
    scan = Observation(data + noise(2.0, shape=thick.shape), thick.affine, 0.25, profile)
    estimate = NoiseEstimate(2.0, 0.0, 100.0, "rice-mixture")
    # The last slices reach beyond the grid.
    scan.data[..., [0, -1]] = np.nan
    even = ScanState.as_acquired(scan, estimate)
    whole = residual_statement(even.with_observation(replace(scan, interleave=0.1)), grid, image)
    assert whole.deviations == ()
    assert whole.voxels == 40 * 40 * 8
    assert residual_statement(even, grid, image).sd > 2


@pytest.mark.parametrize("excess", [3.0, -3.0])
def test_a_scan_brighter_than_its_image_has_residuals_above_0(excess: float) -> None:
    grid = Grid((12, 12, 12), np.eye(4))
    scan = Observation(
        np.full(grid.shape, 100 + excess, np.float32), np.eye(4), 1.0, SliceProfile("dirac")
    )
    state = ScanState.as_acquired(scan, NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture"))
    found = residual_statement(state, grid, torch.full(grid.shape, 100.0))
    assert found.mean == pytest.approx(excess, abs=0.01)
