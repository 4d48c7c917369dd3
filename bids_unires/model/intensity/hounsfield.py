"""Air, soft tissue and padding of a CT scan of a head.

Values are Hounsfield units, or any linear map of them (unsigned exports, 8 bits). 0 HU is water,
not a missing value. Values without signal are recognised because they are exactly constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .histogram import Floats, Histogram, uniform_histogram

# Halfway between air (-1000 HU) and water (0 HU).
_AIR_TO_WATER = -500.0
# Only Hounsfield units of air are below the first value. Air is never below the second one, but
# padding is.
_SURELY_HOUNSFIELD = -200.0
_LOWEST_STORED = -1024.0
_LEVEL_SAMPLE = 100_000
_CONSTANT_SHARE = 0.005
_CONSTANT_EXCESS = 10.0
_BINS = 1024
_EM_STEPS = 100
_FWHM_PER_SD = 2.355


@dataclass(frozen=True)
class HeadDensities:
    """Classes of the values of a CT scan, in its own units.

    Parameters
    ----------
    air_mean, head_mean
        Mean of what is darker than halfway between air and tissue, and of the rest.
    tissue_mean, tissue_sd
        Of soft tissue, one distribution of a mixture of three Gaussians. The standard
        deviation holds the noise and the differences between tissues.
    padding
        Constant values: outside the field of view, clipped or masked.
    is_hounsfield
        Whether values are as low as only air in Hounsfield units is.
    """

    air_mean: float
    head_mean: float
    tissue_mean: float
    tissue_sd: float
    padding: tuple[float, ...]
    is_hounsfield: bool


def head_densities(values: NDArray[np.float32]) -> HeadDensities | None:
    """Separate air, soft tissue and padding.

    Parameters
    ----------
    values
        Finite values of a scan, ``(N,)``.

    Returns
    -------
    HeadDensities or None
        None if the head consists of constant values alone.
    """
    padding = constant_values(values)
    # Padding far below air would lower the mean of the background.
    clamped = np.maximum(values, np.float32(_LOWEST_STORED))
    measured = values[~np.isin(values, np.array(padding, dtype=np.float32))]
    if measured.size == 0 or clamped.min() == clamped.max():
        return None
    histogram = uniform_histogram(clamped, _BINS)
    hounsfield = clamped.min() < _SURELY_HOUNSFIELD
    threshold = _AIR_TO_WATER if hounsfield else histogram.otsu_threshold
    # Where padding has replaced air, the threshold may lie within tissue, unless it is known where
    # air is.
    dark, of_all = measured[measured <= threshold].size, values[clamped <= threshold].size
    masked = not hounsfield and dark < of_all / 2
    head = measured if masked else measured[measured > threshold]
    if head.size == 0 or head.min() == head.max():
        return None
    air_mean, head_mean = histogram.means_around(threshold)
    tissue_mean, tissue_sd = _soft_tissue(head)
    return HeadDensities(air_mean, head_mean, tissue_mean, tissue_sd, padding, bool(hounsfield))


def constant_values(values: NDArray[np.float32]) -> tuple[float, ...]:
    """Values that occur far more often than those next to them.

    Parameters
    ----------
    values
        ``(N,)``; a sample of them is used.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(30, 8, 5000).round()
    >>> constant_values(np.r_[noise, np.full(900, -3024)].astype(np.float32))
    (-3024.0,)
    """
    sample = values[:: max(1, values.size // _LEVEL_SAMPLE)]
    levels, counts = np.unique(sample, return_counts=True)
    padded = np.pad(counts.astype(np.float64), 2, constant_values=np.nan)
    neighbours = np.stack([padded[:-4], padded[1:-3], padded[3:-1], padded[4:]])
    known = np.isfinite(neighbours)
    usual = np.where(known, neighbours, 0).sum(0) / np.maximum(known.sum(0), 1)
    constant = (counts > _CONSTANT_SHARE * sample.size) & (counts > _CONSTANT_EXCESS * usual)
    return tuple(levels[constant].tolist())


def _soft_tissue(head: NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation of the class at the highest peak of a head's values.

    Brain is the largest tissue with nearly one density. Fat and air cells lie below it, bone lies
    above it, and both are spread widely.
    """
    low, high = np.quantile(head, [0.005, 0.995])
    kept = head[(head >= low) & (head <= high)]
    if kept.min() == kept.max():
        return float(kept[0]), 0.0
    histogram = uniform_histogram(kept, _BINS)
    # Padded, since a head may have fewer values than are averaged.
    smooth = np.convolve(np.pad(histogram.counts, 2), np.array([1, 2, 3, 2, 1]) / 9, mode="valid")
    peak = int(smooth.argmax())
    lower = smooth < smooth[peak] / 2
    left = peak - int(np.argmax(np.append(lower[peak::-1], True)))
    right = peak + int(np.argmax(np.append(lower[peak:], True)))
    centres = histogram.centres
    width = centres[min(right, centres.size - 1)] - centres[max(left, 0)]
    means = np.array([centres[peak], *np.quantile(kept, [0.1, 0.9])])
    spread = float(kept.std())
    sds = np.array([max(width / _FWHM_PER_SD, 1e-3 * spread), spread, spread])
    return _fit_gaussians(histogram, means, sds)


def _fit_gaussians(histogram: Histogram, mean: Floats, sd: Floats) -> tuple[float, float]:
    """Mean and standard deviation of the first Gaussian after expectation-maximisation."""
    centres, counts = histogram.centres[:, None], histogram.counts[:, None]
    weight = np.full(mean.size, 1 / mean.size)
    smallest = 1e-3 * float(sd[0])
    for _ in range(_EM_STEPS):
        density = weight / sd * np.exp(-(((centres - mean) / sd) ** 2) / 2)
        share = counts * density / np.maximum(density.sum(1, keepdims=True), 1e-300)
        members = np.maximum(share.sum(0), 1e-12)
        mean = (share * centres).sum(0) / members
        sd = np.sqrt(np.maximum((share * (centres - mean) ** 2).sum(0) / members, smallest**2))
        weight = members / members.sum()
    return float(mean[0]), float(sd[0])
