"""Motion of the slices of scans, for the report of a participant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..space.grid import Grid
from .content import ReportedScan
from .motion import Motion, motion_of


@dataclass(frozen=True)
class GroupMotion:
    """Motion of one group of slices relative to the scan as a whole.

    Parameters
    ----------
    scan
        Index of the scan among all scans of the participant, from 0.
    slices
        Indices of the slices, from 0, in ascending order.
    motion
        Motion in the world of the images.
    """

    scan: int
    slices: tuple[int, ...]
    motion: Motion

    @property
    def text(self) -> str:
        """The indices of the slices as a short text.

        Examples
        --------
        >>> still = Motion((0, 0, 0), (0, 0, 0), 1, 0)
        >>> GroupMotion(0, (1, 3, 5, 7), still).text
        '1, 3, … 7'
        >>> GroupMotion(0, (4, 5), still).text
        '4, 5'
        """
        if len(self.slices) < 4:
            return ", ".join(map(str, self.slices))
        return f"{self.slices[0]}, {self.slices[1]}, … {self.slices[-1]}"


def group_motions(scans: Sequence[ReportedScan], grid: Grid) -> list[GroupMotion]:
    """All groups of slices, scan by scan, in the order of acquisition.

    Scans without estimated motion of slices have none.

    Parameters
    ----------
    scans
        All scans of a participant.
    grid
        Grid of the images; its middle approximates that of the head.
    """
    return [
        GroupMotion(
            index,
            group.slices,
            motion_of(scan.pose @ group.motion @ np.linalg.inv(scan.pose), grid),
        )
        for index, scan in enumerate(scans)
        if scan.slice_motion is not None
        for group in scan.slice_motion.groups
    ]
