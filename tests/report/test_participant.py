"""The page of a participant and its figures as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from bids_unires.model import Detectability, LesionKind, LesionOdds, SliceVerdict
from bids_unires.model.robust.repair import SliceRepair
from bids_unires.model.robust.verdict import FEATURES
from bids_unires.report import ParticipantReport, write_participant_report
from bids_unires.space.affines import translation
from tests.report.conftest import report_of

ReportMaker = Callable[..., ParticipantReport]
EVIL = "\"><script>alert(1)</script>'&<img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tags, links and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._within_code = False
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._within_code = tag in ("script", "style")
        self.urls += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._within_code = False

    def handle_data(self, data: str) -> None:
        if not self._within_code:
            self.text += data


Written = tuple[tuple[Path, ...], Page]


def written(report: ParticipantReport, tmp_path: Path) -> Written:
    files = write_participant_report(report, tmp_path / "out")
    return files, Page(files[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the usual report lies, in ``out``."""
    return tmp_path_factory.mktemp("usual")


@pytest.fixture(scope="module")
def usual(folder: Path) -> Written:
    """The report that several tests look at or compare with."""
    return written(report_of(folder / "out"), folder)


def test_the_page_lies_at_the_top_and_its_figures_in_the_folder_of_the_participant(
    make_report: ReportMaker, tmp_path: Path
) -> None:
    files, _ = written(make_report(label="sub-01_ses-a"), tmp_path)
    out = tmp_path / "out"
    assert files[-1] == out / "sub-01_ses-a.html"
    assert all(path.parent == out / "sub-01" / "figures" for path in files[:-1])
    assert all(path.name.startswith("sub-01_ses-a_") for path in files[:-1])
    assert len(set(files)) == len(files)
    assert {path for path in out.rglob("*") if path.is_file()} == set(files)


def test_the_page_shows_every_figure_and_nothing_from_elsewhere(
    usual: Written, folder: Path
) -> None:
    assert_shows_every_figure(*usual, folder / "out")


def assert_shows_every_figure(files: tuple[Path, ...], page: Page, out: Path) -> None:
    shown = set()
    for url in page.urls:
        parts = urlsplit(url)
        assert parts.scheme in ("", "data")
        assert not parts.netloc
        if not parts.scheme and "/figures/" in parts.path:
            shown.add(out / unquote(parts.path))
    assert shown == set(files[:-1])
    assert sum(path.stat().st_size for path in files) < 5e6


def test_the_page_tells_what_became_of_each_scan(usual: Written, folder: Path) -> None:
    _, page = usual
    report = report_of(folder / "out")
    for scan in report.scans:
        assert scan.name in page.text
        assert scan.transform.relative_to(folder / "out").as_posix() in page.urls
    for contrast in report.contrasts:
        assert contrast.path.relative_to(folder / "out").as_posix() in page.urls
    for told in (
        "a word of warning",
        "30 × 36 × 11",  # noqa: RUF001
        "4 × 4 × 12",  # noqa: RUF001
        "20 %",
        "SliceThickness 9.6 mm",
        "rice-mixture",
        "converged",
        "like noise",
        "tolerance",
        "@brudfors2018",
        "from another contrast. Within these planes, where the truth is known, 83 %",
        "the root mean square error is 3.21",
    ):
        assert told in page.text, told


def test_the_page_tells_which_slices_went_wrong(make_report: ReportMaker, tmp_path: Path) -> None:
    report = make_report()
    first, *others = report.contrasts
    weights, off = np.ones(11), np.zeros((11, len(FEATURES)))
    weights[7], off[7, FEATURES.index("shift")] = 0.1, 9.0
    repairs = {3: SliceRepair(0.31), 5: SliceRepair(shift=(0.0, 2.0))}
    bad = SliceVerdict(2, weights, off, repairs)
    good = SliceVerdict(2, np.ones(11), np.zeros((11, len(FEATURES))))
    scans = [
        replace(scan, fit=replace(scan.fit, slices=verdict))
        for scan, verdict in zip(first.scans, (bad, good), strict=True)
        if scan.fit is not None
    ]
    report = replace(
        report,
        contrasts=(replace(first, scans=tuple(scans)), *others),
        model=replace(report.model, robust=True),
    )
    _, page = written(report, tmp_path)
    for told in ("3 (brightness of 0.31), 5 (moved by 2.0 mm)", "7 (shift)", "none of 11"):
        assert told in page.text, told


