"""Segmentations on another grid, against the one-hot images they stand for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.labels import resample_labels
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import LabelVolume

SHAPE = (7, 6, 5)
VOXEL = scaling([1.1, 0.9, 2.0]) @ translation([-3, -2.5, -2])


def blocks(seed: int, shape: tuple[int, int, int] = SHAPE, count: int = 6) -> np.ndarray:
    """Patches of large and small labels, with background in between."""
    rng = np.random.default_rng(seed)
    values = np.array([0, 0, 1, 2, 14175, 2**31 - 1, *range(30, 24 + count)])
    return values[rng.integers(len(values), size=shape)].astype(np.int32)


def one_hot_scores(labels: LabelVolume, grid: Grid, pose: Affine) -> dict[int, np.ndarray]:
    """Trilinear interpolation of every label's one-hot image, background around it."""
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    into_labels = np.linalg.inv(pose @ labels.affine) @ grid.affine
    at = np.moveaxis(apply_affine(into_labels, voxels), -1, 0) + 2
    padded = np.pad(labels.data, 2)
    return {
        int(value): ndimage.map_coordinates(
            (padded == value).astype(float), at, order=1, mode="constant", cval=float(value == 0)
        )
        for value in np.unique(padded)
    }


poses = st.tuples(*[st.floats(-3, 3)] * 3, *[st.floats(-1.5, 1.5)] * 3).map(rigid_matrix)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), pose=poses, size=st.floats(0.3, 3))
def test_the_label_has_the_largest_one_hot_image(seed: int, pose: Affine, size: float) -> None:
    labels = LabelVolume(blocks(seed), VOXEL)
    grid = Grid((9, 8, 10), scaling([size] * 3) @ translation([-4.2, -4.1, -5.3]))
    found = resample_labels(labels, grid, pose)
    scores = one_hot_scores(labels, grid, pose)
    largest = np.max(list(scores.values()), axis=0)
    reached = np.select([found == value for value in scores], list(scores.values()), np.nan)
    # Positions are rounded to 1/1024 voxel, which may swap two that are this close.
    np.testing.assert_allclose(reached, largest, atol=6e-3)
    assert found.dtype == np.int32


def test_many_chunks_are_as_one() -> None:
    labels = LabelVolume(blocks(1), VOXEL)
    grid, pose = Grid((9, 8, 10), translation([-4, -4, -5])), rigid_matrix([1, 0, 0, 0.1, 0, 0.3])
    at_once = resample_labels(labels, grid, pose)
    in_chunks = resample_labels(labels, grid, pose, voxels_at_once=90)
    np.testing.assert_array_equal(in_chunks, at_once)
    assert len(np.unique(at_once)) > 3


def test_the_same_grid_gives_the_same_labels() -> None:
    labels = LabelVolume(blocks(2), VOXEL)
    np.testing.assert_array_equal(resample_labels(labels, labels.grid), labels.data)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flip", [1, -1])
def test_storage_order_decides_nothing_not_even_between_equals(
    axes: tuple[int, int, int], flip: int
) -> None:
    labels = LabelVolume(blocks(3), np.eye(4))
    # Half way between voxels, where up to eight labels weigh the same.
    grid = Grid((8, 7, 6), translation([-0.5, -0.5, -0.5]))
    order = np.eye(4)[:, [*axes, 3]]
    order[:3, :3] *= flip
    order[:3, 3] = [s - 1 if flip < 0 else 0 for s in SHAPE]
    stored = labels.data[::flip, ::flip, ::flip].transpose(axes)
    turned = resample_labels(LabelVolume(stored, order), grid)
    np.testing.assert_array_equal(turned, resample_labels(labels, grid))


def test_the_smallest_of_equal_labels_wins() -> None:
    pair = LabelVolume(np.array([9, 4, 4, 9, 0, 5], np.int32).reshape(6, 1, 1), np.eye(4))
    between = Grid((5, 1, 1), translation([0.5, 0, 0]))
    assert resample_labels(pair, between).ravel().tolist() == [4, 4, 4, 0, 0]


@pytest.mark.parametrize("noise", [3e-6, -3e-6])
def test_rounding_noise_decides_nothing(noise: float) -> None:
    labels = LabelVolume(blocks(5), np.eye(4))
    exact = Grid((6, 5, 4), translation([0.5, 0.5, 0.5]))
    noisy = Grid((6, 5, 4), translation([noise] * 3) @ exact.affine)
    np.testing.assert_array_equal(resample_labels(labels, noisy), resample_labels(labels, exact))


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_outside_is_background(offset: float) -> None:
    labels = LabelVolume(np.full((3, 3, 3), 5, np.int32), np.eye(4))
    found = resample_labels(labels, Grid((9, 9, 9), translation([offset - 3] * 3)))
    expected = np.zeros((9, 9, 9), np.int32)
    if offset == 0:
        expected[3:6, 3:6, 3:6] = 5
    np.testing.assert_array_equal(found, expected)


def test_pose_maps_from_the_segmentation_to_the_grid() -> None:
    labels = LabelVolume(np.zeros((5, 5, 5), np.int32), np.eye(4))
    labels.data[1, 2, 3] = 8
    found = resample_labels(labels, labels.grid, translation([2, 1, -1]))
    assert np.argwhere(found == 8).tolist() == [[3, 3, 2]]


def test_read_only_labels_are_read() -> None:
    data = blocks(4)
    data.setflags(write=False)
    found = resample_labels(LabelVolume(data, np.eye(4)), Grid(SHAPE, np.eye(4)))
    np.testing.assert_array_equal(found, data)
