"""Boxes of voxels: around scans, around masks, and with sides that suit networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .affines import Affine, apply_affine, scaling, translation
from .grid import Grid, Shape, corners

ROUNDING_NOISE = 1e-9
# A box may extend beyond its voxels by this fraction of a voxel, so that rounding errors do not
# add a voxel.
SLACK_VOXELS = 1e-3

GridPolicy = Literal["pow23", "pow2", "multiple"]


def enclose(lattice: Grid, scans: Sequence[Grid]) -> Grid:
    """Smallest box of voxels of a lattice that contains the field of view of every scan.

    Parameters
    ----------
    lattice
        Grid that gives the orientation, the voxel size and the position of voxel borders.
    scans
        Grids of the scans, with their poses in the affines. At least one.

    Returns
    -------
    Grid
        ``lattice``, longer or shorter by whole voxels on each side. It contains all voxels of all
        scans up to their outer faces, with a tolerance of a thousandth of a voxel.

    Raises
    ------
    ValueError
        If there is no scan.

    Examples
    --------
    >>> scan = Grid((4, 4, 4), np.diag([2.0, 2, 2, 1]))
    >>> enclose(Grid((1, 1, 1), np.eye(4)), [scan]).affine[:3, 3].tolist()
    [-1.0, -1.0, -1.0]
    """
    if len(scans) == 0:
        raise ValueError("no scan to enclose")
    into_lattice = np.linalg.inv(lattice.affine)
    faces = np.concatenate(
        [apply_affine(into_lattice @ scan.affine, corners(scan.shape, 0.5)) for scan in scans]
    )
    low = np.floor(faces.min(axis=0) + 0.5 + SLACK_VOXELS)
    high = np.ceil(faces.max(axis=0) - 0.5 - SLACK_VOXELS)
    return Grid(_as_shape(high - low + 1), lattice.affine @ translation(low))


def mask_box(mask: NDArray[np.bool_], affine: Affine, voxel_size: Sequence[float]) -> Grid:
    """Smallest box along the axes of the world that contains a mask.

    Parameters
    ----------
    mask
        True inside, ``(X, Y, Z)``.
    affine
        ``(4, 4)``, voxel index of the mask to world mm; axes may be oblique.
    voxel_size
        Voxel size of the box in mm along each axis, ``(3,)``.

    Returns
    -------
    Grid
        Whole voxels that contain all voxels of the mask, with a tolerance of a thousandth of a
        voxel. The centre is that of the extent of the mask.

    Raises
    ------
    ValueError
        If the mask is empty or a voxel size is not positive.

    Examples
    --------
    >>> box = mask_box(np.ones((4, 4, 5), dtype=bool), np.eye(4), (2, 2, 2))
    >>> box.shape, box.affine[:3, 3].tolist()
    ((2, 2, 3), [0.5, 0.5, 0.0])
    """
    return box_between(*mask_extent(mask, affine), voxel_size)


def mask_extent(
    mask: NDArray[np.bool_], affine: Affine
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Extent of a mask along the axes of the world.

    Parameters
    ----------
    mask
        True inside, ``(X, Y, Z)``.
    affine
        ``(4, 4)``, voxel index to world mm.

    Returns
    -------
    low, high
        Smallest and largest world mm of the outer faces of its voxels, ``(3,)`` each.

    Raises
    ------
    ValueError
        If the mask is empty.

    Examples
    --------
    >>> low, high = mask_extent(np.ones((4, 4, 5), dtype=bool), np.eye(4))
    >>> low.tolist(), high.tolist()
    ([-0.5, -0.5, -0.5], [3.5, 3.5, 4.5])
    """
    low = np.full(3, np.inf)
    high = np.full(3, -np.inf)
    # A linear map has its extremes on the surface of the mask, at first and last voxels of rows.
    rows = np.argwhere(mask.any(axis=2))
    if len(rows) == 0:
        raise ValueError("an empty mask has no box")
    inside = mask[rows[:, 0], rows[:, 1]]
    first = inside.argmax(axis=1)
    last = mask.shape[2] - 1 - inside[:, ::-1].argmax(axis=1)
    for ends in (first, last):
        points = apply_affine(affine, np.column_stack([rows, ends]))
        low, high = np.minimum(low, points.min(axis=0)), np.maximum(high, points.max(axis=0))
    reach = np.abs(affine[:3, :3]).sum(axis=1) / 2
    return low - reach, high + reach


