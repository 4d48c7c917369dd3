"""Refined poses of the groups of slices of one stack: Gauss-Newton on data term and prior.

A few slices hardly determine some motions, and those at the top of the head determine almost none.
The poses of a stack are therefore estimated together, under a prior with two terms, both in mm: how
far a head moves from its mean pose during a scan, and how far from one group to the next in time.
Wherever slices show an edge, the data outweigh the prior by orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.motion import MotionDerivatives
from ...space.affines import Affine, apply_affine
from ...space.grid import Grid, centre_of
from ...space.rigid import rigid_parameters
from ..scanner.observation import Observation
from ..scanner.slice_groups import SliceGroup, select_slices
from ..solve.pose import motion_about, pose_derivatives

# Root mean square motion (mm) of points in the head: from the mean pose, as in heads that move at
# all within minutes (the worst tenth of clinical scans), and between successive groups.
STACK_SD_MM = 3.0
STEP_SD_MM = 2.0
# Radius of a ball about as large as the head, over which that mean is taken.
_BALL_RADIUS_MM = 80.0
_MOST_STEPS = 4
_MOST_HALVINGS = 4
_SMALLEST_STEP_MM = 0.005


@dataclass(frozen=True, eq=False)
class PosedGroup:
    """Slices that share a pose.

    Attributes
    ----------
    slices
        Their indices in the stack.
    pose
        ``(4, 4)``, scan world mm -> world mm of the image.
    """

    slices: SliceGroup
    pose: Affine


@dataclass(frozen=True, eq=False)
class PoseDerivatives:
    """Derivatives of the data term of some slices by their pose.

    Attributes
    ----------
    gradient
        By a motion ``(u, w)`` in mm and rad, ``(6,)``.
    hessian
        ``(6, 6)``.
    """

    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


def refine_group_poses(
    parts: Sequence[Observation], stack_pose: Affine, grid: Grid, image: Tensor
) -> list[Affine]:
    """Move the groups of a stack to where an image predicts them best, under the prior.

    Parameters
    ----------
    parts
        The groups in order of time, at the poses to start from.
    stack_pose
        ``(4, 4)``, pose of the stack as a whole, scan world mm -> world mm of the image.
    grid, image
        The image ``(X, Y, Z)`` float32 and its grid.

    Returns
    -------
    list of ndarray
        ``(4, 4)``, one pose for each group. They are at least as probable as those given.
    """
    centre = centre_of(grid)
    here = _derivatives(parts, grid, image, centre)
    cost = _cost(here, parts, stack_pose, centre)
    for _ in range(_MOST_STEPS):
        evidence = [PoseDerivatives(group.gradient, group.hessian) for group in here]
        step = most_likely_steps(evidence, _motions(_poses(parts), stack_pose, centre))
        for _ in range(_MOST_HALVINGS):
            moved = [
                replace(part, pose=motion_about(centre, step[g]) @ part.world_pose)
                for g, part in enumerate(parts)
            ]
            there = _derivatives(moved, grid, image, centre)
            cost_there = _cost(there, moved, stack_pose, centre)
            if cost_there < cost:
                break
            step = step / 2
        else:
            break
        parts, here, cost = moved, there, cost_there
        if rms_displacement(step).max() < _SMALLEST_STEP_MM:
            break
    return _poses(parts)


def slice_derivatives(
    scan: Observation, groups: Sequence[PosedGroup], grid: Grid, image: Tensor
) -> list[PoseDerivatives]:
    """PoseDerivatives of every single slice of a stack about its pose, at the pose of its group.

    The evidence of any set of slices is the sum over them.

    Parameters
    ----------
    scan
        The stack.
    groups
        Its groups, which together hold every slice once.
    grid, image
        The image ``(X, Y, Z)`` float32 and its grid.

    Returns
    -------
    list of PoseDerivatives
        In the order of the slices in the stack.
    """
    pose_of = {index: group.pose for group in groups for index in group.slices}
    centre = centre_of(grid)
    evidence = []
    for index in sorted(pose_of):
        slice_ = replace(select_slices(scan, (index,)), pose=pose_of[index])
        derivatives = pose_derivatives(slice_, grid, image, centre)
        evidence.append(PoseDerivatives(derivatives.gradient, derivatives.hessian))
    return evidence


def sum_derivatives(
    slices: Sequence[PoseDerivatives], groups: Sequence[SliceGroup]
) -> list[PoseDerivatives]:
    """Derivatives of groups of slices from that of every slice."""
    return [
        PoseDerivatives(
            np.sum([slices[index].gradient for index in group], axis=0),
            np.sum([slices[index].hessian for index in group], axis=0),
        )
        for group in groups
    ]


def most_likely_steps(
    evidence: Sequence[PoseDerivatives], motions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Gauss-Newton step of all groups of a stack together.

    Parameters
    ----------
    evidence
        Of every group, in order of time.
    motions
        ``(G, 6)``, motions of the groups relative to the stack, ``(u, w)`` in mm and rad.

    Returns
    -------
    ndarray
        ``(G, 6)``, to be added to ``motions``.
    """
    prior = prior_precision(len(evidence))
    hessian = prior.copy()
    for index, group in enumerate(evidence):
        place = slice(6 * index, 6 * index + 6)
        hessian[place, place] += group.hessian
    gradient = np.concatenate([group.gradient for group in evidence]) + prior @ motions.ravel()
    return np.asarray(-np.linalg.solve(hessian, gradient).reshape(-1, 6))


