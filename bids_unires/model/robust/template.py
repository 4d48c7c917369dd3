"""Which slices of a stack lie elsewhere than a template of the head expects them.

Neighbours tell where a slice lies. Towards the ends of a stack anatomy changes so fast that they do
not; but how it changes there is much the same in all heads. Beside a template that was bent to the
scan, slices drift from place to place as heads differ from each other, smoothly, and one that
moved by itself stands out.
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
"""mm along both axes of a slice by which what it shows was moved."""

# What is bright in a template is so in other contrasts, too, or dark, and not alike in skin and
# brain: so many slices to each side tell, and the slice itself.
_SLICES_AROUND = 4
_FURTHEST_MM = 8.0
# Slices that the template explains worse than this show something else.
_MOST_UNEXPLAINED = 0.5
_UNEXPLAINED_WORSE = 2.0
_FEWEST_SLICES = 10
# Less than this, along any axis, is no more of a head than of anything else.
_LEAST_MM_OF_HEAD = 40.0
# Slices with less head than this, of the median of the stack, barely touch it.
_LEAST_HEAD = 0.2
# Heads differ smoothly: by how much the drift of places bends from slice to slice, and by how
# much single places are off, in mm; of a t distribution with few degrees of freedom.
_BEND_MM, _OFF_MM = 0.4, 0.5
_DEGREES_OF_FREEDOM = 2.0
_TURNS = 30
_AROUND = 3
# Clean slices of three heads in three planes are at most 1.5 mm off, but for the outermost two. The
# outermost has nothing beside it. The next one, where it seems to lie, looks up to 1.02 times as
# much like the template as where it is; where it did move, 1.08 to 1.22 times.
_LEAST_MM, _LEAST_SDS = 1.75, 4.0
_LEAST_MORE_ALIKE = 1.05
# What depends on the order in which threads add up must not show.
_DIGITS = 2


def find_displaced_slices_in_head(scan: Observation, threshold: float) -> Mapping[int, Shift]:
    """`find_displaced_slices`, beside the template of a head that comes with the program.

    Parameters
    ----------
    scan
        A scan with voxels of about 2 mm in its plane.
    threshold
        Intensity above which a voxel belongs to the head.

    Returns
    -------
    mapping
        Empty where the scan does not look like a head.
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
    """Find slices that lie elsewhere than those around them, beside a template.

    Parameters
    ----------
    measured
        ``(K, U, V)``, slices first; NaN where missing.
    template
        ``(K, U, V)``, what a template bent to the scan shows there, in any intensities.
    spacing
        ``(2,)``, mm between voxels of a slice.
    threshold
        Intensity above which a voxel belongs to the head.

    Returns
    -------
    mapping
        Index of a slice to the mm along both axes by which what it shows was moved. Empty where too
        few slices look like the template.
    """
    seen = _alike(_places(measured, template, spacing, threshold))
    if len(seen) < _FEWEST_SLICES:
        return {}
    at = np.array(sorted(seen))
    shifts = np.array([seen[k].place.shift for k in at.tolist()])
    drift = _drift(at, shifts)
    off = shifts - drift
    apart = _standing_out(off)
    for i in (1, len(at) - 2):
        more_alike = _more_alike(seen[int(at[i])], drift[i], spacing, threshold)
        apart[i] &= more_alike > _LEAST_MORE_ALIKE
    rounded = np.round(off[apart], _DIGITS).tolist()
    return {k: (u, v) for k, (u, v) in zip(at[apart].tolist(), rounded, strict=True)}


class _Seen(NamedTuple):
    """A slice, what a template has in its place, and where it looks like that."""

    measured: NDArray[np.float32]
    expected: NDArray[np.float32]
    place: SlicePosition


def _places(
    measured: Stack, template: Stack, spacing: NDArray[np.float64], threshold: float
) -> dict[int, _Seen]:
    found: dict[int, _Seen] = {}
    for k in _with_head(measured, threshold):
        around = slice(max(k - _SLICES_AROUND, 0), k + _SLICES_AROUND + 1)
        expected = _imitated(measured[around], template[around], template[k])
        place = least_squares_shift(
            measured[k], expected, (0.0, 0.0), spacing, threshold, _FURTHEST_MM
        )
        if place is not None:
            found[k] = _Seen(measured[k], expected, place)
    return found


def _standing_out(off: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Slices that lie further from the drift than most, ``(N,)``, but for the outermost ones."""
    usual = MAD_TO_SD * float(np.median(np.abs(off)))
    found = np.hypot(*off.T) > max(_LEAST_MM, _LEAST_SDS * usual)
    found[[0, -1]] = False
    return np.asarray(found)


def _with_head(measured: Stack, threshold: float) -> list[int]:
    voxels = (measured > threshold).sum(axis=(1, 2))
    usual = float(np.median(voxels[voxels > 0])) if voxels.any() else 1.0
    return np.flatnonzero(voxels >= _LEAST_HEAD * usual).tolist()


def _imitated(measured: Stack, template: Stack, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """A slice of a template in the intensities of a scan."""
    tops, known = [robust_maximum(template)], np.isfinite(measured)
    table = conditional_means(measured[known], grey_levels([template[known]], tops))
    expected = interpolate_means(table, grey_levels([image.ravel()], tops))
    return expected.reshape(image.shape).astype(np.float32)


def _alike(seen: Mapping[int, _Seen]) -> dict[int, _Seen]:
    """Without slices that look unlike the template, or more so than those around them."""
    left = {k: own.place.unexplained for k, own in seen.items()}
    usual = {
        k: float(np.median([left[j] for j in left if 0 < abs(j - k) <= _SLICES_AROUND] or [1.0]))
        for k in left
    }
    return {
        k: own
        for k, own in seen.items()
        if left[k] < min(_MOST_UNEXPLAINED, _UNEXPLAINED_WORSE * usual[k])
    }


def _more_alike(
    seen: _Seen, elsewhere: NDArray[np.float64], spacing: NDArray[np.float64], threshold: float
) -> float:
    """How many times as much of a slice is unexplained if it lies elsewhere."""
    here, there = (
        _unexplained(
            seen.measured, translate_slice(seen.expected, np.array(shift) / spacing), threshold
        )
        for shift in (seen.place.shift, elsewhere)
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


def _drift(at: NDArray[np.int_], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where slices lie but for those that moved by themselves: ``(N, 2)`` at ``(N,)`` of them.

    Second differences are normal, and what is left follows a t distribution, by
    expectation-maximisation (Lange, Little & Taylor 1989, "Robust statistical modeling using the t
    distribution", section 3).
    """
    count = len(at)
    bends = np.zeros((count - 2, count))
    for row, (first, second) in enumerate(zip(np.diff(at)[:-1], np.diff(at)[1:], strict=True)):
        bends[row, row : row + 3] = 1 / first, -1 / first - 1 / second, 1 / second
    stiffness = bends.T @ bends / _BEND_MM**2
    drift = np.array(
        [np.median(shifts[max(i - _AROUND, 0) : i + _AROUND + 1], axis=0) for i in range(count)]
    )
    for _ in range(_TURNS):
        squares = ((shifts - drift) ** 2).sum(axis=1) / _OFF_MM**2
        weights = (_DEGREES_OF_FREEDOM + 2) / (_DEGREES_OF_FREEDOM + squares) / _OFF_MM**2
        drift = np.linalg.solve(np.diag(weights) + stiffness, weights[:, None] * shifts)
    return np.asarray(drift)
