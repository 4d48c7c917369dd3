"""Poses of the groups of slices of one stack: Gauss-Newton on data term and prior together.

Few slices say little about some motions, those at the top of the head next to nothing. So the
poses of a stack are found together, under a prior with two parts, both in mm: how far a head
moves from where it lay on average during a scan, and how far from one group to the next in
time. What the slices say outweighs it by orders of magnitude wherever they show an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

# Root mean square motion (mm) of points in the head: about its mean pose, as heads that move at
# all do within minutes (the worst tenth of clinical scans), and between groups in succession.
STACK_SD_MM = 3.0
STEP_SD_MM = 2.0
# A ball about as large as the head, over which that mean is taken.
_BALL_RADIUS_MM = 80.0
_MOST_STEPS = 4
_MOST_HALVINGS = 4
_SMALLEST_STEP_MM = 0.005


@dataclass(frozen=True, eq=False)
class Evidence:
    """What data say about the pose of some slices, to first order.

    Attributes
    ----------
    gradient
        Of the data term by a motion ``(u, w)`` in mm and rad, ``(6,)``.
    hessian
        Of the data term, ``(6, 6)``.
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
        The image ``(X, Y, Z)`` float32 and where it lies.

    Returns
    -------
    list of ndarray
        ``(4, 4)``, one pose for each group; never a less likely set than the one given.
    """
    centre = centre_of(grid)
    poses = [part.world_pose for part in parts]
    here = _derivatives(parts, poses, grid, image, centre)
    cost = _cost(here, poses, stack_pose, centre)
    for _ in range(_MOST_STEPS):
        evidence = [Evidence(one.gradient, one.hessian) for one in here]
        step = most_likely_steps(evidence, _motions(poses, stack_pose, centre))
        for _ in range(_MOST_HALVINGS):
            moved = [
                motion_about(centre, own) @ pose for own, pose in zip(step, poses, strict=True)
            ]
            there = _derivatives(parts, moved, grid, image, centre)
            cost_there = _cost(there, moved, stack_pose, centre)
            if cost_there < cost:
                break
            step = step / 2
        else:
            break
        poses, here, cost = moved, there, cost_there
        if rms_displacement(step).max() < _SMALLEST_STEP_MM:
            break
    return poses


def slice_evidence(
    scan: Observation,
    groups: Sequence[SliceGroup],
    poses: Sequence[Affine],
    grid: Grid,
    image: Tensor,
) -> list[Evidence]:
    """What every single slice of a stack says about its pose, at the pose of its group.

    The evidence of any set of slices is the sum over them.

    Returns
    -------
    list of Evidence
        In the order of the slices in the stack.
    """
    pose_of = {index: pose for group, pose in zip(groups, poses, strict=True) for index in group}
    centre = centre_of(grid)
    found = []
    for index in sorted(pose_of):
        one = pose_derivatives(select_slices(scan, (index,)), pose_of[index], grid, image, centre)
        found.append(Evidence(one.gradient, one.hessian))
    return found


def sum_evidence(slices: Sequence[Evidence], groups: Sequence[SliceGroup]) -> list[Evidence]:
    """Evidence of groups from that of their slices."""
    return [
        Evidence(
            np.sum([slices[index].gradient for index in group], axis=0),
            np.sum([slices[index].hessian for index in group], axis=0),
        )
        for group in groups
    ]


def most_likely_steps(
    evidence: Sequence[Evidence], motions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Gauss-Newton's step for all groups of a stack at once.

    Parameters
    ----------
    evidence
        Of every group, in order of time.
    motions
        ``(G, 6)``, where the groups lie relative to the stack, as ``(u, w)`` in mm and rad.

    Returns
    -------
    ndarray
        ``(G, 6)``, what to add to ``motions``.
    """
    prior = prior_precision(len(evidence))
    hessian = prior.copy()
    for index, own in enumerate(evidence):
        place = slice(6 * index, 6 * index + 6)
        hessian[place, place] += own.hessian
    gradient = np.concatenate([own.gradient for own in evidence]) + prior @ motions.ravel()
    return np.asarray(-np.linalg.solve(hessian, gradient).reshape(-1, 6))


def predicted_gain(evidence: Sequence[Evidence], motions: NDArray[np.float64]) -> float:
    """By how much a Gauss-Newton step will lower the negative logarithm of the probability."""
    prior = prior_precision(len(evidence))
    gradient = np.concatenate([own.gradient for own in evidence]) + prior @ motions.ravel()
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
    """Motions ``(G, 6)`` that take the stack's pose to that of each group, about the centre."""
    return _motions(poses, stack_pose, centre_of(grid))


_METRIC = np.array([1.0] * 3 + [0.4 * _BALL_RADIUS_MM**2] * 3)


def _motions(
    poses: Sequence[Affine], stack_pose: Affine, centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    back = np.linalg.inv(stack_pose)
    found = []
    for pose in poses:
        motion = pose @ back
        turn = rigid_parameters(motion)[3:] / np.sqrt(2)
        found.append([*(apply_affine(motion, centre) - centre), -turn[2], turn[1], -turn[0]])
    return np.array(found)


def _derivatives(
    parts: Sequence[Observation],
    poses: Sequence[Affine],
    grid: Grid,
    image: Tensor,
    centre: NDArray[np.float64],
) -> list[MotionDerivatives]:
    return [
        pose_derivatives(part, pose, grid, image, centre)
        for part, pose in zip(parts, poses, strict=True)
    ]


def _cost(
    derivatives: Sequence[MotionDerivatives],
    poses: Sequence[Affine],
    stack_pose: Affine,
    centre: NDArray[np.float64],
) -> float:
    motions = _motions(poses, stack_pose, centre).ravel()
    penalty = motions @ prior_precision(len(poses)) @ motions / 2
    return float(sum(one.cost for one in derivatives) + penalty)
