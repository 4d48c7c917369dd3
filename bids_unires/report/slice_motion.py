"""How the slices of scans moved, as the report of a participant shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..space.grid import Grid
from .content import ReportedScan
from .motion import Motion, motion_of


@dataclass(frozen=True)
class GroupMotion:
    """Where one group of slices of a scan lay, relative to the scan as a whole.

    Parameters
    ----------
    scan
        Index of the scan among all.
    slices
        Their indices, rising.
    motion
        In the world of the images.
    """

    scan: int
    slices: tuple[int, ...]
    motion: Motion

    @property
    def text(self) -> str:
        """The slices in a few characters.

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
    """Every group of slices of every scan whose slices moved, in order of time.

    Parameters
    ----------
    scans
        All scans of a participant.
    grid
        Of the images: its middle stands for that of the head.
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
