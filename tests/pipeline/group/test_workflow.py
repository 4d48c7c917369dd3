"""The group level from the command line to the files, on small heads."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_unires.dataset.description import relink_raw
from bids_unires.dataset.transforms import read_transform, write_transform
from bids_unires.space.affines import apply_affine, translation
from bids_unires.space.grid import corners
from tests.pipeline.study import GROUP, IN_PLACE, OFFSETS, RESLICED, Study, load, sidecar

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]


def validator_errors(folder: Path) -> list[Any]:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run(
        [validator, str(folder), "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]


def test_everybody_is_on_one_grid_that_can_be_halved(finished: Study) -> None:
    record = finished.grid_record()
    grid = np.array(record["Affine"])
    assert len(finished.images("*_space-study_*_desc-sr_*.nii.gz")) == 4
    for path in finished.images():
        image = load(path)
        assert list(image.shape) == record["Shape"]
        np.testing.assert_allclose(image.affine, grid, atol=1e-5)
        assert np.isfinite(image.get_fdata()).all()
    assert all(side in (24, 32, 48) for side in record["Shape"])
    assert record["DivisibleBy"] == 2 ** record["Halvings"] >= 8
    assert record["Participants"] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]


def test_images_stack_to_a_tensor(finished: Study) -> None:
    stack = torch.stack(
        [
            torch.from_numpy(np.asarray(load(path).dataobj, dtype=np.float32))
            for path in finished.images("*_space-study_*_desc-sr_T1w.nii.gz")
        ]
    )
    for _ in range(3):
        halved = torch.nn.functional.max_pool3d(stack, 2)
        assert [2 * side for side in halved.shape[1:]] == list(stack.shape[1:])
        stack = halved


def test_no_voxel_of_a_head_is_cut(finished: Study) -> None:
    record = finished.grid_record()
    into_grid = np.linalg.inv(np.array(record["Affine"]))
    masks = finished.images("*_space-individual_*_desc-head_mask.nii.gz")
    assert len(masks) == 3
    for path in masks:
        name = path.name.split("_space-")[0]
        (transform,) = path.parent.glob(f"{name}_from-individual_to-study_mode-image_xfm.txt")
        mask = load(path)
        at = apply_affine(
            into_grid @ read_transform(transform) @ mask.affine, np.argwhere(mask.get_fdata() > 0)
        )
        # The margin of 5 mm is one voxel; the mask's own voxels reach half of one further.
        assert at.min() >= 0.9
        assert (at <= np.array(record["Shape"]) - 1.9).all()


def test_heads_lie_on_each_other(finished: Study) -> None:
    masks = [load(p).get_fdata() > 0 for p in finished.images("*study*_desc-head_mask.nii.gz")]
    for other in masks[1:]:
        overlap = 2 * np.count_nonzero(masks[0] & other) / (masks[0].sum() + other.sum())
        assert overlap > 0.93


def test_the_mean_is_nobodys_in_particular(finished: Study) -> None:
    poses = [
        read_transform(path)
        for path in sorted(finished.out.glob("sub-*/**/*_from-individual_to-study_*_xfm.txt"))
    ]
    shifts = np.array([pose[:3, 3] for pose in poses])
    # The first participant's place is 1 mm away from the mean of all.
    places = np.array([(0, 0, 0), *OFFSETS.values()])
    np.testing.assert_allclose(shifts, places.mean(axis=0) - places, atol=0.5)
    (mean,) = finished.out.glob("tpl-study/anat/*_desc-cohort_T1w.nii.gz")
    assert load(mean).get_fdata().std() > 0


def test_a_scan_of_brighter_units_does_not_outweigh_the_others(finished: Study) -> None:
    """Everybody's tissue is about 1 in the mean that everybody is aligned to."""
    (path,) = finished.out.glob("tpl-study/anat/*_desc-cohort_T1w.nii.gz")
    values = load(path).get_fdata()
    assert np.percentile(values[values > 0.1], 95) == pytest.approx(1, abs=0.2)


