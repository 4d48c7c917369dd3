"""Affine arithmetic and rigid motions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from bids_unires.space.affines import (
    apply_affine,
    scaling,
    shear_angle,
    slice_axis,
    slice_spacing,
    translation,
    voxel_size,
)
from bids_unires.space.grid import Grid, centre_of, corners, inside
from bids_unires.space.rigid import mean_pose, rigid_basis, rigid_matrix, rigid_parameters
from tests.paths import DATA

REFERENCE = json.loads((DATA / "reference.json").read_text())["rigid"]

numbers = st.floats(-80, 80)
points = st.tuples(numbers, numbers, numbers).map(np.array)


@st.composite
def motions(draw: st.DrawFn, largest_angle: float = np.pi - 1e-3) -> np.ndarray:
    """Parameters of a rigid motion with an angle from nearly zero to ``largest_angle``."""
    axis = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    length = np.linalg.norm(axis)
    axis = axis / length if length > 1e-3 else np.array([0.0, 1.0, 0.0])
    angle = draw(st.one_of(st.floats(0, largest_angle), st.floats(-12, 0).map(lambda p: 10.0**p)))
    return np.concatenate([draw(points), np.sqrt(2) * angle * axis])


def test_rigid_matrix_is_the_reference_s() -> None:
    np.testing.assert_allclose(rigid_basis(), REFERENCE["basis"], atol=1e-7)
    np.testing.assert_allclose(rigid_matrix(REFERENCE["q"]), REFERENCE["matrix"], atol=1e-6)


@given(motions())
def test_rigid_matrix_is_the_matrix_exponential(parameters: np.ndarray) -> None:
    generator = np.tensordot(parameters, rigid_basis(), axes=1)
    np.testing.assert_allclose(rigid_matrix(parameters), expm(generator), atol=1e-10)


@given(motions())
def test_parameters_survive_the_round_trip(parameters: np.ndarray) -> None:
    np.testing.assert_allclose(rigid_parameters(rigid_matrix(parameters)), parameters, atol=1e-9)


@given(motions(largest_angle=20.0))
def test_motion_survives_the_round_trip(parameters: np.ndarray) -> None:
    motion = rigid_matrix(parameters)
    found = rigid_parameters(motion)
    assert np.linalg.norm(found[3:]) <= np.sqrt(2) * np.pi + 1e-9
    np.testing.assert_allclose(rigid_matrix(found), motion, atol=1e-7)


@given(motions())
def test_negative_parameters_are_the_inverse(parameters: np.ndarray) -> None:
    product = rigid_matrix(parameters) @ rigid_matrix(-parameters)
    np.testing.assert_allclose(product, np.eye(4), atol=1e-10)


@given(motions(), points, points)
def test_motion_keeps_distances(parameters: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    moved = apply_affine(rigid_matrix(parameters), [a, b])
    assert np.linalg.norm(moved[0] - moved[1]) == pytest.approx(np.linalg.norm(a - b), abs=1e-9)


@given(motions())
def test_motion_is_rigid_to_the_last_digit(parameters: np.ndarray) -> None:
    motion = rigid_matrix(parameters)
    assert motion[3].tolist() == [0, 0, 0, 1]
    np.testing.assert_allclose(motion[:3, :3] @ motion[:3, :3].T, np.eye(3), atol=1e-14)


def test_half_turn_has_parameters() -> None:
    half_turn = np.diag([-1.0, 1.0, -1.0, 1.0])
    np.testing.assert_allclose(rigid_matrix(rigid_parameters(half_turn)), half_turn, atol=1e-12)


@given(motions(), st.lists(motions(largest_angle=0.8), min_size=1, max_size=4))
def test_logarithms_relative_to_the_mean_pose_add_up_to_nothing(
    base: np.ndarray, steps: list[np.ndarray]
) -> None:
    poses = [rigid_matrix(base) @ rigid_matrix(step) for step in steps]
    mean = mean_pose(poses)
    total = np.sum([rigid_parameters(np.linalg.inv(mean) @ pose) for pose in poses], axis=0)
    np.testing.assert_allclose(total, 0, atol=1e-6)


@given(motions(), motions(), st.lists(motions(largest_angle=0.8), min_size=2, max_size=4))
def test_the_mean_pose_goes_along_with_either_world_and_any_order(
    before: np.ndarray, after: np.ndarray, steps: list[np.ndarray]
) -> None:
    first, last = rigid_matrix(before), rigid_matrix(after)
    poses = [rigid_matrix(step) for step in steps]
    moved = mean_pose([first @ pose @ last for pose in poses[::-1]])
    np.testing.assert_allclose(moved, first @ mean_pose(poses) @ last, atol=1e-5)


@pytest.mark.parametrize(
    "matrix", [scaling([1, 1, 2]), scaling([-1, 1, 1]), np.full((4, 4), np.nan)]
)
def test_what_is_not_rigid_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not a rigid motion"):
        rigid_parameters(matrix)


def test_wrong_number_of_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="six parameters"):
        rigid_matrix([1, 2, 3])


@given(motions(), points)
def test_affines_compose(parameters: np.ndarray, point: np.ndarray) -> None:
    first, second = rigid_matrix(parameters), scaling([2, 3, 4]) @ translation([1, -1, 0.5])
    np.testing.assert_allclose(
        apply_affine(first @ second, point),
        apply_affine(first, apply_affine(second, point)),
        atol=1e-9,
    )


@given(motions(), st.tuples(*[st.floats(0.3, 8)] * 3))
def test_voxel_size_ignores_pose(parameters: np.ndarray, sizes: tuple[float, ...]) -> None:
    np.testing.assert_allclose(voxel_size(rigid_matrix(parameters) @ scaling(sizes)), sizes)


def test_corners_reach_the_outer_faces() -> None:
    faces = corners((3, 4, 5), edge=0.5)
    assert faces.shape == (8, 3)
    np.testing.assert_array_equal(faces.min(axis=0), [-0.5] * 3)
    np.testing.assert_array_equal(faces.max(axis=0), [2.5, 3.5, 4.5])


@pytest.mark.parametrize(("sizes", "axis"), [((5, 1, 1), 0), ((1, 3, 2), 1), ((1, 1, 1), 2)])
def test_slice_axis_is_the_coarsest_or_the_last(sizes: tuple[float, ...], axis: int) -> None:
    assert slice_axis(scaling(sizes)) == axis


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.inf), np.eye(3)])
def test_grid_refuses_what_is_no_box(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="affine"):
        Grid((2, 2, 2), affine)


def test_grid_cannot_be_changed() -> None:
    grid = Grid((2, 2, 2), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 3


@given(motions(), st.tuples(*[st.floats(0.3, 8)] * 3), st.integers(0, 2))
def test_right_angles_have_no_shear(
    parameters: np.ndarray, sizes: tuple[float, ...], axis: int
) -> None:
    affine = rigid_matrix(parameters) @ scaling(sizes)
    assert shear_angle(affine) < 1e-5
    assert slice_spacing(affine, axis) == pytest.approx(sizes[axis])


@given(
    motions(),
    st.permutations(range(3)),
    st.sampled_from([1, -1]),
    st.floats(0, 60),
    st.floats(0.3, 8),
)
def test_tilt_of_the_slices_is_found_however_they_are_stored(
    parameters: np.ndarray, axes: list[int], flip: int, tilt: float, spacing: float
) -> None:
    tilted = scaling([0.5, 0.4, spacing])
    tilted[1, 2] = flip * spacing * np.tan(np.radians(tilt))
    stored = (rigid_matrix(parameters) @ tilted)[:, [*axes, 3]]
    assert shear_angle(stored) == pytest.approx(tilt, abs=1e-5)
    assert slice_spacing(stored, axes.index(2)) == pytest.approx(spacing)
    assert voxel_size(stored)[axes.index(2)] == pytest.approx(spacing / np.cos(np.radians(tilt)))


@given(motions(), st.tuples(*[st.integers(1, 9)] * 3))
def test_centre_is_the_mean_of_the_corners(
    parameters: np.ndarray, shape: tuple[int, int, int]
) -> None:
    grid = Grid(shape, rigid_matrix(parameters) @ scaling([1, 2, 3]))
    at_corners = apply_affine(grid.affine, corners(shape, edge=0.5))
    np.testing.assert_allclose(centre_of(grid), at_corners.mean(axis=0), atol=1e-9)


@given(
    motions(),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.sampled_from([-2.0, -1.0, 0.5, 1.0])] * 3),
)
def test_voxels_inside_are_those_whose_centres_are(
    motion: np.ndarray,
    shape: tuple[int, int, int],
    box_shape: tuple[int, int, int],
    sizes: tuple[float, float, float],
) -> None:
    box = Grid(box_shape, np.eye(4))
    motion[:3] /= 20
    grid = Grid(shape, rigid_matrix(motion) @ scaling(sizes))
    at = apply_affine(grid.affine, np.moveaxis(np.indices(shape), 0, -1))
    beyond = np.maximum(-0.5 - at, at - (np.array(box_shape) - 0.5)).max(axis=-1)
    # On a face rounding decides.
    clear = np.abs(beyond) > 1e-3
    np.testing.assert_array_equal(inside(grid, box)[clear], (beyond < 0)[clear])