def box_between(
    low: NDArray[np.float64], high: NDArray[np.float64], voxel_size: Sequence[float]
) -> Grid:
    """Smallest box of whole voxels along the axes of the world from one corner to the other.

    Parameters
    ----------
    low, high
        World mm that the outer faces of the box have to reach, ``(3,)`` each.
    voxel_size
        In mm along each axis, ``(3,)``.

    Returns
    -------
    Grid
        Centred between the corners.

    Raises
    ------
    ValueError
        If a voxel size is not positive.
    """
    sizes = _checked_sizes(voxel_size)
    shape = _as_shape(np.maximum(np.ceil((high - low) / sizes - SLACK_VOXELS), 1))
    first = (low + high) / 2 - (np.array(shape) - 1) / 2 * sizes
    return Grid(shape, translation(first) @ scaling(sizes))


def reaches(grid: Grid, low: NDArray[np.float64], high: NDArray[np.float64]) -> bool:
    """Whether a grid along the axes of the world contains the box from ``low`` to ``high``.

    Both corners are in world mm, ``(3,)`` each; the tolerance is a thousandth of a voxel.

    Examples
    --------
    >>> grid = Grid((4, 4, 4), np.eye(4))
    >>> reaches(grid, np.zeros(3), np.full(3, 3.5)), reaches(grid, np.zeros(3), np.full(3, 4.0))
    (True, False)
    """
    faces = apply_affine(grid.affine, corners(grid.shape, 0.5))
    slack = SLACK_VOXELS * grid.voxel_size
    return bool(
        (faces.min(axis=0) <= low + slack).all() and (faces.max(axis=0) >= high - slack).all()
    )


def with_margin(box: Grid, margin: float) -> Grid:
    """A box grown on every side by whole voxels, by at least ``margin`` mm.

    Raises
    ------
    ValueError
        If the margin is negative or not finite.

    Examples
    --------
    >>> with_margin(Grid((4, 4, 4), np.diag([1.0, 2, 5, 1])), 4.0).shape
    (12, 8, 6)
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise ValueError(f"a margin must be 0 mm or more, got {margin}")
    voxels = np.maximum(np.ceil(margin / box.voxel_size - SLACK_VOXELS), 0)
    return _grown(box, _as_shape(np.array(box.shape) + 2 * voxels))


def network_grid(box: Grid, policy: GridPolicy, multiple: int = 32) -> Grid:
    """Grow a box to sides that an encoder-decoder network can halve.

    Parameters
    ----------
    box
        Box that the grid has to contain.
    policy
        ``pow23``: every side is rounded up to the next ``2^k`` or ``3 * 2^k`` voxels; ``pow2``:
        to the next ``2^k``; ``multiple``: to the next multiple of ``multiple``.
    multiple
        Used only by the policy ``multiple``; at least 1.

    Returns
    -------
    Grid
        With the orientation, voxel size and centre of the box. An odd number of new voxels shifts
        the lattice by half a voxel.

    Raises
    ------
    ValueError
        If the policy is unknown or the multiple below 1.

    Examples
    --------
    >>> network_grid(Grid((151, 181, 33), np.eye(4)), "multiple", 16).shape
    (160, 192, 48)
    """
    if multiple < 1:
        raise ValueError(f"sides cannot be a multiple of {multiple}")
    rounded_up: dict[GridPolicy, Callable[[int], int]] = {
        "pow23": _friendly_side,
        "pow2": _power_of_two,
        "multiple": lambda side: -(-side // multiple) * multiple,
    }
    if policy not in rounded_up:
        raise ValueError(f"unknown grid policy {policy!r}: one of {', '.join(rounded_up)}")
    x, y, z = (rounded_up[policy](side) for side in box.shape)
    return _grown(box, (x, y, z))


def _friendly_side(side: int) -> int:
    power = _power_of_two(side)
    three_quarters = 3 * power // 4
    return three_quarters if power >= 4 and three_quarters >= side else power


def _power_of_two(side: int) -> int:
    return 1 << (side - 1).bit_length()


def _grown(box: Grid, shape: Shape) -> Grid:
    """A box with more voxels and the same centre."""
    added = np.array(shape) - box.shape
    return Grid(shape, box.affine @ translation(-added / 2))


def _checked_sizes(voxel_size: Sequence[float]) -> NDArray[np.float64]:
    sizes = np.asarray(voxel_size, dtype=np.float64)
    if sizes.shape != (3,) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"voxel size must be three positive numbers, got {voxel_size}")
    return sizes


def _as_shape(sides: NDArray[np.float64]) -> Shape:
    return (int(sides[0]), int(sides[1]), int(sides[2]))
