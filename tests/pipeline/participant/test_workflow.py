"""The participant level from the command line to the files, on a small head."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from bids import BIDSLayout
from nitransforms.linear import Affine as LinearTransform
from scipy import ndimage

from bids_unires import __version__
from bids_unires.cli.main import main
from bids_unires.config import ModelSettings, RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.errors import (
    BadDataError,
    InputOutputError,
    InvalidDatasetError,
    MissingInputError,
    NothingSelectedError,
    UsageError,
)
from bids_unires.pipeline.participant.workflow import run_participant
from bids_unires.space.affines import apply_affine
from bids_unires.work.allotment import Allotment
from tests.pages import with_pages

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]

COARSE = [
    "--voxel-size",
    "5",
    "--reg-scale",
    "20",
    "--device",
    "cpu",
    "--max-iter",
    "40",
    "--learning-effort",
    "brief",
]
OFFSET = (4.0, -3.0, 5.0)
SIDECARS: dict[str, Any] = {
    "T1w": {
        "MRAcquisitionType": "2D",
        "SliceThickness": 12,
        "SpacingBetweenSlices": 15,
        "EchoTime": 0.003,
        "MagneticFieldStrength": 3,
    },
    "FLAIR": {"EchoTime": 0.1, "InversionTime": 2.5},
}
EXPECTED = {
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-srMeasured_T1w.nii.gz",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-srMeasured_T1w.json",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-srMeasured_FLAIR.nii.gz",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-srMeasured_FLAIR.json",
    "sub-02/ses-a/anat/sub-02_ses-a_space-individual_res-5mm_desc-srMeasured_T1w.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_space-individual_res-5mm_desc-srMeasured_T1w.json",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-fov_mask.nii.gz",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-fov_mask.json",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-sr_T1w.nii.gz",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-sr_T1w.json",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-sr_FLAIR.nii.gz",
    "sub-01/anat/sub-01_space-individual_res-5mm_desc-sr_FLAIR.json",
    "sub-01/anat/sub-01_acq-ax_run-1_from-T1w_to-individual_mode-image_xfm.txt",
    "sub-01/anat/sub-01_acq-ax_run-1_from-T1w_to-individual_mode-image_xfm.json",
    "sub-01/anat/sub-01_acq-cor_run-2_from-T1w_to-individual_mode-image_xfm.txt",
    "sub-01/anat/sub-01_acq-cor_run-2_from-T1w_to-individual_mode-image_xfm.json",
    "sub-01/anat/sub-01_from-FLAIR_to-individual_mode-image_xfm.txt",
    "sub-01/anat/sub-01_from-FLAIR_to-individual_mode-image_xfm.json",
    "sub-02/ses-a/anat/sub-02_ses-a_space-individual_res-5mm_desc-fov_mask.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_space-individual_res-5mm_desc-fov_mask.json",
    "sub-02/ses-a/anat/sub-02_ses-a_space-individual_res-5mm_desc-sr_T1w.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_space-individual_res-5mm_desc-sr_T1w.json",
    "sub-02/ses-a/anat/sub-02_ses-a_from-T1w_to-individual_mode-image_xfm.txt",
    "sub-02/ses-a/anat/sub-02_ses-a_from-T1w_to-individual_mode-image_xfm.json",
}


@dataclass(frozen=True)
class FinishedRun:
    """What a run was given and where it left its results."""

    raw: Path
    out: Path

    def image(self, name: str) -> Path:
        (path,) = self.out.glob(f"sub-*/**/{name}")
        return path

    def sidecar(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.image(name).read_text()))


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
) -> FinishedRun:
    """Two participants: one with two contrasts and repeats that moved, one with a session."""
    root = tmp_path_factory.mktemp("run")
    scans = {
        "sub-01_acq-ax_run-1_T1w": make_head_scan(2, seed=1),
        "sub-01_acq-cor_run-2_T1w": make_head_scan(1, OFFSET, seed=2),
        "sub-01_FLAIR": make_head_scan(0, seed=3, gain=2.0),
        "sub-02_ses-a_T1w": make_head_scan(2, seed=4),
    }
    raw = make_head_dataset(root / "raw", scans, **SIDECARS)
    before = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}
    command = [str(raw), str(root / "out"), "participant", *COARSE, "--measured-map"]
    with with_pages():
        assert main(command) == 0
    after = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}
    assert after == before
    return FinishedRun(raw, root / "out")


def test_outputs_have_the_agreed_names_and_nothing_else_is_left(finished: FinishedRun) -> None:
    found = {
        path.relative_to(finished.out).as_posix()
        for path in finished.out.rglob("*")
        if path.is_file()
    }
    reports = {name for name in found if name.endswith(".html") or "/figures/" in name}
    assert {"sub-01.html", "sub-02_ses-a.html"} <= reports
    assert {name for name in found - reports if name.startswith("sub-")} == EXPECTED
    others = {name.split("/")[0] for name in found if not name.startswith("sub-")}
    assert others >= {"dataset_description.json", "README", ".bidsignore", "logs"}
    assert not [name for name in found if name.endswith(".part")]


def test_the_validator_finds_no_error(finished: FinishedRun) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    result = subprocess.run(
        [validator, finished.out, "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(result.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert result.returncode == 0


def test_pybids_reads_the_output_as_derivatives(finished: FinishedRun) -> None:
    layout = BIDSLayout(finished.raw, derivatives=finished.out)
    query = {"scope": "derivatives", "space": "individual", "res": "5mm", "extension": ".nii.gz"}
    images = layout.get(desc="sr", **query)
    assert sorted((image.entities["subject"], image.entities["suffix"]) for image in images) == [
        ("01", "FLAIR"),
        ("01", "T1w"),
        ("02", "T1w"),
    ]
    assert len(layout.get(desc="fov", suffix="mask", **query)) == 2
    (flair,) = layout.get(desc="sr", suffix="FLAIR", **query)
    assert flair.get_metadata()["InversionTime"] == 2.5


def test_geometry_is_the_same_for_every_reader(finished: FinishedRun) -> None:
    for path in finished.out.glob("sub-*/**/*.nii.gz"):
        image = nib.load(path)
        np.testing.assert_allclose(image.get_sform(), image.get_qform(), atol=1e-4)
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        other = sitk.ReadImage(path)
        corner = [side - 1 for side in image.shape]
        for voxel in ([0, 0, 0], corner, [corner[0], 0, 0], [0, corner[1], 0]):
            # SimpleITK's world is LPS.
            point = np.array(other.TransformIndexToPhysicalPoint(voxel)) * (-1, -1, 1)
            np.testing.assert_allclose(apply_affine(image.affine, voxel), point, atol=1e-3)


def test_images_of_a_participant_share_one_grid(finished: FinishedRun) -> None:
    images = [nib.load(path) for path in finished.out.glob("sub-01/anat/*.nii.gz")]
    assert len(images) == 5
    for image in images:
        assert image.shape == images[0].shape
        np.testing.assert_array_equal(image.affine, images[0].affine)
        np.testing.assert_allclose(image.header.get_zooms(), 5.0, atol=1e-5)


def test_the_map_says_how_much_was_measured(finished: FinishedRun) -> None:
    # Two stacks measured more of the head than one.
    shares = {
        name: nib.load(finished.image(f"sub-01*_desc-srMeasured_{name}.nii.gz")).get_fdata()
        for name in ("T1w", "FLAIR")
    }
    for share in shares.values():
        assert share.min() >= 0
        assert share.max() <= 1
        # Whole hundredths: further digits would make files several times as large.
        np.testing.assert_allclose(100 * share, np.round(100 * share), atol=1e-4)
    head = nib.load(finished.image("sub-01*_desc-sr_T1w.nii.gz")).get_fdata() > 60
    assert shares["T1w"][head].mean() > shares["FLAIR"][head].mean() > 0
    about = finished.sidecar("sub-01*_desc-srMeasured_FLAIR.json")
    assert 0 < about["UniRes"]["Median"] < 1
    assert (finished.out / "sub-01.html").read_text().count("Measured or inferred:") == 2


def test_images_are_floats_within_the_range_of_their_scans(finished: FinishedRun) -> None:
    path = finished.image("sub-02*_desc-sr_T1w.nii.gz")
    image, scan = nib.load(path), nib.load(next(finished.raw.rglob("sub-02*T1w.nii.gz")))
    assert image.get_data_dtype() == np.float32
    assert np.isnan(image.header["scl_slope"]) or image.header["scl_slope"] == 1
    data = image.get_fdata()
    assert np.isfinite(data).all()
    assert data.min() >= 0
    assert data.max() <= scan.get_fdata().max()


def test_images_look_like_the_scans(finished: FinishedRun) -> None:
    for result, scan in (
        ("sub-01_space*_desc-sr_T1w.nii.gz", "sub-01_acq-ax_run-1_T1w.nii.gz"),
        ("sub-01_space*_desc-sr_FLAIR.nii.gz", "sub-01_FLAIR.nii.gz"),
        ("sub-02_*_desc-sr_T1w.nii.gz", "sub-02_ses-a_T1w.nii.gz"),
    ):
        image = nib.load(finished.image(result))
        acquired = nib.load(next(finished.raw.rglob(scan)))
        (transform,) = finished.out.rglob(
            "_".join(scan.split("_")[:-1]) + f"_from-{scan.split('_')[-1][:-7]}_*.txt"
        )
        # The transform takes points of the scan to the individual space.
        pose = np.linalg.inv(LinearTransform.from_filename(transform, fmt="itk").matrix)
        voxels = np.moveaxis(np.indices(image.shape), 0, -1)
        at = apply_affine(np.linalg.inv(pose @ acquired.affine) @ image.affine, voxels)
        moved = ndimage.map_coordinates(acquired.get_fdata(), np.moveaxis(at, -1, 0), order=1)
        inside = moved > 30
        assert np.corrcoef(moved[inside], image.get_fdata()[inside])[0, 1] > 0.8


def test_transforms_undo_the_motion_between_scans(finished: FinishedRun) -> None:
    first, second = (
        LinearTransform.from_filename(finished.image(f"*run-{run}*_xfm.txt"), fmt="itk").matrix
        for run in (1, 2)
    )
    # nitransforms maps points of the individual space to the scan, where the head was moved.
    moved = apply_affine(second @ np.linalg.inv(first), [[0, 0, 0], [20, 20, 20]])
    np.testing.assert_allclose(moved, [OFFSET, np.add(OFFSET, 20)], atol=2.0)
    sidecar = finished.sidecar("*run-2*_xfm.json")
    assert sidecar["Sources"][0] == "bids:raw:sub-01/anat/sub-01_acq-cor_run-2_T1w.nii.gz"


def test_the_mask_is_where_every_contrast_was_measured(finished: FinishedRun) -> None:
    mask = nib.load(finished.image("sub-01_*_desc-fov_mask.nii.gz"))
    data = np.asarray(mask.dataobj)
    assert data.dtype == np.uint8
    assert set(np.unique(data)) <= {0, 1}
    assert data.mean() > 0.5
    sidecar = finished.sidecar("sub-01_*_desc-fov_mask.json")
    assert sidecar["Type"] == "ROI"
    assert sidecar["Resolution"] == "5 mm isotropic"


def test_sidecars_say_where_images_come_from(finished: FinishedRun) -> None:
    sidecar = finished.sidecar("sub-01_*_desc-sr_T1w.json")
    assert sidecar["Sources"] == [
        "bids:raw:sub-01/anat/sub-01_acq-ax_run-1_T1w.nii.gz",
        "bids:raw:sub-01/anat/sub-01_acq-cor_run-2_T1w.nii.gz",
        "bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz",
    ]
    reference = finished.image("sub-01_*_desc-fov_mask.nii.gz").relative_to(finished.out)
    assert sidecar["SpatialReference"] == f"bids::{reference.as_posix()}"
    assert sidecar["Resolution"] == "5 mm isotropic"
    assert sidecar["SkullStripped"] is False
    assert sidecar["EchoTime"] == 0.003
    assert "SliceThickness" not in sidecar
    assert "SpacingBetweenSlices" not in sidecar


def test_sidecars_say_how_images_were_made(finished: FinishedRun) -> None:
    provenance = finished.sidecar("sub-01_*_desc-sr_T1w.json")["UniRes"]
    assert provenance["Version"] == __version__
    assert provenance["Settings"]["voxel_size"] == [5, 5, 5]
    assert provenance["Settings"]["reg_scale"] == 20
    assert provenance["Device"] == "cpu"
    assert provenance["Iterations"] > 0
    assert isinstance(provenance["Converged"], bool)
    assert provenance["Objective"] > 0
    assert provenance["RuntimeSeconds"] > 0
    assert provenance["PeakMemoryBytes"] > 50 * 2**20
    assert provenance["Lambda"] > 0
    first, second = provenance["Scans"]
    assert first["Tau"] == pytest.approx(first["NoiseSD"] ** -2)
    assert first["NoiseSD"] == pytest.approx(3.0, rel=0.3)
    np.testing.assert_allclose(first["Pose"], np.eye(4), atol=1e-9)
    assert np.shape(second["PoseParameters"]) == (6,)
    profile = first["SliceProfile"]
    assert profile["ThroughPlane"] == "rect"
    assert profile["InPlane"] == "point"
    assert profile["SliceAxis"] == 2
    assert second["SliceProfile"]["SliceAxis"] == 1
    assert profile["Gap"] == pytest.approx(0.2)
    assert "SliceThickness" in profile["GapSource"]
    other = finished.sidecar("sub-01_*_desc-sr_FLAIR.json")["UniRes"]
    assert other["Lambda"] == pytest.approx(provenance["Lambda"] / 2, rel=0.2)
    assert other["Scans"][0]["SliceProfile"]["Gap"] == 0


def test_the_same_command_again_gives_the_same_images(finished: FinishedRun) -> None:
    path = finished.image("sub-02_*_desc-sr_T1w.nii.gz")
    before = path.read_bytes()
    arguments = [str(finished.raw), str(finished.out), "participant", *COARSE]
    assert main([*arguments, "--participant-label", "sub-02"]) == 0
    assert path.read_bytes() == before


# ------------------------------------------------------------------ bad data


def damaged(image: nib.Nifti1Image, kind: str, path: Path) -> None:
    """Overwrite a scan with one that cannot be used."""
    data = image.get_fdata(dtype=np.float32)
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "series":
        nib.Nifti1Image(np.stack([data] * 3, axis=-1), image.affine).to_filename(path)
    elif kind == "constant":
        nib.Nifti1Image(np.full_like(data, 7), image.affine).to_filename(path)
    elif kind == "zeros":
        nib.Nifti1Image(np.zeros_like(data), image.affine).to_filename(path)
    elif kind == "nan":
        nib.Nifti1Image(np.full_like(data, np.nan), image.affine).to_filename(path)
    elif kind == "text":
        path.write_text("This is no image.")
    else:
        raise AssertionError(kind)


KINDS = ("truncated", "empty", "series", "constant", "zeros", "nan", "text")


@pytest.fixture(scope="module")
def half_good(
    tmp_path_factory: pytest.TempPathFactory,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
) -> Path:
    """One good participant among many bad ones."""
    scan = make_head_scan()
    labels = {**{f"sub-{kind}": kind for kind in KINDS}, "sub-good": ""}
    raw = make_head_dataset(
        tmp_path_factory.mktemp("half") / "raw", {f"{label}_T1w": scan for label in labels}
    )
    for label, kind in labels.items():
        if kind:
            damaged(scan, kind, raw / label / "anat" / f"{label}_T1w.nii.gz")
    return raw


@pytest.mark.slow
def test_bad_participants_do_not_stop_the_good_one(
    half_good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    # The validator of the whole dataset would stop here: it reads headers.
    arguments = [str(half_good), str(out), "participant", "--skip-bids-validation", *COARSE]
    assert main(arguments) == BadDataError.exit_code
    errors = capfd.readouterr().err
    assert "Traceback" not in errors
    for kind in KINDS:
        (line,) = [line for line in errors.splitlines() if f"sub-{kind} failed: " in line]
        assert f"sub-{kind}_T1w.nii.gz" in line
        assert not list(out.glob(f"sub-{kind}/**/*.*"))
    summary = errors.splitlines()[-1]
    assert f"{len(KINDS)} of {len(KINDS) + 1} failed" in summary
    assert "sub-good" not in summary
    assert len(list(out.glob("sub-good/anat/*_desc-sr_T1w.nii.gz"))) == 1
    assert not list(out.rglob("*.part"))


def test_the_whole_story_of_a_failure_is_in_the_log(half_good: Path, tmp_path: Path) -> None:
    arguments = [str(half_good), str(tmp_path), "participant", "--skip-bids-validation", *COARSE]
    assert main([*arguments, "--participant-label", "text"]) == BadDataError.exit_code
    (log,) = (tmp_path / "logs").glob("*.log")
    assert "Traceback" in log.read_text()


def test_missing_voxels_are_filled_and_reported(
    make_head_scan: ScanMaker, make_head_dataset: DatasetMaker, tmp_path: Path
) -> None:
    image = make_head_scan()
    data = image.get_fdata(dtype=np.float32)
    data[12:14, 12:14, 5] = np.nan
    data[0, 0, 0] = np.inf
    scan = nib.Nifti1Image(data, image.affine)
    raw = make_head_dataset(tmp_path / "raw", {"sub-01_T1w": scan})
    settings = ModelSettings(voxel_size=(5, 5, 5), reg_scale=20, max_iter=20, learned_detail=False)
    config = RunConfig(raw, tmp_path / "out", "participant", device="cpu", model=settings)
    (plan,) = plan_participants(config)
    outcome = run_participant(plan, config, Allotment("cpu", 2, 2**34))
    assert outcome.label == "sub-01"
    assert any("5 voxels are NaN or infinite" in warning for warning in outcome.warnings)
    assert all(path.is_file() for path in outcome.outputs)
    (path,) = (tmp_path / "out").rglob("*_desc-sr_T1w.nii.gz")
    result = nib.load(path).get_fdata()
    assert np.isfinite(result).all()
    at = np.linalg.inv(nib.load(path).affine) @ image.affine @ [12.5, 12.5, 5, 1]
    x, y, z = np.round(at[:3]).astype(int)
    assert result[x, y, z] > 30


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize("asked", [True, False])
def test_what_small_lesions_become_is_told_where_asked_for(
    asked: bool, make_head_dataset: DatasetMaker, tmp_path: Path
) -> None:
    side, thickness = 104, 4
    from_middle = np.moveaxis(np.indices((side,) * 3), 0, -1) - (side - 1) / 2
    ball = np.where(np.linalg.norm(from_middle, axis=-1) < 0.45 * side, 100.0, 0.0)
    slices = ball.reshape(side, side, -1, thickness).mean(axis=3)
    noise = np.random.default_rng(0).normal(size=(2, *slices.shape))
    noisy = np.hypot(slices + noise[0], noise[1]).astype(np.float32)
    scan = nib.Nifti1Image(noisy, np.diag([1.0, 1.0, thickness, 1.0]))
    raw = make_head_dataset(tmp_path / "raw", {"sub-01_T1w": scan})
    command = [str(raw), str(tmp_path / "out"), "participant", "--device", "cpu"]
    quick = ["--reg-scale", "4", "--max-iter", "10", "--no-learned-detail"]
    assert main([*command, *quick, *(["--detectability"] if asked else [])]) == 0
    (sidecar,) = (tmp_path / "out").rglob("*_desc-sr_T1w.json")
    said = json.loads(sidecar.read_text())["UniRes"].get("Detectability")
    page = (tmp_path / "out" / "sub-01.html").read_text()
    assert ("darker than the tissue around them" in page) == asked
    assert (said is not None) == asked
    if asked:
        assert {odds["Diameter"] for odds in said["Lesions"]} >= {3.0, 4.0}


@pytest.mark.parametrize(
    ("factor", "told"), [pytest.param(1.2, False, marks=pytest.mark.slow), (3.0, True)]
)
def test_repeats_of_unlike_brightness_are_told(
    factor: float,
    told: bool,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
    tmp_path: Path,
) -> None:
    first = make_head_scan()
    second = nib.Nifti1Image(first.get_fdata(dtype=np.float32) * np.float32(factor), first.affine)
    raw = make_head_dataset(
        tmp_path / "raw", {"sub-01_run-1_T1w": first, "sub-01_run-2_T1w": second}
    )
    settings = ModelSettings(voxel_size=(5, 5, 5), reg_scale=20, max_iter=5, learned_detail=False)
    config = RunConfig(raw, tmp_path / "out", "participant", device="cpu", model=settings)
    (plan,) = plan_participants(config)
    messages = [
        text
        for text in run_participant(plan, config, Allotment("cpu", 2, 2**34)).warnings
        if "as bright as" in text
    ]
    assert bool(messages) == told
    assert all("sub-01_run-2_T1w.nii.gz is 3.0 times" in text for text in messages)


@pytest.mark.parametrize(("shift_mm", "told"), [(0.0, False), (15.0, True)])
def test_a_scan_that_does_not_fit_its_image_is_told(
    shift_mm: float,
    told: bool,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
    tmp_path: Path,
) -> None:
    scans = {
        "sub-01_run-1_T1w": make_head_scan(2, seed=1),
        "sub-01_run-2_T1w": make_head_scan(2, (shift_mm, 0, 0), seed=2),
    }
    raw = make_head_dataset(tmp_path / "raw", scans)
    still: dict[str, Any] = dict.fromkeys(("coregister", "unified_rigid", "learned_detail"), False)
    settings = ModelSettings(voxel_size=(5, 5, 5), max_iter=30, reg_scale=4, **still)
    config = RunConfig(raw, tmp_path / "out", "participant", device="cpu", model=settings)
    (plan,) = plan_participants(config)
    warnings = run_participant(plan, config, Allotment("cpu", 2, 2**34)).warnings
    assert any("does not fit its image" in text for text in warnings) == told


def test_a_participant_that_needs_too_much_memory_is_refused(
    half_good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [str(half_good), str(out), "participant", "--skip-bids-validation", *COARSE]
    options = ["--participant-label", "good", "--mem-mb", "200"]
    assert main([*arguments, *options]) == BadDataError.exit_code
    assert "GiB of memory" in capfd.readouterr().err
    assert not list(out.glob("sub-good/**/*.*"))


def test_a_gpu_that_is_not_there_is_refused(
    half_good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(half_good), str(tmp_path / "out"), "participant", "--skip-bids-validation"]
    code = main([*arguments, "--participant-label", "good", "--device", "cuda:99"])
    assert code == UsageError.exit_code
    assert "--device" in capfd.readouterr().err


def test_a_fit_that_did_not_converge_is_reported(
    half_good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(half_good), str(tmp_path / "out"), "participant", "--skip-bids-validation"]
    options = [*COARSE, "--participant-label", "good", "--max-iter", "1"]
    assert main([*arguments, *options, "--device", "cpu"]) == 0
    assert "raise --max-iter" in capfd.readouterr().err
    assert not logging.getLogger("bids_unires").handlers


def test_nothing_is_left_under_its_final_name_when_the_disk_is_full(
    half_good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    monkeypatch.setattr(nib.Nifti1Image, "to_stream", full)
    arguments = [str(half_good), str(out), "participant", "--skip-bids-validation", *COARSE]
    assert main([*arguments, "--participant-label", "good"]) == InputOutputError.exit_code
    assert "No space left" in capfd.readouterr().err
    assert not list(out.rglob("*.nii.gz"))
    assert not list(out.rglob("*.part"))


# ------------------------------------------------------------------ a run that cannot start


def test_unknown_participants_are_answered_with_the_known_ones(
    half_good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = main([str(half_good), str(out), "participant", "--participant-label", "99"])
    assert code == NothingSelectedError.exit_code
    (line,) = capfd.readouterr().err.splitlines()
    assert "99" in line
    assert "good" in line
    assert not out.exists()


@pytest.mark.parametrize("inside", [".", "results", "sub-good/anat"])
def test_output_inside_the_input_is_refused(
    half_good: Path, inside: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = sorted(half_good.rglob("*"))
    assert main([str(half_good), str(half_good / inside), "participant"]) == UsageError.exit_code
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert sorted(half_good.rglob("*")) == before


def test_a_missing_dataset_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nowhere"
    code = main([str(missing), str(tmp_path / "out"), "participant"])
    assert code == MissingInputError.exit_code
    (line,) = capfd.readouterr().err.splitlines()
    assert str(missing) in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("leave_out", "complaint"), [("", "no participant"), ("dataset_description.json",) * 2]
)
def test_an_empty_dataset_is_refused(
    leave_out: str,
    complaint: str,
    tmp_path: Path,
    make_head_dataset: DatasetMaker,
    capfd: pytest.CaptureFixture[str],
) -> None:
    raw = make_head_dataset(tmp_path / "raw", {})
    if leave_out:
        (raw / leave_out).unlink()
    code = main([str(raw), str(tmp_path / "out"), "participant"])
    assert code == InvalidDatasetError.exit_code
    (line,) = capfd.readouterr().err.splitlines()
    assert str(raw) in line
    assert complaint in line
    assert not (tmp_path / "out").exists()
