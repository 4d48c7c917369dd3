"""Participants are fitted again on the grid of the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from bids_unires.cli.main import main
from tests.pipeline.study import IN_PLACE, Study, load

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]

BRIEF = ["--voxel-size", "5", "--device", "cpu", "--max-iter", "4", "--no-learned-detail"]
# Nothing is known of slices.
PLAIN = ["--no-robust", "--skip-bids-validation", "--omp-nthreads", "1"]


def test_who_was_not_fitted_robustly_is_fitted_again(
    tmp_path: Path, make_head_scan: ScanMaker, make_head_dataset: DatasetMaker
) -> None:
    raw = make_head_dataset(tmp_path / "raw", {"sub-01_T1w": make_head_scan(2, seed=1)})
    study = Study(raw, tmp_path / "out")
    assert main([str(raw), str(study.out), "participant", *BRIEF, *PLAIN]) == 0
    assert study.group(*IN_PLACE, "--group-mode", "refit", *PLAIN[1:]) == 0
    before, again = (
        load(study.images(f"*_space-{space}_*_desc-sr_T1w.nii.gz")[0])
        for space in ("individual", "study")
    )
    there = ndimage.affine_transform(
        before.get_fdata(), np.linalg.inv(before.affine) @ again.affine, output_shape=again.shape
    )
    seen = there > 20
    assert np.corrcoef(there[seen], again.get_fdata()[seen])[0, 1] > 0.95
