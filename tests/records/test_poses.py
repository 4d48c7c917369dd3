from __future__ import annotations

import numpy as np
import pytest

from bids_unires.records.image import ImageRecord
from bids_unires.records.poses import is_one_place
from bids_unires.space.affines import translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

GRID = Grid((100, 100, 100), translation([500, 0, -50]))


def test_poses_are_read_and_what_is_none_is_passed_over() -> None:
    pose = translation([1, 2, 3]).tolist()
    scans = [
        {"Source": "bids:raw:a", "Pose": pose},
        {"Source": "bids:raw:b", "Pose": [[1, 0], [0, 1]]},
        {"Source": "bids:raw:c", "Pose": np.zeros((4, 4)).tolist()},
        {"Source": "bids:raw:d", "Pose": "there"},
        {"Source": "bids:raw:e"},
        {"Pose": pose},
        "f",
    ]
    found = ImageRecord.of_sidecar({"UniRes": {"Scans": scans}}).poses
    assert list(found) == ["bids:raw:a"]
    np.testing.assert_array_equal(found["bids:raw:a"], pose)


@pytest.mark.parametrize("metadata", [{}, {"UniRes": 1}, {"UniRes": {"Scans": 7}}])
def test_a_sidecar_without_poses_has_none(metadata: dict[str, object]) -> None:
    assert ImageRecord.of_sidecar(metadata).poses == {}


@pytest.mark.parametrize(
    ("voxel", "motion", "expected"),
    [
        (1.0, [0.4, 0, 0, 0, 0, 0], True),
        (1.0, [0.6, 0, 0, 0, 0, 0], False),
        (4.0, [1.9, 0, 0, 0, 0, 0], True),
        (4.0, [2.1, 0, 0, 0, 0, 0], False),
        (0.2, [0.4, 0, 0, 0, 0, 0], True),
    ],
)
def test_poses_agree_within_half_a_voxel(voxel: float, motion: list[float], expected: bool) -> None:
    grid = Grid((50, 50, 50), np.diag([voxel, voxel, voxel, 1.0]))
    first = translation([5, 6, 7])
    assert is_one_place(first, translation(motion[:3]) @ first, grid) is expected


def test_rotations_are_measured_where_the_head_is() -> None:
    turn = rigid_matrix([0, 0, 0, np.deg2rad(0.3), 0, 0])
    # About the world's origin, which is half a metre away.
    assert not is_one_place(np.eye(4), turn, GRID)
    centre = translation([549.5, 49.5, -0.5])
    assert is_one_place(np.eye(4), centre @ turn @ np.linalg.inv(centre), GRID)


def test_a_pose_that_is_not_finite_is_nowhere() -> None:
    assert not is_one_place(np.eye(4), np.full((4, 4), np.nan), GRID)
