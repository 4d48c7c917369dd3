"""The page of a cohort in a browser, from disk and without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.report import GroupReport, write_group_report

CohortMaker = Callable[..., GroupReport]
Visitor = Callable[[Path, str], tuple[dict[str, Any], str]]

# Does what a reader would do, and tells what the reader would then see.
READER = """
<script>
const settle = () => new Promise((done) => setTimeout(done, 50));
addEventListener("load", async () => {
  const found = { errors };
  for (const image of document.images) image.loading = "eager";
  const pending = () => [...document.images].some((image) => !image.complete);
  for (let k = 0; k < 100 && pending(); k++) await settle();
  found.broken = [...document.images].filter((image) => !image.naturalWidth).length;
  found.pictures = document.images.length;
  found.fetched = performance.getEntriesByType("resource")
    .map((entry) => entry.name).filter((name) => !name.startsWith("data:"));
  found.wider = document.documentElement.scrollWidth - innerWidth;

  const table = document.querySelector("[data-sortable]");
  const heads = [...table.tHead.rows[0].cells];
  const find = (title) => heads.findIndex((head) => head.textContent.trim().startsWith(title));
  const column = (title) => [...table.tBodies[0].rows]
    .filter((row) => row.offsetParent !== null)
    .map((row) => row.cells[find(title)].textContent.trim());
  const sort = async (title, key) => {
    const button = heads[find(title)].querySelector("button");
    button.focus();
    button.dispatchEvent(new KeyboardEvent("keydown", { key }));
    button.click();
    await settle();
  };
  found.focusable = heads.every((head) => head.querySelector("button").tabIndex === 0);
  found.explained = heads.every((head) => head.title.length > 5);
  found.unsorted = heads.some((head) => head.hasAttribute("aria-sort"));
  // Now the row with what is missing is no longer the last.
  await sort("participant id");
  await sort("participant id");
  await sort("scans");
  found.scans = column("scans");
  found.ascending = heads[find("scans")].getAttribute("aria-sort");
  await sort("scans");
  found.scansDown = column("scans");
  found.descending = heads[find("scans")].getAttribute("aria-sort");
  await sort("participant id");
  found.labels = column("participant id");
  found.sorted = heads.filter((head) => head.hasAttribute("aria-sort")).length;
  await sort("residual mean");
  found.signed = column("residual mean");

  const searches = document.querySelectorAll("[data-filter]");
  const search = async (text) => {
    searches[1].value = text;
    searches[1].dispatchEvent(new Event("input"));
    await settle();
  };
  const tiles = () => [...document.querySelectorAll(".tile")]
    .filter((tile) => tile.offsetParent !== null).map((tile) => tile.dataset.label);
  await search("SUB-11");
  found.filtered = column("participant id");
  found.filteredTiles = tiles();
  found.together = searches[0].value;
  found.counted = document.querySelector("[data-count=row]").textContent;
  await search("");
  const marked = document.querySelector("[data-marked-only]");
  marked.click();
  await settle();
  found.marked = column("participant id");
  marked.click();
  found.everybody = tiles().length;

  const visible = (element) => getComputedStyle(element).visibility === "visible";
  const picture = document.querySelector("button.picture");
  const seen = () => [".mean", ".outline"].map((name) => visible(picture.querySelector(name)));
  found.atFirst = seen();
  picture.click();
  found.afterClick = seen();
  found.pressed = picture.getAttribute("aria-pressed");
  picture.click();
  document.querySelector("[data-toggle=no-outline]").click();
  document.querySelector("[data-toggle=all-means]").click();
  found.afterToggles = seen();
  found.background = getComputedStyle(picture.querySelector(".mean")).backgroundImage.slice(0, 26);

  const output = document.createElement("pre");
  output.id = "found";
  output.textContent = JSON.stringify(found);
  document.body.append(output);
});
</script>
"""


def test_a_reader_finds_a_page_that_works(make_cohort: CohortMaker, visit: Visitor) -> None:
    evil = "<script>throw Error('run')</script>"
    report = make_cohort(count=11, dataset=evil, reason=evil)
    assert report.shared is not None
    folder = report.shared.path.parent
    found, messages = visit(write_group_report(report, folder), READER)
    assert found["errors"] == []
    assert "CONSOLE" not in messages
    assert found["broken"] == 0
    assert found["pictures"] == 2 * 11 + 2
    assert found["fetched"] == []
    assert found["wider"] <= 0

    numbers = sorted([*range(1, 12), *range(1, 11)])
    assert found["focusable"]
    assert found["explained"]
    assert not found["unsorted"]
    # By number and not by text; what is missing comes last either way.
    assert found["scans"] == [*map(str, numbers), "n/a"]
    assert found["scansDown"] == [*map(str, reversed(numbers)), "n/a"]
    assert (found["ascending"], found["descending"]) == ("ascending", "descending")
    assert found["labels"] == [f"sub-{number}" for number in sorted([*numbers, 11])]
    assert found["sorted"] == 1
    assert found["signed"][0] == "−0.15"  # noqa: RUF001
    assert found["signed"][-2] == "+0.85"

    assert found["filtered"] == ["sub-11", "sub-11"]
    assert found["filteredTiles"] == ["sub-11"]
    assert found["together"] == "SUB-11"
    assert found["counted"] == "2 of 22 rows"
    assert found["marked"] == ["sub-3", "sub-3"]
    assert found["everybody"] == 11

    assert found["atFirst"] == [False, True]
    assert found["afterClick"] == [True, True]
    assert found["pressed"] == "true"
    assert found["afterToggles"] == [True, False]
    assert found["background"] == 'url("data:image/webp;base6'


@pytest.mark.parametrize("url", ["gone.webp", "http://localhost:9/picture.png"])
def test_a_picture_from_elsewhere_would_be_noticed(
    make_cohort: CohortMaker, visit: Visitor, url: str
) -> None:
    report = make_cohort()
    assert report.shared is not None
    page = write_group_report(report, report.shared.path.parent)
    text = page.read_text("utf-8").replace('<img src="', f'<img src="{url}" data-was="', 1)
    page.write_text(text, "utf-8")
    found, _ = visit(page, READER)
    assert found["broken"] == 1
    assert found["errors"]
