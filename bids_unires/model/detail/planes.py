"""The planes of a scan, and pairs of thick and thin voxels from them.

Averaging the voxels of a plane along one of its axes, with the slice profile of the scan, simulates
slices as thick as those of the scan. Unlike in the scan, the thin voxels within them are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import Affine, scaling, slice_spacing, translation
from ..intensity.noise import NoiseEstimate, coloured
from ..scanner.interleave import interleave_factors
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from .network import Pairs
from .spline import PlaneSplines, weight_of

# Voxels on each side of the middle of a patch: across the slices, along them, and along them with a
# guide. Six along them gain 0.1 dB in Colin27 and 0.05 dB in a real T1w over four. With a guide,
# six lose 0.1 dB, and lesions become fainter.
_SLICES, _ALONG, _ALONG_GUIDED = 2, 6, 4
# Thin voxels of a guide on each side of the middle slice, and on each side along it.
_GUIDE_ACROSS, _GUIDE_ALONG = 2, 2
_LEAST_RATIO = 2
# Number of ways to flip a patch along its axes.
_FLIPS = 4
# With in-plane voxel sizes of a larger ratio, one axis says little about the other.
_MOST_ANISOTROPIC = 1.5
# Largest in-plane voxel size over that of the images. Detail of voxels twice as wide is a gain in
# simulated heads; of voxels three times as wide it costs more than it gains.
_COARSEST = 2.5
# Largest sum of absolute weights of missing voxels in an interpolated one; all add up to 1 to 3.3.
_MISSING = 0.02
# Voxels around the middle of oblique patches that are interpolated; the coefficients of the spline
# beyond add less than a thousandth.
_SURROUNDINGS = _ALONG + 10
# Share of the way from air to head above which a voxel, with its neighbours, belongs to the head.
_HEAD = 0.25


@dataclass(frozen=True, eq=False)
class SlicePlanes:
    """A scan, slices first, with in-plane voxels averaged to about the wanted size.

    Attributes
    ----------
    unit
        Contrast of the head in the units of the scan: the unit of all that follows.
    data
        ``(K, M, N)``, NaN where nothing was measured.
    head
        ``(K, M, N)`` bool, the head and its neighbours in the plane.
    known
        ``(K, M, N)`` float: 1 where it was measured, the weight of a slice of lower weight, or 0.
    thin_affine
        ``(4, 4)`` of the scan with every slice divided, voxel index to world mm of the scan. The
        axes are in the order of the scan.
    slice_axis
        Slice axis of the scan (0, 1 or 2).
    ratio
        Number of thin voxels in one slice spacing.
    slice_profile
        ``(ratio + 2 * reach,)``: weight of each thin voxel in a slice.
    reach
        Thin voxels of a slice beyond its own spacing, on each side.
    noise_sd
        Standard deviation of the noise of ``data``.
    kernel
        Standard deviations in voxels, along the last two axes of ``data``, of the Gaussian that
        colours the noise; 0 where it is white.
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
    kernel: tuple[float, float] = (0.0, 0.0)

    def as_slices(self, thin: Tensor) -> Tensor:
        """Thin slices ``(K * ratio, M, N)`` averaged to thick ones, ``(K, M, N)``."""
        lines = thin.permute(1, 2, 0)
        lines = torch.nn.functional.pad(lines, (self.reach, self.reach), mode="replicate")
        return self._averaged(lines, 2).permute(2, 0, 1)

    def pairs(
        self,
        axis: int,
        guide: Tensor | None,
        slices: Tensor,
        count: int,
        random: torch.Generator,
    ) -> Iterator[Pairs]:
        """Pairs of patches of thick voxels and the thin voxels within their middle.

        Parameters
        ----------
        axis
            1 or 2: which axis of ``data`` to average along.
        guide
            ``(K, M, N)``: another contrast at the same voxels, NaN where missing; None without.
        slices
            ``(K,)`` bool: the slices to take pairs from.
        count
            Approximate number of pairs; fewer if there is too little head.
        random
            Generator that selects the pairs.
        """
        order = (axis, 0, 3 - axis)
        head = self.head & slices[:, None, None]
        lines, head = self.data.permute(order), head.permute(order)
        guide = None if guide is None else guide.permute(order)
        for offset in range(self.ratio):
            part = None if guide is None else guide[offset:]
            pairs = self._pairs_from(
                lines[offset:], head[offset:], part, count // self.ratio, axis, random
            )
            if pairs is not None:
                yield pairs

    def _pairs_from(
        self,
        lines: Tensor,
        head: Tensor,
        guide: Tensor | None,
        count: int,
        axis: int,
        random: torch.Generator,
    ) -> Pairs | None:
        """Pairs from ``lines`` ``(L, K, Q)`` averaged along their first axis; None without any."""
        blocks = (len(lines) - 2 * self.reach) // self.ratio
        if blocks <= 2 * _SLICES:
            return None
        lines = lines[: blocks * self.ratio + 2 * self.reach]
        # An average of thin voxels has less noise than a slice: the difference is added. Like that
        # of a slice, it is coloured within slices alone.
        along, across = self.kernel[axis - 1], self.kernel[2 - axis]
        lacking = 1 - self._variance_of_average(along)
        thick = self._averaged(lines, 0)
        white = torch.randn(thick.shape, generator=random)
        noise = _coloured(white, across).to(thick.device)
        thick = (thick + self.noise_sd * math.sqrt(lacking) * noise).movedim(1, 2)
        candidates = self._divided(head, blocks).any(dim=3).nonzero()
        if len(candidates) == 0:
            return None
        count = min(count, _FLIPS * len(candidates))
        chosen = torch.randint(len(candidates), (count,), generator=random)
        picked = candidates[chosen.to(candidates.device)]
        patches = patches_at(thick, *picked.T, guided=guide is not None)
        finer = self._divided(lines, blocks)[*picked.T]
        views = patches.new_empty((len(patches), 0, 0))
        if guide is not None:
            block, along, across = picked.T
            first = block * self.ratio + self.reach
            views = self.views_at(guide.movedim(1, 2), first, along, across)
        complete = patches.isfinite().all(dim=2).all(dim=1) & finer.isfinite().all(dim=1)
        complete &= views.isfinite().all(dim=2).all(dim=1)
        return _flipped(patches[complete], views[complete], finer[complete])

    def _variance_of_average(self, kernel: float) -> float:
        """Variance of noise averaged to slices, over that of thin voxels; its kernel is known."""
        if not kernel:
            return float(self.slice_profile.square().sum())
        apart = torch.arange(len(self.slice_profile), device=self.slice_profile.device)
        squares = (apart[:, None] - apart).square()
        alike = torch.exp(-squares / (4 * kernel**2))
        return float(self.slice_profile @ alike @ self.slice_profile)

    def views_at(self, guide: Tensor, first: Tensor, along: Tensor, across: Tensor) -> Tensor:
        """Thin voxels of another contrast around thick voxels.

        Parameters
        ----------
        guide
            ``(T, M, Q)``, the other contrast, thin voxels along the first axis.
        first, along, across
            ``(N,)`` each: the first thin voxel of each thick one, and its indices in the plane.

        Returns
        -------
        Tensor
            ``(N, ratio + 4, 5)``.
        """
        device = guide.device
        rows = torch.arange(-_GUIDE_ACROSS, self.ratio + _GUIDE_ACROSS, device=device)
        columns = torch.arange(-_GUIDE_ALONG, _GUIDE_ALONG + 1, device=device)
        return _picked(guide, first[:, None] + rows, along[:, None] + columns, across)

    def _averaged(self, lines: Tensor, axis: int) -> Tensor:
        """Thin voxels averaged to slices along an axis of ``lines``."""
        window = self.ratio + 2 * self.reach
        return lines.unfold(axis, window, self.ratio) @ self.slice_profile

    def _divided(self, lines: Tensor, blocks: int) -> Tensor:
        """``(L, K, Q)`` as ``(blocks, Q, K, ratio)``."""
        lines = lines[self.reach : self.reach + blocks * self.ratio]
        return lines.reshape(blocks, self.ratio, *lines.shape[1:]).permute(0, 3, 2, 1)


