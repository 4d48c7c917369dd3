"""Outliers: values far from the median of their contrast."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SCORE_LIMIT = 3.5
"""Robust z-score beyond which a value is an outlier (Iglewicz & Hoaglin 1993)."""

LEAST_ROWS = 5
"""Least number of values of a contrast for which outliers are looked for."""

MAD_TO_SD = 1.4826
"""Ratio of standard deviation to median absolute deviation (MAD) of a normal distribution."""

# A spread below this fraction of the median is rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Outlier:
    """A value far from the median of its contrast.

    Parameters
    ----------
    row
        Index of the row.
    column
        Name of the column.
    value
        The value.
    median
        Median of the contrast, in units of the column.
    score
        Robust z-score: signed distance from the median in robust standard deviations.
    """

    row: int
    column: str
    value: float
    median: float
    score: float


def find_outliers(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> tuple[Outlier, ...]:
    """Find values whose robust z-score within their contrast is beyond `SCORE_LIMIT`.

    The score is ``(x - median) / (1.4826 MAD)``. A contrast has no outliers if it has fewer than
    `LEAST_ROWS` values, or if more than half of its values are equal, so that the MAD is 0.

    Parameters
    ----------
    rows
        Rows of the table; rows with the same ``contrast`` are compared.
    columns
        Names of the columns in which to look for outliers.

    Returns
    -------
    tuple of Outlier
        Outliers in the order of the rows.
    """
    contrasts: dict[Any, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        contrasts[row.get("contrast")].append(index)
    found = [
        outlier
        for column in columns
        for members in contrasts.values()
        for outlier in _outliers_in(column, {index: rows[index].get(column) for index in members})
    ]
    return tuple(sorted(found, key=lambda outlier: outlier.row))


def _outliers_in(column: str, cells: Mapping[int, Any]) -> list[Outlier]:
    numbers = {index: float(cell) for index, cell in cells.items() if is_finite_number(cell)}
    if len(numbers) < LEAST_ROWS:
        return []
    values = np.array(list(numbers.values()))
    median = float(np.median(values))
    spread = MAD_TO_SD * float(np.median(np.abs(values - median)))
    if spread <= _ROUNDING * abs(median):
        return []
    scores = {index: (value - median) / spread for index, value in numbers.items()}
    return [
        Outlier(index, column, numbers[index], median, score)
        for index, score in scores.items()
        if abs(score) > SCORE_LIMIT
    ]


def is_finite_number(value: Any) -> bool:
    """Whether a cell holds a finite number.

    Examples
    --------
    >>> [is_finite_number(cell) for cell in (2, 0.5, None, "3", True, float("nan"))]
    [True, True, False, False, False, False]
    """
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
    )
