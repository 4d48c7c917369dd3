"""Poses refined against an image: found again, and never worse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_unires.model import ForwardOperator, Observation, SliceProfile
from bids_unires.model.solve.pose import (
    PoseUpdate,
    displacement,
    refine_poses,
    remove_common_motion,
)
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

GRID = Grid((60, 64, 56), translation([-30, -32, -28]) @ scaling([1.0, 1.0, 1.0]))
PROFILE = SliceProfile("dirac", "rect")
TRUE = (
    rigid_matrix([0.3, -0.2, 0.1, 0.01, 0.0, -0.01]),
    rigid_matrix([-1.0, 0.8, -0.6, 0.02, -0.03, 0.01]),
    rigid_matrix([0.7, -0.6, 0.5, -0.03, 0.03, 0.0]),
)


def head() -> torch.Tensor:
    at = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
    half = (np.array(GRID.shape) - 1) / 2
    radius = np.linalg.norm((at - half) / (half - 9), axis=-1)
    texture = 1 + 0.4 * np.sin(at @ [0.5, 0.2, 0.3]) * np.cos(at @ [0.1, 0.4, -0.3])
    return torch.as_tensor(100 * texture / (1 + np.exp(12 * (radius - 1))), dtype=torch.float32)


def slices(axis: int) -> Grid:
    sizes, shape = np.ones(3), np.array([52, 56, 48])
    sizes[axis], shape[axis] = 4.0, shape[axis] // 4
    centre = translation(-(shape - 1) / 2)
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), scaling(sizes) @ centre)


def stacks(noise_sd: float = 1.0) -> list[Observation]:
    scans = []
    for axis, pose in enumerate(TRUE):
        grid = slices(axis)
        clean = ForwardOperator(GRID, grid, pose=pose, profile=PROFILE).forward(head()).numpy()
        noise = np.random.default_rng(axis).normal(scale=noise_sd, size=grid.shape)
        data = (clean + noise).astype(np.float32)
        scans.append(Observation(data, grid.affine, noise_sd**-2, PROFILE, pose))
    return scans


def misplaced(scans: list[Observation], seed: int) -> list[Observation]:
    rng = np.random.default_rng(seed)
    moved = []
    for scan in scans:
        motion = rigid_matrix([*rng.uniform(-1.5, 1.5, 3), *rng.uniform(-0.03, 0.03, 3)])
        moved.append(replace(scan, pose=motion @ scan.world_pose))
    return moved


def relative(poses: list[Affine] | tuple[Affine, ...]) -> list[Affine]:
    return [np.linalg.inv(poses[0]) @ pose for pose in poses[1:]]


@pytest.mark.parametrize("seed", [0, 1])
def test_poses_relative_to_each_other_are_found_again(seed: int) -> None:
    scans = misplaced(stacks(), seed)
    before = [scan.world_pose for scan in scans]
    found = [update.after for update in refine_poses(scans, GRID, head())]
    for pose, start, truth in zip(relative(found), relative(before), relative(TRUE), strict=True):
        assert displacement(truth, start, GRID) > 0.5
        assert displacement(truth, pose, GRID) < 0.02


def test_all_scans_together_stay_where_they_are() -> None:
    scans = misplaced(stacks(), 2)
    motions = [
        update.after @ np.linalg.inv(update.before) for update in refine_poses(scans, GRID, head())
    ]
    # Of small motions the mean of the translations is that of the motion as a whole.
    mean = np.mean([motion[:3, 3] for motion in motions], axis=0)
    assert np.abs(mean).max() < 0.01
    assert max(np.abs(motion[:3, 3]).max() for motion in motions) > 0.3


def test_a_scan_alone_is_not_moved() -> None:
    (scan, *_) = misplaced(stacks(), 3)
    (update,) = refine_poses([scan], GRID, head())
    np.testing.assert_array_equal(update.after, scan.world_pose)
    assert update.displacement(GRID) == pytest.approx(0, abs=1e-12)


def test_moving_all_scans_changes_nothing_relative() -> None:
    motion = rigid_matrix([3, 1, -2, 0.1, 0.2, 0.0])
    corrected, plain = (
        [
            update.after
            for update in remove_common_motion([PoseUpdate(np.eye(4), pose) for pose in poses])
        ]
        for poses in ([motion @ pose for pose in TRUE], TRUE)
    )
    for a, b in zip(relative(corrected), relative(plain), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_displacement_is_that_of_a_translation() -> None:
    assert displacement(np.eye(4), translation([3, 0, 4]), GRID) == pytest.approx(5)
