"""Displaced slices, found by comparison with a template of the head.

The position of a slice follows from its neighbours, except near the ends of a stack, where anatomy
changes too fast. There, a template helps, since anatomy is similar in all heads. Relative to a
template that was warped to the scan, positions of slices vary smoothly from slice to slice, as
heads differ from each other. A slice that moved alone deviates from that.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import BadDataError
from ...kernels.runtime import thread_count
from ...space.volume import Volume
from ..intensity.correlation_ratio import (
    conditional_means,
    grey_levels,
    interpolate_means,
    robust_maximum,
)
from ..intensity.smooth_blocks import MAD_TO_SD
from ..scanner.observation import Observation
from .shift import SlicePosition, least_squares_shift, translate_slice

logger = logging.getLogger("bids_unires")

Stack = NDArray[np.float32]
Shift = tuple[float, float]
"""mm along both axes of a slice by which its anatomy is displaced."""

# Tissue that is bright in the template may be bright or dark in the scan, and the relation differs
# between brain and skin: it is estimated from so many slices on each side and the slice itself.
_SLICES_AROUND = 4
_FURTHEST_MM = 8.0
# Slices with a larger unexplained share are not used, nor those this many times above the median
# around.
_MOST_UNEXPLAINED = 0.5
_UNEXPLAINED_WORSE = 2.0
_FEWEST_SLICES = 10
# A scan smaller than this along any axis cannot be registered reliably.
_LEAST_MM_OF_HEAD = 40.0
# Slices with less of the head than this share of the median of the stack are not used.
_LEAST_HEAD = 0.2
# Standard deviations, in mm, of second differences of the smooth positions, and of deviations from
# them; the latter have a t distribution with few degrees of freedom.
_SECOND_DIFFERENCE_MM, _DEVIATION_MM = 0.4, 0.5
_DEGREES_OF_FREEDOM = 2.0
_TURNS = 30
_AROUND = 3
# Clean slices of three heads in three planes deviate by at most 1.5 mm, except for the outermost
# two at each end. The outermost is never called displaced: it has a neighbour on one side only.
# At the next one, the residual at the smooth position is up to 1.02 times that at the found one if
# the slice is clean, and 1.08 to 1.22 times if it is displaced.
_LEAST_MM, _LEAST_SDS = 1.75, 4.0
_LEAST_RESIDUAL_RATIO = 1.05
# Digits that do not depend on the order in which threads add numbers.
_DIGITS = 2


def find_displaced_slices_in_head(scan: Observation, threshold: float) -> Mapping[int, Shift]:
    """`find_displaced_slices` with the template of a head that comes with the program.

    Parameters
    ----------
    scan
        A scan with in-plane voxels of about 2 mm.
    threshold
        Intensity above which a voxel belongs to the head.

    Returns
    -------
    mapping
        As for `find_displaced_slices`; empty if the scan does not look like a head.
    """
    measured = np.moveaxis(scan.data, scan.slice_axis, 0)
    extent = np.array(scan.data.shape) * scan.grid.voxel_size
    if extent.min() < _LEAST_MM_OF_HEAD or len(_with_head(measured, threshold)) < _FEWEST_SLICES:
        return {}
    # The registration library is loaded only when there is something to register.
    from ...registration import bent_template, packaged_template

    volume = Volume(scan.data, scan.affine)
    try:
        template = bent_template(volume, packaged_template(), threads=thread_count())
    except (BadDataError, RuntimeError, np.linalg.LinAlgError) as error:
        logger.info("the template does not fit the scan, and tells of no slices: %s", error)
        return {}
    spacing = np.delete(scan.grid.voxel_size, scan.slice_axis)
    return find_displaced_slices(
        measured, np.moveaxis(template, scan.slice_axis, 0), spacing, threshold
    )


def find_displaced_slices(
    measured: Stack, template: Stack, spacing: NDArray[np.float64], threshold: float
) -> Mapping[int, Shift]:
    """Find slices whose position relative to a template differs from that of the slices around.

    Parameters
    ----------
    measured
        ``(K, U, V)``, slices first; NaN where missing.
    template
        ``(K, U, V)``, a template warped to the scan, in arbitrary intensities.
    spacing
        ``(2,)``, mm between voxels of a slice.
    threshold
        Intensity above which a voxel belongs to the head.

    Returns
    -------
    mapping
        Index of a slice to its displacement in mm along both axes. Empty if too few slices look
        like the template.
    """
    matches = _reliable(_matches(measured, template, spacing, threshold))
    if len(matches) < _FEWEST_SLICES:
        return {}
    at = np.array(sorted(matches))
    shifts = np.array([matches[k].position.shift for k in at.tolist()])
    smooth = _smooth_positions(at, shifts)
    deviations = shifts - smooth
    displaced = _far_off(deviations)
    for i in (1, len(at) - 2):
        ratio = _residual_ratio(matches[int(at[i])], smooth[i], spacing, threshold)
        displaced[i] &= ratio > _LEAST_RESIDUAL_RATIO
    rounded = np.round(deviations, _DIGITS)
    return {
        int(at[i]): (float(rounded[i, 0]), float(rounded[i, 1])) for i in np.flatnonzero(displaced)
    }


class _Match(NamedTuple):
    """A slice ``(U, V)``, the template in its intensities, and their relative position."""

    measured: NDArray[np.float32]
    expected: NDArray[np.float32]
    position: SlicePosition


def _matches(
    measured: Stack, template: Stack, spacing: NDArray[np.float64], threshold: float
) -> dict[int, _Match]:
    matches: dict[int, _Match] = {}
    for k in _with_head(measured, threshold):
        around = slice(max(k - _SLICES_AROUND, 0), k + _SLICES_AROUND + 1)
        expected = _in_scan_intensities(measured[around], template[around], template[k])
        position = least_squares_shift(
            measured[k], expected, (0.0, 0.0), spacing, threshold, _FURTHEST_MM
        )
        if position is not None:
            matches[k] = _Match(measured[k], expected, position)
    return matches


def _far_off(deviations: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Slices whose deviation is far above that of most, bool ``(N,)``; never the outermost ones."""
    typical = MAD_TO_SD * float(np.median(np.abs(deviations)))
    found = np.hypot(*deviations.T) > max(_LEAST_MM, _LEAST_SDS * typical)
    found[[0, -1]] = False
    return np.asarray(found)


