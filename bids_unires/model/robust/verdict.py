"""The verdict on the slices of a scan: weights, deviations and repairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..scanner.rejected_slices import REJECTION_WEIGHT
from .repair import Repairs

FEATURES = ("brightness", "shift", "shift", "residual", "detail", "stripes")
"""What is compared of a slice: logarithm of its brightness over that of the prediction; shift (mm)
along both axes of its plane; logarithm of the rms residual; logarithm of the rms detail; logarithm
of the power of the strongest frequency of the residual over the mean of all frequencies."""


@dataclass(frozen=True, eq=False)
class SliceVerdict:
    """Weights, deviations and repairs of the slices of one scan.

    Parameters
    ----------
    axis
        The slice axis (0, 1 or 2).
    weights
        ``(K,)``, above 0; 1 for a slice that agrees with the others.
    deviations
        ``(K, 6)``, deviation of each of `FEATURES` from the slices around, in units of their
        spread; 0 for slices with too little of the head. Of a repaired slice, after its repair.
    repairs
        Repairs of slices.
    """

    axis: int
    weights: NDArray[np.float64]
    deviations: NDArray[np.float64]
    repairs: Repairs = field(default_factory=dict)

    @property
    def rejected(self) -> tuple[int, ...]:
        """Indices, from 0, of the rejected slices: those whose weight is below 0.4."""
        return tuple(np.flatnonzero(self.weights < REJECTION_WEIGHT).tolist())

    @property
    def reasons(self) -> tuple[str, ...]:
        """For each rejected slice, the feature of the largest deviation."""
        return tuple(FEATURES[int(np.abs(self.deviations[k]).argmax())] for k in self.rejected)

    @property
    def repaired(self) -> Repairs:
        """Repairs of the slices that are not rejected."""
        return {k: repair for k, repair in self.repairs.items() if k not in self.rejected}

    @property
    def lowest_kept(self) -> float:
        """The lowest weight of all slices that are not rejected; 1 without any."""
        return float(self.weights[self.weights >= REJECTION_WEIGHT].min(initial=1.0))

    @property
    def factors(self) -> NDArray[np.float64]:
        """``(K,)``, factor on the precision of each slice: its weight, or 0 if it is rejected."""
        return np.where(self.weights < REJECTION_WEIGHT, 0.0, self.weights)


Verdicts: TypeAlias = tuple[tuple[SliceVerdict, ...], ...]
"""For each contrast, the verdicts on its scans."""
