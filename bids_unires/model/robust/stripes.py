"""Stripes of a slice, due to a spike in its k-space: found and removed.

A spike is one frequency whose power is far above that of the frequencies around it in the same
slice, and of the same frequency in the slices around. Anatomy has no such frequency: in clean
scans, simulated and real, none exceeds both by a factor of 10. Stripes with an amplitude of 0.3 of
the mean of the head exceed them by 50 and more.
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

# Factor in power by which a spike exceeds its surroundings, and by which it does so if it counts
# even though it cannot be removed.
_LEAST_POWER, _CERTAIN_POWER = 20.0, 50.0
# With fewer voxels along a side, the surroundings of a frequency are half of the spectrum.
_FEWEST_ALONG = 48
# Cycles per voxel below which anatomy is as strong as spikes.
_LOWEST_FREQUENCY = 0.03
# Side, in voxels of k-space, of a spike, and of the surroundings that it is compared with.
_SPIKE, _AROUND = 3, 9
_NEIGHBOURS = 4
_MOST_SPIKES = 4
# Share of a side that is tapered at each end, since borders would add power at many frequencies.
_TAPERED = 0.1
_FEWEST_VOXELS = 50
_ZOOMS, _ZOOM_POINTS = 4, 9
# Cycles per voxel that differ from 0 by rounding only.
_SAME_FREQUENCY = 1e-9


@dataclass(frozen=True)
class Stripes:
    """A wave that was added to a slice, ``cosine * cos(phase) + sine * sin(phase)``.

    Attributes
    ----------
    frequency
        Cycles per voxel along both axes of the slice; the phase is 0 at voxel (0, 0). The
        frequencies ``f`` and ``-f`` are the same wave; this is the one in the `upper_half_plane`.
    cosine, sine
        Amplitudes, in intensity.
    """

    frequency: tuple[float, float]
    cosine: float
    sine: float

    def wave(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Intensities of the wave over a slice ``(U, V)``."""
        u, v = np.arange(shape[0]), np.arange(shape[1])
        phase = 2 * np.pi * (self.frequency[0] * u[:, None] + self.frequency[1] * v)
        return np.asarray(self.cosine * np.cos(phase) + self.sine * np.sin(phase))


@dataclass(frozen=True)
class StripedSlice:
    """Stripes that were found in one slice.

    Attributes
    ----------
    stripes
        Those that can be removed.
    removable
        Whether no stripes are left once they are removed.
    """

    stripes: tuple[Stripes, ...]
    removable: bool


