"""The page of a participant in a browser, from disk and without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.report import ParticipantReport, write_participant_report

ReportMaker = Callable[..., ParticipantReport]
Visitor = Callable[[Path, str], tuple[dict[str, Any], str]]

# Does what a reader would do, and tells what the reader would then see.
READER = """
<script>
const rest = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const seen = (figure) => [...figure.querySelectorAll(".layer")]
  .findIndex((layer) => getComputedStyle(layer).visibility === "visible");
const ink = (canvas) => canvas.getContext("2d")
  .getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, level) => sum + level, 0);
addEventListener("load", async () => {
  await rest(300);
  const found = { errors };
  const pictures = [...document.images].filter((image) => !image.closest("[hidden]"));
  found.broken = pictures.filter((image) => !image.complete || !image.naturalWidth).length;
  found.pictures = pictures.length;
  found.small = pictures.filter((image) => image.getBoundingClientRect().width < 300).length;
  found.wider = document.documentElement.scrollWidth - innerWidth;

  const figure = document.querySelector("[data-flicker]");
  const choices = figure.querySelectorAll("input");
  found.atFirst = seen(figure);
  choices[0].click();
  found.afterChoice = seen(figure);
  figure.querySelector(".stack").click();
  found.afterClick = seen(figure);
  const flicker = figure.querySelector("[data-auto]");
  flicker.click();
  found.flickering = [];
  for (let k = 0; k < 3; k++) { found.flickering.push(seen(figure)); await rest(750); }
  flicker.click();
  const still = seen(figure);
  await rest(1600);
  found.stopped = seen(figure) === still;
  figure.querySelector("[data-zoom]").click();
  found.zoomed = figure.querySelector(".layer").getBoundingClientRect().width
    > 2 * figure.getBoundingClientRect().width;
  figure.querySelector("[data-zoom]").click();

  const explorer = document.querySelector("[data-explorer]");
  const canvases = [...explorer.querySelectorAll("canvas")];
  found.ink = canvases.map(ink);
  found.place = explorer.querySelector("output").textContent;
  const plane = explorer.querySelector(".plane");
  plane.dispatchEvent(new KeyboardEvent("keydown", { key: "PageUp", cancelable: true }));
  found.placeAbove = explorer.querySelector("output").textContent;
  const output = document.createElement("pre");
  output.id = "found";
  output.textContent = JSON.stringify(found);
  document.body.append(output);
});
</script>
"""


@pytest.mark.parametrize("fitted", [True, False])
def test_a_reader_finds_a_page_that_works(
    make_report: ReportMaker, visit: Visitor, tmp_path: Path, fitted: bool
) -> None:
    evil = "<script>throw Error('run')</script>"
    report = make_report(dataset=evil, name="ce-50% <b>#1?_T1w", fitted=fitted)
    *_, page = write_participant_report(report, tmp_path / "out")
    found, messages = visit(page, READER)
    assert found["errors"] == []
    assert "CONSOLE" not in messages
    assert found["broken"] == 0
    assert found["pictures"] >= (16 if fitted else 9)
    assert found["small"] == 0
    assert found["wider"] <= 0
    last = 3
    assert found["atFirst"] == last
    assert found["afterChoice"] == 0
    assert found["afterClick"] == 1
    assert found["flickering"] == [last, last - 1, last]
    assert found["stopped"]
    assert found["zoomed"]
    assert min(found["ink"]) > 1e5
    assert found["place"] != found["placeAbove"]
    assert found["place"].endswith(" mm")


def test_a_missing_figure_would_be_noticed(
    make_report: ReportMaker, visit: Visitor, tmp_path: Path
) -> None:
    figure, *_, page = write_participant_report(make_report(), tmp_path / "out")
    figure.unlink()
    found, _ = visit(page, READER)
    assert found["broken"] >= 1
    assert found["errors"]
