"""The planes of a scan, and what slices as thick as its own would have made of them.

Averaged along one of their axes as slices are along theirs, planes show what thick slices make
of detail that is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import Affine, scaling, slice_spacing, translation
from ..intensity.noise import NoiseEstimate
from ..scanner.interleave import interleave_factors
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from .network import Pairs
from .spline import interpolation

# Voxels to each side of a patch's middle: across the slices, and along them. Six along them gain
# 0.1 dB of Colin27 and 0.05 dB of a real T1w over four; beside another contrast they lose 0.1 dB,
# and lesions are drawn fainter.
_SLICES, _ALONG, _ALONG_BESIDE = 2, 6, 4
# Of what another contrast shows, thin voxels beyond the middle slice to each side, and along it.
_BEYOND, _BESIDE = 2, 2
_LEAST_RATIO = 2
# A patch may be turned round along either of its axes.
_WAYS = 4
# In-plane voxels of more unlike sides say little of each other's axis.
_MOST_UNLIKE = 1.5
# Voxels this many times as wide as those of the images are no points of them: twice as wide, detail
# gains in simulated heads, three times as wide, it costs more than it gains.
_COARSEST = 2.5
# Weights of missing voxels in an interpolated one, at most, in sum; all are 1 to 3.3 in sum.
_MISSING = 0.02
# To each side of the voxels in the middle of oblique patches; beyond, a spline's coefficients add
# less than a thousandth.
_SURROUNDINGS = _ALONG + 10
# Share of the way from air to head above which, or beside which, a voxel counts.
_HEAD = 0.25


@dataclass(frozen=True, eq=False)
class SlicePlanes:
    """A scan, slices first, with voxels in the plane of about the wanted size.

    Attributes
    ----------
    unit
        Contrast of the head in the units of the scan. All that follows is in units of it.
    data
        ``(K, M, N)``, NaN where nothing was measured.
    head
        ``(K, M, N)`` bool, with what is next to it in the plane.
    known
        ``(K, M, N)`` float: 1 where it was measured, less where a slice is doubted.
    thin_affine
        ``(4, 4)`` of the scan with every slice divided, voxel index to world mm of the scan; the
        axes in the order of the scan.
    slice_axis
        Of the scan.
    ratio
        How many of these voxels are as long as the slices are apart.
    slice_profile
        ``(ratio + 2 * reach,)``: how much each voxel adds to a slice around its place.
    reach
        Voxels of a slice beyond its own share of the spacing, to each side.
    noise_sd
        Of ``data``.
    """

    unit: float
    data: Tensor
    head: Tensor
    known: Tensor
    thin_affine: Affine
    slice_axis: int
    ratio: int
    slice_profile: Tensor
    reach: int
    noise_sd: float

    def as_slices(self, thin: Tensor) -> Tensor:
        """What the scan's slices are of thin ones: ``(K * ratio, M, N)`` to ``(K, M, N)``."""
        lines = thin.permute(1, 2, 0)
        lines = torch.nn.functional.pad(lines, (self.reach, self.reach), mode="replicate")
        return self._averaged(lines, 2).permute(2, 0, 1)

    def pairs(
        self,
        axis: int,
        shown: Tensor | None,
        slices: Tensor,
        count: int,
        chance: torch.Generator,
    ) -> Iterator[Pairs]:
        """Patches of planes averaged along one of their axes, and what was there before.

        Parameters
        ----------
        axis
            1 or 2: which axis of ``data`` to average along.
        shown
            ``(K, M, N)``: what another contrast shows of the same places, with NaN; or None.
        slices
            ``(K,)`` bool: in which to look.
        count
            How many, about; fewer where there is too little head.
        chance
            What is drawn from.
        """
        order = (axis, 0, 3 - axis)
        head = self.head & slices[:, None, None]
        lines, head = self.data.permute(order), head.permute(order)
        shown = None if shown is None else shown.permute(order)
        for offset in range(self.ratio):
            beside = None if shown is None else shown[offset:]
            found = self._pairs_from(
                lines[offset:], head[offset:], beside, count // self.ratio, chance
            )
            if found is not None:
                yield found

    def _pairs_from(
        self,
        lines: Tensor,
        head: Tensor,
        shown: Tensor | None,
        count: int,
        chance: torch.Generator,
    ) -> Pairs | None:
        """Average blocks of ``lines`` ``(L, K, Q)`` along their first axis as slices are."""
        blocks = (len(lines) - 2 * self.reach) // self.ratio
        if blocks <= 2 * _SLICES:
            return None
        lines = lines[: blocks * self.ratio + 2 * self.reach]
        # An average has less noise than a slice.
        lacking = 1 - float(self.slice_profile.square().sum())
        thick = self._averaged(lines, 0)
        noise = torch.randn(thick.shape, generator=chance).to(thick.device)
        thick = (thick + self.noise_sd * math.sqrt(lacking) * noise).movedim(1, 2)
        candidates = self._divided(head, blocks).any(dim=3).nonzero()
        if len(candidates) == 0:
            return None
        count = min(count, _WAYS * len(candidates))
        chosen = torch.randint(len(candidates), (count,), generator=chance)
        picked = candidates[chosen.to(candidates.device)]
        patches = patches_at(thick, *picked.T, beside=shown is not None)
        finer = self._divided(lines, blocks)[*picked.T]
        views = patches.new_empty((len(patches), 0, 0))
        if shown is not None:
            block, along, across = picked.T
            first = block * self.ratio + self.reach
            views = self.views_at(shown.movedim(1, 2), first, along, across)
        complete = patches.isfinite().all(dim=2).all(dim=1) & finer.isfinite().all(dim=1)
        complete &= views.isfinite().all(dim=2).all(dim=1)
        return _flipped(patches[complete], views[complete], finer[complete])

    def views_at(self, shown: Tensor, first: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """What another contrast shows around thick voxels.

        Parameters
        ----------
        shown
            ``(T, M, Q)``, thin voxels first.
        first, along, across
            ``(N,)`` each: the first thin voxel of the thick one, and its place in the plane.

        Returns
        -------
        Tensor
            ``(N, ratio + 2 * _BEYOND, 2 * _BESIDE + 1)``.
        """
        rows = first[:, None] + torch.arange(-_BEYOND, self.ratio + _BEYOND, device=shown.device)
        columns = along[:, None] + torch.arange(-_BESIDE, _BESIDE + 1, device=shown.device)
        return _picked(shown, rows, columns, across)

    def _averaged(self, lines: Tensor, axis: int) -> Tensor:
        """Slices of fine voxels along an axis, which comes back in its place."""
        window = self.ratio + 2 * self.reach
        return lines.unfold(axis, window, self.ratio) @ self.slice_profile

    def _divided(self, lines: Tensor, blocks: int) -> Tensor:
        """``(L, K, Q)`` as ``(blocks, Q, K, ratio)``."""
        lines = lines[self.reach : self.reach + blocks * self.ratio]
        return lines.reshape(blocks, self.ratio, *lines.shape[1:]).permute(0, 3, 2, 1)


def patches_at(
    thick: Tensor, blocks: Tensor, along: Tensor, across: Tensor, *, beside: bool
) -> Tensor:
    """``(N, P, R)`` around places in ``thick`` ``(K, M, Q)``.

    Parameters
    ----------
    thick
        Planes, slices first.
    blocks, along, across
        ``(N,)`` each: where.
    beside
        Whether another contrast shows the same places.
    """
    reach = _ALONG_BESIDE if beside else _ALONG
    rows = blocks[:, None] + torch.arange(-_SLICES, _SLICES + 1, device=thick.device)
    columns = along[:, None] + torch.arange(-reach, reach + 1, device=thick.device)
    return _picked(thick, rows, columns, across)


def oblique_patches(
    planes: Tensor, degrees: float, where: Tensor
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Patches of planes through the slices, at any angle to the axes of these.

    Parameters
    ----------
    planes
        ``(K, M, N)``, NaN where nothing was measured.
    degrees
        From axis 1 towards axis 2, both measured in voxels: along which the patches are cut out.
    where
        ``(K, M, N)`` bool: the voxels in their middle.

    Yields
    ------
    tuple
        For each slice that has any its number, the places ``(N,)`` of the voxels along axes 1
        and 2, and the patches as of `patches_at`.
    """
    if not where.any():
        return
    rows, columns = (_with_surroundings(where.any(dim=0).any(dim=axis)) for axis in (1, 0))
    lines = _ObliqueLines(planes[:, rows, columns], degrees)
    cut: dict[int, Tensor] = {}
    for k in where.flatten(1).any(dim=1).nonzero().flatten().tolist():
        around = [min(max(row, 0), len(planes) - 1) for row in range(k - _SLICES, k + _SLICES + 1)]
        cut = {row: cut[row] if row in cut else lines.through(row) for row in around}
        first, second = where[k].nonzero().T
        here = (first - rows.start, second - columns.start)
        yield k, first, second, torch.stack([cut[row][here] for row in around], dim=1)


def _with_surroundings(wanted: Tensor) -> slice:
    """The part of an axis with all that is wanted, and what lines from there depend on."""
    places = wanted.nonzero()
    return slice(max(int(places.min()) - _SURROUNDINGS, 0), int(places.max()) + _SURROUNDINGS + 1)


class _ObliqueLines:
    """Lines within slices at any angle to the axes of these, by splines.

    Parameters
    ----------
    planes
        ``(K, M, N)``, NaN where nothing was measured.
    degrees
        From axis 1 towards axis 2, both measured in voxels.
    """

    def __init__(self, planes: Tensor, degrees: float) -> None:
        self._missing = ~planes.isfinite()
        self._planes = planes.masked_fill(self._missing, 0)
        angle = math.radians(degrees)
        steps = range(-_ALONG, _ALONG + 1)
        self._first, self._second = (
            self._offsets(side, [step * part for step in steps])
            for side, part in zip(planes.shape[1:], (math.cos(angle), math.sin(angle)), strict=True)
        )

    def _offsets(self, count: int, offsets: Sequence[float]) -> Tensor:
        matrices = [interpolation(count, offset).astype(np.float32) for offset in offsets]
        return torch.from_numpy(np.stack(matrices)).to(self._planes.device)

    def through(self, k: int) -> Tensor:
        """Lines through all voxels of a slice, ``(M, N, 2 * _ALONG + 1)``, NaN if not measured."""
        found = self._first @ self._planes[k] @ self._second.mT
        missing = self._missing[k]
        if missing.any():
            share = self._first.abs() @ missing.float() @ self._second.abs().mT
            found.masked_fill_(share > _MISSING, torch.nan)
        return found.permute(1, 2, 0).contiguous()


def slice_planes(
    scan: Observation, noise: NoiseEstimate, voxel_size: float, device: torch.device
) -> SlicePlanes | None:
    """The planes of a scan with voxels averaged to about a size in mm.

    None if its slices are less than about twice as thick as its voxels are wide, or its voxels
    much longer along one in-plane axis than along the other or than wanted.
    """
    division = voxel_division(scan, voxel_size)
    if division is None:
        return None
    first, second, ratio = division
    missing = scan.missing
    # What was not measured is not known to be dark; a mask's zeros are what the scan shows.
    data = np.where(np.isfinite(scan.data), scan.data, np.float32(np.nan))
    slices = np.moveaxis(data, scan.slice_axis, 0)
    factors = interleave_factors(scan.interleave, len(slices)).astype(np.float32)
    planes = _averaged(slices / (noise.contrast * factors[:, None, None]), first, second).to(device)
    known = np.moveaxis(~missing * scan.slice_factor, scan.slice_axis, 0)
    head = planes > noise.background_mean / noise.contrast + _HEAD
    profile, reach = _slice_profile(scan.profile, ratio)
    return SlicePlanes(
        noise.contrast,
        planes,
        torch.nn.functional.max_pool2d(head.float()[:, None], 5, 1, 2)[:, 0] > 0,
        _averaged(known, first, second).to(device),
        _thin_affine(scan, (first, second), ratio),
        scan.slice_axis,
        ratio,
        profile.to(device),
        reach,
        noise.noise_sd / (noise.contrast * math.sqrt(first * second)),
    )


def voxel_division(scan: Observation, voxel_size: float) -> tuple[int, int, int] | None:
    """How many voxels to average along each in-plane axis, and how many slices to make of one."""
    sizes = scan.grid.voxel_size
    sides = [float(sizes[other]) for other in range(3) if other != scan.slice_axis]
    first, second = (max(1, round(voxel_size / side)) for side in sides)
    sides = [sides[0] * first, sides[1] * second]
    ratio = round(slice_spacing(scan.affine, scan.slice_axis) / math.sqrt(sides[0] * sides[1]))
    if ratio < _LEAST_RATIO or max(sides) > _MOST_UNLIKE * min(sides):
        return None
    if max(sides) > _COARSEST * voxel_size:
        return None
    return first, second, ratio


def _averaged(slices: NDArray[np.floating], first: int, second: int) -> Tensor:
    """Means over blocks of so many voxels of each slice; what is over at the end is left out."""
    planes = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))
    return torch.nn.functional.avg_pool2d(planes[:, None], (first, second))[:, 0]


def _slice_profile(profile: SliceProfile, ratio: int) -> tuple[Tensor, int]:
    """How much of a slice each of the voxels around its place makes up, and its reach."""
    width = ratio * (1 - profile.gap) / profile.every
    reach = max(0, math.ceil((width - ratio) / 2))
    faces = np.arange(-reach, ratio + reach + 1) - ratio / 2
    overlap = np.minimum(faces[1:], width / 2) - np.maximum(faces[:-1], -width / 2)
    shares = np.clip(overlap, 0, None)
    return torch.from_numpy((shares / shares.sum()).astype(np.float32)), reach


def _thin_affine(scan: Observation, averaged: tuple[int, int], ratio: int) -> Affine:
    """Affine of the divided slices of averaged voxels; the box's first faces stay in place."""
    steps = np.empty(3)
    steps[scan.slice_axis] = 1 / ratio
    steps[[axis for axis in range(3) if axis != scan.slice_axis]] = averaged
    return np.asarray(scan.affine @ translation((steps - 1) / 2) @ scaling(steps))


def _flipped(patches: Tensor, views: Tensor, finer: Tensor) -> Pairs:
    """Half of them turned round, since heads have no direction along either axis of a plane."""
    half = len(patches) // 2
    patches[:half], finer[:half] = patches[:half].flip(1), finer[:half].flip(1)
    views[:half] = views[:half].flip(1)
    patches[::2], views[::2] = patches[::2].flip(2), views[::2].flip(2)
    return Pairs(patches, views, finer)


def _picked(planes: Tensor, rows: Tensor, columns: Tensor, across: Tensor) -> Tensor:
    """Rows ``(N, R)`` by columns ``(N, C)`` of planes ``(T, M, Q)``, repeated at the rim."""
    rows, columns = rows.clamp_(0, planes.shape[0] - 1), columns.clamp_(0, planes.shape[1] - 1)
    return planes[rows[:, :, None], columns[:, None, :], across[:, None, None]]
