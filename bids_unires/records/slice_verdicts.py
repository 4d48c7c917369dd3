"""How far the slices of a scan are believed, and what was undone of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..model.robust.repair import SliceRepair
from ..model.robust.stripes import Stripes
from ..model.robust.verdict import FEATURES, SliceVerdict
from ..model.scanner.rejected_slices import REJECTION_WEIGHT


@dataclass(frozen=True)
class SliceVerdictRecord:
    """The verdict on the slices of one scan, which are counted from 0 along the slice axis.

    In JSON, ``RejectedSlices`` holds a ``Slice`` and a ``Reason`` each; ``MendedSlices`` a
    ``Slice`` and whatever was undone of it: ``Brightness`` (factor), ``Shift`` (mm along both
    axes of the slice) and ``Stripes`` (``Frequency`` in cycles per voxel along both axes, and
    the amplitudes ``Cosine`` and ``Sine`` in intensity).

    Parameters
    ----------
    rejected
        Why slices were left out: the feature that is off most, by slice.
    mended
        What was undone of slices, by slice.
    weights
        How far each slice is believed: 1 for one that fits in with the others, and above 0.
    """

    rejected: Mapping[int, str]
    mended: Mapping[int, SliceRepair]
    weights: tuple[float, ...]

    @classmethod
    def of_verdict(cls, verdict: SliceVerdict) -> Self:
        """Take down what was thought of the slices of one scan."""
        rejected = dict(zip(verdict.rejected, verdict.reasons, strict=True))
        weights = tuple(np.round(verdict.weights, 4).tolist())
        return cls(rejected, dict(sorted(verdict.repairs.items())), weights)

    @classmethod
    def from_json(cls, scan: object) -> Self | None:
        """Read the verdict in the record of a scan; None where there is none, or an unusable one.

        All of it is usable or none: slices would be taken for good ones.
        """
        if not isinstance(scan, Mapping):
            return None
        try:
            return cls(
                {int(one["Slice"]): _feature(one["Reason"]) for one in scan["RejectedSlices"]},
                # The first versions mended none.
                {int(one["Slice"]): _repair(one) for one in scan.get("MendedSlices", ())},
                tuple(map(float, scan["SliceWeights"])),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """The verdict in the types of JSON, as entries of the record of a scan."""
        return {
            "RejectedSlices": [
                {"Slice": k, "Reason": reason} for k, reason in self.rejected.items()
            ],
            "MendedSlices": [{"Slice": k, **_undone(own)} for k, own in self.mended.items()],
            "SliceWeights": list(self.weights),
        }

    def verdict(self, axis: int, count: int) -> SliceVerdict | None:
        """What was thought of the slices; None where this is no verdict on such a scan.

        Parameters
        ----------
        axis
            The slice axis (0, 1 or 2).
        count
            Number of slices.
        """
        weights = np.array(self.weights, dtype=np.float64)
        if weights.shape != (count,) or not (weights > 0).all():
            return None
        if set(self.rejected) != set(np.flatnonzero(weights < REJECTION_WEIGHT).tolist()):
            return None
        if not set(self.mended) <= set(range(count)):
            return None
        # By how much a slice was off is not kept, only by what.
        deviations = np.zeros((count, len(FEATURES)))
        for index, feature in self.rejected.items():
            deviations[index, FEATURES.index(feature)] = 1.0
        return SliceVerdict(axis, weights, deviations, dict(self.mended))


def _feature(name: Any) -> str:
    return FEATURES[FEATURES.index(name)]


def _undone(repair: SliceRepair) -> dict[str, Any]:
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


def _repair(record: Mapping[str, Any]) -> SliceRepair:
    """What `_undone` has put, or ValueError, TypeError or KeyError."""
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
