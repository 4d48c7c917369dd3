"""Stripes over a slice, which a spike in its k-space leaves behind: found and taken off.

A spike is one frequency that is far stronger than those around it in the same slice, and than the
same frequency in the slices around. Anatomy is neither: on clean scans, simulated and real, no
frequency exceeds both by a factor of 10, and stripes as strong as 0.3 of the head's mean do so
by 50 and more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Slice = NDArray[np.float32]
Slices = NDArray[np.float32]

# By what factor in power a spike exceeds its surroundings; and if it does not come off, and spoils
# its slice.
_LEAST_POWER, _CERTAIN_POWER = 20.0, 50.0
# Of so few voxels along a side, what surrounds a frequency is half of all there are.
_FEWEST_ALONG = 48
# Cycles per voxel below which anatomy is as strong as any spike.
_LOWEST_FREQUENCY = 0.03
# Voxels of k-space that a spike fills, and within which it is compared with others.
_SPIKE, _AROUND = 3, 9
_NEIGHBOURS = 4
_MOST_SPIKES = 4
# Share of a side that is faded out at either end, so that what the border cuts is no frequency.
_TAPERED = 0.1
_FEWEST_VOXELS = 50
_ZOOMS, _ZOOM_POINTS = 4, 9
# Cycles per voxel that only rounding tells from 0.
_SAME_FREQUENCY = 1e-9


@dataclass(frozen=True)
class Stripes:
    """A wave that was added to a slice, ``cosine * cos(phase) + sine * sin(phase)``.

    Attributes
    ----------
    frequency
        Cycles per voxel along both axes of the slice; the phase is 0 at voxel (0, 0). Of the two
        that name the same wave, ``f`` and ``-f``, the one of the `upper_half_plane`.
    cosine, sine
        Amplitudes, in intensity.
    """

    frequency: tuple[float, float]
    cosine: float
    sine: float

    def wave(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Intensities over a slice ``(U, V)``."""
        u, v = np.arange(shape[0]), np.arange(shape[1])
        phase = 2 * np.pi * (self.frequency[0] * u[:, None] + self.frequency[1] * v)
        return np.asarray(self.cosine * np.cos(phase) + self.sine * np.sin(phase))


@dataclass(frozen=True)
class StripedSlice:
    """What was found on one slice.

    Attributes
    ----------
    stripes
        All that can be taken off.
    settled
        Whether nothing that looks like stripes is left without them.
    """

    stripes: tuple[Stripes, ...]
    settled: bool


