"""Differences between neighbours: against numpy, at any side, stretch and number of threads."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from bids_unires.kernels import edges, lines

Array = NDArray[np.float64]
Shape = tuple[int, int, int]

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu),
]
shapes = st.tuples(*[st.integers(1, 20)] * 3)
factors = st.tuples(*[st.floats(0.01, 4.0)] * 3)
thorough = settings(max_examples=150, deadline=None)


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def differences(image: Array, factor: tuple[float, ...]) -> Array:
    """Forward differences times the root of their factor; 0 at the last voxel."""
    return np.stack(
        [
            np.sqrt(f) * np.diff(image, axis=axis, append=image.take([-1], axis))
            for axis, f in enumerate(factor)
        ]
    )


def edge_squares(images: Tensor, factor: list[tuple[float, ...]]) -> Array:
    pairs = zip(images.double().numpy(), factor, strict=True)
    return np.sum([(differences(image, f) ** 2).sum(axis=0) for image, f in pairs], axis=0)


def expected_weights(
    images: Tensor, factor: list[tuple[float, ...]], smoothing: float, guide: Array | float = 0.0
) -> Array:
    return 1 / np.sqrt(guide + edge_squares(images, factor) + smoothing**2)


def variation(images: Tensor, factor: list[tuple[float, ...]], guide: Array | float = 0.0) -> float:
    return float(np.sqrt(guide + edge_squares(images, factor)).sum())


@pytest.mark.parametrize("device", DEVICES)
@thorough
@given(shape=shapes, factor=st.lists(factors, min_size=1, max_size=3))
def test_edge_weights_bound_the_joint_variation(
    device: str, shape: Shape, factor: list[tuple[float, ...]]
) -> None:
    images = noise((len(factor), *shape))
    weights = torch.full(shape, torch.nan, device=device)
    table = torch.tensor(factor, dtype=torch.float32, device=device)
    value = edges.edge_weights(images.to(device), table, 0.3, weights)
    np.testing.assert_allclose(weights.cpu(), expected_weights(images, factor, 0.3), rtol=2e-6)
    assert value == pytest.approx(variation(images, factor), rel=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@thorough
@given(shape=shapes, factor=st.lists(factors, min_size=1, max_size=2))
def test_a_guide_adds_to_the_squares_and_stays_as_it_is(
    device: str, shape: Shape, factor: list[tuple[float, ...]]
) -> None:
    images, squares = noise((len(factor), *shape)), noise(shape, seed=1).square()
    weights = torch.full(shape, torch.nan, device=device)
    table = torch.tensor(factor, dtype=torch.float32, device=device)
    guide = squares.to(device)
    value = edges.edge_weights(images.to(device), table, 0.3, weights, guide)
    given_squares = squares.double().numpy()
    expected = expected_weights(images, factor, 0.3, given_squares)
    np.testing.assert_allclose(weights.cpu(), expected, rtol=2e-6)
    assert value == pytest.approx(variation(images, factor, given_squares), rel=1e-6)
    assert torch.equal(guide.cpu(), squares)


@pytest.mark.parametrize("stretch", [1, 3, 8, 50])
@thorough
@given(shape=shapes, factor=factors)
def test_lines_may_be_cut_into_stretches(
    stretch: int, shape: Shape, factor: tuple[float, float, float]
) -> None:
    image, table = noise((1, *shape)), torch.tensor([factor])
    weights, whole = torch.full(shape, torch.nan), torch.empty(shape)
    with mock.patch.object(lines, "stretch_length", return_value=stretch):
        value = edges.edge_weights(image, table, 0.3, weights)
    assert value == pytest.approx(edges.edge_weights(image, table, 0.3, whole), rel=1e-6)
    np.testing.assert_allclose(weights, whole, rtol=2e-6)


@thorough
@given(shape=shapes)
def test_nothing_beyond_the_image_counts(shape: Shape) -> None:
    size, beyond = int(np.prod(shape)), 2 * shape[1] * shape[2] + 64
    memory = torch.full((2, size + 2 * beyond), torch.nan)
    image, weights = (part[beyond : beyond + size].view(shape).fill_(1.0) for part in memory)
    assert np.isfinite(edges.edge_weights(image[None], torch.ones(1, 3), 1.0, weights))
    assert image.isfinite().all()
    assert weights.isfinite().all()
    assert memory.isnan().sum() == memory.numel() - 2 * size


def test_a_flat_image_has_no_edge() -> None:
    weights = torch.empty(4, 5, 6)
    value = edges.edge_weights(torch.full((1, 4, 5, 6), 2.0), torch.ones(1, 3), 0.5, weights)
    assert value == 0.0
    assert weights.unique().tolist() == [2.0]


# Many lines, so that adding up what they return is itself shared between threads.
@pytest.mark.parametrize("shape", [(37, 41, 50), (300, 310, 3)])
def test_results_have_the_same_bits_for_any_number_of_threads(
    shape: Shape, thread_count: Callable[[int], None]
) -> None:
    images, found = noise((2, *shape)), []
    for threads in (1, 2, 2, 3):
        thread_count(threads)
        weights = torch.empty(shape)
        found.append((edges.edge_weights(images, torch.ones(2, 3), 0.3, weights), weights))
    for value, weights in found[1:]:
        assert value == found[0][0]
        assert torch.equal(weights, found[0][1])