def patches_at(
    thick: Tensor, blocks: Tensor, along: Tensor, across: Tensor, *, guided: bool
) -> Tensor:
    """Patches of thick voxels, ``(N, 5, 9)`` with a guide and ``(N, 5, 13)`` without.

    Parameters
    ----------
    thick
        ``(K, M, Q)``, slices first.
    blocks, along, across
        ``(N,)`` each: indices of the middle voxels along the three axes.
    guided
        Whether another contrast guides.
    """
    reach = _ALONG_GUIDED if guided else _ALONG
    rows = blocks[:, None] + torch.arange(-_SLICES, _SLICES + 1, device=thick.device)
    columns = along[:, None] + torch.arange(-reach, reach + 1, device=thick.device)
    return _picked(thick, rows, columns, across)


class ObliquePatches:
    """Patches of planes across the slices, at any angle to the axes of the slices.

    Parameters
    ----------
    planes
        ``(K, M, N)``, NaN where nothing was measured.
    where
        ``(K, M, N)`` bool: the voxels in the middle of the patches.
    """

    def __init__(self, planes: Tensor, where: Tensor) -> None:
        self._where = where
        if not where.any():
            return
        rows, columns = (_with_surroundings(where.any(dim=0).any(dim=axis)) for axis in (1, 0))
        near = planes[:, rows, columns]
        self._corner = (rows.start, columns.start)
        self._missing = ~near.isfinite()
        self._splines = PlaneSplines.through(near.masked_fill(self._missing, 0), _ALONG)

    def cut(
        self, degrees: float, among: Tensor | None = None
    ) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """Patches at an angle to the axes of the slices.

        Parameters
        ----------
        degrees
            Direction of the patches within a slice, from axis 1 towards axis 2, both in voxels.
        among
            ``(K, M, N)`` bool: the voxels of which those in the middle of patches are taken; None
            for all.

        Yields
        ------
        tuple
            For each slice with such voxels: its index, the indices ``(N,)`` of the voxels along
            axes 1 and 2, and the patches, as from `patches_at`.
        """
        where = self._where if among is None else self._where & among
        lines: dict[int, Tensor] = {}
        for k in where.flatten(1).any(dim=1).nonzero().flatten().tolist():
            around = range(k - _SLICES, k + _SLICES + 1)
            slices = [min(max(row, 0), len(where) - 1) for row in around]
            lines = {
                row: lines[row] if row in lines else self._lines(row, degrees) for row in slices
            }
            first, second = where[k].nonzero().T
            width = self._missing.shape[2]
            here = (first - self._corner[0]) * width + (second - self._corner[1])
            patches = torch.stack([lines[row].index_select(0, here) for row in slices], dim=1)
            yield k, first, second, patches

    def _lines(self, k: int, degrees: float) -> Tensor:
        """Lines through all voxels of slice k, ``(M * N, 13)``; NaN where not measured."""
        angle = math.radians(degrees)
        steps = range(-_ALONG, _ALONG + 1)
        offsets = [(n * math.cos(angle), n * math.sin(angle)) for n in steps]
        lines = torch.stack([self._splines.moved(k, offset) for offset in offsets])
        missing = self._missing[k]
        if missing.any():
            weight = torch.stack([weight_of(missing, offset) for offset in offsets])
            lines.masked_fill_(weight > _MISSING, torch.nan)
        return lines.flatten(1).T.contiguous()


