"""Refined poses of repeats: Gauss-Newton on the data term.

Every scan is moved to where its image predicts it best (Brudfors et al. 2019, section 2.3). The
motion is a translation and a rotation about the centre of the images, which are then nearly
independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.motion import MotionDerivatives, motion_derivatives
from ...space.affines import Affine, apply_affine, translation
from ...space.grid import Grid
from ...space.rigid import mean_pose, rigid_matrix
from ..scanner.observation import Observation
from .objective import weighted_data

# So many voxels place a scan to a few micrometres, whatever its resolution.
_VOXELS = 200_000
_MOST_STEPS = 4
_MOST_HALVINGS = 4
# A step that moves no point of the head by more than this (mm) is the last one.
_SMALLEST_STEP_MM = 0.005
# Distance (mm) from the centre to the surface of the head.
_HEAD_RADIUS_MM = 80.0


@dataclass(frozen=True, eq=False)
class PoseUpdate:
    """A pose before and after it was refined.

    Attributes
    ----------
    before, after
        ``(4, 4)`` rigid matrices, scan world mm -> world mm of the images.
    """

    before: Affine
    after: Affine

    def displacement(self, grid: Grid) -> float:
        """Mean distance (mm) by which the update moves points of a head that fills a grid."""
        return displacement(self.before, self.after, grid)


def refine_poses(scans: Sequence[Observation], grid: Grid, image: Tensor) -> list[PoseUpdate]:
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
    list of PoseUpdate
        One for each scan; their mean motion is the identity. A scan without repeats keeps its
        pose: its image was made from it alone and predicts it wherever it lies.
    """
    if len(scans) == 1:
        return [PoseUpdate(scan.world_pose, scan.world_pose) for scan in scans]
    return remove_common_motion(
        [PoseUpdate(scan.world_pose, _refined_pose(scan, grid, image)) for scan in scans]
    )


def displacement(before: Affine, after: Affine, grid: Grid) -> float:
    """Mean distance (mm) by which a change of pose moves points of an ellipsoid in a grid.

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


def remove_common_motion(updates: Sequence[PoseUpdate]) -> list[PoseUpdate]:
    """Remove from refined poses the motion that all of them share.

    The data determine only the poses of scans relative to each other. A motion of all scans would
    let the images drift away from their grid.

    Parameters
    ----------
    updates
        Of all scans of a contrast.

    Returns
    -------
    list of PoseUpdate
        The poses ``after``, moved together so that the mean motion from ``before`` is the identity.
    """
    motions = [update.after @ np.linalg.inv(update.before) for update in updates]
    correction = np.linalg.inv(mean_pose(motions))
    return [replace(update, after=correction @ update.after) for update in updates]


def _refined_pose(scan: Observation, grid: Grid, image: Tensor) -> Affine:
    """The pose near that of a scan from which an image predicts it best, ``(4, 4)``."""
    centre = apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)
    here = pose_derivatives(scan, grid, image, centre)
    for _ in range(_MOST_STEPS):
        step = -np.linalg.pinv(here.hessian, rcond=1e-9, hermitian=True) @ here.gradient
        for _ in range(_MOST_HALVINGS):
            moved = replace(scan, pose=motion_about(centre, step) @ scan.world_pose)
            there = pose_derivatives(moved, grid, image, centre)
            if there.cost < here.cost:
                break
            step = step / 2
        else:
            break
        scan, here = moved, there
        if _largest_displacement(step) < _SMALLEST_STEP_MM:
            break
    return scan.world_pose


def pose_derivatives(
    scan: Observation, grid: Grid, image: Tensor, centre: NDArray[np.float64]
) -> MotionDerivatives:
    """The data term of a scan, and its derivatives by the pose of the scan.

    Parameters
    ----------
    scan
        The scan at its pose.
    grid, image
        The image ``(X, Y, Z)`` float32 and its grid.
    centre
        Centre of rotation in world mm, ``(3,)``.
    """
    operator = scan.operator(grid)
    data, precision = weighted_data(scan, image.device)
    scale = operator.slice_scale(data)
    to_world = translation(-centre) @ scan.world_pose @ operator.intermediate.grid.affine
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
    """Rigid motion of a step ``(u, w)``: rotation vector w (rad) about ``centre``, then u (mm)."""
    turn = np.zeros(6)
    # Order, sign and scale of the rotation in the Lie algebra (`space.rigid`).
    turn[3:] = math.sqrt(2) * np.array([-step[5], step[4], -step[3]])
    return translation(centre + step[:3]) @ rigid_matrix(turn) @ translation(-centre)


def _largest_displacement(step: NDArray[np.float64]) -> float:
    """Largest distance (mm), approximately, by which a step moves the surface of the head."""
    return float(np.linalg.norm(step[:3]) + _HEAD_RADIUS_MM * np.linalg.norm(step[3:]))


def _ellipsoid(shape: Sequence[int]) -> NDArray[np.float64]:
    """Points (voxels) on the largest ellipsoid in a box, ``(360, 3)``."""
    polar, azimuth = np.meshgrid(np.linspace(0.1, np.pi - 0.1, 15), np.arange(24) * np.pi / 12)
    directions = np.stack(
        [np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], axis=-1
    )
    half = (np.array(shape) - 1) / 2
    return np.asarray(half + half * directions.reshape(-1, 3))
