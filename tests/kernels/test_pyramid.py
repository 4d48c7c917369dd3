"""Halving and doubling, against torch's own pooling and interpolation."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from bids_unires.kernels import lines, pyramid

Shape = tuple[int, int, int]

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu),
]
shapes = st.tuples(*[st.integers(1, 19)] * 3)
thorough = settings(max_examples=100, deadline=None)


def noise(shape: Shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stretch", [None, 1, 3, 8])
@pytest.mark.parametrize("device", DEVICES)
@thorough
@given(shape=shapes)
def test_halving_adds_up_blocks(device: str, stretch: int | None, shape: Shape) -> None:
    fine = noise(shape)
    with mock.patch.object(lines, "stretch_length", lambda length, _: stretch or length):
        coarse = pyramid.halve(fine.to(device))
    even = functional.pad(fine, [n for side in reversed(shape) for n in (0, side % 2)])
    torch.testing.assert_close(coarse.cpu(), 8 * functional.avg_pool3d(even[None], 2)[0])


@pytest.mark.parametrize("stretch", [None, 1, 3, 8])
@pytest.mark.parametrize("device", DEVICES)
@thorough
@given(shape=shapes)
def test_doubling_interpolates_between_block_centres(
    device: str, stretch: int | None, shape: Shape
) -> None:
    coarse = noise(tuple((side + 1) // 2 for side in shape), 1)
    before, slope = noise(shape, 2), noise(shape, 3)
    after = before.to(device, copy=True)
    with mock.patch.object(lines, "stretch_length", lambda length, _: stretch or length):
        product = pyramid.add_doubled(coarse.to(device), after, slope.to(device))
    doubled = functional.interpolate(coarse[None, None], scale_factor=2, mode="trilinear")[0, 0]
    expected = before + doubled[: shape[0], : shape[1], : shape[2]]
    torch.testing.assert_close(after.cpu(), expected, atol=1e-5, rtol=1e-5)
    reach = float((slope * expected).abs().sum())
    assert product == pytest.approx(float((slope * expected).double().sum()), abs=1e-5 * reach)


def test_halvings_keep_the_sum_and_end_at_one_voxel() -> None:
    fine = noise((20, 13, 7)).abs()
    levels = pyramid.halvings(fine, 5)
    assert tuple(levels[-1].shape) == (1, 1, 1)
    for level in levels:
        assert float(level.sum()) == pytest.approx(float(fine.sum()), rel=1e-5)
