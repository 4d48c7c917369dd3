"""Refining where the scans lie: Gauss-Newton on the data term.

The images predict every scan, and the scan is moved to where that prediction fits best
(Brudfors et al. 2019, section 2.3). The motion is parametrised by a translation and a
rotation about the centre of the images, so that the two hardly depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.motion import MotionDerivatives, motion_derivatives
from ...space.affines import Affine, apply_affine, translation
from ...space.grid import Grid
from ...space.rigid import rigid_matrix, rigid_parameters
from ..scanner.observation import Observation
from .objective import weighted_data

# Enough to place a scan to a few micrometres, whatever its resolution.
_VOXELS = 200_000
_MOST_STEPS = 4
_MOST_HALVINGS = 4
# A step that moves nothing in the head by more than this (mm) is the last one.
_SMALLEST_STEP_MM = 0.005
# Rotations act at about this distance (mm) from the centre.
_HEAD_RADIUS_MM = 80.0
_MEAN_STEPS = 20


def refine_poses(scans: Sequence[Observation], grid: Grid, image: Tensor) -> list[Affine]:
    """Move the repeats of a contrast to where their common image predicts them best.

    Parameters
    ----------
    scans
        Scans of one contrast, at the poses to start from.
    grid
        Grid of the image.
    image
        ``(X, Y, Z)`` float32, the image of that contrast.

    Returns
    -------
    list of ndarray
        ``(4, 4)`` matrices, scan world mm -> world mm of the image: those given, each
        moved rigidly, and together not at all. A scan without repeats stays where it is,
        since its image was made from it alone.
    """
    before = [scan.world_pose for scan in scans]
    if len(scans) == 1:
        return before
    return remove_common_motion(before, [_refined_pose(scan, grid, image) for scan in scans])


def displacement(before: Affine, after: Affine, grid: Grid) -> float:
    """Mean distance (mm) by which a change of pose moves points of an ellipsoid that fills a grid.

    Parameters
    ----------
    before, after
        ``(4, 4)``, scan world mm -> world mm of the image.
    grid
        Grid of the image.
    """
    points = apply_affine(grid.affine, _ellipsoid(grid.shape))
    motion = after @ np.linalg.inv(before)
    return float(np.linalg.norm(apply_affine(motion, points) - points, axis=1).mean())


def remove_common_motion(before: Sequence[Affine], after: Sequence[Affine]) -> list[Affine]:
    """Take out of refined poses the motion that all scans have in common.

    Only poses relative to each other follow from the data: a motion of all scans at once
    would merely let the images drift away from their grid.

    Parameters
    ----------
    before, after
        ``(4, 4)`` rigid matrices of all scans, scan world mm -> world mm of the images.

    Returns
    -------
    list of ndarray
        ``after``, moved together so that the motions from ``before`` have the identity for
        their mean.
    """
    motions = [new @ np.linalg.inv(old) for old, new in zip(before, after, strict=True)]
    correction = np.linalg.inv(mean_pose(motions))
    return [correction @ pose for pose in after]


def _refined_pose(scan: Observation, grid: Grid, image: Tensor) -> Affine:
    """The pose from which an image predicts a scan best, near where it lies."""
    centre = apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)
    pose = scan.world_pose
    here = pose_derivatives(scan, pose, grid, image, centre)
    for _ in range(_MOST_STEPS):
        step = -np.linalg.pinv(here.hessian, rcond=1e-9, hermitian=True) @ here.gradient
        for _ in range(_MOST_HALVINGS):
            moved = motion_about(centre, step) @ pose
            there = pose_derivatives(scan, moved, grid, image, centre)
            if there.cost < here.cost:
                break
            step = step / 2
        else:
            break
        pose, here = moved, there
        if _reach(step) < _SMALLEST_STEP_MM:
            break
    return pose


def mean_pose(poses: Sequence[Affine]) -> Affine:
    """Karcher mean of rigid motions: where their logarithms seen from it add up to 0."""
    mean = np.asarray(poses[0], dtype=np.float64)
    for _ in range(_MEAN_STEPS):
        into_mean = np.linalg.inv(mean)
        step = np.mean([rigid_parameters(into_mean @ pose) for pose in poses], axis=0)
        mean = mean @ rigid_matrix(step)
        if np.abs(step).max() < 1e-12:
            break
    return mean


def pose_derivatives(
    scan: Observation, pose: Affine, grid: Grid, image: Tensor, centre: NDArray[np.float64]
) -> MotionDerivatives:
    """How well an image predicts a scan at a pose, and how that changes with the pose.

    Parameters
    ----------
    scan
        The scan; the pose it has itself does not count.
    pose
        ``(4, 4)``, scan world mm -> world mm of the image.
    grid, image
        The image ``(X, Y, Z)`` float32 and where it lies.
    centre
        World mm that rotations leave where it is, ``(3,)``.
    """
    operator = replace(scan, pose=pose).operator(grid)
    data, precision = weighted_data(scan, image.device)
    scale = operator.slice_scale(data)
    to_world = translation(-centre) @ pose @ operator.intermediate.grid.affine
    return motion_derivatives(
        operator.sampling,
        to_world[:3],
        grid.affine[:3, :3],
        operator.sharpened(image),
        data / scale,
        precision * scale**2,
        voxels=_VOXELS,
    )


def motion_about(centre: NDArray[np.float64], step: NDArray[np.float64]) -> Affine:
    """Rigid motion by ``(u, w)``, a rotation vector w (rad) about ``centre``, then u (mm)."""
    turn = np.zeros(6)
    # The Lie algebra's own order, sign and scale of the rotation.
    turn[3:] = math.sqrt(2) * np.array([-step[5], step[4], -step[3]])
    return translation(centre + step[:3]) @ rigid_matrix(turn) @ translation(-centre)


def _reach(step: NDArray[np.float64]) -> float:
    """How far (mm) a step moves the surface of the head, about."""
    return float(np.linalg.norm(step[:3]) + _HEAD_RADIUS_MM * np.linalg.norm(step[3:]))


def _ellipsoid(shape: Sequence[int]) -> NDArray[np.float64]:
    """Points (voxels) on the largest ellipsoid in a box, a few hundred of them, ``(N, 3)``."""
    polar, azimuth = np.meshgrid(np.linspace(0.1, np.pi - 0.1, 15), np.arange(24) * np.pi / 12)
    directions = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1
    )
    half = (np.array(shape) - 1) / 2
    return np.asarray(half + half * directions.reshape(-1, 3))
