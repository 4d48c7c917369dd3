"""A quick look at the slices of one scan: damaged ones, and motion between them.

Nothing is aligned or fitted. Slices are compared with their neighbours only, so that this takes
about a second for a scan; ``--robust`` and ``--slice-motion`` look more closely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...model.intensity.noise import NoiseEstimate
from ...model.robust.stripes import find_stripes
from ...model.scanner.interleave import estimate_interleave

Slices = NDArray[np.float32]

# A slice is compared with its neighbours where they show so many voxels of the head, and at least
# this share of what the largest slice shows: near its ends a head changes from slice to slice.
_FEWEST_VOXELS = 100
_LEAST_SHARE = 1 / 3
_FEWEST_SLICES = 6
# Brightness is compared where the neighbours differ by less than this, as a logarithm.
_ALIKE = 0.15
# A slice is damaged if the logarithm of its brightness over that of its neighbours is this far
# from that of the slices around, in their spread and at least.
_MOST_SPREADS = 8.0
_LEAST_LOG_RATIO = 0.15
# Number of slices on each side that say what is usual.
_AROUND = 4
_MOST_ILL_CONDITIONED = 1e6
# Slices two apart differ by anatomy if their mean square difference exceeds that of noise by this
# share of it.
_LEAST_ANATOMY = 0.5
# Limits between scans whose slices lie where they should and those whose even slices lie 2 mm from
# the odd ones: 16 real scans have roughness up to 0.76 and shifts up to 0.17 mm, and each of them
# exceeds one of the limits once its even slices are moved.
# Logarithm of the factor of even slices. Of 15 clean stacks, halves have at most 0.005; in one of a
# clinical session, even slices are 4 % brighter (0.02), which shows as stripes across the slices.
_UNEVEN = 0.01
MOST_ROUGHNESS = 0.8
MOST_SHIFT_MM = 0.3


@dataclass(frozen=True)
class SliceLook:
    """What a look at the slices of one scan shows.

    Parameters
    ----------
    damaged
        Numbers of the slices, from 0, whose brightness jumps or that have stripes.
    interleave
        As from `unevenness`.
    roughness
        Root mean square difference of neighbouring slices over that of slices two apart, in the
        head and without what noise contributes. Anatomy changes more over two slices than over
        one, so that it is below 1. None if too few slices differ by more than noise.
    shift
        Usual shift of slices within their plane against the mean of their neighbours, in mm,
        apart from what the slices around show. Less than the true motion, since the mean of
        neighbours that moved alike is blurred. None if there are too few slices.
    """

    damaged: tuple[int, ...]
    interleave: float
    roughness: float | None
    shift: float | None

    @property
    def seems_moved(self) -> bool:
        """Whether slices seem to lie elsewhere than their neighbours."""
        rough = self.roughness is not None and self.roughness > MOST_ROUGHNESS
        return rough or (self.shift is not None and self.shift > MOST_SHIFT_MM)


def look_at_slices(slices: Slices, noise: NoiseEstimate, sizes: tuple[float, float]) -> SliceLook:
    """Look for damaged slices and motion between slices.

    Parameters
    ----------
    slices
        Intensities ``(K, U, V)``, one slice after the other; NaN where missing.
    noise
        Noise of the scan, and mean intensities of air and head.
    sizes
        Voxel size in mm along both axes of the slices.
    """
    halfway = noise.halfway
    filled = _filled(slices)
    interleave = estimate_interleave(filled, 0, halfway)
    even = _without_rim(_evened(filled, interleave), halfway)
    rough = _roughness(even, halfway, noise.noise_sd)
    shift = _shift(even, halfway, sizes)
    return SliceLook(find_damaged(slices, noise), unevenness(slices, noise), rough, shift)


def unevenness(slices: Slices, noise: NoiseEstimate) -> float:
    """Logarithm of the factor between even slices and the mean of even and odd ones.

    It is 0 unless both halves of the stack show it, since a single damaged slice looks alike.

    Parameters
    ----------
    slices, noise
        As for `look_at_slices`.
    """
    filled = _filled(slices)
    # The second half starts with an even slice, too.
    middle = len(filled) // 4 * 2
    halves = [
        estimate_interleave(half, 0, noise.halfway) for half in (filled[:middle], filled[middle:])
    ]
    agree = halves[0] * halves[1] > 0
    return float(np.mean(halves)) if agree and min(map(abs, halves)) > _UNEVEN else 0.0


def find_damaged(slices: Slices, noise: NoiseEstimate) -> tuple[int, ...]:
    """Numbers of the damaged slices, from 0; see `look_at_slices`."""
    halfway = noise.halfway
    filled = _filled(slices)
    even = _without_rim(_evened(filled, estimate_interleave(filled, 0, halfway)), halfway)
    damaged = {*_of_another_brightness(even, halfway), *find_stripes(filled, halfway)}
    return tuple(sorted(damaged))


def _filled(slices: Slices) -> Slices:
    """The slices with 0 where they are missing."""
    return np.asarray(np.maximum(np.nan_to_num(slices, posinf=0.0, neginf=0.0), 0))


def _evened(slices: Slices, interleave: float) -> Slices:
    """The slices without the factor between even and odd ones."""
    sign = np.where(np.arange(len(slices)) % 2 == 0, 1.0, -1.0)
    return np.asarray(slices * np.exp(-interleave * sign).astype(np.float32)[:, None, None])


def _without_rim(slices: Slices, halfway: float) -> Slices:
    """The slices without rows and columns that show no head, which would take time."""
    head = np.any(slices > halfway, axis=0)
    rows, columns = np.flatnonzero(np.any(head, axis=1)), np.flatnonzero(np.any(head, axis=0))
    if not len(rows):
        return slices
    return slices[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _of_another_brightness(slices: Slices, halfway: float) -> list[int]:
    """Slices whose brightness is not between that of their neighbours."""
    excess = np.full(len(slices), np.nan)
    fewest = _fewest_voxels(slices, halfway)
    for k in range(1, len(slices) - 1):
        before, here, after = slices[k - 1 : k + 2]
        head = (before > halfway) & (after > halfway) & (here > 0)
        if np.count_nonzero(head) < fewest:
            continue
        alike = np.abs(np.log(before[head] / after[head])) < _ALIKE
        if np.count_nonzero(alike) >= _FEWEST_VOXELS:
            ratio = here[head] ** 2 / (before[head] * after[head])
            excess[k] = float(np.log(np.median(ratio[alike]))) / 2
    known = np.flatnonzero(np.isfinite(excess))
    if len(known) < _FEWEST_SLICES:
        return []
    deviation = _from_those_around(excess)
    limit = max(_MOST_SPREADS * _spread(deviation[known]), _LEAST_LOG_RATIO)
    size = np.abs(deviation)
    # The neighbours of a damaged slice deviate half as far, the other way.
    largest = [size[k] >= np.nanmax(size[k - 1 : k + 2]) for k in known]
    return [int(k) for k, most in zip(known, largest, strict=True) if most and size[k] > limit]


def _fewest_voxels(slices: Slices, halfway: float) -> float:
    largest = max(np.count_nonzero(image > halfway) for image in slices)
    return max(_LEAST_SHARE * largest, _FEWEST_VOXELS)


def _roughness(slices: Slices, halfway: float, noise_sd: float) -> float | None:
    """Difference of neighbours over that of slices two apart; see `SliceLook`."""
    ratios = []
    fewest = _fewest_voxels(slices, halfway)
    noise = 2 * noise_sd**2
    for k in range(1, len(slices) - 2):
        before, here, after, last = slices[k - 1 : k + 3]
        head = (before > halfway) & (here > halfway) & (after > halfway) & (last > halfway)
        if np.count_nonzero(head) < fewest:
            continue
        one = float(np.mean((here - after)[head] ** 2)) - noise
        two = float(np.mean((before - after)[head] ** 2 + (here - last)[head] ** 2)) / 2 - noise
        # Where slices differ by noise alone, they do not show whether they moved.
        if two > _LEAST_ANATOMY * noise:
            ratios.append(np.sqrt(max(one, 0) / two))
    return float(np.median(ratios)) if len(ratios) >= _FEWEST_SLICES else None


def _shift(slices: Slices, halfway: float, sizes: tuple[float, float]) -> float | None:
    """Usual shift of slices against the mean of their neighbours, in mm."""
    shifts = np.full((len(slices), 2), np.nan)
    fewest = _fewest_voxels(slices, halfway)
    for k in range(1, len(slices) - 1):
        before, here, after = slices[k - 1 : k + 2]
        head = (before > halfway) & (here > halfway) & (after > halfway)
        if np.count_nonzero(head) < fewest:
            continue
        mean = (before + after) / np.float32(2)
        slopes = [
            np.asarray(np.gradient(mean, size, axis=axis), dtype=np.float64)[head]
            for axis, size in enumerate(sizes)
        ]
        normal = np.array([[np.sum(a * b) for b in slopes] for a in slopes])
        if np.linalg.cond(normal) < _MOST_ILL_CONDITIONED:
            pull = [float(np.sum(slope * (mean - here)[head])) for slope in slopes]
            shifts[k] = np.linalg.solve(normal, pull)
    known = np.isfinite(shifts[:, 0])
    if np.count_nonzero(known) < _FEWEST_SLICES:
        return None
    spreads = [_spread(_from_those_around(shifts[:, axis])[known]) for axis in range(2)]
    return float(np.hypot(spreads[0], spreads[1]))


def _from_those_around(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Deviation of each value from the median of those around; NaN stays NaN."""
    deviation = np.full(len(values), np.nan)
    for k in np.flatnonzero(np.isfinite(values)):
        around = values[max(k - _AROUND, 0) : k + _AROUND + 1]
        deviation[k] = values[k] - np.nanmedian(around)
    return deviation


def _spread(values: NDArray[np.float64]) -> float:
    """Standard deviation about 0 of most values."""
    return 1.4826 * float(np.median(np.abs(values)))
