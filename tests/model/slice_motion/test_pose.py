"""Poses of groups of slices: found where slices say something, else where the prior has them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_unires.model import ForwardOperator, Observation, SliceProfile
from bids_unires.model.scanner.slice_groups import interleaved_order, select_slices
from bids_unires.model.slice_motion.pose import (
    STACK_SD_MM,
    PoseDerivatives,
    PosedGroup,
    most_likely_steps,
    motion_parameters,
    predicted_gain,
    prior_precision,
    refine_group_poses,
    rms_displacement,
    slice_derivatives,
    sum_derivatives,
)
from bids_unires.model.solve.pose import displacement, motion_about
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid, centre_of

GRID = Grid((52, 56, 48), translation([-26, -28, -24]))
GROUPS = interleaved_order(12, 2, "test").groups(1)
NOTHING = PoseDerivatives(np.zeros(6), np.zeros((6, 6)))
STEPS = (
    np.array([1.2, -0.8, 0.9, 0.02, -0.015, 0.01]),
    np.array([-1.0, 1.1, -0.6, -0.01, 0.02, -0.02]),
)


def head() -> torch.Tensor:
    at = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
    half = (np.array(GRID.shape) - 1) / 2
    radius = np.linalg.norm((at - half) / (half - 6), axis=-1)
    texture = 1 + 0.4 * np.sin(at @ [0.5, 0.2, 0.3]) * np.cos(at @ [0.1, 0.4, -0.3])
    return torch.as_tensor(100 * texture / (1 + np.exp(12 * (radius - 1))), dtype=torch.float32)


def true_poses() -> list[Affine]:
    return [motion_about(centre_of(GRID), step) for step in STEPS]


def moved_stack(axis: int) -> Observation:
    """A stack, even and odd slices of which lay elsewhere; its header knows nothing of it."""
    sizes, sides = np.ones(3), np.array([48, 52, 44])
    sizes[axis], sides[axis] = 4.0, 12
    affine = scaling(sizes) @ translation(-(sides - 1) / 2)
    empty = Observation(
        np.ones(tuple(sides), np.float32), affine, 1.0, SliceProfile("dirac", "rect", axis=axis)
    )
    data = np.moveaxis(np.zeros(tuple(sides), np.float32), axis, 0)
    for group, pose in zip(GROUPS, true_poses(), strict=True):
        part = select_slices(empty, group)
        operator = ForwardOperator(GRID, part.grid, pose=pose, profile=part.profile)
        data[list(group)] = np.moveaxis(operator.forward(head()).numpy(), axis, 0)
    noise = np.random.default_rng(axis).normal(size=tuple(sides))
    return replace(empty, data=(np.moveaxis(data, 0, axis) + noise).astype(np.float32))


def parts_of(scan: Observation) -> list[Observation]:
    return [select_slices(scan, group) for group in GROUPS]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_poses_of_interleaved_slices_are_found(axis: int) -> None:
    parts = parts_of(moved_stack(axis))
    found = refine_group_poses(parts, np.eye(4), GRID, head())
    for pose, truth in zip(found, true_poses(), strict=True):
        assert displacement(truth, np.eye(4), GRID) > 1
        assert displacement(truth, pose, GRID) < 0.03


def test_slices_without_the_head_follow_the_others_and_the_stack() -> None:
    scan = moved_stack(2)
    blank = [replace(part, data=np.full_like(part.data, np.nan)) for part in parts_of(scan)]
    still = refine_group_poses(blank, np.eye(4), GRID, head())
    np.testing.assert_allclose(still, [np.eye(4)] * 2, atol=1e-9)
    first, second = refine_group_poses([parts_of(scan)[0], blank[1]], np.eye(4), GRID, head())
    near, far = (
        rms_displacement(motion_parameters([pose], np.eye(4), GRID))[0] for pose in (second, first)
    )
    assert displacement(true_poses()[0], first, GRID) < 0.05
    assert 0.3 * far < near < far


def test_evidence_of_slices_adds_up_to_that_of_their_groups() -> None:
    scan = moved_stack(1)
    slices = slice_derivatives(scan, [PosedGroup(tuple(range(12)), np.eye(4))], GRID, head())
    (together,) = sum_derivatives(slices, [tuple(range(12))])
    apart = sum_derivatives(slices, GROUPS)
    np.testing.assert_allclose(sum(one.gradient for one in apart), together.gradient, rtol=1e-9)
    gain = predicted_gain(apart, np.zeros((2, 6)))
    assert gain > 3 * predicted_gain([together], np.zeros((1, 6))) > 0
    steps = most_likely_steps(apart, np.zeros((2, 6)))
    assert rms_displacement(steps - STEPS).max() < 0.7 * rms_displacement(np.array(STEPS)).min()


def test_the_prior_knows_neither_axes_nor_the_direction_of_time() -> None:
    precision = prior_precision(4).reshape(4, 6, 4, 6)
    np.testing.assert_allclose(precision[::-1, :, ::-1], precision)
    turned = [2, 0, 1, 5, 3, 4]
    np.testing.assert_allclose(precision[:, turned][..., turned], precision)
    # All groups moved alike by a millimetre cost what the stack's spread says.
    alike = np.tile([1.0, 0, 0, 0, 0, 0], (4, 1)).ravel()
    cost = alike @ prior_precision(4) @ alike / 2
    assert cost == pytest.approx(4 / (2 * STACK_SD_MM**2))


def test_nothing_known_is_the_way_back_to_the_stack() -> None:
    motions = np.array(STEPS)
    np.testing.assert_allclose(most_likely_steps([NOTHING] * 2, motions), -motions, atol=1e-12)


def test_motions_are_those_of_the_poses() -> None:
    stack = motion_about(np.zeros(3), np.array([5.0, 2, 1, 0.2, 0.1, -0.3]))
    poses = [pose @ stack for pose in true_poses()]
    np.testing.assert_allclose(motion_parameters(poses, stack, GRID), STEPS, atol=1e-9)


def test_displacement_is_the_root_mean_square_over_a_ball() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200_000, 3))
    points *= (80 * rng.uniform(size=(200_000, 1)) ** (1 / 3)) / np.linalg.norm(
        points, axis=1, keepdims=True
    )
    step = np.array([0.5, 0, 0.2, 0.01, -0.02, 0.005])
    moved = step[:3] + np.cross(step[3:], points)
    assert rms_displacement(step) == pytest.approx(np.sqrt((moved**2).sum(axis=1).mean()), rel=0.01)


def test_poses_are_found_whichever_way_the_header_is_turned() -> None:
    turn = np.eye(4)
    turn[:3, :3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    parts = [
        replace(part, affine=np.linalg.inv(turn) @ part.affine, pose=turn)
        for part in parts_of(moved_stack(2))
    ]
    found = refine_group_poses(parts, turn, GRID, head())
    for pose, truth in zip(found, true_poses(), strict=True):
        assert displacement(truth @ turn, pose, GRID) < 0.03
