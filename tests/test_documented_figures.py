"""Figures of the documentation are those of the program and of the records, and fit each other."""

from __future__ import annotations

import re

import pytest

from benchmarks.baseline import SLOWER
from benchmarks.baseline import recorded as recorded_times
from tests.documented import demo_scores, find_table
from tests.paths import ROOT

# Of figures with two decimals: each of the two that a difference is made of may be rounded.
ROUNDED = 0.011
STRENGTHS = ("1", "2", "4", "8", "16")


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", text)]


# ------------------------------------------------------------------ figures beside each other


def test_gains_are_what_the_defaults_have_more_than_cubic_interpolation() -> None:
    rows = find_table("case", "cubic", "defaults", "gain on cubic")
    assert rows
    for case, row in rows.items():
        gain = float(row["defaults"]) - float(row["cubic"])
        assert float(row["gain on cubic"]) == pytest.approx(gain, abs=ROUNDED), case


def test_the_chosen_strength_is_compared_with_the_best_fixed_one() -> None:
    rows = find_table("case", "auto", "over best")
    assert rows
    for case, row in rows.items():
        over = float(row["auto"]) - max(float(row[strength]) for strength in STRENGTHS)
        assert float(row["over best"]) == pytest.approx(over, abs=ROUNDED), case


def test_gains_of_the_demo_are_those_of_its_scores() -> None:
    scores = demo_scores()
    assert scores
    for unit, (_, cubic, result, gain) in scores.items():
        assert gain == pytest.approx(result - cubic, abs=ROUNDED), unit
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    said = "".join(page.read_text("utf-8") for page in pages)
    (mean,) = re.findall(r"^Mean gain over cubic B-spline interpolation: \+(\S+) dB$", said, re.M)
    gains = [gain for *_, gain in scores.values()]
    assert float(mean) == pytest.approx(sum(gains) / len(gains), abs=ROUNDED)


# ------------------------------------------------------------------ recorded times


def test_kernels_are_not_said_to_be_faster_than_they_were_measured() -> None:
    recorded = recorded_times()
    rows = find_table("181 x 217 x 181 voxels, one contrast, 4 mm slices, rotated", "time")
    (product,) = (name for name in rows if name.startswith("product with A'A"))
    planes = re.findall(r"coronal|axial|sagittal", product)
    for plane, shown in zip(planes, numbers(rows[product]["of `grid_sample`"]), strict=True):
        assert recorded[f"A'A, {plane}"] <= SLOWER * shown, plane
    (rest,) = (name for name in rows if name.startswith("rest of an iteration"))
    parts = ("edge weights", "direction", "curvature", "step", "halve", "double")
    (shown,) = numbers(rows[rest]["of `grid_sample`"])
    assert sum(recorded[part] for part in parts) <= SLOWER * shown


def solver_rows() -> dict[str, dict[str, str]]:
    return find_table("reference case, three contrasts of 112 x 127 x 112", "`grid_sample`s")


def test_the_solver_is_not_said_to_be_faster_than_it_was_measured() -> None:
    *_, last = solver_rows().values()
    (shown,) = numbers(last["`grid_sample`s"])
    assert recorded_times()["reference case"] <= SLOWER * shown


def test_times_that_are_told_twice_are_the_same() -> None:
    rows = find_table("H200", "2 cores, from above")
    solver = solver_rows()
    (both,) = (row for name, row in rows.items() if name.startswith("reference case to"))
    original = next(row for name, row in solver.items() if "original tool" in name)
    exact = next(row for name, row in solver.items() if "tolerance" in name)
    assert both["2 cores, from above"] == f"{original['time']}; {exact['time']}"
