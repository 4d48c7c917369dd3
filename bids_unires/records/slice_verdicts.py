"""How far slices are believed, in sidecars and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..model.robust.repair import SliceRepair
from ..model.robust.stripes import Stripes
from ..model.robust.verdict import FEATURES, SliceVerdict
from ..model.scanner.rejected_slices import REJECTION_WEIGHT


def verdict_record(verdict: SliceVerdict) -> dict[str, Any]:
    """The verdict on one scan, for a sidecar; slices are counted from 0 along the slice axis."""
    return {
        "RejectedSlices": [
            {"Slice": k, "Reason": reason}
            for k, reason in zip(verdict.rejected, verdict.reasons, strict=True)
        ],
        "MendedSlices": [
            {"Slice": k, **_repair_record(repair)} for k, repair in sorted(verdict.repairs.items())
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
        repairs = {
            int(one["Slice"]): _repair_from_record(one) for one in record.get("MendedSlices", ())
        }
        reasons = {
            int(one["Slice"]): FEATURES.index(one["Reason"]) for one in record["RejectedSlices"]
        }
    except (KeyError, TypeError, ValueError):
        return None
    if weights.shape != (count,) or not (weights > 0).all():
        return None
    if set(reasons) != set(np.flatnonzero(weights < REJECTION_WEIGHT).tolist()):
        return None
    if not set(repairs) <= set(range(count)):
        return None
    # By how much a slice was off is not kept, only by what.
    deviations = np.zeros((count, len(FEATURES)))
    for index, feature in reasons.items():
        deviations[index, feature] = 1.0
    return SliceVerdict(axis, weights, deviations, repairs)


def _repair_record(repair: SliceRepair) -> dict[str, Any]:
    """What was undone of a slice, and nothing else."""
    stripes = [
        {"Frequency": list(own.frequency), "Cosine": own.cosine, "Sine": own.sine}
        for own in repair.stripes
    ]
    record: dict[str, Any] = {"Stripes": stripes} if stripes else {}
    if repair.factor != 1:
        record["Brightness"] = repair.factor
    if any(repair.shift):
        record["Shift"] = list(repair.shift)
    return record


def _repair_from_record(record: Mapping[str, Any]) -> SliceRepair:
    """What `_repair_record` has put, or ValueError, TypeError or KeyError."""
    factor = float(record.get("Brightness", 1.0))
    if not factor > 0:
        raise ValueError(f"no slice has {factor} times its brightness")
    stripes = [
        Stripes(_pair(one["Frequency"]), float(one["Cosine"]), float(one["Sine"]))
        for one in record.get("Stripes", ())
    ]
    return SliceRepair(factor, _pair(record.get("Shift", (0.0, 0.0))), tuple(stripes))


def _pair(values: Any) -> tuple[float, float]:
    first, second = map(float, values)
    return first, second
