"""The group level on some of the participants, or of the contrasts, of a study."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from tests.pipeline.study import GROUP, IN_PLACE, RESLICED, TIGHT, Study, load, sidecar

EVERYBODY = ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]


def contents(study: Study, pattern: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(study.out.glob(pattern)) if path.is_file()}


def told(study: Study) -> list[dict[str, str]]:
    """The table, but for what differs from run to run."""
    return [{**row, "runtime": ""} for row in study.rows()]


def statuses(study: Study, contrast: str = "T1w") -> dict[str, str]:
    return {
        "_".join(part for part in (r["participant_id"], r["session_id"]) if part != "n/a"): r[
            "status"
        ]
        for r in study.rows()
        if r["contrast"] == contrast
    }


def tiles(study: Study) -> list[str]:
    page = (study.out / "group_unires.html").read_text("utf-8")
    return re.findall(r'<figure class="tile[^"]*" data-label="([^"]+)"', page)


def test_doing_one_again_leaves_the_others_alone(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.group(*TIGHT) == 0
    others = contents(study, "sub-02/**/*_space-study_*")
    grid = contents(study, "tpl-study/anat/*_desc-grid_mask.*")
    (mean,) = study.out.glob("tpl-study/anat/tpl-study_res-*mm_T1w.nii.gz")
    before = told(study), load(mean).get_fdata()
    (own,) = study.images("sub-01_space-study*_desc-sr_T1w.nii.gz")
    done = own.stat().st_mtime_ns
    capsys.readouterr()
    assert study.group(*TIGHT, "--no-resume", "--participant-label", "01") == 0
    said = capsys.readouterr().err
    assert "removed" not in said
    assert "former grid" not in said
    assert own.stat().st_mtime_ns > done
    assert contents(study, "sub-02/**/*_space-study_*") == others
    assert contents(study, "tpl-study/anat/*_desc-grid_mask.*") == grid
    assert study.grid_record()["Participants"] == EVERYBODY
    assert sidecar(mean)["UniRes"]["Participants"] == 3
    np.testing.assert_allclose(load(mean).get_fdata(), before[1], rtol=1e-5, atol=1e-3)
    assert told(study) == before[0]
    assert tiles(study) == EVERYBODY


def test_who_sticks_out_makes_a_larger_grid_that_holds_the_others(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.move(study.out / "sub-02", tmp_path / "aside")
    assert study.group(*TIGHT) == 0
    shutil.move(tmp_path / "aside", study.out / "sub-02")
    kept = contents(study, "sub-01/**/*_space-study_*")
    small = study.grid_record()
    capsys.readouterr()
    assert study.group(*TIGHT, "--participant-label", "02") == 0
    said = capsys.readouterr().err.strip().splitlines()
    assert any("too small for sub-02" in line for line in said)
    (last,) = (line for line in said if "former grid" in line)
    assert "images of sub-01 lie on a former grid" in last
    assert contents(study, "sub-01/**/*_space-study_*") == kept
    large = study.grid_record()
    assert large["Shape"] != small["Shape"]
    assert large["Participants"] == EVERYBODY[1:] == tiles(study)
    assert statuses(study) == dict(zip(EVERYBODY, ["outdated", "done", "done"], strict=True))
    (mean,) = study.out.glob("tpl-study/anat/tpl-study_res-*mm_T1w.nii.gz")
    assert sidecar(mean)["UniRes"]["Participants"] == 2
    assert study.group(*TIGHT, "--reports-only") == 0
    assert statuses(study)["sub-01"] == "outdated"
    command = shlex.split(last.split("processed again by: ")[1])
    assert main([*command[1:], "--group-mode", "reslice", "--device", "cpu"]) == 0
    assert study.grid_record() == {**large, "Participants": EVERYBODY}
    assert "former grid" not in capsys.readouterr().err
    assert set(statuses(study).values()) == {"done"}
    shapes = {load(path).shape for path in study.images()}
    assert shapes == {tuple(large["Shape"])}
    assert sidecar(mean)["UniRes"]["Participants"] == 3


def test_who_joins_alone_is_counted_with_the_others(study: Study, tmp_path: Path) -> None:
    shutil.move(study.out / "sub-02", tmp_path / "aside")
    wide = [*RESLICED, "--grid-margin", "20"]
    assert study.group(*wide) == 0
    shutil.move(tmp_path / "aside", study.out / "sub-02")
    grid = study.grid_record()
    assert study.group(*wide, "--participant-label", "02", "--session-label", "a") == 0
    assert study.grid_record() == {**grid, "Participants": EVERYBODY[:2]}
    (mean,) = study.out.glob("tpl-study/anat/tpl-study_res-*mm_T1w.nii.gz")
    assert sidecar(mean)["UniRes"]["Participants"] == 2
    assert statuses(study) == dict.fromkeys(EVERYBODY[:2], "done")
    assert tiles(study) == EVERYBODY[:2]
    # Who was missing, and was not asked for now, is not forgotten.
    assert [r["status"] for r in study.rows() if r["participant_id"] == "sub-03"] == ["missing"]


def test_the_mean_that_others_are_aligned_to_stays(finished: Study, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished.out, out)
    copy = Study(finished.raw, out)
    mean = contents(copy, "tpl-study/anat/*_desc-cohort_*")
    others = contents(copy, "sub-02/**/*study*")
    assert len(mean) == 2
    options = [*GROUP, "--no-resume", "--group-mode", "reslice", "--participant-label", "01"]
    assert copy.group(*options) == 0
    assert contents(copy, "tpl-study/anat/*_desc-cohort_*") == mean
    assert contents(copy, "sub-02/**/*study*") == others
    assert copy.grid_record() == finished.grid_record()


@pytest.mark.slow
def test_another_space_is_another_study(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert study.group(*RESLICED) == 0
    capsys.readouterr()
    moved = [*GROUP, "--group-mode", "reslice", "--participant-label", "02"]
    assert study.group(*moved) == 0
    assert "images of sub-01 lie on a former grid, or in another space" in capsys.readouterr().err
    assert study.grid_record()["Participants"] == EVERYBODY[1:]
    assert statuses(study)["sub-01"] == "outdated"


def test_modalities_choose_the_contrasts(study: Study) -> None:
    assert study.group(*IN_PLACE, "-m", "T1w") == 0
    assert len(study.images("*_space-study_*_desc-sr_T1w.nii.gz")) == 3
    assert not study.images("*_space-study_*_FLAIR.nii.gz")
    assert statuses(study, "FLAIR") == {}
    assert study.group(*RESLICED, "--modalities", "FLAIR") == 0
    (flair,) = study.images("*_space-study_*_FLAIR.nii.gz")
    before = flair.read_bytes()
    # Whoever has none keeps the other contrasts.
    assert statuses(study) == dict.fromkeys(EVERYBODY, "done")
    assert statuses(study, "FLAIR")["sub-01"] == "done"
    assert statuses(study, "FLAIR")["sub-02_ses-a"] == "missing"
    assert study.group(*RESLICED, "-m", "T1w", "--no-resume") == 0
    assert flair.read_bytes() == before
    assert statuses(study, "FLAIR")["sub-01"] == "done"
    assert study.grid_record()["Participants"] == EVERYBODY


def test_modalities_that_nobody_has_are_an_error(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.group(*RESLICED, "-m", "T2w") == 18
    assert "it has none, but T1w" in capsys.readouterr().err.strip().splitlines()[-1]


def leave_behind(path: Path) -> None:
    """Let an image look like that of an earlier run, whose grid was another."""
    image = load(path)
    affine = image.affine.copy()
    affine[:3, 3] += 2.5
    nib.Nifti1Image(np.asarray(image.dataobj), affine).to_filename(path)


def test_an_image_that_an_earlier_run_left_is_refused(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    (flair,) = study.images("sub-01_space-individual_*_desc-sr_FLAIR.nii.gz")
    (t1w,) = study.images("sub-02_ses-a_space-individual_*_desc-sr_T1w.nii.gz")
    for path in (flair, t1w):
        leave_behind(path)
    assert study.group(*RESLICED) == 0
    said = capsys.readouterr().err
    assert f"sub-01: its FLAIR takes no part: {flair.name} lies on another grid" in said
    assert f"sub-02_ses-a takes no part: {t1w.name} lies on another grid" in said
    rows = {(r["participant_id"], r["session_id"], r["contrast"]): r for r in study.rows()}
    assert rows["sub-01", "n/a", "T1w"]["status"] == "done"
    refused = rows["sub-01", "n/a", "FLAIR"]
    assert refused["status"] == "failed"
    assert "run the participant level on it again" in refused["reason"]
    assert t1w.name in rows["sub-02", "ses-a", "n/a"]["reason"]
    assert not study.images("*_space-study_*_FLAIR.nii.gz")
    assert study.grid_record()["Participants"] == ["sub-01", "sub-02_ses-b"]
    before = told(study)
    assert study.group(*RESLICED, "--reports-only") == 0
    assert told(study) == before


def test_images_of_earlier_runs_stay_whatever_happened_to_their_sources(study: Study) -> None:
    assert study.group(*RESLICED) == 0
    (flair,) = study.images("sub-01_space-individual_*_desc-sr_FLAIR.nii.gz")
    leave_behind(flair)
    before = told(study)
    assert study.group(*RESLICED, "--participant-label", "02") == 0
    assert told(study) == before


def test_who_failed_and_is_not_asked_for_keeps_the_reason(study: Study) -> None:
    (image,) = study.images("sub-02_ses-a_space-individual*_desc-sr_T1w.nii.gz")
    image.write_bytes(image.read_bytes()[:1000])
    assert study.group(*RESLICED) == 65
    before = told(study)
    assert study.group(*RESLICED, "--no-resume", "--participant-label", "01") == 0
    assert told(study) == before


def modes(study: Study) -> dict[str, str]:
    rows = [row for row in study.rows() if row["contrast"] == "T1w"]
    return {row["participant_id"] + row["session_id"]: row["mode"] for row in rows}


def test_who_is_not_in_the_dataset_any_more_leaves_the_others_their_scans(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(study.raw, raw)
    shutil.rmtree(raw / "sub-01")
    shutil.rmtree(raw / "sub-02" / "ses-a")
    fewer = Study(raw, study.out)
    who = ["--participant-label", "01", "02", "--session-label", "a", "b"]
    assert fewer.group(*IN_PLACE, *who) == 0
    said = capsys.readouterr().err
    assert f"scans are out of reach: {raw} has no session a" in said
    assert f"scans are out of reach: {raw} has no participant 01" in said
    assert modes(fewer) == {"sub-02ses-a": "reslice", "sub-02ses-b": "refit"}
    assert fewer.group(*RESLICED, "--participant-label", "01") == 0
    assert modes(fewer)["sub-01n/a"] == "reslice"


def test_a_scan_that_is_there_twice_concerns_its_participant_alone(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(study.raw, raw)
    scan = raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    load(scan).to_filename(scan.with_suffix(""))
    twice = Study(raw, study.out)
    assert twice.group(*IN_PLACE, "--participant-label", "01", "02") == 0
    assert "the scans of sub-01 are out of reach" in capsys.readouterr().err
    assert modes(twice) == {"sub-01n/a": "reslice", "sub-02ses-a": "refit", "sub-02ses-b": "refit"}


@pytest.mark.slow
def test_images_with_other_voxels_that_were_aligned_otherwise_are_named(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = ["--voxel-size", "8", "--group-mode", "reslice"]
    assert study.group(*RESLICED, *coarse) == 0
    capsys.readouterr()
    assert study.group(*RESLICED) == 0
    assert "of an earlier run with other voxels" not in capsys.readouterr().err
    # Both are aligned to their mean now; where they were is written over.
    assert study.group(*GROUP, "--group-mode", "reslice") == 0
    said = capsys.readouterr().err.splitlines()
    (line,) = (line for line in said if "of an earlier run with other voxels" in line)
    assert "sub-02_ses-a_space-study_res-8mm_desc-sr_T1w.nii.gz" in line
    assert "_res-5mm_" not in line
    assert "mask" not in line


def test_who_was_not_finished_is_told(study: Study, capfd: pytest.CaptureFixture[str]) -> None:
    record = study.out / "logs" / "participant" / "sub-01.json"
    record.write_text(json.dumps({"Version": "0", "Begun": True, "Earlier": []}))
    assert study.group(*GROUP, "--dry-run") == 0
    said = capfd.readouterr().err
    assert "sub-01: the participant level began on it and has not finished" in said
    assert said.count("has not finished") == 1
