"""Grids of voxels in the world, and which voxels of one grid lie inside another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .affines import Affine, apply_affine, translation, voxel_size
from .arrays import array_of

Shape = tuple[int, int, int]

# Tolerance in voxels for rounding errors: a point on a face counts as inside.
_ON_A_FACE = 1e-4
# Replaces 0 as the slope of a line that runs along a face, to avoid a division by 0.
_ALMOST_ACROSS = 1e-12


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels in world space.

    Parameters
    ----------
    shape
        Number of voxels along each axis, all at least 1.
    affine
        ``(4, 4)``, voxel index to world mm; finite and invertible.

    Raises
    ------
    ValueError
        If the shape or the affine cannot describe a box.
    """

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(array_of(self.affine, np.float64))
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid needs three sides of at least one voxel, got {self.shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"a grid needs a finite 4x4 affine, got {affine!r}")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise ValueError(f"the affine cannot be inverted: {affine.tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def voxel_size(self) -> NDArray[np.float64]:
        """Voxel size in mm along each axis, ``(3,)``."""
        return voxel_size(self.affine)

    def moved(self, pose: Affine) -> Grid:
        """The same voxels, moved by a ``(4, 4)`` matrix, world mm -> world mm."""
        return Grid(self.shape, pose @ self.affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape == other.shape and bool(np.allclose(self.affine, other.affine, atol=1e-6))


def padded(grid: Grid, margin: int) -> Grid:
    """Grid grown by ``margin`` voxels on every side (shrunk if negative).

    Examples
    --------
    >>> padded(Grid((2, 3, 4), np.eye(4)), 1).shape
    (4, 5, 6)
    """
    x, y, z = (side + 2 * margin for side in grid.shape)
    return Grid((x, y, z), grid.affine @ translation([-margin] * 3))


def inside(grid: Grid, box: Grid) -> NDArray[np.bool_]:
    """Which voxels of ``grid`` have their centre within the outer faces of ``box``.

    Returns
    -------
    ndarray
        Bool ``(X, Y, Z)``, the shape of ``grid``.

    Examples
    --------
    >>> thick = Grid((1, 1, 1), np.diag([3.0, 3.0, 3.0, 1.0]))
    >>> inside(Grid((4, 1, 1), np.eye(4)), thick)[:, 0, 0].tolist()
    [True, True, False, False]
    """
    into_box = np.linalg.inv(box.affine) @ grid.affine
    x, y = np.ogrid[: grid.shape[0], : grid.shape[1]]
    first, last = np.zeros(grid.shape[:2]), np.full(grid.shape[:2], grid.shape[2] - 1.0)
    # A box is convex: each line of voxels enters it once and leaves it once.
    for (a, b, c, offset), side in zip(into_box[:3], box.shape, strict=True):
        start = a * x + b * y + offset
        along = c if abs(c) > _ALMOST_ACROSS else _ALMOST_ACROSS
        ends = [(face - start) / along for face in (-0.5 - _ON_A_FACE, side - 0.5 + _ON_A_FACE)]
        first = np.maximum(first, np.ceil(np.minimum(*ends)))
        last = np.minimum(last, np.floor(np.maximum(*ends)))
    entered, left = (
        np.clip(bound, -1, grid.shape[2]).astype(np.int32)[:, :, None] for bound in (first, last)
    )
    z = np.arange(grid.shape[2], dtype=np.int32)
    return np.asarray((z >= entered) & (z <= left))


def centre_of(grid: Grid) -> NDArray[np.float64]:
    """Centre of a grid in world mm, ``(3,)``.

    Examples
    --------
    >>> centre_of(Grid((3, 5, 2), np.diag([1.0, 1.0, 4.0, 1.0]))).tolist()
    [1.0, 2.0, 2.0]
    """
    return apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)


def corners(shape: Shape, edge: float = 0.0) -> NDArray[np.float64]:
    """Voxel indices of the eight corners of a box, ``(8, 3)``.

    ``edge`` moves the corners outwards from the centres of the corner voxels, in voxels: 0.5
    reaches the outer faces.
    """
    low = np.full(3, -edge)
    high = np.asarray(shape, dtype=np.float64) - 1 + edge
    picks = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
    return np.asarray(np.where(picks == 0, low, high))
