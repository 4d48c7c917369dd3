"""The solver's passes over memory, against their definitions in float64."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bids_unires.kernels import descent, lines
from bids_unires.model.prior.total_variation import differences, differences_adjoint

Shape = tuple[int, int, int]
Factor = tuple[float, float, float]

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu),
]
shapes = st.tuples(*[st.integers(1, 20)] * 3)
factors = st.tuples(*[st.floats(0.01, 4.0)] * 3)
thorough = settings(max_examples=100, deadline=None)


def noise(shape: Shape, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def laplacian(image: Tensor, weights: Tensor, factor: Factor) -> Tensor:
    """``D' W D image`` in float64."""
    sizes = [f**-0.5 for f in factor]
    return differences_adjoint(weights.double() * differences(image.double(), sizes), sizes)


def diagonal(weights: Tensor, factor: Factor) -> Tensor:
    """Diagonal of ``D' W D``: every voxel's own differences, and those of the voxels below."""
    total = torch.zeros_like(weights, dtype=torch.float64)
    for axis, f in enumerate(factor):
        inner = weights.shape[axis] - 1
        below = weights.double().narrow(axis, 0, inner)
        total.narrow(axis, 0, inner).add_(f * below)
        total.narrow(axis, 1, inner).add_(f * below)
    return total


def dot(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum())


@pytest.mark.parametrize("stretch", [None, 1, 3, 8])
@pytest.mark.parametrize("device", DEVICES)
@thorough
@given(shape=shapes, factor=factors)
def test_direction_is_the_preconditioned_gradient(
    device: str, stretch: int | None, shape: Shape, factor: Factor
) -> None:
    image, gradient, last = (noise(shape, seed) for seed in range(3))
    weights, scale = noise(shape, 3).abs(), noise(shape, 4).abs() + 0.1
    found, direction = (torch.full(shape, torch.nan, device=device) for _ in range(2))
    arguments = [t.to(device) for t in (image, weights, gradient, scale, last)]
    with cut_into(stretch):
        along = descent.preconditioned_direction(*arguments, factor, found, direction)
    slope = gradient.double() + laplacian(image, weights, factor)
    expected = -slope / (scale.double() + diagonal(weights, factor))
    tolerance = 1e-5 * float(slope.abs().max() + 1)
    np.testing.assert_allclose(found.cpu(), slope, rtol=1e-4, atol=tolerance)
    np.testing.assert_allclose(direction.cpu(), expected, rtol=1e-4, atol=tolerance)
    reach = float((slope.abs() * last.abs()).sum())
    assert along == pytest.approx(dot(slope, last), abs=1e-5 * reach)


@pytest.mark.parametrize("stretch", [None, 1, 3, 8])
@pytest.mark.parametrize("device", DEVICES)
@thorough
@given(shape=shapes, factor=factors)
def test_curvature_is_that_of_the_bound(
    device: str, stretch: int | None, shape: Shape, factor: Factor
) -> None:
    direction, last, last_normal = (noise(shape, seed) for seed in range(3))
    weights = noise(shape, 3).abs()
    arguments = [t.to(device) for t in (weights, direction, last, last_normal)]
    with cut_into(stretch):
        forms = descent.curvature(*arguments, factor)
    curved = laplacian(last, weights, factor)
    own = dot(direction, laplacian(direction, weights, factor))
    mixed = dot(direction, curved) + dot(direction, last_normal)
    both = dot(last, curved) + dot(last, last_normal)
    size = own + dot(last, curved) + float(last_normal.abs().sum()) + 1
    assert forms == pytest.approx((own, mixed, both), rel=1e-5, abs=1e-5 * size)


@pytest.mark.parametrize("stretch", [None, 1, 3, 8])
@pytest.mark.parametrize("device", DEVICES)
@thorough
@given(shape=shapes, lengths=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_step_moves_everything_that_depends_on_the_image(
    device: str, stretch: int | None, shape: Shape, lengths: tuple[float, float]
) -> None:
    a, b = lengths
    before = [noise(shape, seed) for seed in range(6)]
    direction, normal, last, last_normal, gradient, image = before
    after = [t.to(device, copy=True) for t in before]
    with cut_into(stretch):
        fall = descent.step(a, b, *after)
    step, change = a * direction + b * last, a * normal + b * last_normal
    expected = (direction, normal, step, change, gradient + change, image + step)
    for found, wanted in zip(after, expected, strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)
    size = float((step.abs() * (gradient.abs() + change.abs())).sum()) + 1e-6
    assert fall == pytest.approx(dot(gradient, step) + dot(step, change) / 2, abs=1e-5 * size)


def test_results_have_the_same_bits_for_any_number_of_threads(
    thread_count: Callable[[int], None],
) -> None:
    shape, factor, found = (37, 41, 50), (1.0, 0.5, 2.0), []
    weights, scale = noise(shape, 8).abs(), noise(shape, 9).abs() + 1
    for threads in (1, 2, 2, 3):
        thread_count(threads)
        image, gradient, last, last_normal, normal = (noise(shape, seed) for seed in range(5))
        slope, direction = torch.empty(shape), torch.empty(shape)
        along = descent.preconditioned_direction(
            image, weights, gradient, scale, last, factor, slope, direction
        )
        forms = descent.curvature(weights, direction, last, last_normal, factor)
        fall = descent.step(0.3, 0.7, direction, normal, last, last_normal, gradient, image)
        found.append((along, forms, fall, image, gradient))
    for other in found[1:]:
        assert other[:3] == found[0][:3]
        assert torch.equal(other[3], found[0][3])
        assert torch.equal(other[4], found[0][4])


def cut_into(stretch: int | None) -> mock._patch[Callable[..., int]]:
    """Cut lines as a GPU does; None leaves them whole."""
    return mock.patch.object(lines, "stretch_length", lambda length, _: stretch or length)
