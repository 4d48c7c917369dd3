"""Compare the poses of a scan in two results."""

from __future__ import annotations

import numpy as np

from ..space.affines import Affine, apply_affine
from ..space.grid import Grid, centre_of, corners

# Fits of the same scans with different voxel sizes give poses that differ by a fraction of a voxel.
# The limit is this many voxels, and at least this many mm.
_VOXELS, _AT_LEAST_MM = 0.5, 0.5


def is_one_place(first: Affine, second: Affine, grid: Grid) -> bool:
    """Whether two poses of a scan agree, up to the usual difference between fits.

    They are compared at the points half-way between the centre of the grid and its corners, which
    are near the surface of the head.

    Parameters
    ----------
    first, second
        ``(4, 4)``, world mm of the scan -> world mm of the result.
    grid
        Grid of the result of ``first``.
    """
    centre = centre_of(grid)
    points = (apply_affine(grid.affine, corners(grid.shape)) + centre) / 2
    moved = apply_affine(second @ np.linalg.inv(first), points)
    limit = max(_AT_LEAST_MM, _VOXELS * float(max(grid.voxel_size)))
    return bool(np.linalg.norm(moved - points, axis=-1).max() <= limit)