def predicted_gain(evidence: Sequence[PoseDerivatives], motions: NDArray[np.float64]) -> float:
    """Expected decrease of the negative log-probability by a Gauss-Newton step.

    Parameters
    ----------
    evidence
        As for `most_likely_steps`.
    motions
        ``(G, 6)``, as for `most_likely_steps`.
    """
    prior = prior_precision(len(evidence))
    gradient = np.concatenate([group.gradient for group in evidence]) + prior @ motions.ravel()
    return -float(gradient @ most_likely_steps(evidence, motions).ravel()) / 2


def prior_precision(count: int) -> NDArray[np.float64]:
    """Second derivatives of the prior of ``count`` groups in order of time, ``(6 G, 6 G)``.

    ``sum_g |q_g|^2 / (2 s^2) + sum_g |q_g+1 - q_g|^2 / (2 d^2)``, with the norm the root mean
    square displacement over a ball: ``|u|^2 + 2 r^2 |w|^2 / 5``.
    """
    differences = np.diff(np.eye(count), axis=0)
    chain = np.eye(count) / STACK_SD_MM**2 + differences.T @ differences / STEP_SD_MM**2
    return np.asarray(np.kron(chain, np.diag(_METRIC)))


def rms_displacement(motions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean square displacement (mm) over the head of each motion ``(..., 6)``."""
    return np.asarray(np.sqrt((motions**2) @ _METRIC))


def motion_parameters(
    poses: Sequence[Affine], stack_pose: Affine, grid: Grid
) -> NDArray[np.float64]:
    """Motions from the pose of a stack to those of its groups, about the centre of a grid.

    Parameters
    ----------
    poses
        ``(4, 4)``, pose of each group.
    stack_pose
        ``(4, 4)``, pose of the stack.
    grid
        Grid of the image.

    Returns
    -------
    ndarray
        ``(G, 6)``, translation in mm and rotation vector in rad.
    """
    return _motions(poses, stack_pose, centre_of(grid))


_METRIC = np.array([1.0] * 3 + [0.4 * _BALL_RADIUS_MM**2] * 3)


def _poses(parts: Sequence[Observation]) -> list[Affine]:
    return [part.world_pose for part in parts]


def _motions(
    poses: Sequence[Affine], stack_pose: Affine, centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    back = np.linalg.inv(stack_pose)
    motions = []
    for pose in poses:
        motion = pose @ back
        turn = rigid_parameters(motion)[3:] / np.sqrt(2)
        motions.append([*(apply_affine(motion, centre) - centre), -turn[2], turn[1], -turn[0]])
    return np.array(motions)


def _derivatives(
    parts: Sequence[Observation], grid: Grid, image: Tensor, centre: NDArray[np.float64]
) -> list[MotionDerivatives]:
    return [pose_derivatives(part, grid, image, centre) for part in parts]


def _cost(
    derivatives: Sequence[MotionDerivatives],
    parts: Sequence[Observation],
    stack_pose: Affine,
    centre: NDArray[np.float64],
) -> float:
    """Negative log-probability of the poses of the parts."""
    motions = _motions(_poses(parts), stack_pose, centre).ravel()
    penalty = motions @ prior_precision(len(parts)) @ motions / 2
    return float(sum(part.cost for part in derivatives) + penalty)
