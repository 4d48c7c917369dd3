"""Slices that went wrong in a way that can be undone: too dark, moved in their plane, striped.

Most of what such a slice measured is still there. Brightness and place are found by comparing it
with what all other slices predict of it; whether it fits in with them afterwards is for the
same comparison to tell as for every slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...space.volume import Volume
from .cross_validation import CrossValidation
from .shift import (
    LARGEST_FACTOR,
    correlation_shift,
    least_squares_shift,
    regress_on_prediction,
    translate_slice,
)
from .stripes import Stripes, remove_stripes

Slice = NDArray[np.float32]


# Quantile of the intensities of a head that stands for its tissue.
_TISSUE = 0.75

# Of the brightest, the share above which a voxel is not air, in a slice that may be dark itself.
_BRIGHT, _ABOVE_AIR = 0.995, 0.3
# Of the brightness of tissue, less is left only where signal was lost.
_MOST_LEFT = 0.5

# Differences from a prediction no larger than these are as likely its own.
_LEAST_LOG_FACTOR, _LEAST_SHIFT_MM = 0.1, 1.5
# Of a slice that predictions explain worse than this, neither its brightness nor, sooner, its place
# can be told from its anatomy.
_MOST_UNEXPLAINED, _MOST_UNEXPLAINED_PLACE = 0.3, 0.1
_FURTHEST_REFINED_MM = 2.0
_FEWEST_VOXELS = 50


@dataclass(frozen=True)
class SliceRepair:
    """What is undone of a slice, the last of these first.

    Attributes
    ----------
    factor
        What it was multiplied by.
    shift
        mm by which what it shows was moved along both of its axes.
    stripes
        What was added to it.
    """

    factor: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    stripes: tuple[Stripes, ...] = ()

    def and_then(self, further: SliceRepair) -> SliceRepair:
        """Both together: what more was found to be wrong once the first was done.

        Stripes come off first, so ``further`` has none of its own beside a shift or a factor here.

        Examples
        --------
        >>> SliceRepair(0.5, (3.0, 0.0)).and_then(SliceRepair(0.8, (0.0, 1.0)))
        SliceRepair(factor=0.4, shift=(3.0, 1.0), stripes=())
        """
        (u, v), (further_u, further_v) = self.shift, further.shift
        return SliceRepair(
            self.factor * further.factor,
            (u + further_u, v + further_v),
            self.stripes + further.stripes,
        )

    def __str__(self) -> str:
        """In a few words.

        Examples
        --------
        >>> str(SliceRepair(0.3, (3.0, 4.0)))
        'brightness of 0.30, moved by 5.0 mm'
        """
        parts = []
        if self.stripes:
            parts.append("stripes")
        if self.factor != 1:
            parts.append(f"brightness of {self.factor:.2f}")
        if any(self.shift):
            parts.append(f"moved by {math.hypot(*self.shift):.1f} mm")
        return ", ".join(parts)


Repairs = Mapping[int, SliceRepair]
"""Of single slices of a scan, by their index from 0 along the slice axis."""


def repair_slices(volume: Volume, axis: int, repairs: Repairs) -> Volume:
    """A scan with what went wrong undone.

    Parameters
    ----------
    volume
        Magnitudes; NaN where missing.
    axis
        The slice axis (0, 1 or 2).
    repairs
        Of its slices. What comes in from beyond the edge of a slice becomes missing.
    """
    if not repairs:
        return volume
    spacing = np.delete(volume.grid.voxel_size, axis)
    slices = np.moveaxis(volume.data, axis, 0)
    result = slices.copy()
    for k, repair in repairs.items():
        image = remove_stripes(slices, k, repair.stripes) if repair.stripes else slices[k]
        if any(repair.shift):
            image = _moved_magnitudes(image, -np.array(repair.shift) / spacing)
        result[k] = image / np.float32(repair.factor)
    return replace(volume, data=np.ascontiguousarray(np.moveaxis(result, 0, axis)))


def candidate_repairs(parts: CrossValidation, k: int, threshold: float) -> list[SliceRepair]:
    """What may have gone wrong with a slice, the simplest first: nothing, brightness, place, both.

    Parameters
    ----------
    parts
        A scan and its predictions.
    k
        Which slice.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    measured, predicted = parts.measured[k], parts.predicted[k]
    spacing = np.array(parts.spacing[1:])
    head = np.isfinite(measured) & ((measured > threshold) | (predicted > threshold))
    # As it is, seen beside slices that were mended since.
    found = [SliceRepair()]
    at_its_place = regress_on_prediction(measured, predicted, spacing, threshold)
    if at_its_place is not None and at_its_place.unexplained < _MOST_UNEXPLAINED:
        factors = (
            at_its_place.factor,
            relative_brightness(measured[head], predicted[head]),
        )
        least = _LEAST_LOG_FACTOR + at_its_place.unexplained
        found += [SliceRepair(factor) for factor in factors if abs(np.log(factor)) > least]
    roughly = correlation_shift(measured, predicted, spacing)
    if roughly is None:
        return found
    place = least_squares_shift(
        measured, predicted, roughly, spacing, threshold, _FURTHEST_REFINED_MM
    )
    if place is None or place.unexplained >= _MOST_UNEXPLAINED_PLACE:
        return found
    if math.hypot(*place.shift) > _LEAST_SHIFT_MM:
        found.append(SliceRepair(shift=place.shift))
        if abs(np.log(place.factor)) > _LEAST_LOG_FACTOR:
            found.append(SliceRepair(place.factor, place.shift))
    return found


