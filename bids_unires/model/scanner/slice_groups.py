"""Slices that were acquired together: which they are, and a stack taken apart into them.

A 2-D scan is taken slice by slice, or package by package of interleaved slices, and the head
may move in between. A regular group of slices (every k-th, or a run of neighbours) is a scan
in its own right, with a first slice and a spacing of its own, slices as thick as those of
the stack, and its own pose. So a stack whose groups moved is nothing new to the model: it is
several scans of one contrast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import Affine, scaling, translation
from ...space.grid import Grid
from .interleave import interleave_factors
from .observation import Observation

SliceGroup: TypeAlias = tuple[int, ...]
"""Indices of slices that share a pose, rising."""


@dataclass(frozen=True)
class SliceOrder:
    """Slices in the order in which they were acquired.

    Parameters
    ----------
    packages
        Passes through the stack, in order of time; each a sequence of slices or, where
        several are excited at once, of such sets, in order of time too.
    source
        How that is known, for the record.
    certain
        Whether it is known; if not, the data may say otherwise.
    """

    packages: tuple[tuple[SliceGroup, ...], ...]
    source: str
    certain: bool = True

    @property
    def count(self) -> int:
        """Number of slices of the stack."""
        return sum(len(excited) for package in self.packages for excited in package)

    def groups(self, parts: int) -> tuple[SliceGroup, ...]:
        """Divide every package into so many parts, in order of time.

        A partition of the slices; of a package with fewer excitations each is a part.
        """
        return tuple(
            tuple(sorted(index for excited in package[low:high] for index in excited))
            for package in self.packages
            for low, high in pairwise(_cuts(len(package), parts))
        )


def interleaved_order(count: int, step: int, source: str, *, certain: bool = True) -> SliceOrder:
    """Every ``step``-th of ``count`` slices from the first one on, then from the second one.

    Examples
    --------
    >>> interleaved_order(5, 2, "convention").groups(1)
    ((0, 2, 4), (1, 3))
    """
    step = min(step, count)
    packages = (range(first, count, step) for first in range(step))
    return SliceOrder(
        tuple(tuple((index,) for index in package) for package in packages), source, certain
    )


def usual_order(count: int) -> SliceOrder:
    """What is likely where nobody says: even slices first, then odd ones."""
    return interleaved_order(count, 2, "assumed: even slices, then odd ones", certain=False)


def order_of_times(times: Sequence[float], source: str) -> SliceOrder:
    """Packages of slices from the time at which each slice was acquired.

    Slices of one time were excited together. A package ends where the slices turn back: where
    the first slice of an excitation does not go on in the direction of those before.

    Parameters
    ----------
    times
        Of every slice in s, as in BIDS's ``SliceTiming``.
    source
        For the record.

    Examples
    --------
    >>> order_of_times([0.0, 0.3, 0.1, 0.4, 0.2], "SliceTiming").groups(1)
    ((0, 2, 4), (1, 3))
    """
    moments: dict[float, list[int]] = {}
    for index in sorted(range(len(times)), key=lambda one: (times[one], one)):
        moments.setdefault(round(times[index], 6), []).append(index)
    packages: list[list[SliceGroup]] = []
    direction = 0
    for excited in (tuple(found) for found in moments.values()):
        step = excited[0] - packages[-1][-1][0] if packages else 0
        if not packages or (direction and step * direction < 0):
            packages.append([excited])
            direction = 0
        else:
            packages[-1].append(excited)
            direction = direction or step
    return SliceOrder(tuple(tuple(package) for package in packages), source)


def select_slices(scan: Observation, group: SliceGroup) -> Observation:
    """Some slices of a stack as a scan of their own.

    Parameters
    ----------
    scan
        The stack.
    group
        Its slices; those between them that do not belong to the group are missing.

    Returns
    -------
    Observation
        With the stack's pose. What made even and odd slices of the stack differ in
        brightness has been divided out.
    """
    axis = scan.profile.slice_axis(scan.grid)
    step = _spacing(group)
    taken = slice(group[0], group[-1] + 1, step)
    pick = tuple(taken if other == axis else slice(None) for other in range(3))
    start, spacing = np.zeros(3), np.ones(3)
    start[axis], spacing[axis] = group[0], step
    scan = correct_interleave(scan)
    data = scan.data[pick].copy()
    absent = ~np.isin(np.arange(scan.data.shape[axis])[taken], group)
    data[tuple(absent if other == axis else slice(None) for other in range(3))] = np.nan
    tau = scan.tau[pick] if isinstance(scan.tau, np.ndarray) else scan.tau
    return replace(
        scan,
        data=data,
        affine=scan.affine @ translation(start) @ scaling(spacing),
        tau=tau,
        slice_weights=None if scan.slice_weights is None else scan.slice_weights[taken],
        profile=replace(scan.profile, axis=axis, every=scan.profile.every * step),
    )


def correct_interleave(scan: Observation) -> Observation:
    """A scan without what makes its even and odd slices differ in brightness."""
    if not scan.interleave:
        return scan
    factors = slice_factors(scan)
    return replace(
        scan,
        data=(scan.data / factors).astype(np.float32),
        tau=np.asarray(scan.tau * factors**2 * np.ones_like(scan.data), dtype=np.float32),
        interleave=0.0,
    )


def slice_factors(scan: Observation) -> NDArray[np.float32]:
    """Factors of even and odd slices, broadcastable over the scan."""
    axis = scan.profile.slice_axis(scan.grid)
    sides = [1, 1, 1]
    sides[axis] = count = scan.data.shape[axis]
    return interleave_factors(scan.interleave, count).reshape(sides).astype(np.float32)


@dataclass(frozen=True, eq=False)
class SliceMotion:
    """How the head moved between the slices of one stack.

    Attributes
    ----------
    groups
        Slices that share a pose, in order of time; together all of the stack.
    motions
        ``(4, 4)`` rigid matrices, one for each group, scan world mm -> scan world mm: the
        pose of a group is ``stack_pose @ motion``.
    source
        Where the order of the slices comes from.
    """

    groups: tuple[SliceGroup, ...]
    motions: tuple[Affine, ...]
    source: str

    def poses(self, stack_pose: Affine) -> tuple[Affine, ...]:
        """Pose of every group, ``(4, 4)``, where the stack as a whole has ``stack_pose``."""
        return tuple(stack_pose @ motion for motion in self.motions)


def predict_scan(
    scan: Observation, motion: SliceMotion | None, grid: Grid, image: Tensor
) -> NDArray[np.float32]:
    """What an image predicts of a scan whose slices may have moved.

    Parameters
    ----------
    scan
        The scan at its pose.
    motion
        How its slices moved; None if they did not.
    grid, image
        The image ``(X, Y, Z)`` float32 and where it lies.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` of the scan.
    """
    if motion is None:
        operator = scan.operator(grid)
        return np.asarray(operator.forward(image).cpu().numpy())
    parts = split_by_motion(replace(scan, interleave=0.0), motion)
    values = merge_slices(
        [predict_scan(part, None, grid, image) for part in parts],
        motion.groups,
        scan.grid,
        scan.profile.slice_axis(scan.grid),
    )
    return np.asarray(values * slice_factors(scan), dtype=np.float32)


def split(
    scan: Observation, groups: Sequence[SliceGroup], poses: Sequence[Affine] | None = None
) -> list[Observation]:
    """A stack as one scan for each of its groups, at the stack's pose or poses of their own."""
    parts = [select_slices(scan, group) for group in groups]
    if poses is None:
        return parts
    return [replace(part, pose=pose) for part, pose in zip(parts, poses, strict=True)]


def split_by_motion(scan: Observation, motion: SliceMotion | None) -> list[Observation]:
    """A stack as the scans that its groups of slices are; itself where they did not move."""
    if motion is None:
        return [scan]
    return split(scan, motion.groups, motion.poses(scan.world_pose))


def merge_slices(
    parts: Sequence[NDArray[np.float32]], groups: Sequence[SliceGroup], stack: Grid, axis: int
) -> NDArray[np.float32]:
    """Values of every group's voxels, ``(X, Y, Z)`` each, as values of the stack's."""
    values = np.zeros(stack.shape, dtype=np.float32)
    target = np.moveaxis(values, axis, 0)
    for part, group in zip(parts, groups, strict=True):
        step = _spacing(group)
        places = [(index - group[0]) // step for index in group]
        target[list(group)] = np.moveaxis(part, axis, 0)[places]
    return values


def _spacing(group: SliceGroup) -> int:
    """Distance between slices of the regular stack that holds a group, in slices."""
    return math.gcd(*(index - group[0] for index in group)) or 1


def _cuts(count: int, parts: int) -> list[int]:
    """Where to cut ``count`` things into parts that differ by one at most; both ends included."""
    parts = max(1, min(parts, count))
    return [round(part * count / parts) for part in range(parts + 1)]
