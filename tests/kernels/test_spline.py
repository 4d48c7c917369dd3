"""Quintic splines: against scipy, wherever another grid lies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bids_unires.geometry import rigid_matrix
from bids_unires.kernels.spline import sample_spline

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
shapes = st.tuples(*[st.integers(1, 12)] * 3)
poses = st.tuples(*[st.floats(-3, 3)] * 3, *[st.floats(-1, 1)] * 3)


@pytest.mark.parametrize("device", DEVICES)
@settings(max_examples=100, deadline=None)
@given(source=shapes, shape=shapes, pose=poses)
def test_values_are_those_of_scipy(
    device: str,
    source: tuple[int, int, int],
    shape: tuple[int, int, int],
    pose: tuple[float, ...],
) -> None:
    coefficients = np.random.default_rng(0).standard_normal(source).astype(np.float32)
    matrix = rigid_matrix(pose)
    found = torch.full(shape, torch.nan, device=device)
    sample_spline(torch.from_numpy(coefficients).to(device), matrix[:3], found)
    places = np.einsum("ij,jxyz->ixyz", matrix[:3, :3], np.indices(shape)) + matrix[:3, 3].reshape(
        3, 1, 1, 1
    )
    expected = ndimage.map_coordinates(
        coefficients.astype(np.float64), places, order=5, mode="mirror", prefilter=False
    )
    sides = np.reshape(source, (3, 1, 1, 1))
    # How a place on a face is rounded is of no consequence.
    beside = np.minimum(np.abs(places + 0.5), np.abs(places - sides + 0.5)).min(axis=0) < 1e-4
    inside = ((places >= -0.5) & (places <= sides - 0.5)).all(axis=0)
    np.testing.assert_allclose(
        found.cpu().numpy()[~beside], np.where(inside, expected, 0)[~beside], atol=2e-5
    )
