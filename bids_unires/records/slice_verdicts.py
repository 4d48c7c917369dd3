"""The record of the slices of a scan that a robust fit rejected, repaired or weighted less."""

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

    In JSON, each item of ``RejectedSlices`` has a ``Slice`` and a ``Reason``. Each item of
    ``MendedSlices`` has a ``Slice`` and the artefacts that were removed: ``Brightness`` (factor),
    ``Shift`` (mm along both axes of the slice) and ``Stripes`` (``Frequency`` in cycles per voxel
    along both axes, and the amplitudes ``Cosine`` and ``Sine`` in intensity).

    Parameters
    ----------
    rejected
        The reason why slices were left out, by slice: the feature that deviates most.
    mended
        The repairs of slices, by slice.
    weights
        Weight of each slice in the fit, above 0: 1 for a slice that agrees with the others.
    """

    rejected: Mapping[int, str]
    mended: Mapping[int, SliceRepair]
    weights: tuple[float, ...]

    @classmethod
    def of_verdict(cls, verdict: SliceVerdict) -> Self:
        """Make the record of the verdict on the slices of one scan."""
        rejected = dict(zip(verdict.rejected, verdict.reasons, strict=True))
        weights = tuple(np.round(verdict.weights, 4).tolist())
        return cls(rejected, dict(sorted(verdict.repairs.items())), weights)

    @classmethod
    def from_json(cls, scan: object) -> Self | None:
        """Read the verdict in the record of a scan; None if it is missing or not valid.

        If one part is not valid, the whole verdict is None. Otherwise, bad slices would be taken
        for good ones.
        """
        if not isinstance(scan, Mapping):
            return None
        try:
            return cls(
                {int(one["Slice"]): _feature(one["Reason"]) for one in scan["RejectedSlices"]},
                # The first versions of the program repaired no slices.
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
        """The verdict on the slices; None if it does not match the scan.

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
        # The record holds the feature that deviates, but not the size of the deviation.
        deviations = np.zeros((count, len(FEATURES)))
        for index, feature in self.rejected.items():
            deviations[index, FEATURES.index(feature)] = 1.0
        return SliceVerdict(axis, weights, deviations, dict(self.mended))


def _feature(name: Any) -> str:
    return FEATURES[FEATURES.index(name)]


def _undone(repair: SliceRepair) -> dict[str, Any]:
    """The parts of a repair that changed the slice, in the types of JSON."""
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
    """Read the output of `_undone`; raises ValueError, TypeError or KeyError if it is not valid."""
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
