"""The table as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from bids_unires.pipeline.group.table import data_dictionary
from bids_unires.report.outliers import Outlier
from bids_unires.report.quality_table import cells_of, columns_of, number_text

ROWS: list[dict[str, Any]] = [
    {"participant_id": "sub-1", "status": "failed", "reason": "it is broken"},
    {
        "participant_id": "sub-2",
        "status": "done",
        "scans": 2,
        "noise_sd": 12.3456,
        "residual_mean": -0.004,
        "residual_far_share": 0.0123,
        "mean_intensity": 123456.7,
    },
]


def texts(row: dict[str, Any]) -> dict[str, str]:
    columns = columns_of(data_dictionary(), ROWS)
    cells = cells_of(row, columns, {})
    return {column.name: cell.text for column, cell in zip(columns, cells, strict=True)}


def test_columns_without_a_value_are_not_shown_and_reasons_come_last() -> None:
    columns = columns_of(data_dictionary(), ROWS)
    names = [column.name for column in columns]
    assert "session_id" not in names
    assert names[0] == "participant_id"
    assert names[-1] == "reason"
    about = {column.name: column for column in columns}
    assert about["noise_sd"].is_numeric
    assert not about["participant_id"].is_numeric
    assert about["residual_far_share"].unit == "%"
    assert "4 standard deviations" in about["residual_far_share"].description
    assert set(about["status"].levels) == {"done", "outdated", "missing", "failed"}


def test_numbers_are_rounded_as_people_read_them() -> None:
    assert texts(ROWS[1]) == {
        "participant_id": "sub-2",
        "status": "done",
        "reason": "n/a",
        "scans": "2",
        "noise_sd": "12.3",
        "residual_mean": "0.00",
        "residual_far_share": "1.23",
        "mean_intensity": "123457",
    }


def test_what_is_missing_says_so_and_has_nothing_to_sort_by() -> None:
    columns = columns_of(data_dictionary(), ROWS)
    for value in (None, "", float("nan"), float("inf")):
        cells = cells_of({**ROWS[0], "noise_sd": value}, columns, {})
        (cell,) = (c for c, about in zip(cells, columns, strict=True) if about.name == "noise_sd")
        assert (cell.text, cell.key) == ("n/a", None)


def test_sorting_uses_all_digits() -> None:
    columns = columns_of(data_dictionary(), ROWS)
    keys = [cell.key for cell in cells_of(ROWS[1], columns, {})]
    assert "12.3456" in keys


def test_an_outlier_says_what_is_usual() -> None:
    columns = columns_of(data_dictionary(), ROWS)
    outlier = Outlier(1, "noise_sd", 12.3456, 5.0, 4.94)
    noted = [cell for cell in cells_of(ROWS[1], columns, {"noise_sd": outlier}) if cell.note]
    assert [cell.text for cell in noted] == ["12.3"]
    assert noted[0].note == "median of the contrast 5.00, robust z-score +4.9"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (999.9, "1000"), (0.00012345, "0.000123"), (1e6, "1000000"), (100.2, "100")],
)
def test_no_number_has_an_exponent(value: float, text: str) -> None:
    assert number_text(value) == text
