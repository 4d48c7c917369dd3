"""Put displaced slices back where a template of the head expects them.

This concerns the only scan of a contrast. A template shows displacements that the neighbours of a
slice hardly show, and the neighbours tell which of them are wrong.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace

from ...space.grid import Grid
from ..scanner.observation import Observation
from .compare import compare_with_predictions
from .cross_validation import CrossValidation, average_in_plane
from .repair import SliceRepair, candidate_repairs, repair_coarse_slices, without_small_shifts
from .template import Shift, find_displaced_slices_in_head
from .verdict import SliceVerdict

logger = logging.getLogger("bids_unires")

# A shift by the neighbours is more exact than one by a template, and replaces it if both differ by
# at most this. A shift by a template must not raise the discrepancy from the neighbours further.
_TEMPLATE_ERROR_MM, _LARGEST_DISCREPANCY_RATIO = 1.0, 1.2


def shifts_by_template(scan: Observation, threshold: float, coarse: Grid) -> Mapping[int, Shift]:
    """Shifts of the displaced slices of an MR scan, by a template of the head.

    Parameters
    ----------
    scan
        The scan.
    threshold
        Intensity above which a voxel belongs to the head.
    coarse
        Grid of the fits, `coarse_grid`.

    Returns
    -------
    Mapping
        Shift in mm along both in-plane axes, by index of the slice. Empty for CT, in which it has
        not been tested.
    """
    if not scan.zero_is_missing:
        return {}
    return find_displaced_slices_in_head(average_in_plane(scan, coarse)[0], threshold)


def confirmed_shifts(
    validation: CrossValidation, shifts: Mapping[int, Shift], threshold: float
) -> Mapping[int, Shift]:
    """Shifts by a template that the neighbours do not contradict, refined by the neighbours.

    Parameters
    ----------
    validation
        The scan, and its predictions by the neighbours of each slice.
    shifts
        Shift in mm along both in-plane axes, by index of the slice.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    refined = {k: _refined_shift(validation, k, shift, threshold) for k, shift in shifts.items()}
    repairs = {k: SliceRepair(shift=shift) for k, shift in refined.items()}
    before, after = (
        compare_with_predictions(slices, threshold).discrepancy
        for slices in (validation, repair_coarse_slices(validation, repairs))
    )
    return {
        k: shift
        for k, shift in refined.items()
        if not after[k] > _LARGEST_DISCREPANCY_RATIO * before[k]
    }


def _refined_shift(validation: CrossValidation, k: int, shift: Shift, threshold: float) -> Shift:
    """The shift of slice k by its neighbours, if it is near the given one; else that one."""
    for repair in candidate_repairs(validation, k, threshold):
        if any(repair.shift) and math.dist(repair.shift, shift) < _TEMPLATE_ERROR_MM:
            return repair.shift
    return shift


def put_back(
    initial: SliceVerdict, found: SliceVerdict, shifts: Mapping[int, Shift]
) -> SliceVerdict:
    """The verdict from which slices are judged again, once displaced slices were put back.

    Parameters
    ----------
    initial
        The verdict before any comparison with predictions.
    found
        The verdict whose shifts the scan had when its displacements were found.
    shifts
        Displacements, which come on top of those shifts: mm along both in-plane axes, by index of
        the slice.
    """
    repairs = dict(initial.repairs)
    for k, shift in shifts.items():
        so_far = SliceRepair(shift=found.repairs.get(k, SliceRepair()).shift)
        further = so_far.followed_by(SliceRepair(shift=shift))
        repairs[k] = repairs.get(k, SliceRepair()).followed_by(further)
    logger.debug("slices put where a template expects them: %s", dict(shifts))
    return replace(initial, repairs=without_small_shifts(repairs))
