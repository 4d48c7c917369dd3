"""Poses in words of shift, rotation and displacement."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.report.motion import motion_of
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid, centre_of


def rotation_about(grid: Grid, degrees: float) -> np.ndarray:
    """About the z axis through the middle of a grid."""
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return translation(centre_of(grid)) @ turn @ translation(-centre_of(grid))


def test_a_rotation_about_the_middle_shifts_nothing(head_grid: Grid) -> None:
    motion = motion_of(rotation_about(head_grid, 5.0), head_grid)
    np.testing.assert_allclose(motion.shift, 0, atol=1e-9)
    np.testing.assert_allclose(motion.rotation, [0, 0, 5], atol=1e-9)
    # Corners of the box are 0.6 of those of the grid: 36 x 43 mm from the axis.
    distance = 2 * np.sin(np.deg2rad(2.5)) * 0.6 * np.hypot(60, 72)
    assert motion.displacement == pytest.approx(distance)


def test_where_the_origin_lies_does_not_matter(head_grid: Grid) -> None:
    far = Grid(head_grid.shape, translation([0, 900, -1500]) @ head_grid.affine)
    here = motion_of(rotation_about(head_grid, 3.0), head_grid)
    there = motion_of(rotation_about(far, 3.0), far)
    np.testing.assert_allclose(there.shift, here.shift, atol=1e-6)
    assert there.displacement == pytest.approx(here.displacement)


def test_a_scale_is_told_from_a_rotation(head_grid: Grid) -> None:
    motion = motion_of(rotation_about(head_grid, 4.0) @ scaling([1.2] * 3), head_grid)
    assert motion.scale == pytest.approx(1.2)
    np.testing.assert_allclose(motion.rotation, [0, 0, 4], atol=1e-6)