def test_means_have_common_intensities(finished: Study) -> None:
    (t1w,) = finished.out.glob("tpl-study/anat/tpl-study_res-*mm_T1w.nii.gz")
    (flair,) = finished.out.glob("tpl-study/anat/tpl-study_res-*mm_FLAIR.nii.gz")
    assert list(load(t1w).shape) == finished.grid_record()["Shape"]
    head = np.all(
        [load(p).get_fdata() > 0 for p in finished.images("*study*_desc-head_mask.nii.gz")], axis=0
    )
    images = [load(path).get_fdata() for path in finished.images("*study*_desc-sr_T1w.nii.gz")]
    means = [image[head].mean() for image in images]
    assert means[2] > 2.5 * means[1]
    assert load(t1w).get_fdata()[head].mean() == pytest.approx(np.mean(means), rel=0.05)
    assert sidecar(t1w)["UniRes"]["Participants"] == 3
    single = next(iter(finished.images("sub-01_space-study*_desc-sr_FLAIR.nii.gz")))
    np.testing.assert_allclose(load(flair).get_fdata(), load(single).get_fdata(), rtol=1e-5)


def test_labels_come_along(finished: Study) -> None:
    (labels,) = finished.images("sub-01_space-study_seg-core_res-5mm_dseg.nii.gz")
    (image,) = finished.images("sub-01_space-study*_desc-sr_T1w.nii.gz")
    drawn = load(labels).get_fdata()
    assert set(np.unique(drawn)) == {0, 3}
    values = load(image).get_fdata()
    assert values[drawn == 3].mean() > 1.5 * values[(drawn == 0) & (values > 0)].mean()


def test_the_table_has_a_row_for_each_image_and_each_reason(finished: Study) -> None:
    rows = finished.rows()
    said = {(r["participant_id"], r["session_id"], r["contrast"]): r for r in rows}
    assert set(said) == {
        ("sub-01", "n/a", "T1w"),
        ("sub-01", "n/a", "FLAIR"),
        ("sub-02", "ses-a", "T1w"),
        ("sub-02", "ses-a", "FLAIR"),
        ("sub-02", "ses-b", "T1w"),
        ("sub-02", "ses-b", "FLAIR"),
        ("sub-03", "n/a", "n/a"),
    }
    done = said["sub-01", "n/a", "FLAIR"]
    assert (done["status"], done["mode"], done["scans"]) == ("done", "refit", "1")
    assert (finished.out / done["image"]).is_file()
    for column in ("noise_sd", "contrast_to_noise", "residual_sd", "sharpness", "runtime"):
        assert float(done[column]) > 0
    assert float(said["sub-01", "n/a", "T1w"]["displacement"]) == 0
    assert said["sub-02", "ses-a", "FLAIR"]["status"] == "missing"
    assert "left no image" in said["sub-02", "ses-a", "FLAIR"]["reason"]
    assert said["sub-03", "n/a", "n/a"]["status"] == "missing"
    assert "participant level" in said["sub-03", "n/a", "n/a"]["reason"]
    dictionary = json.loads((finished.out / "group_unires.json").read_text())
    assert list(dictionary) == list(rows[0])
    assert all(column["Description"] for column in dictionary.values())


def test_the_table_is_written_again_from_what_is_there(finished: Study) -> None:
    before = finished.rows()
    images = {path: path.stat().st_mtime_ns for path in finished.images()}
    page = finished.out / "group_unires.html"
    told = page.read_text("utf-8")
    (finished.out / "group_unires.tsv").unlink()
    page.unlink()
    assert finished.group(*GROUP, "--reports-only") == 0
    assert finished.rows() == before
    assert page.read_text("utf-8") == told
    assert {path: path.stat().st_mtime_ns for path in finished.images()} == images


def test_the_page_shows_everybody_on_the_grid(finished: Study) -> None:
    page = (finished.out / "group_unires.html").read_text("utf-8")
    shown = re.findall(r'<figure class="tile[^"]*" data-label="([^"]+)"', page)
    assert shown == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    assert page.count('<tr data-label="') == len(finished.rows())
    assert '<a href="sub-02_ses-a.html">' in page
    assert "outline of each participant's head" in page
    assert " × ".join(map(str, finished.grid_record()["Shape"])) in page  # noqa: RUF001
    assert "T1w (3)" in page
    assert "FLAIR (1)" in page


