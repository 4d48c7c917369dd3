"""Splines between voxels: exact where they can be, and nothing of what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.geometry import Grid, rigid_matrix, scaling, translation
from bids_unires.model import Observation
from bids_unires.model.linear import linear_images
from bids_unires.model.profile import SliceProfile
from bids_unires.model.spline import interpolated_on, interpolation

POINTS = SliceProfile("point", "point")
SHAPE = (24, 28, 20)
TURNED = rigid_matrix([0.4, -0.3, 0.2, 0.1, -0.05, 0.2])
INNER = (slice(5, -5),) * 3


def smooth(places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Waves of several voxels' length at ``(3, ...)`` places."""
    x, y, z = places
    waves = np.sin(1.1 * x + 0.5 * y) + np.cos(0.9 * y - 0.6 * z) + np.sin(1.2 * z)
    return np.asarray(50 + 10 * waves, dtype=np.float32)


def at_voxels(grid: Grid) -> NDArray[np.float32]:
    places = np.einsum("ij,jxyz->ixyz", grid.affine[:3, :3], np.indices(grid.shape))
    return smooth(places + grid.affine[:3, 3].reshape(3, 1, 1, 1))


def scan(grid: Grid | None = None) -> Observation:
    grid = grid or Grid(SHAPE, np.eye(4))
    tau = np.full(grid.shape, 4.0, dtype=np.float32)
    return Observation(at_voxels(grid), grid.affine, tau, POINTS, zero_is_missing=False)


@given(count=st.integers(1, 40), offset=st.floats(-6, 6))
def test_between_samples_lies_what_scipy_finds(count: int, offset: float) -> None:
    samples = np.random.default_rng(count).standard_normal(count)
    places = np.clip(np.arange(count) + offset, 0, count - 1)[None]
    expected = ndimage.map_coordinates(samples, places, order=5, mode="mirror")
    np.testing.assert_allclose(interpolation(count, offset) @ samples, expected, atol=1e-9)


@given(count=st.integers(1, 40), offset=st.floats(-6, 6))
def test_of_samples_alike_nothing_else_is_made(count: int, offset: float) -> None:
    np.testing.assert_allclose(interpolation(count, offset).sum(axis=1), 1, atol=1e-9)


def test_a_scan_on_voxels_of_the_image_stays_as_it_is() -> None:
    own = scan()
    assert interpolated_on(own, Grid((30, 10, 12), translation([-2, 3, 1]))) is own


def test_a_scan_off_the_voxels_loses_a_tenth_of_what_lines_lose() -> None:
    grid = Grid(SHAPE, TURNED)
    truth = at_voxels(grid)[INNER]
    found = interpolated_on(scan(), grid).data[INNER]
    linear = linear_images([[scan()]], grid, torch.device("cpu"))[0].numpy()[INNER]
    assert np.abs(found - truth).mean() < 0.1 * np.abs(linear - truth).mean()


def test_a_pose_does_what_an_affine_does() -> None:
    grid = Grid(SHAPE, TURNED)
    posed = replace(scan(), pose=TURNED @ translation([0.3, 0, 0]))
    moved = replace(scan(), affine=posed.world_pose)
    by_pose, by_affine = interpolated_on(posed, grid), interpolated_on(moved, grid)
    np.testing.assert_array_equal(by_pose.data, by_affine.data)
    np.testing.assert_array_equal(by_pose.tau, by_affine.tau)
    assert by_pose.grid == grid
    assert by_pose.pose is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes_may_be_flipped_and_exchanged(axis: int) -> None:
    grid = Grid(SHAPE, TURNED)
    straight = interpolated_on(scan(), grid)
    flip = np.eye(4)
    flip[axis, axis], flip[axis, 3] = -1, SHAPE[axis] - 1
    order = [(axis + step) % 3 for step in range(3)]
    exchange = np.eye(4)[:, [*order, 3]]
    own = scan()
    tau = np.asarray(own.tau)
    for data, precision, affine in (
        (np.flip(own.data, axis), np.flip(tau, axis), flip),
        (own.data.transpose(order), tau.transpose(order), exchange),
    ):
        other = interpolated_on(replace(own, data=data, tau=precision, affine=affine), grid)
        np.testing.assert_allclose(other.data, straight.data, atol=1e-3)
        np.testing.assert_allclose(other.tau, straight.tau, atol=1e-3)


@pytest.mark.parametrize("size", [0.8, 1.3])
def test_there_is_as_much_precision_in_the_same_space(size: float) -> None:
    steps = np.full(3, size)
    grid = Grid(SHAPE, TURNED @ scaling(steps))
    tau = np.asarray(interpolated_on(scan(), grid).tau)
    assert tau.max() == pytest.approx(4.0 * size**3, rel=1e-4)


def test_what_is_not_known_is_not_told_and_tells_nothing() -> None:
    grid = Grid(SHAPE, TURNED)
    own = scan()
    tau = np.asarray(own.tau).copy()
    tau[8:12, 10:14] = 0
    found = interpolated_on(replace(own, tau=tau), grid)
    data = np.where(tau > 0, own.data, np.float32(1e4))
    other = interpolated_on(replace(own, data=data, tau=tau), grid)
    np.testing.assert_array_equal(found.data, other.data)
    whole = np.asarray(interpolated_on(own, grid).tau) > 0
    untold = whole & (np.asarray(found.tau) == 0)
    lost = 4 * 4 * SHAPE[2]
    assert lost < untold.sum() < 4 * lost
    told = np.asarray(found.tau) > 0
    np.testing.assert_allclose(found.data[told], at_voxels(grid)[told], atol=6)
