"""What is written goes with its scan: transforms, and labels that were drawn on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.config import ModelSettings, RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.dataset.transforms import read_transform
from bids_unires.model.fit.placement import StartingPose
from bids_unires.pipeline.participant.workflow import run_participant
from bids_unires.space.affines import apply_affine
from bids_unires.space.rigid import rigid_matrix
from bids_unires.work.allotment import Allotment

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]

# Where the second scan lies in the world of the first, as registration would find it.
POSE = rigid_matrix([20.0, -10.0, 5.0, 0.1, 0.2, -0.1])


def write_labels(root: Path, scan: nib.Nifti1Image) -> np.ndarray:
    """Draw a block on the FLAIR; return its centre, world mm of that scan."""
    drawn = np.zeros(scan.shape, np.uint8)
    drawn[4:7, 12:18, 20:24] = 3
    folder = root / "sub-01" / "anat"
    folder.mkdir(parents=True)
    description = {"Name": "Labels", "BIDSVersion": "1.10.1", "DatasetType": "derivative"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    nib.Nifti1Image(drawn, scan.affine).to_filename(folder / "sub-01_seg-core_dseg.nii.gz")
    reference = {"SpatialReference": "bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz"}
    (folder / "sub-01_seg-core_dseg.json").write_text(json.dumps(reference))
    return np.asarray(apply_affine(scan.affine, np.argwhere(drawn)).mean(axis=0))


def test_labels_and_transforms_go_with_their_scan(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
) -> None:
    here = "bids_unires.pipeline.participant.alignment.starting_poses"
    monkeypatch.setattr(here, lambda *_: [StartingPose(np.eye(4)), StartingPose(POSE)])
    flair = make_head_scan(0, seed=2)
    raw = make_head_dataset(
        tmp_path / "raw", {"sub-01_T1w": make_head_scan(2), "sub-01_FLAIR": flair}
    )
    centre = write_labels(tmp_path / "labels", flair)
    model = ModelSettings(voxel_size=(4.0, 4.0, 4.0), method="linear")
    out = tmp_path / "out"
    config = RunConfig(
        raw, out, "participant", device="cpu", model=model, labels=tmp_path / "labels"
    )
    (plan,) = plan_participants(config)
    run_participant(plan, config, Allotment("cpu", 1, 2**34))
    (path,) = out.rglob("*_from-FLAIR_to-individual_mode-image_xfm.txt")
    np.testing.assert_allclose(read_transform(path), POSE, atol=1e-4)
    (path,) = out.rglob("*_dseg.nii.gz")
    carried = nib.load(path)
    found = apply_affine(carried.affine, np.argwhere(carried.get_fdata() == 3)).mean(axis=0)
    np.testing.assert_allclose(found, apply_affine(POSE, centre), atol=1.0)
    (path,) = out.rglob("*_desc-fov_mask.nii.gz")
    assert_seen_by_both(nib.load(path), flair)


def assert_seen_by_both(mask: nib.Nifti1Image, flair: nib.Nifti1Image) -> None:
    """Only what every contrast measured is in the field of view; the moved scan measured less."""
    world = apply_affine(mask.affine, np.moveaxis(np.indices(mask.shape), 0, -1))
    at = apply_affine(np.linalg.inv(POSE @ flair.affine), world)
    outside = ((at < -1) | (at > np.array(flair.shape))).any(axis=-1)
    assert outside.any()
    assert not mask.get_fdata()[outside].any()
    assert mask.get_fdata().mean() > 0.3
