"""The mean space of scans: their mean orientation and a box that contains them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from .affines import Affine, apply_affine, scaling, translation
from .boxes import ROUNDING_NOISE, _as_shape, _checked_sizes
from .grid import Grid, corners

MAX_MEAN_STEPS = 1024
MEAN_TOLERANCE = 1e-20
MAX_SHEAR_STEPS = 10_000
# An affine whose sum of squared shears is below this limit is left unchanged, as in the reference
# implementation.
SHEAR_TOLERANCE = 1e-8
# Decimals to which squared distances between directions are compared; beyond them is rounding.
_SAME_DISTANCE = 9


def mean_space(scans: Sequence[Grid], voxel_size: Sequence[float]) -> Grid:
    """Grid with the mean orientation of the scans, over the box that the scans span.

    Every affine is reoriented to the closest axial-canonical affine. The affines are averaged on
    the group of affine maps. The average is replaced by the closest product of a rigid motion
    and voxel sizes. Then the voxel size is set, and the box is extended to whole voxels.

    Parameters
    ----------
    scans
        Grids of the scans, with their poses in the affines. At least one.
    voxel_size
        Voxel size of the result in mm along each axis, ``(3,)``.

    Returns
    -------
    Grid
        Orientation and box common to all scans.

    Raises
    ------
    ValueError
        If there is no scan or a voxel size is not positive.

    Notes
    -----
    The box equals that of the reference implementation to the voxel. The reference counts the
    voxels of a scan from 1, while the affine counts from 0. Its box is therefore shifted by one
    scan voxel along each axis of a scan: with slices 5 mm apart, the first slice is outside.
    `enclose` moves the box so that every measured voxel is inside.

    References
    ----------
    Pennec and Arsigny, *Exponential barycenters of the canonical Cartan connection and
    invariant means on Lie groups*, 2013 (the mean).

    Examples
    --------
    >>> mean_space([Grid((10, 10, 5), np.diag([1.0, 1, 2, 1]))], (1, 1, 1)).shape
    (11, 11, 10)
    """
    if len(scans) == 0:
        raise ValueError("the mean of no scans has no grid")
    sizes = _checked_sizes(voxel_size)
    mean = _without_shears(_group_mean([_anchored_affine(scan) for scan in scans]))
    lattice = mean @ scaling(sizes / np.linalg.norm(mean[:3, :3], axis=0))
    into_lattice = np.linalg.inv(lattice)
    points = np.concatenate(
        [apply_affine(into_lattice @ scan.affine, corners(scan.shape) + 1) for scan in scans]
    )
    low = np.floor(points.min(axis=0) + ROUNDING_NOISE)
    # A corner exactly on a voxel also adds one, so that rounding errors do not decide the shape.
    high = np.floor(points.max(axis=0) + ROUNDING_NOISE) + 1
    return Grid(_as_shape(high - low + 1), lattice @ translation(low - 1))


def in_axial_order(grid: Grid) -> Grid:
    """The same voxels, with their axes in the order and direction closest to those of the world.

    Parameters
    ----------
    grid
        Grid with axes in any order and direction.

    Returns
    -------
    Grid
        Grid with axes permuted and flipped, so that ``x`` runs to the right, ``y`` to the front
        and ``z`` upwards, as closely as possible.

    Examples
    --------
    >>> turned = np.array([[0, -1, 0, 2], [5, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    >>> ordered = in_axial_order(Grid((2, 3, 4), turned))
    >>> ordered.shape, ordered.affine[0].tolist()
    ((3, 2, 4), [1.0, 0.0, 0.0, 0.0])
    """
    order = _axial_order(grid.affine)
    sides = np.array(grid.shape)
    reordered = np.eye(4)
    reordered[:3, :3] = order.T
    reordered[:3, 3] = np.where(order.sum(axis=0) < 0, sides - 1, 0)
    return Grid(_as_shape(np.abs(order) @ sides), grid.affine @ reordered)


def _anchored_affine(scan: Grid) -> Affine:
    """Affine of the scan in axial-canonical voxel order, with the origin at its far corner.

    The origin determines by which fraction of a voxel the grid is shifted against the scans. The
    reference implementation uses this origin.
    """
    order = _axial_order(scan.affine)
    reordered = np.abs(order) @ (np.array(scan.shape) - 1.0)
    canonical = np.eye(4)
    canonical[:3, :3] = order.T
    flipped = order.sum(axis=1) < 0
    canonical[:3, 3] = order.T @ np.where(flipped, -reordered, 0.0)
    return np.asarray(scan.affine @ canonical @ translation(-reordered))


def _axial_order(affine: Affine) -> NDArray[np.float64]:
    """Signed permutation ``(3, 3)`` closest to the directions of the axes of an affine.

    If several are equally close, as for axes rotated by 45 degrees, it is the first.
    """
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    orders: list[NDArray[np.float64]] = [
        np.eye(3)[:, list(axes)] * np.array(signs)
        for axes in permutations(range(3))
        for signs in product((1.0, -1.0), repeat=3)
    ]
    distances = [((directions @ order.T - np.eye(3)) ** 2).sum() for order in orders]
    # Rounded, so that rounding errors do not decide between equal distances.
    return orders[int(np.argmin(np.round(distances, _SAME_DISTANCE)))]


def _group_mean(affines: Sequence[Affine]) -> Affine:
    """Exponential barycentre of affines: relative to it, the logarithms of the affines sum to 0."""
    mean = np.eye(4)
    for _ in range(MAX_MEAN_STEPS):
        into_mean = np.linalg.inv(mean)
        # Scipy estimates norms on the way, which may overflow; the logarithm does not.
        with np.errstate(over="ignore", invalid="ignore"):
            logarithms = [linalg.logm(into_mean @ affine) for affine in affines]
        step = np.real(np.mean(logarithms, axis=0))
        mean = mean @ linalg.expm(step)
        # Rounding would change this row, and file formats require it to be exact.
        mean[3] = 0, 0, 0, 1
        if (step**2).sum() < MEAN_TOLERANCE:
            break
    return np.asarray(mean)


def _without_shears(affine: Affine) -> Affine:
    """Closest product of a rigid motion and voxel sizes; the affine itself if it nearly is one.

    Rotation and sizes are updated in turn, and every step comes closer to the affine, however far
    a gantry was tilted. The rotation solves the orthogonal Procrustes problem (Schönemann 1966).
    The sizes are the lengths of the columns along the rotated axes.
    """
    columns = affine[:3, :3]
    factor = np.linalg.cholesky(columns.T @ columns).T
    shears = factor[np.triu_indices(3, k=1)] / np.repeat(np.diag(factor), [2, 1, 0])
    if (shears**2).sum() <= SHEAR_TOLERANCE:
        return affine
    sizes = np.linalg.norm(columns, axis=0)
    for _ in range(MAX_SHEAR_STEPS):
        left, _, right = np.linalg.svd(columns * sizes)
        rotation = left @ right
        before, sizes = sizes, (rotation * columns).sum(axis=0)
        if np.abs(sizes / before - 1).max() < ROUNDING_NOISE:
            break
    result = affine.copy()
    result[:3, :3] = rotation * sizes
    return result
