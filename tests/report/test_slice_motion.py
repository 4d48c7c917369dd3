"""Motion between slices on the page of a participant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bids_unires.report import ParticipantReport, write_participant_report
from bids_unires.report.figures import draw_slice_motions
from bids_unires.report.slice_motion import group_motions
from bids_unires.space.affines import translation
from tests.model.states import motion_of

ReportMaker = Callable[..., ParticipantReport]
GROUPS = ((0, 2, 4, 6, 8, 10), (1, 3, 5, 7, 9))


@pytest.fixture
def report(make_report: ReportMaker) -> ParticipantReport:
    """The second of its scans moved between even and odd slices."""
    plain = make_report()
    contrast, *others = plain.contrasts
    first, second = contrast.scans
    motion = motion_of(GROUPS, [np.eye(4), translation([0.0, 1.5, -2.0])], "SliceTiming")
    moved = replace(contrast, scans=(first, replace(second, slice_motion=motion)))
    return replace(plain, contrasts=(moved, *others))


def test_groups_are_told_relative_to_their_scan(report: ParticipantReport) -> None:
    still, moved = group_motions(report.scans, report.grid)
    assert (still.scan, still.slices) == (1, GROUPS[0])
    np.testing.assert_allclose(still.motion.shift, 0, atol=1e-9)
    np.testing.assert_allclose(moved.motion.shift, [0, 1.5, -2.0], atol=1e-9)
    assert moved.motion.displacement == pytest.approx(2.5)


def test_motion_is_told_along_the_axes_of_the_images(report: ParticipantReport) -> None:
    turn = np.eye(4)
    turn[:3, :3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    first, second, *others = report.scans
    still, moved = group_motions([first, replace(second, pose=turn), *others], report.grid)
    # What moves along y and z of the scan moves along z and x of the images.
    np.testing.assert_allclose(still.motion.shift, 0, atol=1e-9)
    np.testing.assert_allclose(moved.motion.shift, [-2.0, 0, 1.5], atol=1e-9)


def test_the_page_shows_every_group(report: ParticipantReport, tmp_path: Path) -> None:
    files = write_participant_report(report, tmp_path / "out")
    page = files[-1].read_text("utf-8")
    for text in ("Motion between slices", "0, 2, … 10", "1, 3, … 9", "desc-slices_unires.svg"):
        assert text in page
    assert any(path.name == "sub-01_desc-slices_unires.svg" for path in files)


def test_a_page_without_such_motion_says_nothing_of_it(
    make_report: ReportMaker, tmp_path: Path
) -> None:
    files = write_participant_report(make_report(), tmp_path / "out")
    assert "Motion between slices" not in files[-1].read_text("utf-8")
    assert not any("desc-slices" in path.name for path in files)


def test_the_chart_names_its_scans_and_axes(report: ParticipantReport) -> None:
    svg = draw_slice_motions(group_motions(report.scans, report.grid))
    words = " ".join("".join(element.itertext()) for element in ElementTree.fromstring(svg).iter())
    for text in ("Scan 2", "slice", "shift (mm)"):
        assert text in words
