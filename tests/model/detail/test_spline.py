"""Splines between samples."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from bids_unires.model.detail.spline import PlaneSplines, weight_of

FARTHEST = 6
SIDES = st.tuples(st.integers(1, 20), st.integers(1, 20))
OFFSETS = st.tuples(st.floats(-FARTHEST, FARTHEST), st.floats(-FARTHEST, FARTHEST))


@given(sides=SIDES, offset=OFFSETS)
def test_between_samples_lies_what_scipy_finds(
    sides: tuple[int, int], offset: tuple[float, float]
) -> None:
    planes = np.random.default_rng(sum(sides)).standard_normal((2, *sides)).astype(np.float32)
    found = PlaneSplines.through(torch.from_numpy(planes), FARTHEST).moved(1, offset)
    border = 40
    places = np.indices(sides) + border + np.array(offset)[:, None, None]
    wide = np.pad(planes[1].astype(float), border, mode="edge")
    expected = ndimage.map_coordinates(wide, places, order=5, mode="mirror")
    np.testing.assert_allclose(found, expected, atol=2e-5)


@given(sides=SIDES, offset=OFFSETS)
def test_samples_that_are_all_equal_stay_so(
    sides: tuple[int, int], offset: tuple[float, float]
) -> None:
    found = PlaneSplines.through(torch.ones((1, *sides)), FARTHEST).moved(0, offset)
    torch.testing.assert_close(found, torch.ones(sides), atol=1e-5, rtol=0)


@given(sides=SIDES, offset=OFFSETS, value=st.floats(-1, 1))
def test_chosen_samples_change_a_value_by_no_more_than_their_weight(
    sides: tuple[int, int], offset: tuple[float, float], value: float
) -> None:
    chosen = torch.rand(sides, generator=torch.Generator().manual_seed(sum(sides))) < 0.2
    changed = PlaneSplines.through((chosen * value)[None], FARTHEST).moved(0, offset)
    weight = weight_of(chosen, offset)
    assert (changed.abs() <= abs(value) * weight + 2e-3).all()
    if not chosen.any():
        assert (weight == 0).all()
