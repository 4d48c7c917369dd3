"""Interpolation on the wanted grid, and averages over repeats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bids_unires.model import Observation
from bids_unires.model.scanner.resampling import linear_images
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

CPU = torch.device("cpu")
GRID = Grid((16, 16, 16), np.eye(4))
# Every other voxel lies on one of the grid's.
FINE = scaling([0.5] * 3)
THICK = scaling([1, 1, 4]) @ translation([0, 0, 0.375])


def on_grid(*scans: Observation, grid: Grid = GRID) -> np.ndarray:
    return np.asarray(linear_images([scans], grid, CPU)[0].numpy())


def plane(affine: Affine, shape: tuple[int, int, int]) -> np.ndarray:
    """An image that is linear in world coordinates, and positive."""
    at = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    return (100 + at @ [1.0, -2.0, 3.0]).astype(np.float32)


poses = st.tuples(*[st.floats(-2, 2)] * 3, *[st.floats(-0.4, 0.4)] * 3).map(rigid_matrix)


@settings(max_examples=20, deadline=None)
@given(pose=poses, size=st.sampled_from([0.5, 0.9, 1.0, 3.0]))
def test_what_is_linear_stays_as_it_is(pose: Affine, size: float) -> None:
    side = int(24 / size)
    to_grid = translation([-4, -4, -4]) @ scaling([size, size, size])
    # The pose moves the scan from its own world to the grid's.
    affine = np.linalg.inv(pose) @ to_grid
    data = plane(to_grid, (side, side, side))
    image = on_grid(Observation(data, affine, pose=pose))
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(image[inner], plane(np.eye(4), GRID.shape)[inner], rtol=1e-4)


def test_coarse_scans_are_interpolated_trilinearly() -> None:
    data = np.random.default_rng(0).uniform(1, 2, (16, 16, 4)).astype(np.float32)
    at = apply_affine(np.linalg.inv(THICK), np.moveaxis(np.indices(GRID.shape), 0, -1))
    expected = ndimage.map_coordinates(data, np.moveaxis(at, -1, 0), order=1, mode="nearest")
    np.testing.assert_allclose(on_grid(Observation(data, THICK)), expected, rtol=1e-5)


def test_fine_scans_are_not_folded() -> None:
    stripes = (100 + 50 * (-1.0) ** np.indices((32, 32, 32)).sum(axis=0)).astype(np.float32)
    image = on_grid(Observation(stripes, FINE))
    np.testing.assert_allclose(image[1:-1, 1:-1, 1:-1], 100, rtol=1e-5)


def test_noise_of_fine_scans_is_averaged() -> None:
    noise = np.random.default_rng(0).normal(100, 8, (32, 32, 32)).astype(np.float32)
    assert on_grid(Observation(noise, FINE)).std() < 8 / np.sqrt(8) * 1.1


def test_repeats_are_averaged_where_they_have_data() -> None:
    first = np.full(GRID.shape, 2.0, np.float32)
    second = np.full(GRID.shape, 4.0, np.float32)
    first[:4], second[8:12] = 0, np.nan
    first[12:] = second[12:] = 0
    image = on_grid(Observation(first, np.eye(4)), Observation(second, np.eye(4)))
    np.testing.assert_allclose(image[:, 3, 3], [4.0] * 4 + [3.0] * 4 + [2.0] * 4 + [0.0] * 4)


@pytest.mark.parametrize("repeats", [1, 2])
def test_masked_heads_do_not_grow(repeats: int) -> None:
    data = np.zeros((16, 16, 4), np.float32)
    data[..., 2:] = 10
    image = on_grid(*[Observation(data, THICK)] * repeats)[8, 8]
    # Half way between the slices at 5.5 and 9.5 mm, two scans count as one.
    assert image[5] == 0
    assert 0 < image[6] <= 10 * repeats * 0.125 + 1e-4
    np.testing.assert_allclose(image[10:], 10)


def test_values_reach_to_the_outer_faces_and_no_further() -> None:
    affine = translation([4, 4, 4]) @ scaling([2, 2, 2])
    data = np.full((4, 4, 4), 7.0, np.float32)
    expected = np.zeros(GRID.shape)
    expected[3:12, 3:12, 3:12] = 7
    # Voxels at 3 mm and 11 mm lie on the faces of the scan.
    np.testing.assert_allclose(on_grid(Observation(data, affine)), expected)


def test_zero_is_water_and_the_outside_air_in_ct() -> None:
    water = np.zeros((8, 16, 16), np.float32)
    water[0] = -1024
    image = on_grid(Observation(water, np.eye(4), zero_is_missing=False))[:, 5, 5]
    np.testing.assert_allclose(image, [-1024] + [0] * 7 + [-1000] * 8)


def test_ct_in_other_units_ends_in_its_darkest_value() -> None:
    image = on_grid(Observation(plane(np.eye(4), (8, 16, 16)), np.eye(4), zero_is_missing=False))
    np.testing.assert_allclose(image[8:], plane(np.eye(4), (8, 16, 16)).min())


def test_missing_voxels_of_ct_are_air_not_water() -> None:
    tissue = np.full(GRID.shape, 40.0, np.float32)
    tissue[0] = -1000
    tissue[8:] = np.nan
    image = on_grid(Observation(tissue, np.eye(4), zero_is_missing=False), grid=GRID)
    np.testing.assert_allclose(image[1:8], 40)
    np.testing.assert_allclose(image[8:], -1000)
    between = Grid((1, 16, 16), translation([7.5, 0, 0]))
    at_border = on_grid(Observation(tissue, np.eye(4), zero_is_missing=False), grid=between)
    np.testing.assert_allclose(at_border, -480)
