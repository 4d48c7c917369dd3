"""Affine matrices: voxel sizes, points, slice axes and shears."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Affine = NDArray[np.float64]


def voxel_size(affine: ArrayLike) -> NDArray[np.float64]:
    """Length in mm of each column of an affine, ``(3,)``.

    Examples
    --------
    >>> voxel_size(np.diag([2.0, 3.0, 4.0, 1.0])).tolist()
    [2.0, 3.0, 4.0]
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    return np.asarray(np.sqrt((columns**2).sum(axis=0)))


def translation(offset: ArrayLike) -> Affine:
    """Affine ``(4, 4)`` that moves points by ``offset`` ``(3,)``."""
    affine = np.eye(4)
    affine[:3, 3] = offset
    return affine


def scaling(factors: ArrayLike) -> Affine:
    """Affine ``(4, 4)`` that multiplies each axis by one of ``factors`` ``(3,)``."""
    affine = np.eye(4)
    affine[[0, 1, 2], [0, 1, 2]] = factors
    return affine


def apply_affine(affine: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Map points ``(..., 3)`` through an affine ``(4, 4)``.

    Examples
    --------
    >>> apply_affine(translation([1, 2, 3]), [[0, 0, 0], [1, 1, 1]]).tolist()
    [[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]
    """
    matrix = np.asarray(affine, dtype=np.float64)
    return np.asarray(np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3])


def slice_axis(affine: ArrayLike) -> int:
    """Through-plane axis of an affine ``(4, 4)``: the last one of the largest voxel size.

    Examples
    --------
    >>> slice_axis(np.diag([1.0, 5.0, 1.0, 1.0]))
    1
    """
    sizes = voxel_size(affine)
    return int(2 - np.argmax(np.round(sizes[::-1], 6)))


def slice_spacing(affine: ArrayLike, axis: int) -> float:
    """Distance in mm between neighbouring slices of an affine ``(4, 4)``, perpendicular to them.

    It equals the voxel size along ``axis`` if that axis is perpendicular to the other two, and is
    smaller otherwise, as in CT with a tilted gantry.

    Examples
    --------
    >>> tilted = np.array([[1, 0, 0, 0], [0, 1, 3, 0], [0, 0, 4, 0], [0, 0, 0, 1]])
    >>> slice_spacing(tilted, 2), float(voxel_size(tilted)[2])
    (4.0, 5.0)
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    first, second = (columns[:, other] for other in range(3) if other != axis)
    normal = np.cross(first, second)
    return float(abs(normal @ columns[:, axis]) / np.linalg.norm(normal))


def shear_angle(affine: ArrayLike) -> float:
    """Largest deviation of the axes of an affine ``(4, 4)`` from right angles, in degrees.

    Examples
    --------
    >>> shear_angle(np.diag([1.0, 2.0, 3.0, 1.0]))
    0.0
    >>> tilted = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    >>> round(shear_angle(tilted), 6)
    45.0
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    directions = columns / np.linalg.norm(columns, axis=0)
    cosines = (directions.T @ directions)[np.triu_indices(3, k=1)]
    return float(np.degrees(np.arcsin(np.clip(np.abs(cosines).max(), 0, 1))))
