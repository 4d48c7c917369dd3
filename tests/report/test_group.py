"""The page of a cohort as a file."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bids_unires.config import ModelSettings
from bids_unires.report import GroupReport, write_group_report
from bids_unires.report.citation import group_methods_text

CohortMaker = Callable[..., GroupReport]
EVIL = "\"><script>alert(1)</script>'&<img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._within_code = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._within_code = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._within_code = False

    def handle_data(self, data: str) -> None:
        if not self._within_code:
            self.text += f"{data} "

    def values(self, *names: str) -> list[str]:
        return [value or "" for name, value in self.attributes if name in names]


def written(report: GroupReport, tmp_path: Path) -> Page:
    return Page(write_group_report(report, tmp_path / "out"))


def test_the_page_holds_all_it_shows(make_cohort: CohortMaker, tmp_path: Path) -> None:
    page = written(make_cohort(), tmp_path)
    assert all(url.startswith("data:") for url in page.values("src"))
    pictures = [url for url in page.values("src") if url.startswith("data:image/")]
    # A picture and an outline of everybody, and a mean of each contrast.
    assert len(pictures) == 6 * 2 + 2
    links = [url for url in page.values("href") if not url.startswith(("#", "data:"))]
    assert links
    for link in links:
        assert (tmp_path / "out" / link).is_file() or link == "group_unires.tsv"
    assert "http" not in "".join(page.values("src", "href"))
    assert page.values("loading") == ["lazy"] * 12


def test_pictures_show_greys_whatever_the_units_of_images(
    make_cohort: CohortMaker, tmp_path: Path
) -> None:
    page = written(make_cohort(), tmp_path)
    pictures = [url for url in page.values("src") if url.startswith("data:image/webp")]
    assert len(pictures) >= 6 + 2
    for url in pictures:
        content = base64.b64decode(url.partition("base64,")[2])
        grey = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        assert np.mean(grey > 250) < 0.5
        assert np.ptp(grey) > 100


def test_the_page_tells_how_the_cohort_came_out(make_cohort: CohortMaker, tmp_path: Path) -> None:
    page = written(make_cohort(), tmp_path)
    text = " ".join(page.text.split())
    for told in (
        "11 images of 6 participants on one grid",
        "30 × 36 × 32",  # noqa: RUF001
        "4 mm isotropic",
        "All sides can be divided by 2",
        "pow23",
        "others 1.5 mm less",
        "15.0 mm of room",
        "1.2.3",
        "it has none",
        "outline of each participant's brain",
        "0.0001 or 0.001 (images differ)",
        "|x − median| / (1.4826 MAD) > 3.5",  # noqa: RUF001
        "Images with outliers 2",
        "@brudfors2018",
        "with a margin of 5 mm",
    ):
        assert told in text, told


def test_outliers_are_marked_and_nothing_else_is(make_cohort: CohortMaker, tmp_path: Path) -> None:
    report = make_cohort()
    text = write_group_report(report, tmp_path / "out").read_text("utf-8")
    table = text[text.index("<tbody>", text.index('class="quality"')) :]
    rows = re.findall(r'<tr data-label="([^"]+)"( data-marked)?>', table)
    assert [label for label, marked in rows if marked] == ["sub-3", "sub-3"]
    assert table.count("<mark>40.0</mark>") == table.count("<mark>") == 2
    assert len(rows) == len(report.rows)
    tiles = re.findall(r'class="tile( marked)?" data-label="([^"]+)"', text)
    assert [label for marked, label in tiles if marked] == ["sub-3"]


def test_text_of_others_never_becomes_markup(make_cohort: CohortMaker, tmp_path: Path) -> None:
    innocent = written(make_cohort(), tmp_path)
    page = written(make_cohort(dataset=EVIL, reason=EVIL), tmp_path)
    assert page.tags == innocent.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in innocent.attributes]
    assert page.text.count(EVIL) == 5


def test_an_image_that_cannot_be_read_costs_its_own_picture_only(
    make_cohort: CohortMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = make_cohort()
    report.members[1].image.write_bytes(b"no image")
    report.means[0].image.unlink()
    page = written(report, tmp_path)
    assert f"{report.members[1].image} is not a NIfTI file" in page.text
    assert len([url for url in page.values("src") if url.startswith("data:")]) == 5 * 2 + 1
    assert "cannot show sub-2" in caplog.text
    assert "no mean of T1w" in caplog.text


def test_a_mask_that_cannot_be_read_costs_its_outline_only(
    make_cohort: CohortMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = make_cohort()
    mask = report.members[1].mask
    assert mask is not None
    mask.write_bytes(b"no image")
    page = written(report, tmp_path)
    assert len([url for url in page.values("src") if url.startswith("data:")]) == 6 + 5 + 2
    assert f"cannot show sub-2 as it should: {mask} is not a NIfTI" in caplog.text


@pytest.mark.slow
def test_one_image_at_a_time_is_in_memory(
    make_cohort: CohortMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc
    import weakref

    from bids_unires.report import group

    alive: weakref.WeakSet[np.ndarray] = weakref.WeakSet()
    most = 0
    load = group.load_volume

    def watched(path: Path) -> object:
        nonlocal most
        volume = load(path)
        alive.add(volume)
        gc.collect()
        most = max(most, len(alive))
        return volume

    monkeypatch.setattr(group, "load_volume", watched)
    write_group_report(make_cohort(count=8), tmp_path / "out")
    assert 1 <= most <= 2


def test_hundreds_of_participants_make_a_page_that_can_be_sent(
    make_cohort: CohortMaker, tmp_path: Path
) -> None:
    few, many = (
        write_group_report(make_cohort(count=count), tmp_path / "out").stat().st_size
        for count in (4, 12)
    )
    # Of an image of any resolution: the pictures have the same width.
    assert 200 * (many - few) / 8 < 10e6


def test_without_a_grid_failures_are_still_told(make_cohort: CohortMaker, tmp_path: Path) -> None:
    report = make_cohort()
    failed = [
        {"participant_id": "sub-1", "contrast": "T1w", "status": "failed", "reason": "it is blank"}
    ]
    page = written(
        replace(report, shared=None, means=(), members=(), rows=failed, outliers=(), methods={}),
        tmp_path,
    )
    assert "it is blank" in page.text
    assert "The shared grid" not in page.text
    assert "Everybody" not in page.text


def test_a_participant_alone_forces_all_sides(make_cohort: CohortMaker, tmp_path: Path) -> None:
    report = make_cohort(count=1)
    assert report.shared is not None
    reaches = tuple(replace(each, gain=None) for each in report.shared.reaches)
    page = written(replace(report, shared=replace(report.shared, reaches=reaches)), tmp_path)
    assert "mm of room" in page.text
    assert "mm less" not in page.text


def test_the_same_report_gives_the_same_bytes(make_cohort: CohortMaker, tmp_path: Path) -> None:
    first = write_group_report(make_cohort(), tmp_path / "out").read_bytes()
    assert write_group_report(make_cohort(), tmp_path / "out").read_bytes() == first


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "in the space of the template MNI152NLin2009cAsym [@fonov2009]"),
        ({"template": "none"}, "aligned rigidly to their mean"),
        ({"align": "none"}, "They share a grid of 30 x 36 x 32 voxels of 4 mm isotropic"),
        ({"grid_policy": "pow2"}, "with sides of 2^k voxels"),
        ({"grid_policy": "multiple"}, "multiples of 16 voxels"),
    ],
)
def test_the_methods_follow_the_grid(
    make_cohort: CohortMaker, settings: dict[str, str], told: str
) -> None:
    shared = make_cohort().shared
    assert shared is not None
    shared = replace(shared, settings=replace(shared.settings, **settings))
    text = group_methods_text(ModelSettings(), shared, ["refit", "reslice"])
    assert told in text
    assert "reconstructed again on this grid from the scans or interpolated once" in text
    assert ("were aligned rigidly to a head in the space" in text) == (
        not settings or "grid" in str(settings)
    )
