"""The order in which slices were acquired, and groups of slices that share a pose.

A 2-D scan is acquired slice by slice, or in packages of interleaved slices, and the head may
move in between. A regular group of slices (every k-th slice, or neighbouring slices) is treated
as a scan of its own: with its own first slice, slice spacing and pose, and with slices as thick as
those of the whole stack. To the model, a stack whose groups moved is several scans of one contrast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
"""Indices of slices that share a pose, in rising order."""


@dataclass(frozen=True)
class SliceOrder:
    """Slices in the order in which they were acquired.

    Parameters
    ----------
    packages
        Passes through the stack, in order of time. Each is a sequence of excitations, in order of
        time, and an excitation is the indices of the slices that were excited together.
    source
        Where the order comes from, for the log and the sidecar.
    certain
        Whether the order is known. If not, the fit may find another one.
    """

    packages: tuple[tuple[SliceGroup, ...], ...]
    source: str
    certain: bool = True

    @property
    def count(self) -> int:
        """Number of slices of the stack."""
        return sum(len(excited) for package in self.packages for excited in package)

    def groups(self, parts: int) -> tuple[SliceGroup, ...]:
        """Divide every package into parts, in order of time.

        Parameters
        ----------
        parts
            Number of parts of a package; its number of excitations if that is lower.

        Returns
        -------
        tuple of tuple of int
            Groups that together hold every slice once.
        """
        return tuple(
            tuple(sorted(index for excited in package[low:high] for index in excited))
            for package in self.packages
            for low, high in pairwise(_cuts(len(package), parts))
        )


def interleaved_order(count: int, step: int, source: str, *, certain: bool = True) -> SliceOrder:
    """The order 0, step, 2 step, ..., then 1, 1 + step, ..., and so on.

    Parameters
    ----------
    count
        Number of slices.
    step
        Number of packages: 1 for one slice after the other, 2 for even slices, then odd ones.
    source, certain
        As for `SliceOrder`.

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
    """The most common order, where the sidecar gives none: even slices, then odd ones."""
    return interleaved_order(count, 2, "assumed: even slices, then odd ones", certain=False)


def order_of_times(times: Sequence[float], source: str) -> SliceOrder:
    """The order of slices from the time at which each of them was acquired.

    Slices of one time were excited together. A package ends where the direction reverses: where
    the first slice of an excitation does not continue in the direction of those before.

    Parameters
    ----------
    times
        Time of every slice in s, as in BIDS's ``SliceTiming``.
    source
        As for `SliceOrder`.

    Examples
    --------
    >>> order_of_times([0.0, 0.3, 0.1, 0.4, 0.2], "SliceTiming").groups(1)
    ((0, 2, 4), (1, 3))
    """
    moments: dict[float, list[int]] = {}
    for index in sorted(range(len(times)), key=lambda index: (times[index], index)):
        moments.setdefault(round(times[index], 6), []).append(index)
    packages: list[list[SliceGroup]] = []
    direction = 0
    for excited in (tuple(together) for together in moments.values()):
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
        Its slices to take. Slices between them that are not in the group are missing (NaN).

    Returns
    -------
    Observation
        A scan with the pose of the stack, without the brightness factors of even and odd slices.
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
    """A scan divided by the brightness factors of its even and odd slices."""
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
    """Brightness factors of even and odd slices, ``(1, 1, Z)`` if Z is the slice axis."""
    axis = scan.profile.slice_axis(scan.grid)
    sides = [1, 1, 1]
    sides[axis] = count = scan.data.shape[axis]
    return interleave_factors(scan.interleave, count).reshape(sides).astype(np.float32)


@dataclass(frozen=True, eq=False)
class MovedGroup:
    """Slices that share a pose.

    Attributes
    ----------
    slices
        Their indices in the stack.
    motion
        ``(4, 4)`` rigid matrix, scan world mm -> scan world mm: the pose of the group is
        ``stack_pose @ motion``.
    """

    slices: SliceGroup
    motion: Affine

    def of(self, stack: Observation) -> Observation:
        """The group as a scan of its own, at its pose."""
        return replace(select_slices(stack, self.slices), pose=stack.world_pose @ self.motion)


@dataclass(frozen=True, eq=False)
class SliceMotion:
    """How the head moved between the slices of one stack.

    Attributes
    ----------
    groups
        Groups of slices in order of time. Together they hold every slice of the stack once.
    source
        Where the order of the slices comes from.
    """

    groups: tuple[MovedGroup, ...]
    source: str


def split_by_motion(scan: Observation, motion: SliceMotion | None) -> list[Observation]:
    """A stack as one scan for each group of slices, at the pose of the group.

    Parameters
    ----------
    scan
        The stack, at its pose.
    motion
        How its slices moved. If None, the stack is returned as the only scan.
    """
    return [scan] if motion is None else [group.of(scan) for group in motion.groups]


def predict_scan(
    scan: Observation, motion: SliceMotion | None, grid: Grid, image: Tensor
) -> NDArray[np.float32]:
    """Predict a scan, whose slices may have moved, from an image.

    Parameters
    ----------
    scan
        The scan at its pose.
    motion
        How its slices moved; None if they did not.
    grid, image
        The image ``(X, Y, Z)`` float32 and its grid.

    Returns
    -------
    ndarray
        Intensities ``(X, Y, Z)`` on the grid of the scan.
    """
    if motion is None:
        return np.asarray(scan.operator(grid).forward(image).cpu().numpy())
    even = scan.ignoring_interleave()
    predictions = (
        (group.slices, predict_scan(group.of(even), None, grid, image)) for group in motion.groups
    )
    values = merge_slices(predictions, scan.grid, scan.profile.slice_axis(scan.grid))
    return np.asarray(values * slice_factors(scan), dtype=np.float32)


def merge_slices(
    groups: Iterable[tuple[SliceGroup, NDArray[np.float32]]], stack: Grid, axis: int
) -> NDArray[np.float32]:
    """Values of the voxels of a stack from those of its groups.

    Parameters
    ----------
    groups
        Indices of each group, and the values ``(X, Y, Z)`` of its scan (`select_slices`).
    stack
        Grid of the stack.
    axis
        Its slice axis (0, 1 or 2).
    """
    values = np.zeros(stack.shape, dtype=np.float32)
    target = np.moveaxis(values, axis, 0)
    for group, part in groups:
        step = _spacing(group)
        places = [(index - group[0]) // step for index in group]
        target[list(group)] = np.moveaxis(part, axis, 0)[places]
    return values


def _spacing(group: SliceGroup) -> int:
    """Distance between slices of the regular stack that holds a group, in slices."""
    return math.gcd(*(index - group[0] for index in group)) or 1


def _cuts(count: int, parts: int) -> list[int]:
    """Limits of parts of ``count`` excitations that differ by one at most, both ends included."""
    parts = max(1, min(parts, count))
    return [round(part * count / parts) for part in range(parts + 1)]
