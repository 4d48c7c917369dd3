"""Fine poses of scans of other contrasts, with a statement of how uncertain each pose is.

A pose has three sources: what the images say (`local_likelihood`), the errors that no comparison of
two contrasts can see, and what the headers say (`header_prior`).
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from ..space.affines import slice_axis, voxel_size
from ..space.volume import Volume
from .header_prior import HeaderPrior
from .local_likelihood import (
    RADIUS_MM,
    Blocks,
    LocalAlignment,
    Values,
    align_locally,
    blocks_of,
    uncertainty_of,
)
from .rigid import RigidAlignment, steadied

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True)
class PoseErrors:
    """Errors of a pose that all blocks of a head share, and that their scatter does not show.

    Borders lie where a contrast shows them, chemical shift and distortion differ between sequences,
    and what is blurred along thick slices is no linear function of another contrast. The values are
    those of heads with known poses (``python -m evaluation.poses``).

    Parameters
    ----------
    anywhere
        Standard deviation in mm of each component of a motion at the surface of a human head.
    across_slices
        The same across the slices of each scan, as a share of the distance between slices.
    scatter
        Factor on the standard deviation from the scatter of the blocks, which are not independent.
    """

    anywhere: float = 0.1
    across_slices: float = 0.03
    scatter: float = 1.5

    def added(self, found: LocalAlignment, scans: Sequence[Volume], unit: float) -> LocalAlignment:
        """The pose with a covariance that holds these errors.

        Parameters
        ----------
        found
            The pose, with the covariance from the scatter of its blocks.
        scans
            The two scans, where the head lies in the reference.
        unit
            Size of the head relative to a human head.
        """
        shared = np.zeros((6, 6))
        shared[:3, :3] = (self.anywhere * unit) ** 2 * np.eye(3)
        shared[3:, 3:] = (self.anywhere / RADIUS_MM) ** 2 * 3 / 2 * np.eye(3)
        for scan in scans:
            axis = slice_axis(scan.affine)
            spacing = voxel_size(scan.affine)[axis]
            normal = scan.affine[:3, axis] / spacing
            shared[:3, :3] += (self.across_slices * spacing) ** 2 * np.outer(normal, normal)
        covariance: Values = self.scatter**2 * found.covariance + shared
        return replace(found, covariance=covariance)


def across_contrasts(
    volumes: Sequence[Volume],
    placed: Mapping[int, RigidAlignment],
    hub: int,
    contrasts: Sequence[Hashable],
    unit: float = 1.0,
    threads: int = 1,
) -> dict[int, RigidAlignment]:
    """Place scans of other contrasts than that of the hub more finely.

    Parameters
    ----------
    volumes
        Scans of one head.
    placed
        Pose of each scan relative to the hub, right to a few mm.
    hub
        Index of the scan that stays.
    contrasts
        Contrast of each scan; None for scans that keep their poses.
    unit
        Size of the head relative to a human head.
    threads
        Scans that are placed at the same time, at most.

    Returns
    -------
    dict
        The fine poses with their uncertainty. Scans of the contrast of the hub, and scans in which
        the two contrasts do not determine a pose, are not among them.
    """
    others = [
        index
        for index in placed
        if None not in (contrasts[index], contrasts[hub]) and contrasts[index] != contrasts[hub]
    ]
    if not others:
        return {}
    logger.info("aligning %d of them more finely, across contrasts", len(others))
    blocks = blocks_of(volumes[hub], unit)

    def place(index: int) -> RigidAlignment | None:
        return _placed_finely(volumes[hub], volumes[index], placed[index], unit, blocks)

    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(others, pool.map(place, others), strict=True))
    return {index: alignment for index, alignment in found.items() if alignment is not None}


def _placed_finely(
    hub: Volume, scan: Volume, roughly: RigidAlignment, unit: float, blocks: Blocks
) -> RigidAlignment | None:
    """The fine pose of one scan; None if the two contrasts do not determine it."""
    found = align_locally(hub, scan, roughly.pose, unit, blocks=blocks)
    if found is None:
        return None
    moved = replace(scan, affine=found.pose @ scan.affine)
    told = PoseErrors().added(found, (hub, moved), unit)
    final = HeaderPrior().applied(told, unit)
    uncertainty = round(uncertainty_of(final.covariance, unit), 3)
    return replace(roughly, pose=steadied(final.pose), uncertainty=uncertainty)