def find_stripes(slices: Slices, threshold: float) -> dict[int, StripedSlice]:
    """Stripes on the slices of a scan, by index.

    Parameters
    ----------
    slices
        ``(K, U, V)``, magnitudes; NaN where missing.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    found: dict[int, StripedSlice] = {}
    if min(slices.shape[1:]) < _FEWEST_ALONG or len(slices) <= _NEIGHBOURS:
        return found
    slices = np.nan_to_num(slices, posinf=0, neginf=0)
    powers = _powers(slices)
    for k in range(len(slices)):
        near = np.median(powers[_around(k, len(slices))], axis=0)
        peak = _peak(slices[k], near)
        if peak is not None:
            striped = _striped(slices, k, near, threshold)
            if striped.settled or peak.excess > _CERTAIN_POWER:
                found[k] = striped
    return found


def remove_stripes(slices: Slices, k: int, stripes: Sequence[Stripes]) -> Slice:
    """A slice without stripes.

    Where a wave took an intensity below 0, its magnitude was measured. Of the two intensities that
    this may have come from, the one nearer to that of the slices around is taken.

    Parameters
    ----------
    slices
        ``(K, U, V)``, magnitudes.
    k
        Which slice.
    stripes
        What was added to it.
    """
    measured = np.asarray(slices[k], dtype=np.float64)
    wave = np.sum([own.wave(slices.shape[1:]) for own in stripes], axis=0)
    above, below = measured - wave, -measured - wave
    reference = _reference(slices, k)
    folded = (below >= 0) & (np.abs(below - reference) < np.abs(above - reference))
    # What was not measured, or masked, stays so.
    image = np.where(measured == 0, 0, np.abs(np.where(folded, below, above)))
    return image.astype(np.float32)


def _striped(slices: Slices, k: int, near: Slice, threshold: float) -> StripedSlice:
    """The stripes of a slice, one frequency after the other."""
    stripes: list[Stripes] = []
    peak = _peak(slices[k], near)
    image = slices[k]
    while peak is not None and len(stripes) < _MOST_SPIKES:
        wave = _fitted(image, _reference(slices, k), peak.place, threshold)
        if wave is None:
            break
        stripes.append(wave)
        image = remove_stripes(slices, k, stripes)
        peak = _peak(image, near)
    return StripedSlice(tuple(stripes), peak is None)


class _Peak(NamedTuple):
    """Of a spectrum: where, and by what factor in power it exceeds what is around it."""

    place: tuple[int, int]
    excess: float


def _peak(image: Slice, near: Slice) -> _Peak | None:
    """The strongest frequency if it is a spike, given the power of the slices around."""
    spectrum = _spectra(image[None])
    power = _pooled(spectrum, _SPIKE)[0]
    sizes = _AROUND**2, _SPIKE**2
    ring = (_pooled(spectrum, _AROUND)[0] * sizes[0] - power * sizes[1]) / (sizes[0] - sizes[1])
    u, v = (np.fft.fftfreq(side) for side in image.shape)
    usual = np.maximum(np.maximum(near, ring), np.finfo(np.float32).tiny)
    compared = (np.hypot(u[:, None], v) >= _LOWEST_FREQUENCY) & _upper_half(image.shape)
    ratio = np.where(compared, power / usual, 0)
    if ratio.max() < _LEAST_POWER:
        return None
    first, second = np.unravel_index(
        np.argmax(np.where(ratio > _LEAST_POWER, power, 0)), ratio.shape
    )
    return _Peak((int(first), int(second)), float(ratio.max()))


def _fitted(
    image: Slice, reference: Slice, peak: tuple[int, int], threshold: float
) -> Stripes | None:
    """Waves near a frequency that fit best what the slices around do not explain of the head."""
    head = (reference > threshold) & (image > 0)
    if np.count_nonzero(head) < _FEWEST_VOXELS:
        return None
    residual = np.where(head, image - reference, 0).astype(np.float64)
    residual -= head * (residual.sum() / head.sum())
    steps = 1 / np.array(image.shape)
    sides = zip(peak, image.shape, strict=True)
    centre = np.array([np.fft.fftfreq(side)[index] for index, side in sides])
    for _ in range(_ZOOMS):
        grids = [
            middle + step * np.linspace(-1, 1, _ZOOM_POINTS)
            for middle, step in zip(centre, steps, strict=True)
        ]
        u, v = (
            np.exp(-2j * np.pi * grid[:, None] * np.arange(side))
            for grid, side in zip(grids, image.shape, strict=True)
        )
        strength = np.abs(u @ residual @ v.T)
        best = np.unravel_index(np.argmax(strength), strength.shape)
        centre = np.array([grid[index] for grid, index in zip(grids, best, strict=True)])
        steps = steps * 2 / (_ZOOM_POINTS - 1)
    frequency = upper_half_plane(centre)
    waves = [Stripes(frequency, *pair).wave(image.shape)[head] for pair in ((1, 0), (0, 1))]
    design = np.stack([*waves, np.ones(len(waves[0]))], axis=1)
    (cosine, sine, _), *_ = np.linalg.lstsq(design, residual[head], rcond=None)
    return Stripes(frequency, float(cosine), float(sine))


def upper_half_plane(frequency: ArrayLike) -> tuple[float, float]:
    """The name of a wave: of ``f`` and ``-f`` the one that is positive along the first axis.

    A real image is as strong at both, so that rounding would decide which of them is found.
    Where that axis cannot tell them apart, at 0 and at half a cycle, the second decides.

    Parameters
    ----------
    frequency
        Cycles per voxel along both axes, ``(2,)``.

    Examples
    --------
    >>> upper_half_plane((-0.25, 0.125)), upper_half_plane((-0.5, -0.125))
    ((0.25, -0.125), (0.5, 0.125))
    """
    # Sampled once a voxel, whole cycles cannot be told from none.
    u, v = (float(part - np.rint(part)) for part in np.asarray(frequency, dtype=np.float64))
    names_itself = min(abs(u), 0.5 - abs(u)) < _SAME_FREQUENCY
    if names_itself:
        return (abs(u), abs(v))
    v_upper = v if u > 0 else -v
    return (abs(u), abs(v) if 0.5 - abs(v) < _SAME_FREQUENCY else v_upper)


def _upper_half(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which entries of a spectrum name a wave, ``(U, V)``: one of every pair ``f`` and ``-f``."""
    (first, count), (second, others) = ((np.arange(side), side) for side in shape)
    names_itself = (2 * first % count == 0)[:, None]
    return np.where(names_itself, 2 * second <= others, (2 * first < count)[:, None])


def _reference(slices: Slices, k: int) -> Slice:
    """Mean of the nearest slices on either side."""
    beside = [j for j in (k - 1, k + 1) if 0 <= j < len(slices)]
    return np.asarray(slices[beside].mean(axis=0))


def _around(k: int, count: int) -> list[int]:
    return [j for j in range(max(0, k - _NEIGHBOURS), min(count, k + _NEIGHBOURS + 1)) if j != k]


def _powers(slices: Slices) -> Slices:
    """Power of each slice's frequencies, ``(K, U, V)``, averaged over as many as a spike fills."""
    return _pooled(_spectra(slices), _SPIKE)


def _spectra(slices: Slices) -> Slices:
    first, second = (_taper(side) for side in slices.shape[1:])
    faded = torch.from_numpy(slices * first[:, None] * second)
    return np.asarray(torch.fft.fft2(faded).abs().square().numpy())


def _taper(side: int) -> Slice:
    faded = max(1, int(_TAPERED * side))
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(faded) + 0.5) / faded)
    taper = np.ones(side, dtype=np.float32)
    taper[:faded] = rise
    taper[-faded:] = rise[::-1]
    return taper


def _pooled(powers: Slices, side: int) -> Slices:
    """Means over squares of frequencies, those at one end next to those at the other."""
    reach = side // 2
    padded = torch.nn.functional.pad(
        torch.from_numpy(powers)[:, None], (reach,) * 4, mode="circular"
    )
    return np.asarray(torch.nn.functional.avg_pool2d(padded, side, 1)[:, 0].numpy())
