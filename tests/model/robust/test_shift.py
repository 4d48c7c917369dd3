"""Slices are moved as far as told, and it is found how far they were."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bids_unires.model.robust.shift import correlation_shift, translate_slice


def head(u: float = 0.0, v: float = 0.0) -> np.ndarray:
    """A smooth head with dark spots, its centre moved by so many voxels."""
    x, y = np.indices((48, 60))
    image = np.exp(-(((x - 24 - u) / 9) ** 4) - ((y - 30 - v) / 12) ** 4)
    spots = np.exp(-((x - 19 - u) ** 2 + (y - 35 - v) ** 2) / 8)
    return (100 * image * (1 - 0.5 * spots)).astype(np.float32)


@pytest.mark.parametrize("voxels", [(0.0, 0.0), (1.5, -0.75), (-2.25, 0.4)])
def test_a_moved_slice_is_the_slice_of_a_moved_head(voxels: tuple[float, float]) -> None:
    np.testing.assert_allclose(translate_slice(head(), np.array(voxels)), head(*voxels), atol=1.0)


def test_there_and_back_is_where_it_was() -> None:
    there = translate_slice(head(), np.array([1.3, -0.6]))
    np.testing.assert_allclose(translate_slice(there, np.array([-1.3, 0.6])), head(), atol=1.0)


@pytest.mark.parametrize("factor", [1.0, 0.3])
@pytest.mark.parametrize("mm", [(3.0, 0.0), (-1.0, 2.5), (1.0, 1.0)])
def test_a_shift_is_found_whatever_the_brightness(mm: tuple[float, float], factor: float) -> None:
    spacing = np.array([2.0, 1.0])
    found = correlation_shift(factor * head(mm[0] / 2, mm[1]), head(), spacing)
    assert found is not None
    assert math.dist(found, mm) < 0.33 * math.hypot(*mm)


def test_no_shift_is_found_where_there_is_none() -> None:
    np.testing.assert_allclose(correlation_shift(head(), head(), np.ones(2)), 0, atol=1e-6)


def test_missing_voxels_do_not_move_it() -> None:
    image = head(1.0, 0.0)
    image[:3] = np.nan
    found = correlation_shift(image, head(), np.ones(2))
    np.testing.assert_allclose(found, (1.0, 0.0), atol=0.25)


def test_what_lies_too_far_away_is_not_found() -> None:
    assert correlation_shift(head(9.0, 0.0), head(), np.ones(2)) is None
