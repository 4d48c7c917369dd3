"""Quintic B-splines through samples along a line, which blur what lies between far less than lines.

Unser, Aldroubi & Eden 1993, "B-spline signal processing: part I, theory". Beyond the ends,
coefficients are mirrored.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_ORDER = 5
# Coefficients on either side of a place that its value depends on.
_REACH = 3


def interpolation(count: int, offset: float = 0.0) -> NDArray[np.float64]:
    """Matrix ``(count, count)`` from samples along a line to values at an offset from each.

    Parameters
    ----------
    count
        How many samples.
    offset
        In samples; beyond the outermost ones those are found.

    Examples
    --------
    >>> np.round(interpolation(5, 1.0) @ [0, 1, 4, 9, 16], 6).tolist()
    [1.0, 4.0, 9.0, 16.0, 16.0]
    """
    places = np.clip(np.arange(count) + offset, 0, count - 1)
    return np.asarray(_basis(count, places) @ _to_coefficients(count))


@lru_cache(maxsize=8)
def _to_coefficients(count: int) -> NDArray[np.float64]:
    """Matrix ``(count, count)`` from samples to coefficients of the spline through them."""
    return np.asarray(np.linalg.inv(_basis(count, np.arange(count, dtype=np.float64))))


def _basis(count: int, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of each of so many coefficients at ``(P,)`` places, ``(P, count)``."""
    nearby = np.floor(places).astype(int)[:, None] + np.arange(1 - _REACH, 1 + _REACH)
    weights = _weight(np.abs(places[:, None] - nearby))
    period = max(2 * (count - 1), 1)
    folded = nearby % period
    found = np.zeros((len(places), count))
    rows = np.arange(len(places))[:, None]
    np.add.at(found, (rows, np.minimum(folded, period - folded) % count), weights)
    return found


def _weight(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a coefficient at a distance, in samples."""
    parts = [
        (-1) ** k * math.comb(_ORDER + 1, k) * np.clip(_REACH - k - distance, 0, None) ** _ORDER
        for k in range(_ORDER + 1)
    ]
    return np.asarray(sum(parts) / math.factorial(_ORDER))
