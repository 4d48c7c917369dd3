"""Rigid registration: known poses are found, however a scan is stored and whatever it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_unires.errors import BadDataError
from bids_unires.registration import align_rigid
from bids_unires.space.affines import Affine, scaling
from bids_unires.space.volume import Volume
from tests.registration.synthetic import (
    AXIAL,
    OF_A_PART,
    assert_same_pose,
    centred,
    motion,
    moving_scan,
    scan,
    stations,
)


@pytest.fixture(scope="module")
def reference() -> Volume:
    return scan(centred(*AXIAL), AXIAL[1], np.eye(4), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "pose",
    [
        motion((4.0, -3.0, 6.0), (5.0, -8.0, 3.0)),
        motion((25.0, 20.0, -30.0), (10.0, 30.0, 20.0)),
        motion((5.0, 0.0, 175.0), (-20.0, 10.0, 5.0)),
        motion((-85.0, 10.0, 5.0), (0.0, 25.0, -15.0)),
    ],
    ids=["close", "far", "upside down", "on its side"],
)
def test_known_pose_is_recovered(reference: Volume, pose: Affine) -> None:
    alignment = align_rigid(reference, moving_scan(pose), threads=2)
    assert_same_pose(alignment.pose, pose)
    assert alignment.pose.dtype == np.float64
    np.testing.assert_allclose(
        alignment.pose[:3, :3] @ alignment.pose[:3, :3].T, np.eye(3), atol=1e-6
    )
    assert alignment.metric > 0.3


def test_contrast_may_be_inverted(reference: Volume) -> None:
    pose = motion((-6.0, 8.0, 3.0), (-6.0, 4.0, 9.0))
    moving = moving_scan(pose)
    shown = moving.data > 30
    inverted = np.where(shown, 200 - moving.data, moving.data)
    assert_same_pose(align_rigid(reference, Volume(inverted, moving.affine), threads=2).pose, pose)


@pytest.mark.slow
def test_part_of_the_head_is_enough(reference: Volume) -> None:
    pose = motion((10.0, -5.0, 12.0), (8.0, -20.0, 12.0))
    moving = moving_scan(pose)
    part = Volume(moving.data[:26], moving.affine)
    assert_same_pose(align_rigid(reference, part, threads=2).pose, pose)


@pytest.mark.slow
def test_storage_order_changes_nothing(reference: Volume) -> None:
    moving = moving_scan(motion((7.0, 4.0, -5.0), (4.0, 6.0, -8.0)))
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = moving.data.shape[0] - 1
    stored = Volume(moving.data[::-1].transpose(2, 0, 1), (moving.affine @ flip)[:, [2, 0, 1, 3]])
    np.testing.assert_allclose(
        align_rigid(reference, stored, threads=2).pose,
        align_rigid(reference, moving, threads=2).pose,
        atol=1e-5,
    )


@pytest.mark.slow
def test_scale_and_missing_values_change_little(reference: Volume) -> None:
    pose = motion((7.0, 4.0, -5.0), (4.0, 6.0, -8.0))
    moving = moving_scan(pose)
    data = moving.data * 37
    data[:, :8] = np.nan
    assert_same_pose(align_rigid(reference, Volume(data, moving.affine), threads=2).pose, pose)


@pytest.mark.parametrize("sheared", [pytest.param("moving", marks=pytest.mark.slow), "both"])
def test_tilted_gantry_changes_nothing(reference: Volume, sheared: str) -> None:
    """Slices shifted along y from one to the next: axes that are not at right angles."""
    pose = motion((6.0, -4.0, 8.0), (6.0, -10.0, 5.0))
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.deg2rad(20.0))
    tilted = shear @ centred(*AXIAL)
    fixed = scan(tilted, AXIAL[1], np.eye(4), seed=1) if sheared == "both" else reference
    moving = scan(tilted, AXIAL[1], pose, seed=2)
    assert_same_pose(align_rigid(fixed, moving, threads=2).pose, pose)


def test_constant_scan_is_refused(reference: Volume) -> None:
    flat = Volume(np.full((20, 20, 20), 7, dtype=np.float32), np.eye(4), Path("flat.nii.gz"))
    with pytest.raises(BadDataError, match=r"flat\.nii\.gz"):
        align_rigid(reference, flat, threads=1)


@pytest.mark.slow
def test_heads_of_mice_are_aligned_as_well_as_those_of_humans(reference: Volume) -> None:
    size = 0.1
    pose = motion((12.0, -8.0, 15.0), (15.0, -20.0, 10.0))
    small, moved = (
        replace(scan, affine=scaling([size] * 3) @ scan.affine)
        for scan in (reference, moving_scan(pose))
    )
    found = align_rigid(small, moved, threads=2).pose
    found[:3, 3] /= size
    assert_same_pose(found, pose)


def test_parts_that_share_little_are_found_from_their_headers() -> None:
    """Nothing says that they are stations, and turned about they would share more."""
    lower, upper = stations(2, 2, 25.0, still=False)
    expected = motion((1.5, -1, 2), (1, 1.5, -1))
    assert_same_pose(align_rigid(lower, upper, threads=2).pose, expected, OF_A_PART)