def _with_surroundings(wanted: Tensor) -> slice:
    """The part of an axis with all wanted voxels, and those that lines through them depend on."""
    places = wanted.nonzero()
    return slice(max(int(places.min()) - _SURROUNDINGS, 0), int(places.max()) + _SURROUNDINGS + 1)


def slice_planes(
    scan: Observation, noise: NoiseEstimate, voxel_size: float, device: torch.device
) -> SlicePlanes | None:
    """The planes of a scan with in-plane voxels averaged to about a size.

    Parameters
    ----------
    scan
        The scan.
    noise
        Its noise and contrast.
    voxel_size
        Wanted voxel size in mm.
    device
        Device of the planes.

    Returns
    -------
    SlicePlanes or None
        None if the slice spacing is less than about twice the in-plane voxel size, or if voxels are
        much longer along one in-plane axis than along the other, or than wanted.
    """
    division = voxel_division(scan, voxel_size)
    if division is None:
        return None
    first, second, ratio = division
    missing = scan.missing
    # Voxels that were not measured stay NaN. The zeros of a mask are intensities of the scan.
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
        _within_slices(noise.kernel, scan.slice_axis, (first, second)),
    )


def _within_slices(
    kernel: tuple[float, float, float], slice_axis: int, averaged: tuple[int, int]
) -> tuple[float, float]:
    """Kernel of the noise within slices, in averaged voxels."""
    first, second = (width for axis, width in enumerate(kernel) if axis != slice_axis)
    return first / averaged[0], second / averaged[1]


