"""Tables show the figures, and the page says where others are better."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

pytest.importorskip("skimage", reason="`make peers` installs scikit-image")

from evaluation.peers import results
from evaluation.peers.__main__ import PAGE
from evaluation.peers.cases import FLAIR, STROKE, Case
from evaluation.peers.own import OURS
from evaluation.peers.results import RESULTS, Row
from evaluation.peers.running import Run
from evaluation.peers.table import IMAGE, LESIONS, heads, page, programs, standing, table

FIRST, SECOND = str(Case(FLAIR, 5)), str(Case(STROKE, 4, gap=1))
PSNR, ENERGY = IMAGE[0], IMAGE[3]


def row(
    method: str, values: Mapping[str, float], case: str = FIRST, *, resampled: bool = False
) -> Row:
    run = Run(90.4, 60.2, 900, threads=2, cores=4, date="2020-01-02")
    return Row(case, method, f"{method} 1", "some", run, resampled, values)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def body(text: str) -> list[list[str]]:
    return [cells(line) for line in text.splitlines()[2:]]


def test_the_best_of_each_case_are_bold() -> None:
    shown = body(
        table(
            [
                row(OURS, {"PSNR": 20.0, "edges": 0.7}),
                row("other", {"PSNR": 21.0, "edges": 1.2}),
                row(OURS, {"PSNR": 25.0, "edges": 1.1}, SECOND),
                row("other", {"PSNR": 24.0, "edges": 0.9}, SECOND),
            ],
            (PSNR, ENERGY),
        )
    )
    assert shown == [
        [FIRST, OURS, "20.00", "0.70"],
        [FIRST, "other", "**21.00**", "**1.20**"],
        [SECOND, OURS, "**25.00**", "**1.10**"],
        [SECOND, "other", "24.00", "**0.90**"],
    ]


def test_what_looks_equal_is_equal() -> None:
    rows = [row(OURS, {"PSNR": 20.001}), row("other", {"PSNR": 20.004})]
    assert [line[2] for line in body(table(rows, (PSNR,)))] == ["**20.00**"] * 2
    assert body(standing(rows, (PSNR,))) == [[PSNR.title, "1 of 1", "+0.00 to +0.00", "-"]]


def test_figures_that_are_not_there_are_a_dash() -> None:
    shown = body(table([row(OURS, {"false": 2.0}), row("other", {"false": 3.0})], LESIONS))
    assert shown[0][2:-1] == ["-"] * 6
    assert [line[-1] for line in shown] == ["**2**", "3"]


def test_others_that_are_better_are_named_with_both_figures() -> None:
    rows = [
        row(OURS, {"PSNR": 20.0}),
        row("worse", {"PSNR": 19.0}),
        row("better", {"PSNR": 20.5}),
        row("best", {"PSNR": 21.0}),
        row(OURS, {"PSNR": 25.0}, SECOND),
        row("best", {"PSNR": 24.0}, SECOND),
    ]
    ((title, best, ahead, behind),) = body(standing(rows, (PSNR,)))
    assert (title, best, ahead) == (PSNR.title, "1 of 2", "-1.00 to +1.00")
    assert behind == f"{FIRST}: 20.00, 21.00 (best)"


def test_a_case_without_ours_or_without_others_is_not_compared() -> None:
    alone = [row(OURS, {"PSNR": 20.0}), row("other", {"PSNR": 19.0}, SECOND)]
    assert body(standing(alone, (PSNR,))) == []


def test_percent_of_lesions() -> None:
    shown = body(table([row(OURS, {"erased of 5 to 30 mm3": 0.79})], LESIONS))
    assert "79" in shown[0]


def test_programs_are_told_with_what_they_were_measured_with() -> None:
    rows = [row("other", {}), row("other", {}, SECOND)]
    assert body(programs(rows)) == [["other", "other 1", "some", "2 of 4", "2020-01-02"]]


def test_only_heads_that_were_used_are_told() -> None:
    assert FLAIR.name in heads([row(OURS, {})])
    assert STROKE.name not in heads([row(OURS, {})])


def test_the_page_says_which_images_were_interpolated() -> None:
    assert "No image was interpolated" in page([row(OURS, {})])
    assert "Images of other were" in page([row(OURS, {}), row("other", {}, resampled=True)])


def test_the_page_is_made_of_the_recorded_figures() -> None:
    recorded = results.load(RESULTS)
    assert PAGE.read_text("utf-8") == page(recorded)
    assert {OURS} < {found.method for found in recorded}


def test_the_page_says_whether_eclare_was_measured() -> None:
    ours = row(OURS, {})
    assert "not in the figures yet" in page([ours])
    assert "not in the figures yet" not in page([ours, row("ECLARE, 5000 patches", {})])
