"""What stands in for a slice that was left out: its neighbours, believed as far as they tell.

A total variation does not mind at which side of a gap an edge lies, so that it fills one with
steps. A cubic through the neighbours does better, and how well it does is known: from
the slices that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .interleave import interleave_factors
from .observation import Observation

REJECTION_WEIGHT = 0.4
"""A slice that weighs less is left out altogether: where no other stack shows the same
place, the images would follow it however little it weighs."""

_POINTS = 4
# What stands in for a slice never weighs as much as one that was measured.
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-4, 0.2


def interpolate_rejected_slices(scan: Observation) -> Observation:
    """A scan with slices of weight 0 interpolated from the four nearest others; all weigh 1.

    A voxel that is missing in one of those is missing in the slice. A scan without any slice
    of weight 0, or with no other, is returned as it is.
    """
    weights = scan.weight_of_slices
    known = np.flatnonzero(weights)
    if len(known) in (0, len(weights)):
        return scan
    slices = _even_slices(scan)
    factors = interleave_factors(scan.interleave, len(slices)).astype(np.float32)
    data = np.moveaxis(scan.data, scan.slice_axis, 0).copy()
    for k in np.flatnonzero(weights == 0).tolist():
        data[k] = _interpolated(slices, k, known)[0] * factors[k]
    if scan.zero_is_missing:
        # Intensities are magnitudes: a cubic may swing below 0, they cannot.
        data = np.where(weights[:, None, None] == 0, np.abs(data), data)
    whole = np.ascontiguousarray(np.moveaxis(data, 0, scan.slice_axis))
    return replace(scan, data=whole, slice_weights=None)


def interpolate_and_weight_rejected_slices(scan: Observation, threshold: float) -> Observation:
    """`interpolate_rejected_slices`, the interpolated slices weighing as much as interpolation can be believed.

    Their precision is that of the noise together with the error of interpolation, which is the
    median over all slices that can be compared with their interpolation from the others.

    Parameters
    ----------
    scan
        A scan with one precision for all voxels.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    weights = scan.weight_of_slices
    if weights.all():
        return scan
    known = np.flatnonzero(weights)
    slices = _even_slices(scan)
    ratios = [
        _error_over_noise(slices, k, known[known != k], threshold, float(scan.tau))
        for k in known[1:-1].tolist()
    ]
    ratios = [ratio for ratio in ratios if np.isfinite(ratio)]
    if not ratios:
        return scan
    weight = np.clip(1 / (1 + float(np.median(ratios))), _LEAST_WEIGHT, _MOST_WEIGHT)
    return replace(
        interpolate_rejected_slices(scan), slice_weights=np.where(weights == 0, weight, weights)
    )


def stood_in(scans: Sequence[Observation], thresholds: Sequence[float]) -> list[Observation]:
    """Let neighbours stand in for slices of weight 0 where a contrast has a single scan.

    Of repeats the others show the place, and better than an interpolation.
    """
    if len(scans) > 1:
        return list(scans)
    return [
        interpolate_and_weight_rejected_slices(*pair)
        for pair in zip(scans, thresholds, strict=True)
    ]


def without_interpolated_slices(scan: Observation) -> Observation:
    """A scan in which slices that others stand in for are missing."""
    if scan.slice_weights is None:
        return scan
    weights = np.where(scan.slice_weights < REJECTION_WEIGHT, 0.0, scan.slice_weights)
    return replace(scan, slice_weights=weights)


def _even_slices(scan: Observation) -> NDArray[np.float32]:
    """Slices first, without the factor of even and odd ones; NaN where missing."""
    data = np.where(replace(scan, slice_weights=None).missing, np.float32(np.nan), scan.data)
    slices = np.moveaxis(data, scan.slice_axis, 0)
    factors = interleave_factors(scan.interleave, len(slices))
    return np.asarray(slices / factors[:, None, None], dtype=np.float32)


def _interpolated(
    slices: NDArray[np.float32], k: int, known: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Slice k by the polynomial through the nearest known ones, and their coefficients.

    Beyond the outermost known slice that one goes on.
    """
    below, above = known[known < k][-_POINTS // 2 :], known[known > k][: _POINTS // 2]
    if len(below) == 0 or len(above) == 0:
        nearest = known[[int(np.abs(known - k).argmin())]]
        return slices[nearest[0]], np.ones(1)
    nodes = np.concatenate([below, above]).astype(np.float64)
    coefficients = np.array(
        [np.prod([(k - m) / (node - m) for m in nodes if m != node]) for node in nodes]
    )
    values = np.tensordot(coefficients.astype(np.float32), slices[nodes.astype(int)], axes=1)
    return np.asarray(values), coefficients


def _error_over_noise(
    slices: NDArray[np.float32],
    k: int,
    known: NDArray[np.intp],
    threshold: float,
    tau: float,
) -> float:
    """Variance of the error of interpolation over that of the noise, in the head; NaN without."""
    found, coefficients = _interpolated(slices, k, known)
    with np.errstate(invalid="ignore"):
        head = np.isfinite(found) & ((slices[k] > threshold) | (found > threshold))
    head &= np.isfinite(slices[k])
    if not head.any():
        return float("nan")
    variance = float(np.mean((slices[k][head].astype(np.float64) - found[head]) ** 2))
    return max(variance * tau - 1 - float(np.sum(coefficients**2)), 0.0)
