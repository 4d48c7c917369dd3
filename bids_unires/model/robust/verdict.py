"""What is thought of the slices of a scan: how far each is believed, and what was undone of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..scanner.rejected_slices import REJECTION_WEIGHT
from .repair import Repairs

FEATURES = ("brightness", "shift", "shift", "residual", "detail", "stripes")
"""What a slice is judged by: logarithm of its factor on the prediction; shift (mm) along both
axes of its plane; logarithm of the rms residual; logarithm of the rms detail; logarithm of the
strongest frequency of the residual over the mean of all."""


@dataclass(frozen=True, eq=False)
class SliceVerdict:
    """How far each slice of one scan is believed.

    Parameters
    ----------
    axis
        The slice axis (0, 1 or 2).
    weights
        ``(K,)``, 1 for a slice that fits in with the others, and above 0.
    deviations
        ``(K, 6)``, by how much each of `FEATURES` is off, in units of what the slices around
        reach; 0 for slices with too little of the head to tell. Of a mended slice, once it was.
    repairs
        Of the slices that were mended.
    """

    axis: int
    weights: NDArray[np.float64]
    deviations: NDArray[np.float64]
    repairs: Repairs = field(default_factory=dict)

    @property
    def rejected(self) -> tuple[int, ...]:
        """Indices, from 0, of the slices that were left out."""
        return tuple(np.flatnonzero(self.weights < REJECTION_WEIGHT).tolist())

    @property
    def reasons(self) -> tuple[str, ...]:
        """Of each rejected slice the feature that is off most."""
        return tuple(FEATURES[int(np.abs(self.deviations[k]).argmax())] for k in self.rejected)

    @property
    def mended(self) -> Repairs:
        """Repairs of the slices that are believed."""
        return {k: repair for k, repair in self.repairs.items() if k not in self.rejected}

    @property
    def lowest_kept(self) -> float:
        """The lowest weight of all slices that were not rejected; 1 if there is none."""
        return float(self.weights[self.weights >= REJECTION_WEIGHT].min(initial=1.0))

    @property
    def factors(self) -> NDArray[np.float64]:
        """``(K,)``, factor on the precision of each slice: its weight, or 0 where rejected."""
        return np.where(self.weights < REJECTION_WEIGHT, 0.0, self.weights)


Verdicts: TypeAlias = tuple[tuple[SliceVerdict, ...], ...]
"""On the scans of each contrast."""
