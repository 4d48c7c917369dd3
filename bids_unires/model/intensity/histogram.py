"""Histograms of intensities, and the threshold between dark and bright."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LARGEST_SAMPLE = 2_000_000
_LEVEL_SAMPLE = 100_000
_BINS = 512
# A few bright voxels (vessels, spikes) must not determine the width of the bins.
_KEPT_FRACTION = 0.999


@dataclass(frozen=True, eq=False)
class Histogram:
    """Numbers of voxels by intensity.

    Parameters
    ----------
    centres
        Mean of the values in each bin, ``(B,)``, ascending. Integer grey levels stay exact.
    counts
        Values in each bin, ``(B,)``, all above 0.
    """

    centres: Floats
    counts: Floats

    def with_level(self, centre: float, count: float) -> Histogram:
        """The same histogram with one more grey level below all others."""
        return Histogram(np.r_[centre, self.centres], np.r_[float(count), self.counts])

    @property
    def otsu_threshold(self) -> float:
        """Intensity that best splits the histogram in two (Otsu 1979)."""
        below = self.counts.cumsum()
        above = below[-1] - below
        moment = (self.counts * self.centres).cumsum()
        gap = moment[-1] * below / below[-1] - moment
        between = gap**2 / np.maximum(below * above, 1e-12)
        return float(self.centres[int(between[:-1].argmax())])

    def means_around(self, threshold: float) -> tuple[float, float]:
        """Mean intensity up to a threshold and above it; 0 for a side without values."""
        bright = self.centres > threshold
        dark_mean, bright_mean = (
            float((self.counts * self.centres)[side].sum() / max(self.counts[side].sum(), 1))
            for side in (~bright, bright)
        )
        return dark_mean, bright_mean


def sample_voxels(data: NDArray[np.float32]) -> NDArray[np.float32]:
    """Finite values of evenly spaced voxels, about two million at most, ``(N,)``.

    The step between them is odd: sides of images are often even, and a common divisor would sample
    the same columns in every row.
    """
    step = max(1, data.size // _LARGEST_SAMPLE)
    values = np.ravel(data, order="K")[:: step + 1 - step % 2]
    return np.asarray(values[np.isfinite(values)])


def square_root_histogram(values: NDArray[np.float32]) -> Histogram:
    """Histogram of positive values, with narrower bins at small values.

    Air may be a thousand times darker than tissue: with bins of equal width, all of it would fall
    into one bin. The brightest thousandth of the values is left out.

    Parameters
    ----------
    values
        ``(N,)``, all above 0.
    """
    last = int(_KEPT_FRACTION * (values.size - 1))
    limit = np.partition(values, last)[last]
    kept = values[values <= limit]
    bins = np.minimum((np.sqrt(kept / limit) * _BINS).astype(np.int64), _BINS - 1)
    return _binned(kept, bins)


def uniform_histogram(values: NDArray[np.float32], bins: int) -> Histogram:
    """Histogram with bins of equal width, each an integer number of grey levels wide.

    Parameters
    ----------
    values
        ``(N,)``, not all the same.
    bins
        Number of bins, at most.
    """
    step = grey_level_step(values)
    lowest = float(values.min())
    wanted = (float(values.max()) - lowest) / bins
    # The small addend keeps rounding errors from moving a grey level into the bin below.
    width = step * math.ceil(wanted / step)
    return _binned(values, np.floor((values - lowest) / width + 1e-3).astype(np.int64))


def grey_level_step(values: NDArray[np.float32]) -> float:
    """Smallest distance between two values that occur; 0 if they are all the same.

    Parameters
    ----------
    values
        ``(N,)``; a sample of them is used.
    """
    levels = np.unique(values[:: max(1, values.size // _LEVEL_SAMPLE)])
    if levels.size < 2:
        levels = np.unique(values)
    return float(np.diff(levels).min(initial=np.inf)) if levels.size > 1 else 0.0


def _binned(values: NDArray[np.float32], bins: NDArray[np.int64]) -> Histogram:
    counts = np.bincount(bins).astype(np.float64)
    sums = np.bincount(bins, weights=values)
    filled = counts > 0
    return Histogram(sums[filled] / counts[filled], counts[filled])
