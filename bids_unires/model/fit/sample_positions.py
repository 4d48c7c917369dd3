"""Where the voxels of an image lie between the samples of the scans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...space.affines import translation
from ...space.grid import Grid

# Over the whole scan its samples may drift by so much against the image's voxels, in voxels.
_LARGEST_DRIFT = 0.25
_DECIMALS = 6


def moved_onto_samples(lattice: Grid, scans: Sequence[Grid]) -> Grid:
    """A lattice shifted by less than a voxel, so that samples of scans lie close to its voxels.

    A scan of the wanted voxel size along an axis samples an image there by linear interpolation.
    Half way between voxels that is the mean of two: an image that alternates from voxel to voxel
    has no effect on the scan, and neither data term nor risk see it. Close to voxels they do.

    Parameters
    ----------
    lattice
        Grid of the wanted voxel size, whose origin is open.
    scans
        Where the voxels of the scans lie in the world of the images.

    Returns
    -------
    Grid
        Along each axis, the largest distance between samples and voxels is as small as it can be.
        Along axes where no scan has the wanted voxel size, nothing changes.
    """
    shifts = np.zeros(3)
    for axis in range(3):
        found = [_position(lattice, scan, axis) for scan in scans]
        positions = [position for position in found if position is not None]
        if positions:
            shifts[axis] = _middle_of_circle(np.array(positions))
    return Grid(lattice.shape, lattice.affine @ translation(shifts))


def _position(lattice: Grid, scan: Grid, axis: int) -> float | None:
    """Position of a scan's samples between voxels of a lattice, 0 to 1; None if they drift."""
    matrix = np.linalg.inv(lattice.affine) @ scan.affine
    steps = matrix[axis, :3]
    along = int(np.argmax(np.abs(steps)))
    drift = np.abs(steps)
    drift[along] = abs(drift[along] - 1)
    if float(drift @ np.array(scan.shape)) > _LARGEST_DRIFT:
        return None
    centre = matrix @ [*((np.array(scan.shape) - 1) // 2), 1.0]
    return float(np.round(centre[axis] % 1, _DECIMALS) % 1)


def _middle_of_circle(positions: NDArray[np.float64]) -> float:
    """Point of a circle of length 1, from -0.5 to 0.5, whose furthest position is the closest."""
    positions = np.unique(positions)
    gaps = np.diff(np.append(positions, positions[0] + 1))
    # The positions lie on the arc that the widest gap leaves.
    widest = int(np.argmax(np.round(gaps, _DECIMALS)))
    start = positions[(widest + 1) % len(positions)]
    middle = start + (1 - gaps[widest]) / 2
    return float(np.round((middle + 0.5) % 1 - 0.5, _DECIMALS))
