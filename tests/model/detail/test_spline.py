"""Splines between samples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from bids_unires.model.detail.spline import interpolation


@given(count=st.integers(1, 40), offset=st.floats(-6, 6))
def test_between_samples_lies_what_scipy_finds(count: int, offset: float) -> None:
    samples = np.random.default_rng(count).standard_normal(count)
    places = np.clip(np.arange(count) + offset, 0, count - 1)[None]
    expected = ndimage.map_coordinates(samples, places, order=5, mode="mirror")
    np.testing.assert_allclose(interpolation(count, offset) @ samples, expected, atol=1e-9)


@given(count=st.integers(1, 40), offset=st.floats(-6, 6))
def test_of_samples_alike_nothing_else_is_made(count: int, offset: float) -> None:
    np.testing.assert_allclose(interpolation(count, offset).sum(axis=1), 1, atol=1e-9)
