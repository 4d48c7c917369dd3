"""What was thought of slices, from the participant level's sidecars to the group level."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import pytest

from bids_unires.cli.main import main

pytestmark = pytest.mark.slow

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
    "20",
    "--learning-effort",
    "brief",
]
GROUP = ["--voxel-size", "5", "--device", "cpu", "--template", "none", "--group-mode", "refit"]


def test_the_group_level_believes_the_slices_that_the_participant_level_believed(
    tmp_path: Path, make_head_scan: ScanMaker, make_head_dataset: DatasetMaker
) -> None:
    scans = {
        f"sub-01_acq-{name}_T1w": make_head_scan(axis, seed=axis)
        for axis, name in enumerate(("sag", "cor", "ax"))
    }
    raw, out = make_head_dataset(tmp_path / "raw", scans), tmp_path / "out"
    assert main([str(raw), str(out), "participant", "--robust", *COARSE]) == 0
    (path,) = out.glob("sub-*/**/*space-individual*_desc-sr_T1w.json")
    about = json.loads(path.read_text())
    found = about["UniRes"]["Scans"]
    # Nothing is wrong with this slice, so that it could not be left out by another judgement.
    assert found[2]["RejectedSlices"] == []
    found[2]["RejectedSlices"] = [{"Slice": 5, "Reason": "brightness"}]
    found[2]["SliceWeights"][5] = 0.1
    found[2]["MendedSlices"] = [{"Slice": 4, "Brightness": 0.9, "Shift": [2.0, -1.0]}]
    path.write_text(json.dumps(about))
    assert main([str(raw), str(out), "group", *GROUP]) == 0
    (path,) = out.glob("sub-*/**/*space-study*_desc-sr_T1w.json")
    again = json.loads(path.read_text())["UniRes"]["Scans"]
    for before, after in zip(found, again, strict=True):
        assert after["SliceWeights"] == before["SliceWeights"]
        assert after["RejectedSlices"] == before["RejectedSlices"]
        assert after["MendedSlices"] == before["MendedSlices"]
