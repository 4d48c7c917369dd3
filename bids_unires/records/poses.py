"""Whether two records of a scan have it in one place."""

from __future__ import annotations

import numpy as np

from ..space.affines import Affine, apply_affine
from ..space.grid import Grid, centre_of, corners

# Fits of the same scans on other voxels find poses that differ by a fraction of a voxel.
_VOXELS, _AT_LEAST_MM = 0.5, 0.5


def is_one_place(first: Affine, second: Affine, grid: Grid) -> bool:
    """Whether two poses of a scan agree, up to what fits differ by.

    They are compared half-way from the centre of a grid to its corners, about where a head ends.

    Parameters
    ----------
    first, second
        ``(4, 4)``, world mm of the scan -> of the result.
    grid
        Of the result that ``first`` belongs to.
    """
    centre = centre_of(grid)
    points = (apply_affine(grid.affine, corners(grid.shape)) + centre) / 2
    moved = apply_affine(second @ np.linalg.inv(first), points)
    limit = max(_AT_LEAST_MM, _VOXELS * float(max(grid.voxel_size)))
    return bool(np.linalg.norm(moved - points, axis=-1).max() <= limit)
