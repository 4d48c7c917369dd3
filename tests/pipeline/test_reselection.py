"""Another selection of scans in the same output folder, from the command line to the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli import main
from bids_unires.dataset.derivatives import find_results

BRIEF = ["--reg-scale", "20", "--max-iter", "4", "--device", "cpu", "--skip-bids-validation"]
COARSE = ["--voxel-size", "5"]


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
    (warning,) = (line for line in said.splitlines() if "removed: transforms of this run" in line)
    assert all(image.path.name in warning for image in both[1].images)
