"""Plain files give the images that the same scans give in a BIDS dataset."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from tests.documented import commands
from tests.paths import ROOT
from tests.pipeline.conftest import scan_of_head, write_dataset

PAGE = "docs/how-to/files.md"
COARSE = ["--voxel-size", "5", "--device", "cpu", "-q"]
UNPLACED = ["--no-coregister", "--no-unified-rigid", "--no-learned-detail"]
QUICK = [*COARSE, *UNPLACED, "--reg-scale", "4", "--max-iter", "2"]
GAPS = {"SliceThickness": 12, "MRAcquisitionType": "2D", "EchoTime": 0.1}


def segmentation() -> nib.Nifti1Image:
    scan = scan_of_head(axis=2)
    return nib.Nifti1Image((scan.get_fdata() > 100).astype(np.uint8) * 3, scan.affine)


def ct_of_head() -> nib.Nifti1Image:
    scan = scan_of_head(axis=1, seed=4)
    return nib.Nifti1Image(scan.get_fdata().astype(np.float32) * 4 - 1000, scan.affine)


@pytest.fixture(scope="module")
def scans() -> dict[str, nib.Nifti1Image]:
    return {
        "T1a": scan_of_head(axis=2),
        "T1b": scan_of_head(axis=0, seed=1),
        "FLAIR": scan_of_head(axis=1, seed=2),
        "head": ct_of_head(),
    }


@pytest.fixture
def plain(tmp_path: Path, scans: dict[str, nib.Nifti1Image]) -> Path:
    """A folder of plain files, FLAIR with a gap between its slices."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for name, image in scans.items():
        image.to_filename(folder / f"{name}.nii.gz")
    (folder / "FLAIR.json").write_text(json.dumps(GAPS))
    segmentation().to_filename(folder / "lesion.nii.gz")
    (folder / "lesion.tsv").write_text("index\tname\n3\tlesion\n")
    return folder


@pytest.fixture(scope="module")
def derivatives(
    tmp_path_factory: pytest.TempPathFactory, scans: dict[str, nib.Nifti1Image]
) -> Path:
    """What the same scans give in a BIDS dataset."""
    folder = tmp_path_factory.mktemp("dataset")
    named = {
        "sub-01_run-1_T1w": scans["T1a"],
        "sub-01_run-2_T1w": scans["T1b"],
        "sub-01_FLAIR": scans["FLAIR"],
        "sub-01_run-1_desc-lesion_dseg": segmentation(),
    }
    raw = write_dataset(folder / "raw", named, FLAIR=GAPS)
    (raw / "sub-01" / "ct").mkdir()
    scans["head"].to_filename(raw / "sub-01" / "ct" / "sub-01_ct.nii.gz")
    words = [str(raw), str(folder / "out"), "participant", "--ct", "--skip-bids-validation"]
    assert main([*words, *QUICK]) == 0
    return folder / "out" / "sub-01"


def thick_slices_of_a_head(axis: int) -> nib.Nifti1Image:
    """The packaged head in voxels of 4 mm and slices of 12 mm."""
    head = nib.load(ROOT / "bids_unires" / "templates" / "icbm152_head_T1w.nii.gz")
    size = np.round(np.where(np.arange(3) == axis, 12, 4) / head.header.get_zooms()).astype(int)
    shape = np.array(head.shape) // size
    blocks = head.get_fdata()[tuple(slice(n) for n in shape * size)]
    for at in (2, 1, 0):
        blocks = np.add.reduceat(blocks, np.arange(0, blocks.shape[at], size[at]), axis=at)
    affine = head.affine @ np.diag([*size, 1.0])
    affine[:3, 3] = (head.affine @ [*((size - 1) / 2), 1.0])[:3]
    noise = np.random.default_rng(axis).normal(scale=0.02 * blocks.max(), size=(2, *shape))
    return nib.Nifti1Image(np.hypot(blocks + noise[0], noise[1]).astype(np.float32), affine)


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.rglob(pattern)
    return path