def test_without_a_fit_nothing_is_said_of_one(make_report: ReportMaker, tmp_path: Path) -> None:
    files, page = written(make_report(fitted=False), tmp_path)
    assert_shows_every_figure(files, page, tmp_path / "out")
    assert "Residuals" not in page.text
    assert "Convergence" not in page.text
    assert "Before and after" in page.text


def test_text_of_others_never_becomes_markup(
    make_report: ReportMaker, tmp_path: Path, usual: Written
) -> None:
    _, innocent = usual
    name = EVIL.replace("/", "-")
    _, page = written(make_report(dataset=EVIL, name=name), tmp_path)
    assert page.tags == innocent.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in innocent.attributes]
    assert EVIL in page.text
    assert name in page.text


def test_names_with_odd_characters_can_be_opened(make_report: ReportMaker, tmp_path: Path) -> None:
    files, page = written(make_report(name="ce-50% été #1?_T1w"), tmp_path)
    paths = [urlsplit(url).path for url in page.urls]
    found = {tmp_path / "out" / unquote(path) for path in paths if "/figures/" in path}
    assert found == set(files[:-1])


def test_the_same_report_gives_the_same_bytes(
    make_report: ReportMaker, tmp_path: Path, usual: Written
) -> None:
    first, second = (
        {path.name: path.read_bytes() for path in files}
        for files in (usual[0], written(make_report(), tmp_path)[0])
    )
    assert first == second


def test_the_page_tells_what_could_hide(
    make_report: ReportMaker, tmp_path: Path, usual: Written
) -> None:
    report = make_report()
    assert "could hide" not in usual[1].text
    first, *others = report.contrasts
    odds = LesionOdds(LesionKind(3.0, 0.3), 27, 0.4, 0.55, 0.43, 0.21)
    known = replace(first, detectability=Detectability("dark", "MR", (odds,)))
    _, page = written(replace(report, contrasts=(known, *others)), tmp_path)
    assert "Of lesions 3 mm wide and 30 % darker than the tissue around them" in page.text
    assert "45 % drawn, 20 % missed" in page.text
    assert "#lesions" in page.urls


def test_one_scan_is_enough(make_report: ReportMaker, tmp_path: Path) -> None:
    report = make_report()
    contrast = replace(report.contrasts[1], scans=report.contrasts[1].scans[:1])
    _, page = written(replace(report, contrasts=(contrast,), warnings=(), dataset=""), tmp_path)
    assert "1 scan of 1 contrast" in page.text
    assert "Linear, averaged" not in page.text
    assert "Worth a second look" not in page.text


def test_ct_is_shown_in_the_window_for_brain(
    make_report: ReportMaker, tmp_path: Path, usual: Written
) -> None:
    report = make_report()
    contrast = report.contrasts[1]
    contrast = replace(contrast, name="ct", image=contrast.image - 1000)
    _, page = written(replace(report, contrasts=(contrast,)), tmp_path)
    assert "Window for brain, −10 to +90 HU" in page.text  # noqa: RUF001
    for name in ("stroke", "bone"):
        assert f"in the window for {name}" in page.text
    assert "HU" not in usual[1].text


def test_scans_are_shown_where_their_poses_put_them(
    make_report: ReportMaker, tmp_path: Path, usual: Written
) -> None:
    """Whatever its header says, a scan that was put in its place looks the same."""
    report = make_report()
    away = translation([16, -8, 24])
    contrasts = [
        replace(
            contrast,
            scans=tuple(
                replace(
                    scan,
                    volume=replace(scan.volume, affine=away @ scan.volume.affine),
                    pose=scan.pose @ np.linalg.inv(away),
                )
                for scan in contrast.scans
            ),
        )
        for contrast in report.contrasts
    ]
    files, _ = written(replace(report, contrasts=tuple(contrasts)), tmp_path)
    before = {path.name: path for path in usual[0]}
    pictures = [path for path in files if path.suffix in (".png", ".webp")]
    assert any("edges" in path.name for path in pictures)
    for path in pictures:
        if "residual" not in path.name:
            assert path.read_bytes() == before[path.name].read_bytes(), path.name


def test_repeats_are_shown_each_and_averaged(usual: Written) -> None:
    _, page = usual
    assert "Linear, averaged" in page.text
    assert "Scan 2 as acquired" in page.text
    assert "Edges of scan 3" in page.text
