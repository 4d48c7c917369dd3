"""The intensity of one contrast that goes with the intensities of other contrasts.

It is modelled as the mean over all voxels with the same intensities in the other contrasts: the
model of the correlation ratio (Roche et al. 1998, "The correlation ratio as a new similarity
measure for multimodal image registration", equation 4).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Number of grey levels of each of the other contrasts, and standard deviations (in levels) of the
# Gaussians that smooth the means. A combination of levels that too few voxels have takes its mean
# from the neighbouring levels: from the narrowest Gaussian that reaches enough voxels.
_LEVELS = 24
_SMOOTHINGS = (1.0, 4.0, 16.0)
_FEWEST_VOXELS = 1e-3
_BRIGHTEST = 0.998


def robust_maximum(image: NDArray[np.float32]) -> float:
    """The 99.8 % quantile of the positive intensities of an image ``(...)``; 1 for hardly any."""
    positive = image[image > 0]
    return float(np.quantile(positive[::7], _BRIGHTEST)) if positive.size > 7 else 1.0


def grey_levels(values: ArrayLike, maxima: ArrayLike) -> NDArray[np.float32]:
    """Intensities as grey levels from 0 to 23.

    Parameters
    ----------
    values
        Intensities ``(C, N)`` of N voxels in C contrasts.
    maxima
        ``(C,)``, the intensity of each contrast that has the highest level (`robust_maximum`).

    Returns
    -------
    ndarray
        ``(C, N)``, not rounded.
    """
    highest = np.asarray(maxima, dtype=np.float32)[:, None]
    scaled = np.asarray(values, dtype=np.float32) / highest * np.float32(_LEVELS - 1)
    return np.asarray(np.clip(scaled, 0, _LEVELS - 1), dtype=np.float32)


def conditional_means(
    values: NDArray[np.float32], levels: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Mean intensity of one contrast at every combination of grey levels of the others.

    Parameters
    ----------
    values
        Intensities ``(N,)`` of the one contrast.
    levels
        ``(C, N)``, grey levels of the same voxels in the others.

    Returns
    -------
    ndarray
        ``(24, ..., 24)``, one axis for each of the others. A combination without any voxel takes
        the mean of neighbouring combinations.
    """
    sides = (_LEVELS,) * len(levels)
    cells = np.ravel_multi_index(tuple(np.rint(levels).astype(np.intp)), sides)
    size = _LEVELS ** len(levels)
    sums = np.bincount(cells, weights=values, minlength=size).reshape(sides).astype(np.float64)
    counts = np.bincount(cells, minlength=size).reshape(sides).astype(np.float64)
    means = np.zeros(sides)
    for sd in reversed(_SMOOTHINGS):
        near, weight = _smoothed(sums, sd), _smoothed(counts, sd)
        means = np.where(weight > _FEWEST_VOXELS, near / np.maximum(weight, _FEWEST_VOXELS), means)
    return means


def interpolate_means(
    means: NDArray[np.float64], levels: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Multilinear interpolation of `conditional_means` at grey levels ``(C, N)``, ``(N,)``."""
    below = np.minimum(levels.astype(np.intp), _LEVELS - 2)
    share = levels - below
    values = np.zeros(levels.shape[1])
    for corner in product((0, 1), repeat=len(levels)):
        step = np.array(corner)[:, None]
        weights = np.where(step == 1, share, 1 - share)
        values += np.prod(weights, axis=0) * means[tuple(below + step)]
    return values


def _smoothed(table: NDArray[np.float64], sd: float) -> NDArray[np.float64]:
    """Convolve with a Gaussian along every axis; zeros beyond the border."""
    at = np.arange(_LEVELS)
    kernel = np.exp(-0.5 * ((at[:, None] - at) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    for axis in range(table.ndim):
        table = np.moveaxis(np.tensordot(kernel, table, axes=(1, axis)), 0, axis)
    return table
