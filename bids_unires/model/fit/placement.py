"""Where scans and images lie before the fit: coregistration and the grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ...config import ModelSettings
from ...kernels.runtime import thread_count
from ...space.affines import Affine
from ...space.boxes import enclose
from ...space.grid import Grid
from ...space.mean_space import in_axial_order, mean_space
from ...space.volume import Volume

logger = logging.getLogger("bids_unires")
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
    from ...registration import coregister

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
