"""Fine poses of scans of other contrasts, with a statement of how uncertain each pose is.

A pose has three sources: what the images say (`local_likelihood`), the errors that no comparison of
two contrasts can see, and what the headers say (`header_prior`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..space.affines import slice_axis, voxel_size
from ..space.volume import Volume
from .header_prior import HeaderPrior
from .local_likelihood import RADIUS_MM, LocalAlignment, Values, align_locally, uncertainty_of
from .rigid import RigidAlignment, steadied


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

    Returns
    -------
    dict
        The fine poses with their uncertainty. Scans of the contrast of the hub, and scans in which
        the two contrasts do not determine a pose, are not among them.
    """
    finely: dict[int, RigidAlignment] = {}
    for index, alignment in placed.items():
        if None in (contrasts[index], contrasts[hub]) or contrasts[index] == contrasts[hub]:
            continue
        pair = (volumes[hub], volumes[index])
        found = align_locally(*pair, alignment.pose, unit)
        if found is None:
            continue
        moved = replace(volumes[index], affine=found.pose @ volumes[index].affine)
        told = PoseErrors().added(found, (volumes[hub], moved), unit)
        final = HeaderPrior().applied(told, unit)
        finely[index] = replace(
            alignment,
            pose=steadied(final.pose),
            uncertainty=round(uncertainty_of(final.covariance, unit), 3),
        )
    return finely
