"""The record of the motion of the slices of a scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.spatial.transform import Rotation

from ..model.scanner.slice_groups import MovedGroup, SliceMotion
from ..model.slice_motion.pose import motion_parameters, rms_displacement
from ..space.affines import Affine, apply_affine
from ..space.grid import Grid, centre_of
from .entries import Record, affine, entry, list_of, number, text, vector, whole_numbers


@dataclass(frozen=True, eq=False)
class SliceGroupRecord(Record):
    """A group of slices of a scan that share a pose.

    Parameters
    ----------
    slices
        Indices of the slices, from 0 along the slice axis.
    translation
        Translation of the centre of the scan, in mm along its world axes.
    rotation
        Rotation about that centre: a vector along the axis of rotation, whose length is the angle
        in degrees.
    matrix
        ``(4, 4)``, translation and rotation together: world mm of the scan -> world mm of the
        scan. It is applied before the pose of the whole scan.
    """

    slices: tuple[int, ...] | None = entry("Slices", whole_numbers)
    translation: tuple[float, ...] | None = entry("Translation", vector)
    rotation: tuple[float, ...] | None = entry("Rotation", vector)
    matrix: Affine | None = entry("Matrix", affine)


@dataclass(frozen=True, eq=False)
class SliceMotionRecord(Record):
    """The motion of the slices of one scan, for each group of slices.

    Parameters
    ----------
    order
        How the order of the slices in time was determined.
    largest_displacement
        Displacement of the group that moved most: root mean square over the head, in mm.
    groups
        The groups in the order of time; together they hold all slices.
    """

    order: str | None = entry("Order", text)
    largest_displacement: float | None = entry("LargestDisplacement", number)
    groups: tuple[SliceGroupRecord, ...] | None = entry("Groups", list_of(SliceGroupRecord))

    @classmethod
    def of_motion(cls, motion: SliceMotion, stack: Grid) -> Self:
        """Make the record of the motion of slices.

        Parameters
        ----------
        motion
            Motion of the slices of one scan.
        stack
            Grid of the scan.
        """
        centre = centre_of(stack)
        groups = tuple(
            SliceGroupRecord(
                group.slices,
                tuple((apply_affine(group.motion, centre) - centre).tolist()),
                tuple(Rotation.from_matrix(group.motion[:3, :3]).as_rotvec(degrees=True).tolist()),
                group.motion,
            )
            for group in motion.groups
        )
        return cls(motion.source, largest_motion(motion, stack), groups)

    def motion(self, count: int) -> SliceMotion | None:
        """The motion of the slices; None if it is not known for every slice.

        Parameters
        ----------
        count
            Number of slices of the scan.
        """
        groups = []
        for group in self.groups or ():
            if group.slices is None or group.matrix is None:
                return None
            groups.append(MovedGroup(group.slices, group.matrix))
        found = sorted(index for group in groups for index in group.slices)
        if self.order is None or found != list(range(count)):
            return None
        return SliceMotion(tuple(groups), self.order)


def largest_motion(motion: SliceMotion, stack: Grid) -> float:
    """Displacement (mm, root mean square over the head) of the group that moved most."""
    poses = [group.motion for group in motion.groups]
    return float(rms_displacement(motion_parameters(poses, np.eye(4), stack)).max())
