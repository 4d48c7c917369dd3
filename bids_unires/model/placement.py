"""Where scans and images lie: coregistration, the grid, and what of it was measured."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import ModelSettings
from ..geometry import Affine, Grid, inside, translation
from ..grid import enclose, in_axial_order, mean_space
from ..kernels.runtime import thread_count
from ..volume import Volume
from .forward import ForwardOperator, intermediate_grid
from .observation import Observation

logger = logging.getLogger("bids_unires")

# A scan voxel of whose profile less than this lies on the grid was measured elsewhere.
_WHOLE_FOOTPRINT = 0.99
# Over 250 voxels a quarter of one adds up.
_SAME_VOXEL_SIZE = 1e-3


def starting_poses(
    volumes: Sequence[Sequence[Volume]], settings: ModelSettings
) -> list[list[Affine]]:
    """Where the scans lie before the fit, relative to the first one.

    Images that share their voxels and are denoised on them stay where they are; see
    `coregistered` for all others, for what is returned and for errors.
    """
    in_place = settings.voxel_size == (0, 0, 0) and on_one_grid(volumes)
    return coregistered(volumes) if settings.coregister and not in_place else unmoved(volumes)


def coregistered(volumes: Sequence[Sequence[Volume]]) -> list[list[Affine]]:
    """Poses of all scans relative to the first scan of the first contrast.

    Returns
    -------
    list of list of ndarray
        For each contrast and repeat a ``(4, 4)`` rigid matrix, scan world mm -> world mm of
        the first scan.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or does not overlap with the first one.
    """
    flat = [volume for scans in volumes for volume in scans]
    if len(flat) == 1:
        return unmoved(volumes)
    # The registration library is loaded only when there is something to register, so
    # that the model runs without it.
    from ..registration import coregister

    logger.info("aligning %d scans to the first", len(flat) - 1)
    alignments = iter(coregister(flat, threads=thread_count()))
    return [[next(alignments).pose for _ in scans] for scans in volumes]


def unmoved(volumes: Sequence[Sequence[Volume]]) -> list[list[Affine]]:
    """The identity for every scan."""
    return [[np.eye(4) for _ in scans] for scans in volumes]


def on_one_grid(volumes: Sequence[Sequence[Volume]]) -> bool:
    """Whether all scans have the same voxels in the world."""
    grids = [volume.grid for scans in volumes for volume in scans]
    return all(grid == grids[0] for grid in grids[1:])


def individual_space(
    volumes: Sequence[Sequence[Volume]],
    poses: Sequence[Sequence[Affine]],
    settings: ModelSettings,
) -> Grid:
    """Grid that holds every voxel of every scan, in their mean orientation.

    Where a scan already has the wanted voxels they are those of the first such scan.

    Parameters
    ----------
    volumes, poses
        Scans and where they lie, (contrast, repeat).
    settings
        Voxel size; 0 stands for that of the scans where they share one grid, which is then
        theirs, and else for the finest side of any scan's voxels.
    """
    placed = [
        Grid(volume.grid.shape, pose @ volume.affine)
        for scans, scan_poses in zip(volumes, poses, strict=True)
        for volume, pose in zip(scans, scan_poses, strict=True)
    ]
    if settings.voxel_size != (0, 0, 0):
        grid = enclose(_lattice(placed, settings.voxel_size), placed)
    elif all(other == placed[0] for other in placed[1:]):
        grid = placed[0]
    else:
        finest = min(float(scan.voxel_size.min()) for scan in placed)
        grid = enclose(mean_space(placed, [finest] * 3), placed)
    logger.info(
        "reconstruction grid: %s voxels of %s mm",
        " x ".join(map(str, grid.shape)),
        " x ".join(f"{size:g}" for size in np.round(grid.voxel_size, 4)),
    )
    return grid


def _lattice(placed: Sequence[Grid], voxel_size: Sequence[float]) -> Grid:
    """Voxels of a scan that already has the wanted ones, else in the scans' mean orientation.

    Between voxels the images are interpolated linearly, which blurs; a fit to a scan whose
    voxels lie between those of the images would undo a blur that the scan does not have.
    """
    for scan in placed:
        canonical = in_axial_order(scan)
        if np.allclose(canonical.voxel_size, voxel_size, rtol=_SAME_VOXEL_SIZE):
            return canonical
    return mean_space(placed, voxel_size)


def footprint_margin(grid: Grid, contrasts: Sequence[Sequence[Observation]]) -> int:
    """Voxels to add around ``grid`` so that every slice profile lies inside.

    Where a profile reaches beyond the grid the prediction is a fraction of what was
    measured, and the fit answers with wild values at the rim.
    """
    reach = 0.0
    for scan in (scan for scans in contrasts for scan in scans):
        fine = intermediate_grid(grid, scan.grid, scan.profile)
        half = [(len(weights) - 1) / 2 for weights in fine.weights]
        extent = np.abs(np.linalg.inv(grid.affine) @ fine.grid.affine)[:3, :3] @ half
        reach = max(reach, float(extent.max()))
    return math.ceil(reach) + 1


def within(scan: Observation, grid: Grid) -> Observation:
    """A scan without the voxels whose profile reaches beyond a grid; these become missing.

    What was measured outside cannot be explained by images on the grid, which would answer
    with wild values along its rim.
    """
    operator = ForwardOperator(grid, scan.grid, pose=scan.pose, profile=scan.profile)
    footprint = operator.forward(torch.ones(grid.shape)).numpy()
    # Most profiles add up to 1 everywhere, a gauss to a little less.
    whole = footprint > _WHOLE_FOOTPRINT * float(footprint.max())
    return replace(scan, data=np.where(whole, scan.data, np.float32(np.nan)))


def without_empty_border(scan: Observation) -> Observation:
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


def coverage(contrast: Sequence[Observation], grid: Grid) -> NDArray[np.bool_]:
    """Voxels of ``grid`` within the field of view of at least one scan of a contrast."""
    reached = np.zeros(grid.shape, dtype=bool)
    for scan in contrast:
        reached |= inside(grid, Grid(scan.grid.shape, scan.world_pose @ scan.affine))
    return reached


def measured(contrast: Sequence[Observation], grid: Grid) -> NDArray[np.bool_]:
    """Voxels of ``grid`` that at least one scan of a contrast measured, or almost.

    Where a scan is missing but its neighbouring voxels are not, the images bridge the hole.
    What lies deeper in a masked region was not seen by anybody.
    """
    seen = np.zeros(grid.shape, dtype=bool)
    for scan in contrast:
        box = Grid(scan.grid.shape, scan.world_pose @ scan.affine)
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