def test_sidecars_refer_to_what_is_there(finished: Study) -> None:
    for path in finished.images("*_space-study_*_desc-sr_*.nii.gz"):
        about = sidecar(path)
        assert about["SpatialReference"].startswith("bids::tpl-study/anat/tpl-study_")
        assert about["Resolution"] == "5 mm isotropic"
        assert about["UniRes"]["Group"]["Mode"] == "refit"
        # What was set at the participant level holds here, too.
        assert about["UniRes"]["Settings"]["reg_scale"] == 20
        for uri in (about["SpatialReference"], about["UniRes"]["Group"]["Transform"]):
            assert (finished.out / uri.removeprefix("bids::")).is_file()


def test_the_validator_finds_no_error(finished: Study) -> None:
    assert validator_errors(finished.out) == []


def test_who_joins_later_leaves_the_others_alone(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = study.out / "sub-02"
    shutil.move(kept, tmp_path / "aside")
    assert study.group(*IN_PLACE, "--grid-margin", "20") == 0
    (first,) = study.images("sub-01_space-study*_desc-sr_T1w.nii.gz")
    before = first.stat().st_mtime_ns, load(first).shape
    shutil.move(tmp_path / "aside", kept)
    capsys.readouterr()
    assert study.group(*IN_PLACE, "--grid-margin", "20") == 0
    said = capsys.readouterr().err
    assert "the grid of the earlier run still holds" in said
    assert "sub-01 skipped: finished earlier" in said
    assert (first.stat().st_mtime_ns, load(first).shape) == before
    assert study.grid_record()["Participants"] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    assert {row["status"] for row in study.rows() if row["contrast"] == "T1w"} == {"done"}


def test_a_grid_that_grows_takes_everybody_along(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = [*IN_PLACE, "--grid-policy", "multiple", "--grid-multiple", "1", "--grid-margin", "0"]
    shutil.move(study.out / "sub-02", tmp_path / "aside")
    assert study.group(*options) == 0
    small = study.grid_record()["Shape"]
    shutil.move(tmp_path / "aside", study.out / "sub-02")
    capsys.readouterr()
    assert study.group(*options) == 0
    said = capsys.readouterr().err
    assert "no longer holds, it is too small for sub-02_ses-a" in said
    large = study.grid_record()["Shape"]
    assert sum(large) > sum(small)
    assert {load(path).shape for path in study.images()} == {tuple(large)}


def test_images_on_a_former_grid_that_nothing_replaces_are_removed(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.group(*RESLICED, "--grid-margin", "20") == 0
    for path in (study.out / "sub-01").rglob("*_space-individual_*_FLAIR.*"):
        path.unlink()
    assert study.group(*RESLICED) == 0
    assert "sub-01_space-study_res-5mm_desc-sr_FLAIR" in capsys.readouterr().err.split("removed")[1]
    assert not study.images("*_space-study_*_FLAIR.nii.gz")
    assert {path.name[:6] for path in study.images()} == {"sub-01", "sub-02"}


def test_reslicing_interpolates_and_says_so(study: Study) -> None:
    assert study.group(*IN_PLACE, "--group-mode", "reslice") == 0
    (path,) = study.images("sub-01_space-study*_desc-sr_T1w.nii.gz")
    (source,) = study.images("sub-01_space-individual*_desc-sr_T1w.nii.gz")
    image, before = load(path), load(source)
    assert sidecar(path)["UniRes"]["Group"]["Mode"] == "reslice"
    assert sidecar(path)["UniRes"]["Scans"] == sidecar(source)["UniRes"]["Scans"]
    values = image.get_fdata()
    assert before.get_fdata().min() <= values.min() <= values.max() <= before.get_fdata().max()
    centre = image.affine @ [*(np.array(image.shape) // 2), 1]
    inside = np.rint(np.linalg.inv(before.affine) @ centre).astype(int)[:3]
    here = values[tuple(np.array(image.shape) // 2)]
    around = before.get_fdata()[tuple(slice(i - 1, i + 2) for i in inside)]
    assert around.min() <= here <= around.max()


def test_scans_out_of_reach_mean_interpolation(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(study.raw, raw)
    (raw / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz").unlink()
    moved = Study(raw, study.out)
    assert moved.group(*IN_PLACE) == 0
    assert "sub-01 is interpolated, not reconstructed: not all scans" in capsys.readouterr().err
    modes = {(r["participant_id"], r["contrast"]): r["mode"] for r in study.rows()}
    assert modes["sub-01", "T1w"] == modes["sub-01", "FLAIR"] == "reslice"
    assert modes["sub-02", "T1w"] == "refit"
    assert moved.group(*IN_PLACE, "--group-mode", "refit") == 65
    assert "use --group-mode auto or reslice" in capsys.readouterr().err


def test_transforms_that_another_run_wrote_mean_interpolation(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        next(study.out.rglob(f"{label}_from-T1w_to-individual_mode-image_xfm.txt"))
        for label in ("sub-02_ses-a", "sub-02_ses-b")
    )
    write_transform(first, translation([0, 0, 8]))
    second.write_text("nothing of the kind")
    assert study.group(*IN_PLACE) == 0
    said = capsys.readouterr().err
    assert f"sub-02_ses-a is interpolated, not reconstructed: {first.name} has the scan" in said
    assert f"sub-02_ses-b is interpolated, not reconstructed: {second.name} is no" in said
    assert "sub-01 is interpolated" not in said


def test_scans_that_changed_since_mean_interpolation(
    study: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(study.raw, raw)
    scan = raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    moved = load(scan)
    affine = moved.affine.copy()
    affine[0, 3] += 15
    nib.Nifti1Image(moved.get_fdata(dtype=np.float32), affine).to_filename(scan)
    # Else it would be taken for another dataset.
    relink_raw(study.out, raw)
    assert Study(raw, study.out).group(*IN_PLACE) == 0
    said = capsys.readouterr().err
    why = "sub-01_T1w.nii.gz changed since the participant level: run that on it again"
    assert f"sub-01 is interpolated, not reconstructed: {why}" in said
    modes = {(r["participant_id"], r["contrast"]): r["mode"] for r in study.rows()}
    assert modes["sub-01", "T1w"] == "reslice"
    # A copy of the same content, which has another time, is the same scan.
    assert modes["sub-02", "T1w"] == "refit"


@pytest.mark.slow
def test_a_corrupt_image_fails_its_participant_alone(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    (image,) = study.images("sub-02_ses-a_space-individual*_desc-sr_T1w.nii.gz")
    image.write_bytes(image.read_bytes()[:1000])
    assert study.group(*GROUP) == 65
    errors = [line for line in capsys.readouterr().err.splitlines() if " ERROR " in line]
    assert len(errors) == 2
    assert f"sub-02_ses-a failed: {image} is truncated or damaged" in errors[0]
    said = {(r["participant_id"], r["session_id"], r["contrast"]): r for r in study.rows()}
    failed = said["sub-02", "ses-a", "T1w"]
    assert failed["status"] == "failed"
    assert "truncated" in failed["reason"]
    assert said["sub-02", "ses-b", "T1w"]["status"] == "done"
    assert study.grid_record()["Participants"] == ["sub-01", "sub-02_ses-b"]
    before = study.rows()
    assert study.group(*GROUP, "--reports-only") == 0
    # Why it failed is not forgotten.
    assert study.rows() == before
    assert failed["reason"] in (study.out / "group_unires.html").read_text("utf-8")


@pytest.mark.parametrize("content", ["nothing", "an empty folder", "participants that failed"])
def test_the_participant_level_comes_first(
    participants: Study, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str
) -> None:
    out = tmp_path / "out"
    if content != "nothing":
        out.mkdir()
    if content == "participants that failed":
        (out / "sub-03" / "anat").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert Study(participants.raw, out).group(*GROUP) == 66
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("bids_unires: error: ")
    assert "run the participant level before the group level" in message
    assert sorted(tmp_path.rglob("*")) == before


def with_other_voxels(study: Study, label: str, *, keep: bool) -> None:
    """Let one participant's results look as if they had voxels of 4 mm, too or only."""
    for path in sorted((study.out / f"sub-{label}").rglob("*_res-5mm_*")):
        other = path.with_name(path.name.replace("_res-5mm_", "_res-4mm_"))
        if keep:
            shutil.copy(path, other)
        else:
            path.rename(other)


def test_mixed_voxel_sizes_are_refused(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    with_other_voxels(study, "02", keep=False)
    assert study.group(*GROUP) == 64
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "voxels of different sizes: 5mm (sub-01), 4mm (sub-02_ses-a)" in message
    assert "--voxel-size" in message


def test_the_voxel_size_chooses_among_results(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    with_other_voxels(study, "01", keep=True)
    assert study.group(*IN_PLACE, "--dry-run") == 0
    assert "sub-01: T1w, FLAIR, space individual, 5mm" in capsys.readouterr().out
    assert study.group(*IN_PLACE, "--voxel-size", "3", "--dry-run") == 64
    assert "sub-01 has images with voxels of 4mm and 5mm" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(study.out.rglob("*"))
    assert study.group(*GROUP, "--dry-run") == 0
    assert "sub-03: left out" in capsys.readouterr().out
    assert sorted(study.out.rglob("*")) == before


def test_who_forces_too_large_a_grid_is_named(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.group(*IN_PLACE) == 0
    # Somebody who was aligned to a place half a metre away.
    (transform,) = study.out.glob("sub-02/ses-b/anat/*_to-study_mode-image_xfm.json")
    about = json.loads(transform.read_text())
    about["UniRes"]["Extent"]["head"] = [
        [value + 900 * (axis == 1) for axis, value in enumerate(end)]
        for end in about["UniRes"]["Extent"]["head"]
    ]
    stat = transform.stat()
    text = json.dumps(about)
    transform.write_text(text + " " * (stat.st_size - len(text)))
    os.utime(transform, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert study.group(*IN_PLACE, "--voxel-size", "3") == 64
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "along y" in message
    assert "sub-02_ses-b forces it" in message
    assert "--voxel-size" in message


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--participant-label", "77"], 18, "no participant 77"),
        ([*IN_PLACE, "--participant-label", "03"], 18, "no image"),
        (["--template", "none", "--fov", "brain"], 64, "--fov head"),
        (["--template", "none", "--align", "similarity"], 64, "needs a template"),
        (["--voxel-size", "0"], 64, "--voxel-size 0"),
    ],
)
def test_errors_are_one_line_and_a_code(
    study: Study,
    options: list[str],
    code: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert study.group(*options) == code
    errors = [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("bids_unires: ")
    ]
    assert len(errors) == 1
    assert said in errors[0]


@pytest.mark.slow
def test_several_at_once_make_the_same(study: Study) -> None:
    assert study.group(*IN_PLACE, "--omp-nthreads", "1") == 0
    first = {path: path.read_bytes() for path in study.images()}
    assert study.group(*IN_PLACE, "--nprocs", "2", "--no-resume", "--omp-nthreads", "1") == 0
    assert {path: path.read_bytes() for path in study.images()} == first


def test_the_corners_of_a_grid_are_where_its_record_says(finished: Study) -> None:
    (path,) = finished.out.glob("tpl-study/anat/*_desc-grid_mask.nii.gz")
    image, record = load(path), finished.grid_record()
    x, y, z = image.shape
    np.testing.assert_allclose(
        apply_affine(image.affine, corners((x, y, z))),
        apply_affine(np.array(record["Affine"]), corners(tuple(record["Shape"]))),
        atol=1e-3,
    )
    assert np.asarray(image.dataobj).min() == 1
