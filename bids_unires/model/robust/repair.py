"""Repairs of damaged slices: of their brightness, of their position, and of stripes.

Most of the signal of such slices is intact. Brightness and position are found by comparison with
the prediction from all other slices. Whether a repaired slice agrees with the others is decided by
the same comparison as for every slice (`compare`).
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

# Quantile of intensities that is the brightness of tissue.
_TISSUE = 0.75
# A voxel is brighter than air if it exceeds this share of this quantile of its own slice.
_BRIGHT, _ABOVE_AIR = 0.995, 0.3
# Tissue whose brightness is below this share of that nearby has lost signal.
_MOST_LEFT = 0.5
# Smaller differences may be errors of the prediction.
_LEAST_LOG_FACTOR, _LEAST_SHIFT_MM = 0.1, 1.5
# If a prediction leaves a larger share of a slice unexplained, differences in brightness, or in
# position, cannot be separated from differences in anatomy.
_MOST_UNEXPLAINED, _MOST_UNEXPLAINED_POSITION = 0.3, 0.1
_FURTHEST_REFINED_MM = 2.0
_LEAST_WORTHWHILE_SHIFT_MM = 0.5
_FEWEST_VOXELS = 50


@dataclass(frozen=True)
class SliceRepair:
    """How a slice was damaged. Stripes are undone first, then the shift, then the factor.

    Attributes
    ----------
    factor
        Factor on its intensities.
    shift
        Displacement of its anatomy along both of its axes, in mm.
    stripes
        Stripes that were added to it.
    """

    factor: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    stripes: tuple[Stripes, ...] = ()

    def followed_by(self, further: SliceRepair) -> SliceRepair:
        """Both repairs together.

        Parameters
        ----------
        further
            A repair of the slice after this repair. Stripes are removed first: it has none if
            this repair has a shift or a factor.

        Examples
        --------
        >>> SliceRepair(0.5, (3.0, 0.0)).followed_by(SliceRepair(0.8, (0.0, 1.0)))
        SliceRepair(factor=0.4, shift=(3.0, 1.0), stripes=())
        """
        (u, v), (further_u, further_v) = self.shift, further.shift
        return SliceRepair(
            self.factor * further.factor,
            (u + further_u, v + further_v),
            self.stripes + further.stripes,
        )

    def __str__(self) -> str:
        """The repair in a few words.

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
"""Repairs of slices of a scan, by their index from 0 along the slice axis."""


def repair_slices(volume: Volume, axis: int, repairs: Repairs) -> Volume:
    """Repair slices of a scan.

    Parameters
    ----------
    volume
        Magnitudes; NaN where missing.
    axis
        The slice axis (0, 1 or 2).
    repairs
        Repairs of its slices. Voxels that come from beyond the edge of a slice are missing (NaN).
    """
    if not repairs:
        return volume
    spacing = np.delete(volume.grid.voxel_size, axis)
    slices = np.moveaxis(volume.data, axis, 0)
    result = slices.copy()
    for k, repair in repairs.items():
        image = remove_stripes(slices, k, repair.stripes) if repair.stripes else slices[k]
        if any(repair.shift):
            image = _translated_magnitudes(image, -np.array(repair.shift) / spacing)
        result[k] = image / np.float32(repair.factor)
    return replace(volume, data=np.ascontiguousarray(np.moveaxis(result, 0, axis)))


