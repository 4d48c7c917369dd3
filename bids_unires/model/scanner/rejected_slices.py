"""Rejected slices: from which weight on a slice is rejected, and how it is interpolated.

Across a gap, total variation does not determine where an edge lies, so that a fit fills the gap
with steps. A cubic polynomial through the neighbouring slices does better. How well it does is
estimated from the slices that were kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .interleave import interleave_factors
from .observation import Observation

REJECTION_WEIGHT = 0.4
"""A slice of lower weight is rejected. Where no other scan shows the same place, the images would
follow the slice even if its weight were small."""

_POINTS = 4
# An interpolated slice always weighs less than a measured one.
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-4, 0.2


def interpolate_rejected_slices(scan: Observation) -> Observation:
    """Interpolate slices of weight 0 from the four nearest other slices; all weigh 1 then.

    A voxel of an interpolated slice is missing if it is missing in one of those four.

    Parameters
    ----------
    scan
        A scan with weights of its slices. One without any slice of weight 0, or with no other
        slices, is returned as it is.
    """
    weights = scan.weight_of_slices
    known = np.flatnonzero(weights)
    if len(known) in (0, len(weights)):
        return scan
    slices = _slices_without_interleave(scan)
    factors = interleave_factors(scan.interleave, len(slices)).astype(np.float32)
    data = np.moveaxis(scan.data, scan.slice_axis, 0).copy()
    for k in np.flatnonzero(weights == 0).tolist():
        data[k] = _interpolated(slices, k, known)[0] * factors[k]
    if scan.zero_is_missing:
        # Magnitudes are never negative, but a cubic polynomial may be.
        data = np.where(weights[:, None, None] == 0, np.abs(data), data)
    interpolated = np.ascontiguousarray(np.moveaxis(data, 0, scan.slice_axis))
    return replace(scan, data=interpolated, slice_weights=None)


def interpolate_and_weight_rejected_slices(scan: Observation, threshold: float) -> Observation:
    """`interpolate_rejected_slices`, with weights that follow from the error of interpolation.

    The variance of an interpolated slice is that of the noise plus that of the interpolation. The
    latter is the median over all slices that can be compared with their own interpolation.

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
    slices = _slices_without_interleave(scan)
    ratios = [
        _error_over_noise(slices, k, known[known != k], threshold, float(scan.tau))
        for k in known[1:-1].tolist()
    ]
    ratios = [ratio for ratio in ratios if np.isfinite(ratio)]
    if not ratios:
        return scan
    weight = np.clip(1 / (1 + float(np.median(ratios))), _LEAST_WEIGHT, _MOST_WEIGHT)
    interpolated = interpolate_rejected_slices(scan)
    return replace(interpolated, slice_weights=np.where(weights == 0, weight, weights))


def without_interpolated_slices(scan: Observation) -> Observation:
    """A scan in which interpolated slices are missing: their weights are 0."""
    if scan.slice_weights is None:
        return scan
    weights = np.where(scan.slice_weights < REJECTION_WEIGHT, 0.0, scan.slice_weights)
    return replace(scan, slice_weights=weights)


def _slices_without_interleave(scan: Observation) -> NDArray[np.float32]:
    """Slices ``(K, U, V)`` over their brightness factors (interleave); NaN where missing."""
    data = np.where(replace(scan, slice_weights=None).missing, np.float32(np.nan), scan.data)
    slices = np.moveaxis(data, scan.slice_axis, 0)
    factors = interleave_factors(scan.interleave, len(slices))
    return np.asarray(slices / factors[:, None, None], dtype=np.float32)


def _interpolated(
    slices: NDArray[np.float32], k: int, known: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Slice k ``(U, V)`` by the polynomial through the nearest known slices; its coefficients.

    Beyond the outermost known slice, that slice is repeated.
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
    """Variance of the interpolation of slice k over that of the noise; NaN without any head."""
    interpolated, coefficients = _interpolated(slices, k, known)
    with np.errstate(invalid="ignore"):
        head = np.isfinite(interpolated) & ((slices[k] > threshold) | (interpolated > threshold))
    head &= np.isfinite(slices[k])
    if not head.any():
        return float("nan")
    variance = float(np.mean((slices[k][head].astype(np.float64) - interpolated[head]) ** 2))
    return max(variance * tau - 1 - float(np.sum(coefficients**2)), 0.0)
