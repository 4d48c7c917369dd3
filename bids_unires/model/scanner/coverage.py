"""What of an image a scan measured, and what of a scan lies on a grid."""

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

# A scan voxel of whose profile less than this lies on the grid was measured elsewhere.
_WHOLE_FOOTPRINT = 0.99


def footprint_margin(grid: Grid, scans: Sequence[Observation]) -> int:
    """Voxels to add around ``grid`` so that every slice profile lies inside.

    Where a profile reaches beyond the grid the prediction is a fraction of what was
    measured, and the fit answers with wild values at the rim.
    """
    reach = 0.0
    for scan in scans:
        fine = intermediate_grid(grid, scan.grid, scan.profile)
        half = [(len(weights) - 1) / 2 for weights in fine.weights]
        extent = np.abs(np.linalg.inv(grid.affine) @ fine.grid.affine)[:3, :3] @ half
        reach = max(reach, float(extent.max()))
    return math.ceil(reach) + 1


def mask_outside(scan: Observation, grid: Grid) -> Observation:
    """A scan without the voxels whose profile reaches beyond a grid; these become missing.

    What was measured outside cannot be explained by images on the grid, which would answer
    with wild values along its rim.
    """
    operator = scan.evenly().operator(grid)
    footprint = operator.forward(torch.ones(grid.shape)).numpy()
    # Most profiles add up to 1 everywhere, a gauss to a little less.
    whole = footprint > _WHOLE_FOOTPRINT * float(footprint.max())
    return replace(scan, data=np.where(whole, scan.data, np.float32(np.nan)))


def crop_empty_border(scan: Observation) -> Observation:
    """A scan without the rows and slices at its sides that hold nothing but missing voxels."""
    finite = np.isfinite(scan.data)
    if not finite.any():
        return scan
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(finite.any(axis=others))
        # Even slices stay even ones.
        box.append(slice(int(places[0]) // 2 * 2, int(places[-1]) + 1))
    x, y, z = box
    tau = scan.tau[x, y, z] if isinstance(scan.tau, np.ndarray) else scan.tau
    affine = scan.affine @ translation([part.start for part in box])
    weights = None if scan.slice_weights is None else scan.slice_weights[box[scan.slice_axis]]
    return replace(scan, data=scan.data[x, y, z], affine=affine, tau=tau, slice_weights=weights)


def field_of_view(contrast: Sequence[Observation], grid: Grid) -> NDArray[np.bool_]:
    """Voxels of ``grid`` within the field of view of at least one scan of a contrast."""
    reached = np.zeros(grid.shape, dtype=bool)
    for scan in contrast:
        reached |= inside(grid, scan.placed_grid)
    return reached


def measured_voxels(contrast: Sequence[Observation], grid: Grid) -> NDArray[np.bool_]:
    """Voxels of ``grid`` that at least one scan of a contrast measured, or almost.

    Where a scan is missing but its neighbouring voxels are not, the images bridge the hole.
    What lies deeper in a masked region was not seen by anybody.
    """
    seen = np.zeros(grid.shape, dtype=bool)
    for scan in contrast:
        box = scan.placed_grid
        here = inside(grid, box)
        beside = _beside_measured(scan)
        if not beside.all():
            here &= _nearest(beside, box, grid)
        seen |= here
    return seen


def _beside_measured(scan: Observation) -> NDArray[np.bool_]:
    """Voxels of a scan that were measured, or one of whose 26 neighbours was."""
    known = torch.as_tensor(~scan.missing, dtype=torch.float32)
    grown = torch.nn.functional.max_pool3d(known[None], kernel_size=3, stride=1, padding=1)
    return np.asarray(grown[0].numpy() > 0)


def _nearest(mask: NDArray[np.bool_], box: Grid, grid: Grid) -> NDArray[np.bool_]:
    """Values of a mask on ``box`` at the voxels of ``grid``; beyond it those at its faces."""
    into_box = (np.linalg.inv(box.affine) @ grid.affine).astype(np.float32)
    x, y, z = np.ogrid[tuple(slice(0, side) for side in grid.shape)]
    at = np.zeros(grid.shape, dtype=np.int64)
    for (a, b, c, offset), side in zip(into_box[:3], box.shape, strict=True):
        index = (a * x.astype(np.float32) + b * y + offset) + c * z.astype(np.float32)
        at = at * side + np.clip(np.rint(index), 0, side - 1).astype(np.int64)
    return np.asarray(mask.ravel()[at])