def candidate_repairs(validation: CrossValidation, k: int, threshold: float) -> list[SliceRepair]:
    """Possible repairs of a slice, the simplest first: none, brightness, position, both.

    Parameters
    ----------
    validation
        The scan and its predictions.
    k
        Index of the slice.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    measured, predicted = validation.measured[k], validation.predicted[k]
    spacing = np.array(validation.spacing[1:])
    head = np.isfinite(measured) & ((measured > threshold) | (predicted > threshold))
    # No repair: predictions from slices that were repaired since may agree with it.
    repairs = [SliceRepair()]
    in_place = regress_on_prediction(measured, predicted, spacing, threshold)
    if in_place is not None and in_place.unexplained < _MOST_UNEXPLAINED:
        factors = (
            in_place.factor,
            relative_brightness(measured[head], predicted[head]),
        )
        least = _LEAST_LOG_FACTOR + in_place.unexplained
        repairs += [SliceRepair(factor) for factor in factors if abs(np.log(factor)) > least]
    initial = correlation_shift(measured, predicted, spacing)
    if initial is None:
        return repairs
    position = least_squares_shift(
        measured, predicted, initial, spacing, threshold, _FURTHEST_REFINED_MM
    )
    if position is None or position.unexplained >= _MOST_UNEXPLAINED_POSITION:
        return repairs
    if math.hypot(*position.shift) > _LEAST_SHIFT_MM:
        repairs.append(SliceRepair(shift=position.shift))
        if abs(np.log(position.factor)) > _LEAST_LOG_FACTOR:
            repairs.append(SliceRepair(position.factor, position.shift))
    return repairs


def without_small_shifts(repairs: Repairs) -> Repairs:
    """Repairs without shifts below half a mm: translating a slice blurs it and costs its rim.

    Examples
    --------
    >>> without_small_shifts({3: SliceRepair(shift=(0.2, 0.1)), 5: SliceRepair(0.5, (0.2, 0.1))})
    {5: SliceRepair(factor=0.5, shift=(0.0, 0.0), stripes=())}
    """
    kept = {
        k: replace(repair, shift=(0.0, 0.0))
        if math.hypot(*repair.shift) < _LEAST_WORTHWHILE_SHIFT_MM
        else repair
        for k, repair in repairs.items()
    }
    return {k: repair for k, repair in kept.items() if repair != SliceRepair()}


def lost_signal_repairs(
    validation: CrossValidation, k: int, around: Sequence[int]
) -> list[SliceRepair]:
    """Repair of the brightness of a slice that lost most of its signal; empty if it did not.

    Towards the ends of a stack anatomy changes so fast that predictions hardly resemble a slice,
    and the outermost slices have neighbours on one side only. Yet their tissue is never half as
    bright as that of slices nearby: in clean slices of simulated heads the difference is at most
    15 percent.

    Parameters
    ----------
    validation
        The scan and its predictions.
    k
        Index of the slice.
    around
        Indices of accepted slices nearby.
    """
    here = _brightness_of_tissue(validation.measured[k])
    nearby = [_brightness_of_tissue(validation.measured[other]) for other in around]
    if not nearby or not 0 < here < _MOST_LEFT * float(np.median(nearby)):
        return []
    return [SliceRepair(max(here / float(np.median(nearby)), 1 / LARGEST_FACTOR))]


def _brightness_of_tissue(image: Slice) -> float:
    """Quantile of the intensities of a slice that are brighter than air; 0 for too few voxels."""
    known = image[np.isfinite(image)]
    tissue = known[known > _ABOVE_AIR * np.quantile(known, _BRIGHT)] if known.size else known
    return float(np.quantile(tissue, _TISSUE)) if tissue.size >= _FEWEST_VOXELS else 0.0


def relative_brightness(measured: Slice, predicted: Slice) -> float:
    """Brightness of tissue over that of its prediction, wherever in the slice it lies.

    It is 1 if either is dark throughout.
    """
    here, there = (float(np.quantile(values, _TISSUE)) for values in (measured, predicted))
    if here <= 0 or there <= 0:
        return 1.0
    return float(np.clip(here / there, 1 / LARGEST_FACTOR, LARGEST_FACTOR))


def repair_coarse_slices(validation: CrossValidation, repairs: Repairs) -> CrossValidation:
    """Cross-validation of a scan with its slices repaired, at the resolution of the predictions."""
    measured, detail = validation.measured.copy(), validation.detail.copy()
    for k, repair in repairs.items():
        voxels = -np.array(repair.shift) / validation.spacing[1:]
        measured[k] = _translated_magnitudes(measured[k], voxels) / np.float32(repair.factor)
        detail[k] = _translated_magnitudes(detail[k], voxels) / np.float32(repair.factor**2)
    return replace(validation, measured=measured, detail=np.nan_to_num(detail))


def _translated_magnitudes(image: Slice, voxels: NDArray[np.float64]) -> Slice:
    """A translated slice ``(U, V)``, with its missing and masked voxels; NaN beyond the edges."""
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
