"""The cohort's table of quality for readers: rounded, explained, and with outliers marked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .outliers import Outlier, is_finite_number

_MISSING = "n/a"


@dataclass(frozen=True)
class Column:
    """A column that has a value in at least one row.

    Parameters
    ----------
    name
        Name of the column in the file.
    title
        Title on the page.
    unit
        Unit of the values; empty without a unit.
    description
        Description from the data dictionary.
    levels
        Meaning of each value, if the column is categorical.
    is_numeric
        Whether the values are sorted as numbers.
    """

    name: str
    title: str
    unit: str
    description: str
    levels: Mapping[str, str]
    is_numeric: bool


@dataclass(frozen=True)
class Cell:
    """One value of the table.

    Parameters
    ----------
    text
        Text on the page.
    key
        Key for sorting; None without a value.
    note
        Reason for marking the value as an outlier; empty if it is not marked.
    """

    text: str
    key: str | None
    note: str = ""


def columns_of(
    dictionary: Mapping[str, Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> list[Column]:
    """The columns to show: those of the data dictionary with a value in at least one row.

    The column of reasons comes last, because reasons are sentences.
    """
    shown = []
    for name, about in dictionary.items():
        values = [row[name] for row in rows if row.get(name) not in (None, "")]
        if values:
            shown.append(
                Column(
                    name,
                    str(about.get("LongName", name.replace("_", " "))),
                    _UNITS.get(name, str(about.get("Units", "")).replace("arbitrary", "")),
                    str(about.get("Description", "")),
                    about.get("Levels", {}),
                    all(map(is_finite_number, values)),
                )
            )
    return sorted(shown, key=lambda column: column.name == "reason")


def cells_of(
    row: Mapping[str, Any], columns: Sequence[Column], outliers: Mapping[str, Outlier]
) -> list[Cell]:
    """The cells of one row.

    Parameters
    ----------
    row
        Values by name of column.
    columns
        Columns to show.
    outliers
        Outliers of this row, by name of column.
    """
    return [_cell(column, row.get(column.name), outliers.get(column.name)) for column in columns]


def number_text(value: float, digits: int = 3) -> str:
    """A number rounded to significant digits; all digits before the decimal point are kept.

    Examples
    --------
    >>> number_text(1234.5), number_text(-0.01234), number_text(7)
    ('1234', '−0.0123', '7')
    >>> number_text(22.0), number_text(100.0)
    ('22.0', '100')
    """  # noqa: RUF002
    # A number that rounds up to one more digit before the point counts as having that digit.
    if isinstance(value, int) or abs(value) >= 10**digits - 0.5:
        return _with_minus(f"{value:.0f}")
    return _with_minus(f"{value:#.{digits}g}".removesuffix("."))


def signed_text(value: float, places: int = 2) -> str:
    """A number with its sign; 0 has no sign.

    Examples
    --------
    >>> signed_text(0.5), signed_text(-0.001), signed_text(-2, 0)
    ('+0.50', '0.00', '−2')
    """  # noqa: RUF002
    rounded = round(value, places) + 0.0
    return _with_minus(f"{rounded:+.{places}f}" if rounded else f"{rounded:.{places}f}")


_FORMATS: Mapping[str, Callable[[float], str]] = {
    "residual_mean": signed_text,
    "residual_autocorrelation": signed_text,
    "residual_sd": lambda value: f"{value:.2f}",
    "residual_far_share": lambda value: f"{100 * value:.2f}",
    "displacement": lambda value: f"{value:.2f}",
    "runtime": lambda value: f"{value:.0f}" if value >= 10 else f"{value:.1f}",
}
# Units on the page that differ from those of the file.
_UNITS: Mapping[str, str] = {"residual_far_share": "%"}


def _cell(column: Column, value: Any, outlier: Outlier | None) -> Cell:
    if value in (None, "") or (isinstance(value, float) and not is_finite_number(value)):
        return Cell(_MISSING, None)
    if not is_finite_number(value):
        return Cell(str(value), str(value))
    show = _FORMATS.get(column.name, number_text)
    note = ""
    if outlier is not None:
        note = (
            f"median of the contrast {show(outlier.median)}, robust z-score "
            f"{signed_text(outlier.score, 1)}"
        )
    return Cell(show(value), repr(value), note)


def _with_minus(text: str) -> str:
    return text.replace("-", "−")  # noqa: RUF001