def lasting(sidecar: Path) -> Any:
    """A sidecar without its sources, and without what no two runs share."""

    def without(content: Any) -> Any:
        left_out = {"Sources", "Source", "SpatialReference", "RuntimeSeconds", "PeakMemoryBytes"}
        if isinstance(content, dict):
            return {key: without(value) for key, value in content.items() if key not in left_out}
        return [without(value) for value in content] if isinstance(content, list) else content

    return without(json.loads(sidecar.read_text()))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


def test_images_are_the_same_bytes_as_from_a_dataset(
    plain: Path, derivatives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(plain)
    monkeypatch.chdir(plain)
    # In another order, which does not matter.
    command = "files FLAIR.nii.gz T1w=T1a.nii.gz,T1b.nii.gz --ct head.nii.gz"
    assert main([*command.split(), "--labels", "lesion.nii.gz=T1a", *QUICK]) == 0
    for result, pattern in (
        ("ur_T1w", "*_res-5mm_desc-sr_T1w"),
        ("ur_FLAIR", "*_res-5mm_desc-sr_FLAIR"),
        ("ur_head", "*_res-5mm_desc-sr_ct"),
        ("ur_T1w_fov", "*_res-5mm_desc-fov_mask"),
        ("ur_lesion", "*_dseg"),
    ):
        same = only(derivatives, f"{pattern}.nii.gz")
        assert (plain / f"{result}.nii.gz").read_bytes() == same.read_bytes(), result
        assert lasting(plain / f"{result}.json") == lasting(only(derivatives, f"{pattern}.json"))
    for result, pattern in (
        ("ur_T1w_2", "*_run-2_from-T1w_*"),
        ("ur_FLAIR", "*_from-FLAIR_*"),
        ("ur_head", "*_from-ct_*"),
    ):
        transform = only(derivatives, f"{pattern}_xfm.txt")
        assert (plain / f"{result}_xfm.txt").read_bytes() == transform.read_bytes()
    now = contents(plain)
    assert {name: now[name] for name in before} == before
    assert all(name.startswith("ur_") for name in now.keys() - before.keys())
    assert (plain / "ur_lesion.tsv").read_text() == (plain / "lesion.tsv").read_text()

    stated = json.loads((plain / "ur_FLAIR.json").read_text())
    assert stated["EchoTime"] == 0.1
    assert stated["Sources"] == ["FLAIR.nii.gz", "T1a.nii.gz", "T1b.nii.gz", "head.nii.gz"]
    assert stated["SpatialReference"] == "ur_T1w_fov.nii.gz"
    assert stated["UniRes"]["Scans"][0]["SliceProfile"]["Gap"] == pytest.approx(0.2)


def test_the_page_is_one_file(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain)
    assert main(["files", "T1 in, best=T1a.nii.gz", "-o", "../new/out", *QUICK]) == 0
    out = plain.parent / "new" / "out"
    page = (out / "ur_T1 in, best.html").read_text()
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    beside = [each for each in addresses if not each.startswith(("data:", "#"))]
    assert set(beside) == {"ur_T1%20in%2C%20best.nii.gz", "ur_T1%20in%2C%20best_xfm.txt"}
    assert any(each.startswith("data:image/webp;base64,") for each in addresses)
    assert "sub-" not in re.sub(r"base64,[^\"]*", "", page)
    assert json.loads((out / "ur_T1 in, best.json").read_text())["Sources"] == [
        "../../plain/T1a.nii.gz"
    ]


def test_a_failure_leaves_nothing(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = plain / "FLAIR.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-2000])
    before = contents(plain.parent)
    assert main(["files", f"{plain}/T1a.nii.gz", str(damaged), *QUICK]) == 65
    assert re.fullmatch(
        rf"\S+ \S+ ERROR T1a failed: {re.escape(str(damaged))} is (truncated|damaged).*\n",
        capsys.readouterr().err,
    )
    assert contents(plain.parent) == before


def test_results_that_cannot_be_written_leave_those_of_before(
    plain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bids_unires.run import publishing

    (plain / "ur_T1a.nii.gz").write_text("of before")
    before = contents(plain)

    def full(source: Path, path: Path) -> None:
        if "_xfm" in source.name:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(source.read_bytes())

    monkeypatch.setattr(publishing.shutil, "copyfile", full)
    command = ["files", f"{plain}/T1a.nii.gz", "--overwrite", "--linear"]
    assert main([*command, "--voxel-size", "5", "-q"]) == 74
    assert "No space left on device" in capsys.readouterr().err
    assert contents(plain) == before
    monkeypatch.undo()
    assert main([*command, "--voxel-size", "5", "-q"]) == 0
    assert nib.load(plain / "ur_T1a.nii.gz").shape == (30, 30, 30)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_killed_leaves_the_folder_as_it_was(how: signal.Signals, plain: Path) -> None:
    words = ["files", f"{plain}/T1a.nii.gz", f"{plain}/FLAIR.nii.gz", *QUICK]
    command = [sys.executable, "-m", "bids_unires", *(word for word in words if word != "-q")]
    before = contents(plain)
    for step in ("reconstruction", "report"):
        with subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(plain.parent)},
        ) as process:
            assert process.stderr is not None
            assert any(f": {step}" in line for line in process.stderr)
            process.send_signal(how)
            process.stderr.read()
        assert process.returncode in (-how, 130)
        assert contents(plain) == before
    assert main(words) == 0
    assert (plain / "ur_T1a.nii.gz").exists()


@pytest.mark.slow
def test_every_result_has_a_name_and_the_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = scan_of_head(axis=2), scan_of_head(axis=0, seed=1)
    nib.MGHImage(np.asarray(first.dataobj), first.affine).to_filename(tmp_path / "T1.mgz")
    nib.Nifti1Pair(np.asarray(other.dataobj), other.affine).to_filename(tmp_path / "T2.img")
    monkeypatch.chdir(tmp_path)
    command = ["files", "T2.hdr", "T1.mgz", "--uncertainty", "2", "--prefix", "y_", "-o", "out"]
    assert main([*command, *QUICK, "--voxel-size", "7.5", "--measured-map"]) == 0
    of_each = ("T1.json", "T1.nii.gz", "T1_std.json", "T1_std.nii.gz", "T1_xfm.txt")
    of_each += ("T1_measured.json", "T1_measured.nii.gz")
    of_all = {"y_T1.html", "y_T1_fov.json", "y_T1_fov.nii.gz"}
    names = {f"y_{name}" for own in of_each for name in (own, own.replace("T1", "T2"))}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | of_all


@pytest.mark.slow
def test_the_examples_of_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, axis in {"T1": 2, "T2": 0, "PD": 1}.items():
        thick_slices_of_a_head(axis).to_filename(tmp_path / f"{name}.nii.gz")
    monkeypatch.chdir(tmp_path)
    beginning = "bids_unires files T1.nii.gz T2.nii.gz PD.nii.gz"
    examples = [command for command in commands(PAGE) if command.startswith(beginning)]
    assert [command.removeprefix(beginning) for command in examples] == [
        "",
        " --vx 1.5",
        " --common_output",
        " --linear --common_output",
    ]
    for command in examples:
        options = command.removeprefix("bids_unires ").split()
        coarse = ["--voxel-size", "7.5" if "--vx" in options else "6"]
        brief = ["--no-learned-detail", "--max-iter", "3", "-q", "--overwrite"]
        assert main([*options, *coarse, *brief]) == 0
        images = [nib.load(tmp_path / f"ur_{name}.nii.gz") for name in ("T1", "T2", "PD")]
        assert len({image.shape for image in images}) == 1
        assert {image.header.get_zooms() for image in images} == {(float(coarse[1]),) * 3}
