"""The page of visits, in a browser as a reader has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_unires.report import (
    ComparedContrast,
    ParticipantReport,
    VisitImage,
    VisitRow,
    VisitsReport,
    write_visits_report,
)
from bids_unires.report.motion import motion_of

ReportMaker = Callable[..., ParticipantReport]
Visitor = Callable[[Path, str], tuple[dict[str, Any], str]]

READER = """
<script>
const rest = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const seen = (figure) => [...figure.querySelectorAll(".layer")]
  .findIndex((layer) => getComputedStyle(layer).visibility === "visible");
addEventListener("load", async () => {
  await rest(300);
  const found = { errors };
  const pictures = [...document.images].filter((image) => !image.closest("[hidden]"));
  found.broken = pictures.filter((image) => !image.complete || !image.naturalWidth).length;
  found.wider = document.documentElement.scrollWidth - innerWidth;
  const beside = [...document.querySelectorAll(".beside figure")];
  found.beside = beside.map((figure) => figure.textContent.trim());
  const tops = beside.map((figure) => figure.getBoundingClientRect().top);
  found.sameHeight = tops[0] === tops[1];
  const [figure, change] = document.querySelectorAll("[data-flicker]");
  found.choices = [...figure.querySelectorAll("label")].map((label) => label.textContent.trim());
  found.change = [...change.querySelectorAll("label")].map((label) => label.textContent.trim());
  const flicker = figure.querySelector("[data-auto]");
  flicker.click();
  found.flickering = [];
  for (let k = 0; k < 4; k++) { found.flickering.push(seen(figure)); await rest(750); }
  flicker.click();
  const explorer = document.querySelector("[data-explorer]");
  found.explored = [...explorer.querySelectorAll("label")].map((label) => label.textContent.trim());
  found.sheets = new Set([...explorer.querySelectorAll("[data-sheet]")].map((s) => s.src)).size;
  const output = document.createElement("pre");
  output.id = "found";
  output.textContent = JSON.stringify(found);
  document.body.append(output);
});
</script>
"""


@pytest.fixture
def report(make_report: ReportMaker, tmp_path: Path) -> VisitsReport:
    """Two visits, of which the second is twice as bright and has a dark spot."""
    of_one = make_report()
    first = of_one.contrasts[0].image
    second = 2 * first
    second[10:20, 10:26, 10:22] = 0
    path = tmp_path / "out" / "sub-01" / "image.nii.gz"
    images = (VisitImage("1", first, path, 1.0), VisitImage("2<b>", second, path, 2.0))
    motion = motion_of(np.eye(4), of_one.grid)
    return VisitsReport(
        label="sub-01",
        dataset="<script>throw Error('run')</script>",
        reference="unbiased",
        grid=of_one.grid,
        seen=np.ones(of_one.grid.shape, dtype=np.float32),
        contrasts=(ComparedContrast("T1w", images),),
        visits=(VisitRow("1", "sub-01_ses-1.html", motion), VisitRow("2<b>", "", motion)),
    )


def test_a_reader_sees_visits_beside_each_other_and_in_turn(
    report: VisitsReport, visit: Visitor, tmp_path: Path
) -> None:
    *_, page = write_visits_report(report, tmp_path / "out")
    assert page.name == "sub-01_visits.html"
    found, messages = visit(page, READER)
    assert found["errors"] == []
    assert "CONSOLE" not in messages
    assert found["broken"] == 0
    assert found["wider"] <= 0
    assert found["beside"] == ["ses-1", "ses-2<b>"]
    assert found["sameHeight"]
    assert found["choices"] == ["ses-1", "ses-2<b>"]
    assert found["change"] == ["ses-2<b> minus ses-1"]
    assert found["flickering"] == [0, 1, 0, 1]
    assert found["explored"] == ["T1w ses-1", "T1w ses-2<b>"]
    assert found["sheets"] == 2
