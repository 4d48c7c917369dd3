"""What intensity of one contrast goes with those of others: the mean where these are the same.

That is the correlation ratio's model of how contrasts relate (Roche et al. 1998, "The correlation
ratio as a new similarity measure for multimodal image registration", equation 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

# Grey levels of each of the other contrasts that are told apart, and how far (in these) the
# means are smoothed: where few voxels have some levels, their neighbours speak for them, and
# where there are none, those further off.
_LEVELS = 24
_SMOOTHINGS = (1.0, 4.0, 16.0)
_FEWEST_VOXELS = 1e-3
_BRIGHTEST = 0.998


def robust_maximum(image: NDArray[np.float32]) -> float:
    """Intensity above which an image has outliers only; 1 if it is dark."""
    positive = image[image > 0]
    return float(np.quantile(positive[::7], _BRIGHTEST)) if positive.size > 7 else 1.0


def grey_levels(
    values: Sequence[NDArray[np.float32]], tops: Sequence[float]
) -> NDArray[np.float64]:
    """Intensities ``(N,)`` of each contrast as levels, ``(C, N)``, from 0 to the brightest."""
    scaled = [own / top * (_LEVELS - 1) for own, top in zip(values, tops, strict=True)]
    return np.clip(np.stack(scaled), 0, _LEVELS - 1)


def conditional_means(
    values: NDArray[np.float32], levels: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of values ``(N,)`` at every combination of levels ``(C, N)``, an axis for each contrast.

    Levels that no value has take the mean of those around them.
    """
    sides = (_LEVELS,) * len(levels)
    cells = np.ravel_multi_index(np.rint(levels).astype(np.intp), sides)
    size = _LEVELS ** len(levels)
    sums = np.bincount(cells, weights=values, minlength=size).reshape(sides).astype(np.float64)
    counts = np.bincount(cells, minlength=size).reshape(sides).astype(np.float64)
    means = np.zeros(sides)
    for sd in reversed(_SMOOTHINGS):
        near, weight = _smoothed(sums, sd), _smoothed(counts, sd)
        means = np.where(weight > _FEWEST_VOXELS, near / np.maximum(weight, _FEWEST_VOXELS), means)
    return means


def interpolate_means(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multilinear interpolation of a table at levels ``(C, N)``, within its sides."""
    below = np.minimum(at.astype(np.intp), _LEVELS - 2)
    share = at - below
    values = np.zeros(at.shape[1])
    for corner in product((0, 1), repeat=len(at)):
        places = [own + step for own, step in zip(below, corner, strict=True)]
        weights = [f if step else 1 - f for f, step in zip(share, corner, strict=True)]
        values += np.prod(weights, axis=0) * table[tuple(places)]
    return values


def _smoothed(table: NDArray[np.float64], sd: float) -> NDArray[np.float64]:
    """Convolve with a Gaussian along every axis; beyond the border are zeros."""
    at = np.arange(_LEVELS)
    kernel = np.exp(-0.5 * ((at[:, None] - at) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    for axis in range(table.ndim):
        table = np.moveaxis(np.tensordot(kernel, table, axes=(1, axis)), 0, axis)
    return table
