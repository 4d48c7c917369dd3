"""Values far from those of the other participants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bids_unires.report.outliers import LEAST_ROWS, find_outliers


def rows_of(values: list[Any], contrast: str = "T1w") -> list[dict[str, Any]]:
    return [{"contrast": contrast, "noise_sd": value} for value in values]


def test_the_score_is_the_distance_over_the_scaled_mad() -> None:
    # Median 3, absolute deviations 2 1 0 1 7: MAD 1.
    (found,) = find_outliers(rows_of([1.0, 2.0, 3.0, 4.0, 10.0]), ["noise_sd"])
    assert (found.row, found.column, found.value, found.median) == (4, "noise_sd", 10.0, 3.0)
    assert found.score == pytest.approx(7 / 1.4826)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_limit_holds_on_either_side(sign: int) -> None:
    # With a median of 3 and a MAD of 1, whatever the seventh is.
    usual = [2.0, 2.0, 3.0, 3.0, 4.0, 4.0]
    within, beyond = (3 + sign * 3.5 * 1.4826 * share for share in (0.999, 1.001))
    assert find_outliers(rows_of([*usual, within]), ["noise_sd"]) == ()
    (found,) = find_outliers(rows_of([*usual, beyond]), ["noise_sd"])
    assert np.sign(found.score) == sign


def test_too_few_values_say_nothing() -> None:
    values: list[Any] = [1.0, 2.0, 3.0, 400.0]
    assert len(values) == LEAST_ROWS - 1
    assert find_outliers(rows_of(values), ["noise_sd"]) == ()
    # What is missing does not count as a value.
    assert find_outliers(rows_of([*values, None, float("nan"), "n/a"]), ["noise_sd"]) == ()
    assert find_outliers(rows_of([*values, 2.5]), ["noise_sd"]) != ()


def test_contrasts_are_judged_apart() -> None:
    bright = rows_of([101.0, 102.0, 103.0, 104.0, 105.0], "FLAIR")
    dark = rows_of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert find_outliers([*bright, *dark], ["noise_sd"]) == ()
    odd = {"contrast": "T1w", "noise_sd": 103.0}
    (found,) = find_outliers([odd, *bright, *dark], ["noise_sd"])
    assert found.row == 0


@pytest.mark.parametrize("usual", [0.0, 7.0])
def test_values_that_are_mostly_the_same_are_left_alone(usual: float) -> None:
    assert find_outliers(rows_of([usual] * 4 + [usual + 100]), ["noise_sd"]) == ()
    # Nor is rounding a spread.
    noisy = [usual * (1 + 1e-9 * k) for k in range(5)]
    assert find_outliers(rows_of([*noisy, usual * 1.0001]), ["noise_sd"]) == ()
