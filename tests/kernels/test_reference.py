"""The plain operator, against sums written out voxel by voxel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.kernels.reference import ReferenceBackend
from bids_unires.kernels.sampling import RIM, Sampling


def interpolated(image: np.ndarray, at: np.ndarray) -> float:
    """Trilinear interpolation straight from its definition."""
    if any(not -RIM <= x <= side - 1 + RIM for x, side in zip(at, image.shape, strict=True)):
        return 0.0
    low = [math.floor(x) for x in at]
    total = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        voxel = [start + step for start, step in zip(low, corner, strict=True)]
        if all(0 <= v < side for v, side in zip(voxel, image.shape, strict=True)):
            weight = math.prod(1 - abs(x - v) for x, v in zip(at, voxel, strict=True))
            total += weight * image[tuple(voxel)]
    return total


def measured(sampling: Sampling, image: np.ndarray, voxel: tuple[int, ...]) -> float:
    """One voxel of the scan: the profile's sum over interpolated samples."""
    total = 0.0
    for tap in itertools.product(*(range(len(weights)) for weights in sampling.weights)):
        fine = [v * r + t for v, r, t in zip(voxel, sampling.ratio, tap, strict=True)]
        weight = math.prod(w[t] for w, t in zip(sampling.weights, tap, strict=True))
        total += weight * interpolated(image, sampling.matrix @ [*fine, 1])
    return total


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(1, 3)] * 3),
)
def test_every_voxel_is_the_sum_that_defines_it(
    seed: int, target_shape: tuple[int, int, int], ratio: tuple[int, int, int]
) -> None:
    random = np.random.default_rng(seed)
    weights = tuple(random.uniform(size=1 if r == 1 else 3) for r in ratio)
    matrix = np.column_stack([random.normal(scale=0.6, size=(3, 3)), random.uniform(-1, 2, 3)])
    sampling = Sampling(target_shape, (2, 3, 2), matrix, ratio, weights)
    image = random.normal(size=target_shape)
    scan = ReferenceBackend(sampling).forward(torch.as_tensor(image)).numpy()
    expected = [measured(sampling, image, voxel) for voxel in np.ndindex(2, 3, 2)]
    np.testing.assert_allclose(scan.ravel(), expected, atol=1e-12)


def test_a_sample_on_the_rim_counts_and_one_beyond_does_not() -> None:
    image = torch.ones(3, 1, 1, dtype=torch.float64)
    offsets = (-0.051, -0.049, 2.049, 2.051)
    found = []
    for offset in offsets:
        matrix = np.eye(4)[:3]
        matrix[0, 3] = offset
        sampling = Sampling((3, 1, 1), (1, 1, 1), matrix, (1, 1, 1), (np.ones(1),) * 3)
        found.append(float(ReferenceBackend(sampling).forward(image)))
    assert found == pytest.approx([0, 0.951, 0.951, 0])


def test_the_transpose_adds_to_what_is_there() -> None:
    sampling = Sampling((2, 2, 2), (2, 2, 2), np.eye(4)[:3], (1, 1, 1), (np.ones(1),) * 3)
    image = torch.full((2, 2, 2), 5.0)
    ReferenceBackend(sampling).add_adjoint(torch.ones(2, 2, 2), image)
    assert image.unique().tolist() == [6.0]
