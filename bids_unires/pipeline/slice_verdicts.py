"""How far slices are believed, in sidecars and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..model.slice_filling import REJECTED
from ..model.slice_weights import FEATURES, SliceVerdict


def verdict_record(verdict: SliceVerdict) -> dict[str, Any]:
    """The verdict on one scan, for a sidecar; slices are counted from 0 along the slice axis."""
    return {
        "RejectedSlices": [
            {"Slice": k, "Reason": reason}
            for k, reason in zip(verdict.rejected, verdict.reasons, strict=True)
        ],
        "SliceWeights": np.round(verdict.weights, 4).tolist(),
    }


def verdict_from_record(record: object, axis: int, count: int) -> SliceVerdict | None:
    """The verdict on one scan, as `verdict_record` has put it.

    Parameters
    ----------
    record
        What a sidecar says of the scan; None is returned for anything but a verdict.
    axis
        The slice axis (0, 1 or 2).
    count
        Number of slices.
    """
    if not isinstance(record, Mapping):
        return None
    try:
        weights = np.array(record["SliceWeights"], dtype=np.float64)
        reasons = {
            int(one["Slice"]): FEATURES.index(one["Reason"]) for one in record["RejectedSlices"]
        }
    except (KeyError, TypeError, ValueError):
        return None
    if weights.shape != (count,) or not (weights > 0).all():
        return None
    if set(reasons) != set(np.flatnonzero(weights < REJECTED).tolist()):
        return None
    # By how much a slice was off is not kept, only by what.
    deviations = np.zeros((count, len(FEATURES)))
    for index, feature in reasons.items():
        deviations[index, feature] = 1.0
    return SliceVerdict(axis, weights, deviations)
