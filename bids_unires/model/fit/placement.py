"""Poses of the scans and grid of the images before the fit: coregistration and individual space."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...config import ModelSettings
from ...kernels.runtime import thread_count
from ...space.affines import Affine
from ...space.boxes import enclose
from ...space.grid import Grid
from ...space.mean_space import in_axial_order, mean_space
from ...space.volume import Volume
from .sample_positions import moved_onto_samples

logger = logging.getLogger("bids_unires")

# Relative difference of voxel sizes that count as equal: a quarter of a voxel over 250 voxels.
_SAME_VOXEL_SIZE = 1e-3


Series = Sequence[Hashable]
"""For each scan the series that it is a station of; None for no series."""


Contrasts = Sequence[Hashable]
"""For each scan the contrast of MR that it shows; None for other scans."""


@dataclass(frozen=True, eq=False)
class StartingPose:
    """Where a scan lies before the fit.

    Parameters
    ----------
    matrix
        ``(4, 4)``, world mm of the scan -> world mm of a space.
    uncertainty
        Standard deviation of the pose against that of the first scan: root mean square
        displacement in mm at 70 mm from the middle of a human head; None if it is not known.
    """

    matrix: Affine
    uncertainty: float | None = None

    def moved(self, motion: Affine) -> StartingPose:
        """The pose, followed by a motion ``(4, 4)`` of the space."""
        return replace(self, matrix=np.asarray(motion @ self.matrix))


def starting_poses(
    volumes: Sequence[Volume],
    settings: ModelSettings,
    series: Series | None = None,
    contrasts: Contrasts | None = None,
) -> list[StartingPose]:
    """Poses of the scans before the fit, relative to the first one.

    Images on one grid that are denoised there keep their poses, and so do all if the settings do
    not coregister. For all others, the result and errors see `coregistered`.
    """
    in_place = settings.voxel_size == (0, 0, 0) and on_one_grid(volumes)
    if in_place or not settings.coregister:
        return [StartingPose(np.eye(4)) for _ in volumes]
    return coregistered(volumes, series, contrasts)


def coregistered(
    volumes: Sequence[Volume], series: Series | None = None, contrasts: Contrasts | None = None
) -> list[StartingPose]:
    """Poses of all scans relative to the first one.

    Stations of one series stay about where their headers have them. Scans of another contrast than
    the first are placed more finely if ``contrasts`` names them.

    Returns
    -------
    list of StartingPose
        One for each scan, to the world mm of the first scan.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or does not overlap with the first one.
    """
    if len(volumes) == 1:
        return [StartingPose(np.eye(4))]
    # The registration library is imported only where it is needed: the model runs without it.
    from ...registration import coregister

    logger.info("aligning %d scans to each other", len(volumes))
    found = coregister(volumes, threads=thread_count(), series=series, contrasts=contrasts)
    return [StartingPose(alignment.pose, alignment.uncertainty) for alignment in found]


def on_one_grid(volumes: Sequence[Volume]) -> bool:
    """Whether all scans have the same voxels in the world."""
    return all(volume.grid == volumes[0].grid for volume in volumes[1:])


def individual_space(scans: Sequence[Grid], voxel_size: Sequence[float]) -> Grid:
    """Grid that contains every voxel of every scan, in their mean orientation.

    If a scan already has the wanted voxel size, the voxels are those of the first such scan.

    Parameters
    ----------
    scans
        Grids of the scans in the world of the images.
    voxel_size
        Voxel size in mm along each axis. If all are 0, the grid is that of the scans if they share
        one; else voxels are cubes with the finest side of any voxel of the scans.
    """
    if tuple(voxel_size) != (0, 0, 0):
        grid = enclose(_lattice(scans, voxel_size), scans)
    elif all(other == scans[0] for other in scans[1:]):
        grid = scans[0]
    else:
        finest = min(float(scan.voxel_size.min()) for scan in scans)
        grid = enclose(mean_space(scans, [finest] * 3), scans)
    return grid


def say_which_grid(grid: Grid) -> None:
    """Log the shape and the voxel size of the grid of the images."""
    logger.info(
        "reconstruction grid: %s voxels of %s mm",
        " x ".join(map(str, grid.shape)),
        " x ".join(f"{size:g}" for size in np.round(grid.voxel_size, 4)),
    )


def shared_space(
    visits: Sequence[Sequence[Grid]], voxel_size: Sequence[float], *, on_first: bool
) -> Grid:
    """Grid that contains every voxel of the scans of all visits.

    Parameters
    ----------
    visits
        Grids of the scans of each visit, in the world of the images.
    voxel_size
        Voxel size in mm along each axis, above 0.
    on_first
        Whether voxels lie as `individual_space` puts them for the first visit alone. If not, no
        visit decides more than another where voxels lie.
    """
    scans = [scan for visit in visits for scan in visit]
    if on_first:
        lattice = _lattice(visits[0], voxel_size)
    else:
        lattice = moved_onto_samples(mean_space(scans, voxel_size), scans)
    return enclose(lattice, scans)


def _lattice(scans: Sequence[Grid], voxel_size: Sequence[float]) -> Grid:
    """The grid of a scan with the wanted voxel size; else one in the mean orientation.

    Images are interpolated linearly, which blurs between voxels. With the grid of the scan, its
    voxels are not interpolated.
    """
    for scan in scans:
        canonical = in_axial_order(scan)
        if np.allclose(canonical.voxel_size, voxel_size, rtol=_SAME_VOXEL_SIZE):
            return canonical
    return moved_onto_samples(mean_space(scans, voxel_size), scans)