def lost_signal_repairs(parts: CrossValidation, k: int, around: Sequence[int]) -> list[SliceRepair]:
    """The brightness of a slice most of whose signal was lost, if it was, whatever it shows.

    Towards the ends of a stack anatomy changes so fast that predictions hardly resemble a slice,
    and beyond its outermost slices nothing tells how it goes on. Yet their tissue cannot be half
    as bright as that of slices nearby, wherever in them it lies: in clean slices of simulated heads
    it is within 15 percent of that.

    Parameters
    ----------
    parts
        A scan and its predictions.
    k
        Which slice.
    around
        Slices nearby that are believed.
    """
    here = _brightness_of_tissue(parts.measured[k])
    nearby = [_brightness_of_tissue(parts.measured[other]) for other in around]
    if not nearby or not 0 < here < _MOST_LEFT * float(np.median(nearby)):
        return []
    return [SliceRepair(max(here / float(np.median(nearby)), 1 / LARGEST_FACTOR))]


def _brightness_of_tissue(image: Slice) -> float:
    """The same quantile of what is brighter than air, by that slice's own measure of bright."""
    seen = image[np.isfinite(image)]
    tissue = seen[seen > _ABOVE_AIR * np.quantile(seen, _BRIGHT)] if seen.size else seen
    return float(np.quantile(tissue, _TISSUE)) if tissue.size >= _FEWEST_VOXELS else 0.0


def relative_brightness(measured: Slice, predicted: Slice) -> float:
    """How much brighter tissue is than predicted, wherever in the slice it lies.

    1 where either is dark throughout.
    """
    here, there = (float(np.quantile(values, _TISSUE)) for values in (measured, predicted))
    if here <= 0 or there <= 0:
        return 1.0
    return float(np.clip(here / there, 1 / LARGEST_FACTOR, LARGEST_FACTOR))


def repair_coarse_slices(parts: CrossValidation, repairs: Repairs) -> CrossValidation:
    """A scan beside its predictions, its slices mended at the resolution of these."""
    measured, detail = parts.measured.copy(), parts.detail.copy()
    for k, repair in repairs.items():
        voxels = -np.array(repair.shift) / parts.spacing[1:]
        measured[k] = _moved_magnitudes(measured[k], voxels) / np.float32(repair.factor)
        detail[k] = _moved_magnitudes(detail[k], voxels) / np.float32(repair.factor**2)
    return replace(parts, measured=measured, detail=np.nan_to_num(detail))


def _moved_magnitudes(image: Slice, voxels: NDArray[np.float64]) -> Slice:
    """The same, with missing and masked voxels, which move along, and what came in missing."""
    missing = ~np.isfinite(image)
    result = np.abs(translate_slice(np.where(missing, np.float32(0), image), voxels))
    masked = (image == 0) & ~missing
    if masked.any():
        result[translate_slice(masked.astype(np.float32), voxels) > 0.5] = 0
    if missing.any():
        result[translate_slice(missing.astype(np.float32), voxels) > 0.5] = np.nan
    for axis, step in enumerate(voxels.tolist()):
        count = int(np.ceil(abs(step)))
        rows = np.moveaxis(result, axis, 0)
        rows[slice(0, count) if step > 0 else slice(len(rows) - count, None)] = np.nan
    return result