def find_stripes(slices: Slices, threshold: float) -> dict[int, StripedSlice]:
    """Find stripes in the slices of a scan.

    Parameters
    ----------
    slices
        ``(K, U, V)``, magnitudes; NaN where missing.
    threshold
        Intensity above which a voxel belongs to the head.

    Returns
    -------
    dict
        Index of a slice to its stripes.
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
            if striped.removable or peak.excess > _CERTAIN_POWER:
                found[k] = striped
    return found


def remove_stripes(slices: Slices, k: int, stripes: Sequence[Stripes]) -> Slice:
    """Remove stripes from a slice.

    Where a wave lowered an intensity below 0, its magnitude was measured. Of the two possible
    intensities, the one nearer to that of the slices around is taken.

    Parameters
    ----------
    slices
        ``(K, U, V)``, magnitudes.
    k
        Index of the slice.
    stripes
        Stripes that were added to it.

    Returns
    -------
    ndarray
        ``(U, V)``, magnitudes.
    """
    measured = np.asarray(slices[k], dtype=np.float64)
    wave = np.sum([stripe.wave(slices.shape[1:]) for stripe in stripes], axis=0)
    above, below = measured - wave, -measured - wave
    reference = _reference(slices, k)
    folded = (below >= 0) & (np.abs(below - reference) < np.abs(above - reference))
    # Voxels that were masked or not measured stay 0.
    image = np.where(measured == 0, 0, np.abs(np.where(folded, below, above)))
    return image.astype(np.float32)


def _striped(slices: Slices, k: int, near: Slice, threshold: float) -> StripedSlice:
    """Fit the stripes of slice k, one frequency after the other, strongest first."""
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
    """A spike: its indices in the spectrum, and the factor in power over its surroundings."""

    place: tuple[int, int]
    excess: float


def _peak(image: Slice, near: Slice) -> _Peak | None:
    """The strongest frequency, if it is a spike; ``near`` is the power in the slices around."""
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
    """The wave near a frequency that fits best the difference from the slices around."""
    head = (reference > threshold) & (image > 0)
    if np.count_nonzero(head) < _FEWEST_VOXELS:
        return None
    residual = np.where(head, image - reference, 0).astype(np.float64)
    residual -= head * (residual.sum() / head.sum())
    steps = 1 / np.array(image.shape)
    centre = np.array([np.fft.fftfreq(side)[peak[axis]] for axis, side in enumerate(image.shape)])
    for _ in range(_ZOOMS):
        grids = centre[:, None] + steps[:, None] * np.linspace(-1, 1, _ZOOM_POINTS)
        u, v = (
            np.exp(-2j * np.pi * grids[axis][:, None] * np.arange(side))
            for axis, side in enumerate(image.shape)
        )
        strength = np.abs(u @ residual @ v.T)
        best = np.unravel_index(np.argmax(strength), strength.shape)
        centre = grids[[0, 1], best]
        steps = steps * 2 / (_ZOOM_POINTS - 1)
    frequency = upper_half_plane(centre)
    waves = [Stripes(frequency, *pair).wave(image.shape)[head] for pair in ((1, 0), (0, 1))]
    design = np.stack([*waves, np.ones(len(waves[0]))], axis=1)
    (cosine, sine, _), *_ = np.linalg.lstsq(design, residual[head], rcond=None)
    return Stripes(frequency, float(cosine), float(sine))


def upper_half_plane(frequency: ArrayLike) -> tuple[float, float]:
    """Of the frequencies ``f`` and ``-f`` of a wave, the one that is positive along the first axis.

    A real image has the same power at both, so that rounding would otherwise decide which of them
    is found. At 0 and at half a cycle along the first axis, the second axis decides.

    Parameters
    ----------
    frequency
        Cycles per voxel along both axes, ``(2,)``.

    Examples
    --------
    >>> upper_half_plane((-0.25, 0.125)), upper_half_plane((-0.5, -0.125))
    ((0.25, -0.125), (0.5, 0.125))
    """
    # In samples one voxel apart, whole cycles are the same as none.
    u, v = (float(part - np.rint(part)) for part in np.asarray(frequency, dtype=np.float64))
    is_its_own_negative = min(abs(u), 0.5 - abs(u)) < _SAME_FREQUENCY
    if is_its_own_negative:
        return (abs(u), abs(v))
    v_upper = v if u > 0 else -v
    return (abs(u), abs(v) if 0.5 - abs(v) < _SAME_FREQUENCY else v_upper)


def _upper_half(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Entries of a spectrum, bool ``(U, V)``: one of every pair ``f`` and ``-f``."""
    (first, count), (second, others) = ((np.arange(side), side) for side in shape)
    is_its_own_negative = (2 * first % count == 0)[:, None]
    return np.where(is_its_own_negative, 2 * second <= others, (2 * first < count)[:, None])


def _reference(slices: Slices, k: int) -> Slice:
    """Mean of the nearest slices on either side."""
    adjacent = [j for j in (k - 1, k + 1) if 0 <= j < len(slices)]
    return np.asarray(slices[adjacent].mean(axis=0))


def _around(k: int, count: int) -> list[int]:
    return [j for j in range(max(0, k - _NEIGHBOURS), min(count, k + _NEIGHBOURS + 1)) if j != k]


def _powers(slices: Slices) -> Slices:
    """Power spectrum of each slice, ``(K, U, V)``, averaged over the side of a spike."""
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
    """Means over squares of frequencies, ``(K, U, V)``; spectra are periodic."""
    reach = side // 2
    padded = torch.nn.functional.pad(
        torch.from_numpy(powers)[:, None], (reach,) * 4, mode="circular"
    )
    return np.asarray(torch.nn.functional.avg_pool2d(padded, side, 1)[:, 0].numpy())