def _with_head(measured: Stack, threshold: float) -> list[int]:
    voxels = (measured > threshold).sum(axis=(1, 2))
    typical = float(np.median(voxels[voxels > 0])) if voxels.any() else 1.0
    return np.flatnonzero(voxels >= _LEAST_HEAD * typical).tolist()


def _in_scan_intensities(
    measured: Stack, template: Stack, image: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The template's slice ``image`` in the intensities of a scan."""
    maxima, known = [robust_maximum(template)], np.isfinite(measured)
    means = conditional_means(measured[known], grey_levels([template[known]], maxima))
    expected = interpolate_means(means, grey_levels([image.ravel()], maxima))
    return expected.reshape(image.shape).astype(np.float32)


def _reliable(matches: Mapping[int, _Match]) -> dict[int, _Match]:
    """Matches without slices of which the template explains too little."""
    left = {k: match.position.unexplained for k, match in matches.items()}
    typical = {
        k: float(np.median([left[j] for j in left if 0 < abs(j - k) <= _SLICES_AROUND] or [1.0]))
        for k in left
    }
    return {
        k: match
        for k, match in matches.items()
        if left[k] < min(_MOST_UNEXPLAINED, _UNEXPLAINED_WORSE * typical[k])
    }


def _residual_ratio(
    match: _Match, elsewhere: NDArray[np.float64], spacing: NDArray[np.float64], threshold: float
) -> float:
    """Residual of a match at another shift, ``(2,)`` in mm, over that at its own."""
    here, there = (
        _unexplained(
            match.measured, translate_slice(match.expected, np.array(shift) / spacing), threshold
        )
        for shift in (match.position.shift, elsewhere)
    )
    return there / here if here > 0 else 1.0


def _unexplained(
    measured: NDArray[np.float32], expected: NDArray[np.float32], threshold: float
) -> float:
    head = np.isfinite(measured) & (expected > threshold)
    values, predicted = measured[head].astype(np.float64), expected[head].astype(np.float64)
    if not values.any() or not predicted.any():
        return 1.0
    factor = (values @ predicted) / (predicted @ predicted)
    return float(np.sum((values - factor * predicted) ** 2) / (values @ values))


def _smooth_positions(at: NDArray[np.int_], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smooth positions ``(N, 2)`` of slices ``(N,)`` from their shifts ``(N, 2)``, in mm.

    Second differences have a normal distribution, and deviations a t distribution, by
    expectation-maximisation (Lange, Little & Taylor 1989, "Robust statistical modeling using the t
    distribution", section 3).
    """
    count = len(at)
    steps, rows = np.diff(at), np.arange(count - 2)
    first, second = steps[:-1], steps[1:]
    differences = np.zeros((count - 2, count))
    differences[rows, rows] = 1 / first
    differences[rows, rows + 1] = -1 / first - 1 / second
    differences[rows, rows + 2] = 1 / second
    stiffness = differences.T @ differences / _SECOND_DIFFERENCE_MM**2
    smooth = np.array(
        [np.median(shifts[max(i - _AROUND, 0) : i + _AROUND + 1], axis=0) for i in range(count)]
    )
    for _ in range(_TURNS):
        squares = ((shifts - smooth) ** 2).sum(axis=1) / _DEVIATION_MM**2
        weights = (_DEGREES_OF_FREEDOM + 2) / (_DEGREES_OF_FREEDOM + squares) / _DEVIATION_MM**2
        smooth = np.linalg.solve(np.diag(weights) + stiffness, weights[:, None] * shifts)
    return np.asarray(smooth)
