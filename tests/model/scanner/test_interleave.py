"""Even and odd slices: the factor between them is read off the scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.model.scanner.interleave import estimate_interleave

THRESHOLD = 50.0


def head(shape: tuple[int, int, int] = (40, 44, 30), seed: int = 0) -> np.ndarray:
    """A textured ellipsoid with noise around it, slices along the last axis."""
    at = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    half = (np.array(shape) - 1) / 2
    radius = np.linalg.norm((at - half) / (half - 2), axis=-1)
    texture = 120 + 30 * np.sin(at @ [0.3, 0.2, 0.35]) + 0.5 * at[..., 2]
    noise = np.random.default_rng(seed).normal(scale=4, size=(2, *shape))
    return np.hypot(np.where(radius < 1, texture, 0) + noise[0], noise[1]).astype(np.float32)


def striped(image: np.ndarray, scale: float, axis: int = 2) -> np.ndarray:
    sides = [1, 1, 1]
    sides[axis] = -1
    sign = 1 - 2 * (np.arange(image.shape[axis]) % 2)
    return np.asarray(image * np.exp(scale * sign).astype(np.float32).reshape(sides))


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(-0.3, 0.3), seed=st.integers(0, 100))
def test_the_scale_is_found(scale: float, seed: int) -> None:
    found = estimate_interleave(striped(head(seed=seed), scale), 2, THRESHOLD)
    assert found == pytest.approx(scale, abs=0.005)


@pytest.mark.parametrize("axis", range(3))
def test_slices_may_lie_along_any_axis(axis: int) -> None:
    image = np.moveaxis(striped(head(), 0.1), 2, axis)
    assert estimate_interleave(image, axis, THRESHOLD) == pytest.approx(0.1, abs=0.005)


def test_turning_the_stack_over_changes_the_sign_of_an_even_number_of_slices() -> None:
    image = striped(head(), 0.1)
    flipped = estimate_interleave(image[..., ::-1], 2, THRESHOLD)
    assert flipped == pytest.approx(-estimate_interleave(image, 2, THRESHOLD), abs=1e-3)


def test_units_do_not_matter() -> None:
    image = striped(head(), 0.1)
    first = estimate_interleave(image, 2, THRESHOLD)
    assert estimate_interleave(1000 * image, 2, 1000 * THRESHOLD) == pytest.approx(first, abs=1e-6)


def test_missing_voxels_say_nothing() -> None:
    image = striped(head(), 0.1)
    image[:20] = np.nan
    assert estimate_interleave(image, 2, THRESHOLD) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("image", [head((40, 44, 6)), np.zeros((10, 10, 20), np.float32)])
def test_without_enough_slices_nothing_is_claimed(image: np.ndarray) -> None:
    assert estimate_interleave(image, 2, THRESHOLD) == 0.0
