"""Which voxels of an image the scans measured, and which voxels of a scan lie on a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ...space.affines import translation
from ...space.grid import Grid, inside
from .forward import intermediate_grid
from .observation import Observation

# Of the profile of a scan voxel, at least this share has to lie on the grid.
_WHOLE_FOOTPRINT = 0.99


def footprint_margin(grid: Grid, scans: Sequence[Observation]) -> int:
    """Number of voxels to add around ``grid`` so that every slice profile lies inside.

    Where a profile reaches beyond the grid, the prediction is only a fraction of the measured
    intensity. The fit would compensate with extreme values along the rim.

    Parameters
    ----------
    grid
        Grid of the images.
    scans
        All scans, at their poses.
    """
    reach = 0.0
    for scan in scans:
        fine = intermediate_grid(grid, scan.grid, scan.profile)
        half = [(len(weights) - 1) / 2 for weights in fine.weights]
        extent = np.abs(np.linalg.inv(grid.affine) @ fine.grid.affine)[:3, :3] @ half
        reach = max(reach, float(extent.max()))
    return math.ceil(reach) + 1


def mask_outside(scan: Observation, grid: Grid) -> Observation:
    """A scan in which voxels are missing (NaN) whose profile reaches beyond a grid.

    Images on the grid cannot explain what was measured outside it. The fit would compensate with
    extreme values along the rim.

    Parameters
    ----------
    scan
        The scan at its pose.
    grid
        Grid of the images.
    """
    operator = scan.ignoring_interleave().operator(grid)
    footprint = operator.forward(torch.ones(grid.shape)).numpy()
    # The weights of most profiles add up to 1, those of a gauss to a little less.
    whole = footprint > _WHOLE_FOOTPRINT * float(footprint.max())
    return replace(scan, data=np.where(whole, scan.data, np.float32(np.nan)))


def crop_empty_border(scan: Observation) -> Observation:
    """A scan without the rows and slices at its sides in which every voxel is missing."""
    finite = np.isfinite(scan.data)
    if not finite.any():
        return scan
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(finite.any(axis=others))
        # The first slice has to be an even one: even and odd slices may differ in brightness.
        box.append(slice(int(places[0]) // 2 * 2, int(places[-1]) + 1))
    x, y, z = box
    tau = scan.tau[x, y, z] if isinstance(scan.tau, np.ndarray) else scan.tau
    affine = scan.affine @ translation([part.start for part in box])
    weights = None if scan.slice_weights is None else scan.slice_weights[box[scan.slice_axis]]
    return replace(scan, data=scan.data[x, y, z], affine=affine, tau=tau, slice_weights=weights)


def field_of_view(contrast: Sequence[Observation], grid: Grid) -> NDArray[np.bool_]:
    """Voxels within the field of view of at least one scan of a contrast.

    Parameters
    ----------
    contrast
        Its scans, at their poses.
    grid
        Grid of the images.

    Returns
    -------
    ndarray
        Bool, with the shape ``(X, Y, Z)`` of ``grid``.
    """
    covered = np.zeros(grid.shape, dtype=bool)
    for scan in contrast:
        covered |= inside(grid, scan.placed_grid)
    return covered


def measured_voxels(contrast: Sequence[Observation], grid: Grid) -> NDArray[np.bool_]:
    """Voxels that at least one scan of a contrast measured, or that lie next to such voxels.

    A missing voxel of a scan counts as measured if one of its neighbours was: the images
    interpolate there. Deeper inside a masked region nothing is known.

    Parameters
    ----------
    contrast
        Its scans, at their poses.
    grid
        Grid of the images.

    Returns
    -------
    ndarray
        Bool, with the shape ``(X, Y, Z)`` of ``grid``.
    """
    found = np.zeros(grid.shape, dtype=bool)
    for scan in contrast:
        box = scan.placed_grid
        covered = inside(grid, box)
        known = _with_neighbours(scan)
        if not known.all():
            covered &= _nearest(known, box, grid)
        found |= covered
    return found


def _with_neighbours(scan: Observation) -> NDArray[np.bool_]:
    """Measured voxels of a scan and their 26 neighbours, ``(X, Y, Z)``."""
    known = torch.as_tensor(~scan.missing, dtype=torch.float32)
    grown = torch.nn.functional.max_pool3d(known[None], kernel_size=3, stride=1, padding=1)
    return np.asarray(grown[0].numpy() > 0)


def _nearest(mask: NDArray[np.bool_], box: Grid, grid: Grid) -> NDArray[np.bool_]:
    """Nearest values of a mask on ``box`` at the voxels of ``grid``; beyond it, of its faces."""
    into_box = (np.linalg.inv(box.affine) @ grid.affine).astype(np.float32)
    x, y, z = np.ogrid[tuple(slice(0, side) for side in grid.shape)]
    at = np.zeros(grid.shape, dtype=np.int64)
    for axis, side in enumerate(box.shape):
        a, b, c, offset = into_box[axis]
        index = (a * x.astype(np.float32) + b * y + offset) + c * z.astype(np.float32)
        at = at * side + np.clip(np.rint(index), 0, side - 1).astype(np.int64)
    return np.asarray(mask.ravel()[at])
