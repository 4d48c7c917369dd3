"""Charts: plain SVG that holds its text, the same every time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bids_unires.report import ParticipantReport
from bids_unires.report.figures import (
    PALETTE,
    bright,
    colour_of,
    draw_convergence,
    draw_motions,
    draw_noise,
    draw_residuals,
)
from bids_unires.report.motion import motion_of

ReportMaker = Callable[..., ParticipantReport]
SVG = "{http://www.w3.org/2000/svg}"


def charts(report: ParticipantReport) -> dict[str, str]:
    assert report.history is not None
    return {
        "noise": draw_noise(report.scans),
        "convergence": draw_convergence(report.history),
        "residuals": draw_residuals(report.scans),
        "poses": draw_motions([motion_of(scan.pose, report.grid) for scan in report.scans]),
    }


def words(svg: str) -> str:
    return " ".join("".join(element.itertext()) for element in ElementTree.fromstring(svg).iter())


def test_charts_are_svg_whose_text_can_be_searched(make_report: ReportMaker) -> None:
    found = {name: words(svg) for name, svg in charts(make_report()).items()}
    assert "sub-01_run-2_T1w.nii.gz" in found["noise"]
    assert "air" in found["noise"]
    assert "tolerance" in found["convergence"]
    assert "10⁻" in found["convergence"]
    assert "noise alone" in found["residuals"]
    assert "rotation (degrees)" in found["poses"]


def test_charts_are_the_same_every_time(make_report: ReportMaker) -> None:
    assert charts(make_report()) == charts(make_report())


def test_noise_alone_is_drawn_about_zero(make_report: ReportMaker) -> None:
    svg = ElementTree.fromstring(draw_residuals(make_report().scans))
    groups = {group.get("id", ""): group for group in svg.iter(f"{SVG}g")}
    ticks = [group for name, group in groups.items() if name.startswith("xtick_")]
    (zero,) = (
        float(next(tick.iter(f"{SVG}use")).get("x", "nan"))
        for tick in ticks
        if "".join(tick.itertext()).strip() == "0"
    )
    (outline,) = (
        path.get("d", "")
        for name, group in groups.items()
        if name.startswith("FillBetween")
        for path in group.iter(f"{SVG}path")
    )
    places = [float(x) for x, _ in re.findall(r"([-\d.]+) ([-\d.]+)", outline)]
    assert (min(places) + max(places)) / 2 == pytest.approx(zero, abs=0.1)


def test_the_curve_of_a_mixture_lies_above_those_of_its_parts(make_report: ReportMaker) -> None:
    svg = ElementTree.fromstring(draw_noise(make_report().scans[:1]))
    lines = [
        np.array(re.findall(r"([-\d.]+) ([-\d.]+)", path.get("d", "")), dtype=float)
        for group in svg.iter(f"{SVG}g")
        if group.get("id", "").startswith("line2d_")
        for path in group.findall(f"{SVG}path")
    ]
    air, head, both = (line.T for line in lines if len(line) > 20)
    at = both[0]
    # Down is up in an SVG.
    higher = np.minimum(*(np.interp(at, *part) for part in (air, head)))
    assert (both[1] < higher + 1).all()
    for part in (air, head):
        assert (np.interp(at, *part) - both[1]).max() > 20


def test_names_are_text_and_no_typesetting(make_report: ReportMaker) -> None:
    report = make_report(name="$x^{<b>&$T1w")
    found = words(draw_noise(report.scans))
    assert "$x^{<b>&$T1w" in found


def test_every_scan_has_a_colour_however_many_there_are() -> None:
    assert colour_of(0) == PALETTE[0]
    assert colour_of(100) in PALETTE
    assert all(max(bytes.fromhex(bright(colour)[1:])) == 255 for colour in PALETTE)


@pytest.mark.slow
@pytest.mark.parametrize("home", ["missing", "read-only"])
def test_no_home_is_needed_and_none_is_mentioned(tmp_path: Path, home: str) -> None:
    folder = tmp_path / "home"
    if home == "read-only":
        folder.mkdir(mode=0o555)
    code = (
        "from bids_unires.report.figures import draw_convergence\n"
        "from bids_unires.report import FitHistory\n"
        "from bids_unires.model import Progress\n"
        "states = (Progress(0, 0, 2.0), Progress(1, 2, 1.0))\n"
        "assert draw_convergence(FitHistory(states, 1, True, 1e-4)).count('<svg') == 1\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MPL", "XDG"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "HOME": str(folder), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stderr.lower()
    assert [path.name for path in tmp_path.iterdir()] in ([], ["home"])
