"""Participants are fitted again on the grid of the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from bids_unires.cli.main import main
from bids_unires.config import GroupMode
from bids_unires.dataset.derivatives import ParticipantResult
from bids_unires.pipeline.group.cohort import Member
from bids_unires.pipeline.group.study_images import Regridding
from bids_unires.space.grid import Grid
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


@pytest.mark.parametrize(
    ("mode", "within_reach", "used"),
    [
        ("refit", True, True),
        ("auto", True, True),
        ("auto", False, False),
        ("reslice", True, False),
    ],
)
def test_images_follow_their_scans_only_where_these_are_used(
    mode: GroupMode, within_reach: bool, used: bool
) -> None:
    """What a scan or its sidecar says now is work to do where it is fitted again."""
    scan = ("bids:raw:sub-01/anat/sub-01_T1w.nii.gz", Path("raw/sub-01_T1w.nii.gz"))
    plan: Any = SimpleNamespace(inputs=(scan,), metadata={scan[0]: {"EchoTime": 0.003}})
    result = ParticipantResult("01", None, "individual", "5mm", (), (), None, (), ())
    member = Member("01", None, result, (), (), {}, plan if within_reach else None, "")
    grid, path = Grid((8, 8, 8), np.eye(4)), Path("xfm.txt")
    unit = Regridding(member, grid, Path("grid.nii.gz"), path, mode)
    assert unit.metadata == (plan.metadata if used else {})
    assert (scan in unit.inputs) == used
    assert (path.name, path) in unit.inputs
    assert unit.refit == used
