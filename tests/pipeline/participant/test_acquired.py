"""Scans are read as they were acquired: where they lie, and how thick their slices are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.config import ModelSettings, RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.pipeline.participant.acquired import AcquiredScan, acquire
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import centre_of

DatasetMaker = Callable[..., Path]

SHIFTED = translation([0, 30, 0])
STRETCHED = scaling([1.2, 1.1, 1.6])


def acquired(
    raw: Path, settings: ModelSettings | None = None, *, reset_origin: bool = False
) -> dict[str, AcquiredScan]:
    """The scans of a participant by suffix."""
    config = RunConfig(raw, raw.parent / "out", "participant", modalities=("T1w", "ct"))
    (plan,) = plan_participants(config)
    contrasts = acquire(plan, settings or ModelSettings(), 2**34, reset_origin=reset_origin)
    return {one.contrast.entities["suffix"]: one.scans[0] for one in contrasts}


@pytest.mark.parametrize("reset_origin", [True, False])
def test_ct_is_moved_to_the_origin_if_asked_for_and_mr_stays(
    make_dataset: DatasetMaker, reset_origin: bool
) -> None:
    raw = make_dataset("sub-01_T1w")
    as_stored = nib.load(raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    folder = raw / "sub-01" / "ct"
    folder.mkdir()
    as_stored.to_filename(folder / "sub-01_ct.nii.gz")
    scans = acquired(raw, reset_origin=reset_origin)
    np.testing.assert_array_equal(scans["T1w"].shift, np.eye(4))
    np.testing.assert_allclose(scans["T1w"].volume.affine, as_stored.affine)
    ct = scans["ct"]
    np.testing.assert_allclose(ct.volume.affine, ct.shift @ as_stored.affine)
    assert np.allclose(centre_of(ct.volume.grid), 0) == reset_origin


def test_the_gap_between_slices_reaches_the_model(make_dataset: DatasetMaker) -> None:
    sidecar = {"MRAcquisitionType": "2D", "SliceThickness": 3.2}
    profile = acquired(make_dataset("sub-01_T1w", T1w=sidecar))["T1w"].profile
    assert (profile.axis, profile.through_plane) == (2, "rect")
    assert profile.gap == pytest.approx(0.2)
    denoised = ModelSettings(method="denoise", voxel_size=(0, 0, 0))
    plain = acquired(make_dataset("sub-01_T1w", root="other"), denoised)["T1w"].profile
    assert (plain.in_plane, plain.through_plane) == ("point", "point")


@pytest.mark.parametrize(
    ("change", "told"),
    [(np.eye(4), False), (translation([0.4, 0, 0]), False), (SHIFTED, True), (STRETCHED, True)],
)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("permuted", [False, True])
def test_labels_beside_the_scan_that_has_their_voxels_are_told(
    make_dataset: DatasetMaker,
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
