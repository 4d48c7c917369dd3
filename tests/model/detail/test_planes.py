"""Patches of planes at any angle to the axes of slices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bids_unires.model.detail.planes import ObliquePatches, patches_at, voxel_division
from bids_unires.model.scanner.observation import Observation
from bids_unires.space.affines import scaling

SLICES, ROWS, COLUMNS = 6, 22, 26
# Voxels of a patch along the slices, on either side of its middle.
ALONG = 6


def planes() -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn((SLICES, ROWS, COLUMNS), generator=random)


def all_patches(data: Tensor, degrees: float) -> Tensor:
    """``(K, M, N, P, Q)``."""
    everywhere = torch.ones(data.shape, dtype=torch.bool)
    found = list(ObliquePatches(data, everywhere).cut(degrees))
    assert [k for k, *_ in found] == list(range(len(data)))
    return torch.stack([patches.view(*data.shape[1:], *patches.shape[1:]) for *_, patches in found])


@pytest.mark.parametrize(("degrees", "axis"), [(0.0, 1), (90.0, 2), (180.0, 1)])
def test_along_the_axes_they_are_the_voxels_themselves(degrees: float, axis: int) -> None:
    data = planes()
    k, first, second = torch.ones(data.shape).nonzero().T
    places = (first, second) if axis == 1 else (second, first)
    expected = patches_at(data.movedim(axis, 1), k, *places, guided=False)
    expected = expected.flip(2) if degrees == 180 else expected
    found = all_patches(data, degrees).flatten(0, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [22.5, 45.0, 112.5])
def test_between_the_axes_they_go_on_in_a_straight_line(degrees: float) -> None:
    slope = torch.linspace(0, 1, SLICES)[:, None, None]
    rows, columns = torch.arange(ROWS)[:, None], torch.arange(COLUMNS)
    data = slope + 0.3 * torch.sin(0.4 * rows) + 0.2 * torch.cos(0.5 * columns)
    found = all_patches(data, degrees)
    inner = (2, ROWS // 2, COLUMNS // 2)
    steps = np.arange(-ALONG, ALONG + 1)
    angle = math.radians(degrees)
    at_rows = inner[1] + steps * math.cos(angle)
    at_columns = inner[2] + steps * math.sin(angle)
    waves = 0.3 * np.sin(0.4 * at_rows) + 0.2 * np.cos(0.5 * at_columns)
    expected = slope[:5, 0].numpy() + waves
    np.testing.assert_allclose(found[inner].numpy(), expected, atol=2e-3)


def test_beyond_the_outermost_slices_these_are_repeated() -> None:
    found = all_patches(planes(), 45.0)
    torch.testing.assert_close(found[0, :, :, 0], found[0, :, :, 2])
    torch.testing.assert_close(found[0, :, :, 1], found[0, :, :, 2])
    torch.testing.assert_close(found[-1, :, :, 4], found[-1, :, :, 2])


@pytest.mark.parametrize("degrees", [0.0, 45.0])
def test_what_is_missing_is_missing_on_every_line_through_it_and_nowhere_else(
    degrees: float,
) -> None:
    data = planes()
    whole = all_patches(data, degrees)
    data[2, 11, 13] = torch.nan
    found = all_patches(data, degrees)
    assert found[2, 11, 13, 2, ALONG].isnan()
    assert found[1, 11, 13, 3, ALONG].isnan()
    told = found.isfinite()
    assert 0 < (~told).sum() < 0.05 * told.numel()
    assert told[:, :, :4].all() or degrees == 0
    if degrees == 0:
        torch.testing.assert_close(found[told], whole[told], atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [22.5, 45.0, 135.0])
def test_what_stands_for_missing_voxels_does_not_show(degrees: float) -> None:
    data = torch.ones((SLICES, ROWS, COLUMNS))
    data[2, 10:12, 12:15] = torch.nan
    found = all_patches(data, degrees)
    told = found.isfinite()
    assert (found[told] - 1).abs().max() < 0.012
    # Of all lines through the middle of the hole, the middle.
    assert not told[2, 10, 13, 2, ALONG - 1 : ALONG + 2].any()


def test_nothing_is_cut_out_where_nothing_is_asked_for() -> None:
    data = planes()
    assert list(ObliquePatches(data, torch.zeros(data.shape, dtype=torch.bool)).cut(45.0)) == []


def test_far_from_what_is_asked_for_nothing_matters() -> None:
    random = torch.Generator().manual_seed(0)
    data = torch.randn((SLICES, 60, 70), generator=random)
    where = torch.zeros(data.shape, dtype=torch.bool)
    where[2, 25:30, 30:34] = where[5, 27, 31] = True
    other = data.clone()
    other[:, :8] = other[:, :, :12] = 5.0
    found, again = (list(ObliquePatches(each, where).cut(67.5)) for each in (data, other))
    assert [k for k, *_ in found] == [2, 5]
    for (_, *at, patches), (_, *again_at, same) in zip(found, again, strict=True):
        torch.testing.assert_close(at, again_at)
        torch.testing.assert_close(patches, same, atol=2e-3, rtol=0)
    everything = all_patches(data, 67.5)
    torch.testing.assert_close(found[1][3][0], everything[5, 27, 31], atol=2e-3, rtol=0)


def test_only_what_is_asked_for_is_cut_out() -> None:
    data = planes()
    where = torch.zeros(data.shape, dtype=torch.bool)
    where[3, 5, 7] = where[3, 9, 2] = True
    ((k, first, second, patches),) = ObliquePatches(data, where).cut(22.5)
    assert (k, first.tolist(), second.tolist()) == (3, [5, 9], [7, 2])
    everything = all_patches(data, 22.5)
    torch.testing.assert_close(patches[0], everything[3, 5, 7])
    torch.testing.assert_close(patches[1], everything[3, 9, 2])


def test_patches_are_cut_at_some_of_the_voxels_alone() -> None:
    data = torch.randn((6, 30, 30), generator=torch.Generator().manual_seed(4))
    where, among = (torch.zeros(data.shape, dtype=torch.bool) for _ in range(2))
    where[2:4, 10:20, 10:20] = True
    among[3, 5:15, 12:18] = True
    oblique = ObliquePatches(data, where)
    ((k, first, second, patches),) = oblique.cut(30.0, among)
    (expected,) = ObliquePatches(data, where & among).cut(30.0)
    assert k == expected[0] == 3
    for found, wanted in zip((first, second, patches), expected[1:], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("sizes", "division"),
    [((0.5, 1.0, 5.0), (2, 1, 5)), ((1.0, 0.5, 5.0), (1, 2, 5)), ((5.0, 0.5, 1.0), (2, 1, 5))],
)
def test_voxels_are_joined_along_each_side_as_its_length_asks(
    sizes: tuple[float, float, float], division: tuple[int, int, int]
) -> None:
    scan = Observation(np.ones((4, 4, 4), np.float32), scaling(sizes))
    assert voxel_division(scan, 1.0) == division
