"""Another selection of scans in the same output folder, from the command line to the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.dataset.derivatives import find_results

pytestmark = pytest.mark.slow

BRIEF = [
    "--learning-effort",
    "brief",
    "--reg-scale",
    "20",
    "--max-iter",
    "4",
    "--device",
    "cpu",
    "--skip-bids-validation",
]
COARSE = ["--voxel-size", "5"]
# After `BRIEF`: a prior of any strength is for a fit.
LINEAR = ["--linear", "--reg-scale", "auto"]


def test_the_results_are_those_of_the_last_selection(
    tmp_path: Path,
    make_head_scan: Callable[..., nib.Nifti1Image],
    make_head_dataset: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    scans = {
        "sub-01_T1w": make_head_scan(2),
        "sub-01_FLAIR": make_head_scan(1, (6.0, -4.0, 5.0), seed=2),
    }
    raw = make_head_dataset(tmp_path / "raw", scans)
    out = tmp_path / "out"
    run = [str(raw), str(out), "participant", *BRIEF]
    assert main([*run, *COARSE, "--uncertainty", "2"]) == 0
    assert main([*run, "--voxel-size", "8"]) == 0
    both = find_results(out)
    assert [(result.res, len(result.images)) for result in both] == [("5mm", 2), ("8mm", 2)]
    capfd.readouterr()

    # Without T1w the FLAIR is the reference, and lies elsewhere, for results of 8 mm, too.
    assert main([*run, *COARSE, "-m", "FLAIR"]) == 0
    (fine,) = find_results(out)
    assert [image.contrast for image in fine.images] == ["FLAIR"]
    assert not list(out.rglob("*_T1w.*")) + list(out.rglob("*_from-T1w_*"))
    assert not list(out.rglob("*Std_*"))
    assert fine.fov_mask is not None
    mask, image = nib.load(fine.fov_mask), nib.load(fine.images[0].path)
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine)
    said = capfd.readouterr().err
    assert said.count("files of an earlier run removed") == 1
    (warning,) = (
        line for line in said.splitlines() if "removed: this run, whose transforms" in line
    )
    assert all(image.path.name in warning for image in both[1].images)


def test_interpolated_images_lie_where_the_super_resolved_ones_beside_them_do(
    tmp_path: Path,
    make_head_scan: Callable[..., nib.Nifti1Image],
    make_head_dataset: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    scans = {
        "sub-01_run-1_T1w": make_head_scan(2),
        "sub-01_run-2_T1w": make_head_scan(1, (6.0, -4.0, 5.0), seed=2),
    }
    raw, out = make_head_dataset(tmp_path / "raw", scans), tmp_path / "out"
    # No scan has these voxels, so that the grid follows from the poses, which the fit refines.
    run = [str(raw), str(out), "participant", *BRIEF, "--voxel-size", "6"]
    assert main([*run, *LINEAR]) == 0
    assert main(run) == 0
    (result,) = find_results(out)
    assert [image.desc for image in result.images] == ["sr"]
    removed = "desc-resliced_T1w.nii.gz of an earlier run removed"
    assert removed in capfd.readouterr().err
    before = {path: path.read_bytes() for path in out.rglob("*_xfm.txt")}
    assert len(before) == 2

    assert main([*run, *LINEAR]) == 0
    assert "of an earlier run removed" not in capfd.readouterr().err
    (result,) = find_results(out)
    assert [image.desc for image in result.images] == ["resliced", "sr"]
    assert result.fov_mask is not None
    mask, *images = (nib.load(p) for p in (result.fov_mask, *(i.path for i in result.images)))
    assert all(np.array_equal(image.affine, mask.affine) for image in images)
    assert all(image.shape == mask.shape for image in images)
    assert {path: path.read_bytes() for path in before} == before
    # Both are heads in the same place, not only boxes.
    linear, sr = (image.get_fdata().ravel() for image in images)
    assert np.corrcoef(linear, sr)[0, 1] > 0.95
    in_place = ["--voxel-size", "6", "--device", "cpu", "--align", "none", "--fov", "head"]
    assert main([str(raw), str(out), "group", *in_place, "--dry-run"]) == 0
