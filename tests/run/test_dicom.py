"""``bids_unires dicom`` from the command line: plan, dataset, images, and errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.dicom import parse_arguments
from bids_unires.cli.main import main
from bids_unires.cli.main import parse_arguments as parse_bids
from bids_unires.dicom import conversion
from tests.dicom.conftest import FIRST, LOCALISER, PROTOCOL, SECOND, write_patients
from tests.dicom.scanner import Series, write_series
from tests.documented import commands
from tests.paths import SHARED

QUICK = ["--linear", "--no-coregister", "--device", "cpu", "-q"]


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """A folder with two scans of one patient, and a localiser."""
    folder = tmp_path / "dicom"
    write_series(folder, SECOND, 1, Series("survey", LOCALISER, count=3))
    for number in (2, 4):
        write_series(folder, SECOND, number, PROTOCOL[number])
    return folder


def test_options_of_the_model_are_those_of_the_participant_level() -> None:
    options = ["--vx", "2", "--denoise", "--align", "rigid", "--nprocs", "2"]
    _, config = parse_arguments(["in", "out", *options])
    assert config == parse_bids(["out/bids", "out/derivatives", "participant", *options])


def test_one_command_makes_a_dataset_and_images(
    patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(patient)
    out = tmp_path / "out"
    command = ["dicom", str(patient), str(out), "--voxel-size", "7.5", *QUICK]
    assert main(command) == 0
    assert files(patient) == before
    (label,) = json.loads((out / "key.json").read_text())["Patients"]
    plan = capsys.readouterr().out
    assert f"sub-{label}\n  series 1 (survey): left out: a localiser" in plan
    assert "series 4 (t2_tirm_sag): acq-sag_FLAIR: inversion recovery, spin echo, TE 92 ms" in plan
    assert sorted(path.name for path in out.iterdir()) == ["bids", "derivatives", "key.json"]
    images = sorted(out.glob("derivatives/sub-*/anat/*_desc-resliced_*.nii.gz"))
    assert [path.name.rsplit("_", 1)[1] for path in images] == ["FLAIR.nii.gz", "T1w.nii.gz"]
    assert len({nib.load(path).shape for path in images}) == 1
    assert (out / "derivatives" / f"sub-{label}.html").exists()

    # The same command again finds that all is done, under the same label.
    made = files(out / "bids")
    assert main([*command[:-1], "-v"]) == 0
    assert files(out / "bids") == made
    assert "finished earlier" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(
    patient: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["dicom", str(patient), str(out), "--dry-run", "--take", "survey=T1w"]) == 0
    assert "series 1 (survey): acq-tra_run-1_T1w: as --take says" in capsys.readouterr().out
    assert not out.exists()


@pytest.mark.slow
def test_the_documented_commands(patient: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    dry, done = (
        command.replace("DICOM", str(patient)).replace("OUT", str(out)).split()[1:]
        for command in commands("docs/how-to/dicom.md")
        if command.startswith("bids_unires dicom")
    )
    assert main(dry) == 0
    assert not out.exists()
    assert main([*done, "--voxel-size", "7.5", *QUICK]) == 0
    assert (out / "bids").is_dir()
    assert (out / "derivatives").is_dir()


def written(folder: Path, what: str) -> Path:
    """Write one of several folders from which no image can come."""
    folder.mkdir()
    if what == "localiser":
        write_series(folder, FIRST, 1, Series("survey", LOCALISER, count=3))
    elif what == "text":
        (folder / "a.txt").write_text("no DICOM" * 100)
    elif what == "unreadable":
        for path in write_series(folder, FIRST, 1, PROTOCOL[2]):
            # The voxels are missing.
            path.write_bytes(path.read_bytes()[:-1700])
    elif what == "scan":
        write_series(folder, FIRST, 1, PROTOCOL[2])
    return folder


@pytest.mark.parametrize(
    ("what", "options", "code", "said"),
    [
        ("nothing", "", 66, "holds no DICOM file"),
        ("text", "", 66, "holds no DICOM file"),
        ("unreadable", "", 65, "dcm2niix could convert none"),
        ("localiser", "", 18, r"no usable series \(series 1 \(survey\): a localiser"),
        ("scan", "--skip 1", 18, "as --skip says"),
        ("scan", "--skip 2", 64, "no series has this number"),
        ("scan", "--take 1=T3w", 64, "is not SERIES=SUFFIX"),
        ("scan", "--key-file out/bids/key", 64, "lies in out/bids"),
        ("scan", "--key-file in/key", 64, "which is only read"),
        ("scan", "--label-by folder", 64, "one folder for each patient"),
        ("scan", "--fov head", 64, "--fov is for"),
        ("scan", "--modalities T1w", 64, "unrecognized"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    what: str,
    options: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files(written(Path("in"), what))
    assert main(["dicom", "in", "out", "-q", *options.split()]) == code
    message = capsys.readouterr().err
    assert re.search(said, message), message
    assert message.count("\n") == 1
    assert files(Path("in")) == before
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 64, "missing: dicom_dir, output_dir"),
        (["in"], 64, "missing: output_dir"),
        (["none", "out"], 66, "none does not exist"),
        (["in", "in/out"], 64, "lies in in, which is only read"),
        (["in", "file"], 73, "is not a folder"),
    ],
)
def test_places_are_checked_before_any_work(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("file").write_text("")
    assert main(["dicom", *arguments]) == code
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "in"]


def test_without_dcm2niix_its_package_is_named(
    patient: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(conversion.sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["dicom", str(patient), str(tmp_path / "out")]) == 66
    assert "pip install 'bids_unires[dicom]'" in capsys.readouterr().err


@pytest.mark.slow
def test_two_patients_become_two_participants(tmp_path: Path) -> None:
    folder, out = write_patients(tmp_path / "in"), tmp_path / "out"
    brief = ["--no-learned-detail", "--max-iter", "5", "--voxel-size", "7.5", "--device", "cpu"]
    brief += ["--no-coregister", "--no-unified-rigid", "-q"]
    assert main(["dicom", str(folder), str(out), "--label-by", "folder", *brief]) == 0
    made = {path.name for path in out.glob("derivatives/sub-*/anat/*_desc-sr_*.nii.gz")}
    assert {name.replace("space-individual_res-7p5mm_desc-sr_", "") for name in made} == {
        *("sub-A1_T1w.nii.gz", "sub-A1_ce-agent_T1w.nii.gz", "sub-A1_T2w.nii.gz"),
        *("sub-A1_FLAIR.nii.gz", "sub-B2_T1w.nii.gz", "sub-B2_FLAIR.nii.gz"),
    }
    # The scans had gaps, of which dcm2niix tells.
    (sidecar,) = out.glob("derivatives/sub-B2/anat/*_desc-sr_FLAIR.json")
    (scan,) = json.loads(sidecar.read_text())["UniRes"]["Scans"]
    assert scan["SliceProfile"]["Gap"] == pytest.approx(0.2)


@pytest.mark.slow
@pytest.mark.realdata
def test_a_tilted_gantry_with_uneven_slices_is_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SHARED / "data" / "ct-gantry"
    command = ["dicom", str(folder / "dicom"), str(tmp_path), "--voxel-size", "3", *QUICK]
    assert main(command) == 0
    assert "dcm2niix resampled the tilt of the gantry and uneven distances of slices" in (
        capsys.readouterr().out
    )
    (scan,) = tmp_path.glob("bids/sub-*/ct/*_ct.nii.gz")
    converted, wanted = nib.load(scan), nib.load(folder / "ct_tilt_corrected.nii.gz")
    np.testing.assert_allclose(converted.affine, wanted.affine, atol=0.01)
    difference = converted.get_fdata() - wanted.get_fdata()
    assert np.percentile(np.abs(difference), 99) <= 1
    images = tmp_path.glob("derivatives/sub-*/ct/*_ct.nii.gz")
    (image,) = (path for path in images if "Measured_" not in path.name)
    values = nib.load(image).get_fdata()
    assert values.min() < -900
    assert values.max() > 800
