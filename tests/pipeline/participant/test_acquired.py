from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.pipeline.participant.acquired import acquire
from bids_unires.space.affines import scaling, translation

SHIFTED = translation([0, 30, 0])
STRETCHED = scaling([1.2, 1.1, 1.6])


@pytest.mark.parametrize(
    ("change", "told"),
    [(np.eye(4), False), (translation([0.4, 0, 0]), False), (SHIFTED, True), (STRETCHED, True)],
)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("permuted", [False, True])
def test_labels_beside_the_scan_that_has_their_voxels_are_told(
    make_dataset: Callable[..., Path],
    caplog: pytest.LogCaptureFixture,
    change: np.ndarray,
    told: bool,
    flips: tuple[int, int, int],
    permuted: bool,
) -> None:
    raw = make_dataset("sub-01_T1w")
    scan = nib.load(raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    order = [2, 0, 1] if permuted else [0, 1, 2]
    ornt = np.column_stack([order, flips])
    stored = scan.as_reoriented(ornt)
    labels = np.ones(stored.shape, np.uint8)
    nib.Nifti1Image(labels, change @ stored.affine).to_filename(
        raw / "sub-01" / "anat" / "sub-01_dseg.nii.gz"
    )
    config = RunConfig(raw, raw.parent / "out", "participant")
    (plan,) = plan_participants(config)
    with caplog.at_level(logging.WARNING, "bids_unires"):
        acquire(plan, config.model, 2**32, reset_origin=False)
    assert ("from sub-01_T1w.nii.gz, which has as many voxels" in caplog.text) is told
