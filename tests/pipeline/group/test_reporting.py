"""The group level's page and table from files on disk, without running the group level."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_unires.cli.main import main, parse_arguments
from bids_unires.config import RunConfig
from bids_unires.dataset.naming import sidecar_path
from bids_unires.dataset.writing import write_image, write_json, write_mask
from bids_unires.errors import InputOutputError
from bids_unires.pipeline.group import reporting as group_reporting
from bids_unires.pipeline.group.study_grid import StudyGrid, write_grid
from bids_unires.pipeline.group.study_means import StudyImage, write_mean
from bids_unires.records.image import ImageRecord
from bids_unires.space.affines import translation
from bids_unires.space.grid import Grid

DatasetMaker = Callable[..., Path]

GRID = Grid((24, 32, 24), translation([-57.5, -77.5, -57.5]) @ np.diag([5.0, 5.0, 5.0, 1.0]))
EVIL = "<script>alert('Heads & more')</script>"
OPTIONS = ["--voxel-size", "5", "--device", "cpu", "--align", "none", "--reports-only"]
NOISY = 4


@dataclass(frozen=True)
class Results:
    """What both levels left."""

    raw: Path
    out: Path

    def report_again(self, *options: str) -> int:
        return main([str(self.raw), str(self.out), "group", *OPTIONS, *options])

    @property
    def page(self) -> Path:
        return self.out / "group_unires.html"

    def rows(self) -> list[dict[str, str]]:
        with (self.out / "group_unires.tsv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))


def ball(radius: float) -> np.ndarray:
    index = np.moveaxis(np.indices(GRID.shape), 0, -1) * 5.0 + GRID.affine[:3, 3]
    return (100 * (np.linalg.norm(index, axis=-1) < radius)).astype(np.float32)


def sidecar_of(number: int) -> dict[str, Any]:
    noise = 60.0 if number == NOISY else 2.0 + 0.1 * number
    scan = {"NoiseSD": noise, "Mu": 100.0, "Pose": np.eye(4).tolist()}
    return {
        "UniRes": {
            "Version": "0.0.9",
            "Device": "cpu",
            "Settings": {"reg_scale": 4.0 + (number == 2), "method": "super-resolution"},
            "Scans": [scan],
            "Group": {"Mode": "reslice"},
            "Quality": {"MeanIntensity": 100.0, "Sharpness": 0.1 + 0.001 * number},
        }
    }


def write_member(out: Path, number: int) -> StudyImage:
    """Leave what both levels would: images in both spaces, masks, and how far the brain reaches."""
    label = f"sub-{number}"
    folder = out / label / "anat"
    values = ball(40.0 + number)
    for space in ("individual", "study"):
        name = f"{label}_space-{space}_res-5mm_desc"
        image = write_image(folder / f"{name}-sr_T1w.nii.gz", values, GRID.affine)
        write_json(sidecar_path(image), sidecar_of(number))
        for mask in ("fov", "brain"):
            write_mask(folder / f"{name}-{mask}_mask.nii.gz", values > 0, GRID.affine)
    reach = 40.0 + number
    extent = {"brain": [[-reach] * 3, [reach] * 3]}
    transform = folder / f"{label}_from-individual_to-study_mode-image_xfm.json"
    placed = {"Align": "none", "Template": "MNI152NLin2009cAsym"}
    write_json(transform, {"UniRes": {**placed, "Extent": extent}})
    record = ImageRecord.of_sidecar(sidecar_of(number))
    return StudyImage("T1w", {"suffix": "T1w"}, image, record, False, None)


@pytest.fixture
def results(tmp_path: Path, make_head_dataset: DatasetMaker) -> Results:
    """Six participants, of which one failed at the group level."""
    raw = make_head_dataset(tmp_path / "raw", {})
    (raw / "dataset_description.json").write_text(
        json.dumps({"Name": EVIL, "BIDSVersion": "1.10.1"})
    )
    out = tmp_path / "out"
    images = [write_member(out, number) for number in range(1, 7)]
    config = group_config(raw, out)
    path = out / "tpl-study/anat/tpl-study_res-5mm_desc-grid_mask.nii.gz"
    labels = tuple(f"sub-{number}" for number in range(1, 7))
    write_grid(StudyGrid(GRID, path, labels), [], config)
    write_mean(images, GRID, path, config)
    write_member(out, 7)
    for image in (out / "sub-7").rglob("*_space-study_*"):
        image.unlink()
    (out / "group_unires.tsv").write_text(
        f"participant_id\tsession_id\tstatus\treason\nsub-7\tn/a\tfailed\t{EVIL} is blank\n"
    )
    return Results(raw, out)


def group_config(raw: Path, out: Path) -> RunConfig:
    return parse_arguments([str(raw), str(out), "group", *OPTIONS])


def test_table_and_page_come_from_what_is_there(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {path: path.stat().st_mtime_ns for path in results.out.rglob("*.nii.gz")}
    assert results.report_again() == 0
    assert {path: path.stat().st_mtime_ns for path in results.out.rglob("*.nii.gz")} == images
    rows = {row["participant_id"]: row for row in results.rows()}
    assert [rows[f"sub-{k}"]["status"] for k in range(1, 8)] == ["done"] * 6 + ["failed"]
    assert rows["sub-7"]["reason"] == f"{EVIL} is blank"
    page = results.page.read_text("utf-8")
    assert re.findall(r'class="tile[^"]*" data-label="([^"]+)"', page) == [
        f"sub-{number}" for number in range(1, 7)
    ]
    for told in (
        "24 × 32 × 24",  # noqa: RUF001
        "T1w (6)",
        "0.0.9",
        "4.0 or 5.0",
        "<b>sub-6</b>",
        "others 1.0 mm less",
        "14.0 mm of room",
        "brain",
    ):
        assert told in page, told
    said = capsys.readouterr().err
    assert f"worth a look: sub-{NOISY} T1w noise_sd 60 (median 2.4)" in said
    assert f"<mark>{60.0:.1f}</mark>" in page
    assert "They share a grid of 24 x 32 x 24" in (results.out / "logs/CITATION.md").read_text()


def test_what_others_wrote_is_text(results: Results) -> None:
    assert results.report_again() == 0
    page = results.page.read_text("utf-8")
    assert "alert(" in page
    assert "<script>alert" not in page


def test_the_voxel_size_has_to_be_that_of_a_grid(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (results.out / "group_unires.tsv").read_bytes()
    argv = [str(results.raw), str(results.out), "group", *OPTIONS, "--voxel-size", "2"]
    assert main(argv) == 66
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no shared grid of 2 mm isotropic" in message
    assert "--voxel-size" in message
    assert (results.out / "group_unires.tsv").read_bytes() == before
    assert not results.page.exists()


def test_a_page_that_fails_does_not_fail_the_level(
    results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise InputOutputError("group_unires.html could not be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(group_reporting, "write_group_report", fail)
        assert results.report_again() == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "No space left" in line]
    assert len(warnings) == 1
    assert "WARNING the group: the results are complete" in warnings[0]
    assert len(results.rows()) == 7
    assert not results.page.exists()
    # The next run makes it.
    assert results.report_again() == 0
    assert results.page.is_file()


@pytest.mark.parametrize("content", ["", "[]", '{"UniRes": {"Shape": [1, 2]}}', "no settings"])
def test_a_grid_without_a_record_leaves_a_page_without_pictures(
    results: Results, content: str
) -> None:
    record = results.out / "tpl-study/anat/tpl-study_res-5mm_desc-grid_mask.json"
    if content == "no settings":
        about = json.loads(record.read_text())
        about["UniRes"]["Settings"] = {}
        content = json.dumps(about)
    record.write_text(content)
    assert results.report_again() == 0
    page = results.page.read_text("utf-8")
    assert 'class="quality"' in page
    assert "Who forces it" not in page


def test_many_outliers_are_named_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"participant_id": f"sub-{k}", "contrast": "T1w", "noise_sd": v}
        for k, v in enumerate([*np.linspace(1, 2, 40), *range(50, 62)])
    ]
    with caplog.at_level(logging.WARNING, "bids_unires"):
        outliers = group_reporting.find_outliers(rows, ["noise_sd"])
        group_reporting._name_outliers(outliers, rows)
    (line,) = caplog.messages
    assert len(outliers) == 12
    assert line.startswith("far from the others, worth a look: sub-51 T1w noise_sd 61 ")
    assert line.endswith("; and 4 more, see the report")


def test_only_the_group_level_reports_from_disk(
    results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(results.out.rglob("*"))
    argv = [str(results.raw), str(results.out), "participant", "--reports-only"]
    assert main(argv) == 64
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--reports-only is for the group level" in message
    assert "--no-resume --participant-label" in message
    assert sorted(results.out.rglob("*")) == before


def test_a_participant_with_a_head_only_has_its_outline(results: Results) -> None:
    for mask in results.out.rglob("*_space-study_*_desc-brain_mask.nii.gz"):
        mask.rename(mask.with_name(mask.name.replace("desc-brain", "desc-head")))
    assert results.report_again() == 0
    page = results.page.read_text("utf-8")
    assert page.count('class="outline"') == 6
    assert "outline of each participant's head" in page
