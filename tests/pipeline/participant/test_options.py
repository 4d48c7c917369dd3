"""Every option of the model and of the grid, on a small head, from the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.dataset.transforms import read_transform
from bids_unires.registration import load_template, template_grid
from bids_unires.space.affines import apply_affine, scaling, translation
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]
Runner = Callable[..., Path]

BRIEF = [
    "--learning-effort",
    "brief",
    "--device",
    "cpu",
    "--max-iter",
    "15",
    "--skip-bids-validation",
    "-q",
]
COARSE = ["--voxel-size", "5", "--reg-scale", "20"]
SUFFIX = "sub-01_T1w"


@pytest.fixture
def run(tmp_path: Path, make_head_dataset: DatasetMaker) -> Runner:
    """Write scans, run with some options, hand back the output folder."""

    def run_on(scans: dict[str, nib.Nifti1Image], *options: str, name: str = "out") -> Path:
        raw = make_head_dataset(tmp_path / f"raw-{name}", scans)
        out = tmp_path / name
        assert main([str(raw), str(out), "participant", *options, *BRIEF]) == 0
        return out

    return run_on


def only(out: Path, pattern: str) -> Path:
    (path,) = out.rglob(pattern)
    return path


def provenance(image: Path) -> dict[str, Any]:
    sidecar = image.with_name(image.name.replace(".nii.gz", ".json"))
    return dict(json.loads(sidecar.read_text())["UniRes"])


def with_data(image: nib.Nifti1Image, data: np.ndarray) -> nib.Nifti1Image:
    return nib.Nifti1Image(data.astype(np.float32), image.affine)


def test_denoise_keeps_the_voxels_of_the_scan(run: Runner, make_head_scan: ScanMaker) -> None:
    scan = make_head_scan(2)
    image = only(
        run({SUFFIX: scan}, "--denoise", "--reg-scale", "60"), "*_desc-denoised_T1w.nii.gz"
    )
    result = nib.load(image)
    assert "_res-5x5x15mm_" in image.name
    assert result.shape == scan.shape
    np.testing.assert_allclose(result.affine, scan.affine, atol=1e-4)
    change = result.get_fdata() - scan.get_fdata()
    assert 0.3 < change.std() < 6
    stated = provenance(image)["Settings"]
    assert stated["method"] == "denoise"
    assert "learned_detail" not in stated
    profile = provenance(image)["Scans"][0]["SliceProfile"]
    assert (profile["InPlane"], profile["ThroughPlane"]) == ("point", "point")


def test_voxel_size_zero_is_denoising(run: Runner, make_head_scan: ScanMaker) -> None:
    out = run({SUFFIX: make_head_scan(2)}, "--voxel-size", "0")
    assert only(out, "*_desc-denoised_T1w.nii.gz").exists()


def test_linear_interpolates_and_says_nothing_of_a_fit(
    run: Runner, make_head_scan: ScanMaker
) -> None:
    scan = make_head_scan(2)
    out = run({SUFFIX: scan}, "--linear", "--voxel-size", "5")
    image = only(out, "*_desc-resliced_T1w.nii.gz")
    data = nib.load(image).get_fdata()
    # Every third layer lies in the middle of a slice.
    np.testing.assert_allclose(data[:, :, 1::3], scan.get_fdata(), atol=0.05)
    assert "Objective" not in provenance(image)
    stated = provenance(image)["Settings"]
    assert (stated["method"], stated["voxel_size"]) == ("linear", [5, 5, 5])
    assert not {"learned_detail", "unified_rigid", "reg_scale", "tolerance"} & stated.keys()
    assert only(out, "*_from-T1w_to-individual_mode-image_xfm.txt").exists()


def test_voxels_may_be_anisotropic(run: Runner, make_head_scan: ScanMaker) -> None:
    out = run({SUFFIX: make_head_scan(2)}, "--voxel-size", "5", "5", "7.5", "--no-learned-detail")
    image = only(out, "*_res-5x5x7p5mm_desc-sr_T1w.nii.gz")
    np.testing.assert_allclose(nib.load(image).header.get_zooms(), (5, 5, 7.5), atol=1e-4)


@pytest.mark.slow
def test_poses_are_refined_unless_switched_off(run: Runner, make_head_scan: ScanMaker) -> None:
    scans = {
        "sub-01_acq-ax_T1w": make_head_scan(2, seed=1),
        "sub-01_acq-sag_T1w": make_head_scan(0, (3.0, -2.0, 1.0), seed=2),
    }
    refined, fixed = (
        read_transform(only(run(scans, *COARSE, option, name=name), "*acq-sag*_xfm.txt"))
        for option, name in (("--unified-rigid", "refined"), ("--no-unified-rigid", "fixed"))
    )
    apart = np.linalg.norm((refined - fixed)[:3, 3])
    assert 1e-4 < apart < 2
    np.testing.assert_allclose(refined[:3, 3], (-3, 2, -1), atol=1.0)


def ct_of_head(make_head_scan: ScanMaker, shift: tuple[float, float, float]) -> nib.Nifti1Image:
    scan = make_head_scan(2)
    affine = scan.affine.copy()
    affine[:3, 3] += shift
    return nib.Nifti1Image((scan.get_fdata() * 10 - 1000).astype(np.float32), affine)


@pytest.mark.parametrize("options", [("--ct",), ("-m", "ct"), ("--modalities", "CT")])
def test_ct_is_found_when_asked_for(
    tmp_path: Path, make_head_scan: ScanMaker, make_head_dataset: DatasetMaker, options: list[str]
) -> None:
    raw = make_head_dataset(tmp_path / "raw", {})
    folder = raw / "sub-01" / "ct"
    folder.mkdir(parents=True)
    ct_of_head(make_head_scan, (0, 0, 0)).to_filename(folder / "sub-01_ct.nii.gz")
    out = tmp_path / "out"
    assert main([str(raw), str(out), "participant", *options, *COARSE, *BRIEF]) == 0
    image = out / "sub-01" / "ct" / "sub-01_space-individual_res-5mm_desc-sr_ct.nii.gz"
    data = nib.load(image).get_fdata()
    assert np.median(data[:3, :3, :3]) == pytest.approx(-960, abs=30)
    assert data.max() > 500
    scan = provenance(image)["Scans"][0]
    assert scan["NoiseMethod"] in ("gaussian-mixture", "high-pass-mad")
    assert scan["SliceProfile"]["Source"].startswith("CT slice")


def test_the_origin_of_ct_is_reset_and_the_transform_tells(
    tmp_path: Path, make_head_scan: ScanMaker, make_head_dataset: DatasetMaker
) -> None:
    raw = make_head_dataset(tmp_path / "raw", {})
    folder = raw / "sub-01" / "ct"
    folder.mkdir(parents=True)
    far = ct_of_head(make_head_scan, (300, -250, 1500))
    far.to_filename(folder / "sub-01_ct.nii.gz")
    out = tmp_path / "out"
    options = ["--ct", "--reset-origin", *COARSE, *BRIEF, "--no-learned-detail"]
    assert main([str(raw), str(out), "participant", *options]) == 0
    image = nib.load(only(out, "*_desc-sr_ct.nii.gz"))
    centre = apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
    assert np.abs(centre).max() < 20
    pose = read_transform(only(out, "*_xfm.txt"))
    np.testing.assert_allclose(pose[:3, 3], (-300, 250, -1500), atol=0.01)
    (scan,) = provenance(only(out, "*_desc-sr_ct.nii.gz"))["Scans"]
    stated = np.array(scan["Pose"])
    stated[:3, 3] += stated[:3, :3] @ scan["OriginShift"]
    np.testing.assert_allclose(stated, pose, atol=0.01)


@pytest.mark.slow
def test_ct_and_mr_share_a_grid(
    tmp_path: Path, make_head_scan: ScanMaker, make_head_dataset: DatasetMaker
) -> None:
    raw = make_head_dataset(tmp_path / "raw", {SUFFIX: make_head_scan(1)})
    folder = raw / "sub-01" / "ct"
    folder.mkdir(parents=True)
    ct_of_head(make_head_scan, (0, 0, 0)).to_filename(folder / "sub-01_ct.nii.gz")
    out = tmp_path / "out"
    assert main([str(raw), str(out), "participant", "--ct", *COARSE, *BRIEF]) == 0
    mr, ct = (nib.load(only(out, f"*_desc-sr_{suffix}.nii.gz")) for suffix in ("T1w", "ct"))
    assert mr.shape == ct.shape
    np.testing.assert_array_equal(mr.affine, ct.affine)
    assert ct.get_fdata().min() < -900
    assert mr.get_fdata().min() >= 0


@pytest.mark.usefixtures("pages")
@pytest.mark.parametrize(
    ("apart", "told"),
    [(0, None), (90, "these of .* lost: 14175"), (900, "nothing of .* lost: 2, 14175")],
)
def test_labels_that_do_not_overlap_the_images_are_named(
    tmp_path: Path,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
    apart: float,
    told: str | None,
) -> None:
    scan = make_head_scan(2)
    raw = make_head_dataset(tmp_path / "raw", {SUFFIX: scan})
    drawn = np.zeros(scan.shape, dtype=np.int16)
    drawn[2:8, 5:25, 3:8] = 2
    drawn[22:28, 5:25, 3:8] = 14175
    affine = scan.affine.copy()
    affine[0, 3] += apart * np.sign(affine[0, 0])
    nib.Nifti1Image(drawn, affine).to_filename(raw / "sub-01" / "anat" / "sub-01_dseg.nii.gz")
    out = tmp_path / "out"
    options = [*COARSE, *BRIEF, "--max-iter", "1", "--no-learned-detail"]
    assert main([str(raw), str(out), "participant", *options]) == 0
    page = (out / "sub-01.html").read_text("utf-8")
    found = re.search(r"sub-01_dseg.nii.gz: (.* lost: [0-9, ]+)", page)
    assert (found is None) is (told is None)
    assert told is None or re.match(told, found[1])  # type: ignore[index]


def test_labels_come_along(
    tmp_path: Path, make_head_scan: ScanMaker, make_head_dataset: DatasetMaker
) -> None:
    scan = make_head_scan(2)
    raw = make_head_dataset(tmp_path / "raw", {SUFFIX: scan})
    drawn = np.zeros(scan.shape, dtype=np.int16)
    drawn[8:22, 5:25, 3:8] = 2
    drawn[12:18, 10:20, 4:6] = 14175
    segmentations = tmp_path / "segmentations"
    folder = segmentations / "sub-01" / "anat"
    folder.mkdir(parents=True)
    description = {"Name": "Drawn", "BIDSVersion": "1.10.1", "DatasetType": "derivative"}
    (segmentations / "dataset_description.json").write_text(json.dumps(description))
    nib.Nifti1Image(drawn, scan.affine).to_filename(folder / "sub-01_desc-manual_dseg.nii.gz")
    out = tmp_path / "out"
    options = ["--labels", str(segmentations), *COARSE, *BRIEF, "--no-learned-detail"]
    assert main([str(raw), str(out), "participant", *options]) == 0
    carried = nib.load(only(out, "*_desc-manual_dseg.nii.gz"))
    image = nib.load(only(out, "*_desc-sr_T1w.nii.gz"))
    np.testing.assert_allclose(carried.affine, image.affine, atol=1e-5)
    labels = np.asarray(carried.dataobj)
    assert set(np.unique(labels)) == {0, 2, 14175}
    # A slice has three layers of the result.
    np.testing.assert_array_equal(labels[:, :, 1::3], drawn)


# Of the template's head in the scanner.
MOTION = rigid_matrix([8, -12, 15, 0.1, -0.05, 0.08])


def thick_slices_of(head: Volume) -> nib.Nifti1Image:
    """The template's head, moved, in slices of 6 mm with noise."""
    moved = MOTION @ head.affine
    shape = head.data.shape
    slices = head.data[:, :, : shape[2] // 3 * 3].reshape(*shape[:2], -1, 3).mean(axis=3)
    noise = np.random.default_rng(0).normal(scale=0.01 * head.data.max(), size=(2, *slices.shape))
    affine = moved @ translation([0, 0, 1]) @ scaling([1, 1, 3])
    return nib.Nifti1Image(np.hypot(slices + noise[0], noise[1]).astype(np.float32), affine)


@pytest.mark.slow
def test_uneven_slices_are_evened_out(run: Runner) -> None:
    scan = thick_slices_of(load_template().image)
    sign = 1 - 2 * (np.arange(scan.shape[2]) % 2)
    uneven = with_data(scan, scan.get_fdata() * np.exp(0.1 * sign))
    plain, corrected, even = (
        only(run({SUFFIX: image}, "--voxel-size", "3", *option, name=name), "*_desc-sr_T1w.nii.gz")
        for image, option, name in (
            (uneven, ("--no-interleave-correction",), "plain"),
            (uneven, (), "corrected"),
            (scan, (), "even"),
        )
    )
    assert provenance(plain)["Scans"][0]["InterleaveLogScale"] == 0
    assert provenance(corrected)["Scans"][0]["InterleaveLogScale"] == pytest.approx(0.1, abs=0.005)
    wanted = nib.load(even).get_fdata()
    before, after = (
        float(np.mean((nib.load(image).get_fdata() - wanted) ** 2)) for image in (plain, corrected)
    )
    assert after < 0.05 * before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "space", "fov"),
    [
        (("--align", "rigid"), "MNI152NLin2009cAsymRigid", None),
        (("--align", "similarity"), "MNI152NLin2009cAsymSimilarity", None),
        (("--common-output",), "MNI152NLin2009cAsymRigid", "brain"),
        (("--common-output", "--fov", "head"), "MNI152NLin2009cAsymRigid", "head"),
    ],
)
def test_images_are_aligned_to_the_template(
    run: Runner,
    options: tuple[str, ...],
    space: str,
    fov: Literal["brain", "head"] | None,
) -> None:
    template = load_template()
    out = run({SUFFIX: thick_slices_of(template.image)}, *COARSE, *options)
    image = nib.load(only(out, f"*_space-{space}_res-5mm_desc-sr_T1w.nii.gz"))
    pose = read_transform(only(out, f"*_from-T1w_to-{space}_*_xfm.txt"))
    scale = np.cbrt(np.linalg.det(pose[:3, :3]))
    assert scale == pytest.approx(1, abs=0.02 if "similarity" in options else 1e-5)
    brain = apply_affine(template.brain.affine, np.argwhere(template.brain.data)[::997])
    apart = apply_affine(pose @ MOTION, brain) - brain
    assert np.linalg.norm(apart, axis=1).mean() < 2
    if fov is not None:
        grid = template_grid(template, fov, (5, 5, 5))
        assert image.shape == grid.shape
        np.testing.assert_allclose(image.affine, grid.affine, atol=1e-4)