def _coloured(white: Tensor, kernel: float) -> Tensor:
    """White noise ``(K, L, Q)`` filtered along its last axis, with the same variance."""
    if not kernel:
        return white
    return torch.from_numpy(coloured(white.numpy(), (0.0, 0.0, kernel)))


def voxel_division(scan: Observation, voxel_size: float) -> tuple[int, int, int] | None:
    """Numbers of voxels to average along both in-plane axes, and of thin slices in one slice.

    Parameters
    ----------
    scan, voxel_size
        As for `slice_planes`, which returns None where this does.
    """
    sizes = scan.grid.voxel_size
    sides = [float(sizes[other]) for other in range(3) if other != scan.slice_axis]
    first, second = (max(1, round(voxel_size / side)) for side in sides)
    sides = [sides[0] * first, sides[1] * second]
    ratio = round(slice_spacing(scan.affine, scan.slice_axis) / math.sqrt(sides[0] * sides[1]))
    if ratio < _LEAST_RATIO or max(sides) > _MOST_ANISOTROPIC * min(sides):
        return None
    if max(sides) > _COARSEST * voxel_size:
        return None
    return first, second, ratio


def _averaged(slices: NDArray[np.floating], first: int, second: int) -> Tensor:
    """Means over blocks of voxels of each slice ``(K, U, V)``; an incomplete block is left out."""
    planes = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))
    return torch.nn.functional.avg_pool2d(planes[:, None], (first, second))[:, 0]


def _slice_profile(profile: SliceProfile, ratio: int) -> tuple[Tensor, int]:
    """Weights of thin voxels in a slice, ``(ratio + 2 * reach,)``, and the reach."""
    width = ratio * (1 - profile.gap) / profile.every
    reach = max(0, math.ceil((width - ratio) / 2))
    faces = np.arange(-reach, ratio + reach + 1) - ratio / 2
    overlap = np.minimum(faces[1:], width / 2) - np.maximum(faces[:-1], -width / 2)
    shares = np.clip(overlap, 0, None)
    return torch.from_numpy((shares / shares.sum()).astype(np.float32)), reach


def _thin_affine(scan: Observation, averaged: tuple[int, int], ratio: int) -> Affine:
    """Affine ``(4, 4)`` of divided slices of averaged voxels; the first faces stay in place."""
    steps = np.empty(3)
    steps[scan.slice_axis] = 1 / ratio
    steps[[axis for axis in range(3) if axis != scan.slice_axis]] = averaged
    return np.asarray(scan.affine @ translation((steps - 1) / 2) @ scaling(steps))


def _flipped(patches: Tensor, views: Tensor, finer: Tensor) -> Pairs:
    """Half of the pairs flipped along each axis, since heads have no preferred direction there."""
    half = len(patches) // 2
    patches[:half], finer[:half] = patches[:half].flip(1), finer[:half].flip(1)
    views[:half] = views[:half].flip(1)
    patches[::2], views[::2] = patches[::2].flip(2), views[::2].flip(2)
    return Pairs(patches, views, finer)


def _picked(planes: Tensor, rows: Tensor, columns: Tensor, across: Tensor) -> Tensor:
    """Rows ``(N, R)`` and columns ``(N, C)`` of planes ``(T, M, Q)``; borders are repeated."""
    rows, columns = rows.clamp_(0, planes.shape[0] - 1), columns.clamp_(0, planes.shape[1] - 1)
    return planes[rows[:, :, None], columns[:, None, :], across[:, None, None]]
