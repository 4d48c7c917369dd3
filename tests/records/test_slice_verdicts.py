"""What was thought of slices, from the participant level's sidecars to the group level."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.model import SliceVerdict
from bids_unires.model.robust.repair import SliceRepair
from bids_unires.model.robust.stripes import Stripes
from bids_unires.model.robust.verdict import FEATURES
from bids_unires.records.slice_verdicts import SliceVerdictRecord

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]

COARSE = ["--voxel-size", "5", "--reg-scale", "20", "--device", "cpu", "--max-iter", "20"]
GROUP = ["--voxel-size", "5", "--device", "cpu", "--template", "none", "--group-mode", "refit"]


def verdict() -> SliceVerdict:
    weights = np.array([1.0, 0.2, 0.83215, 1.0, 0.05])
    off = np.zeros((5, len(FEATURES)))
    off[1, FEATURES.index("shift")] = 12.0
    off[4, FEATURES.index("stripes")] = -9.0
    stripes = Stripes((0.25, -0.125), 3.5, -20.0)
    repairs = {2: SliceRepair(0.31, (1.5, -2.0), (stripes,)), 3: SliceRepair(stripes=(stripes,))}
    return SliceVerdict(2, weights, off, repairs)


def written(verdict: SliceVerdict) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(
        json.dumps(SliceVerdictRecord.of_verdict(verdict).to_json())
    )
    return record


def read(record: object) -> SliceVerdict | None:
    found = SliceVerdictRecord.from_json(record)
    return None if found is None else found.verdict(2, 5)


def test_a_verdict_comes_back_from_its_record() -> None:
    record = written(verdict())
    found = read(record)
    assert found is not None
    assert found.rejected == (1, 4)
    assert found.reasons == ("shift", "stripes")
    np.testing.assert_allclose(found.factors, [1, 0, 0.8322, 1, 0], atol=1e-4)
    assert found.repairs == verdict().repairs
    assert written(found) == record


def test_a_record_from_before_slices_were_mended_is_understood() -> None:
    record = written(verdict())
    del record["MendedSlices"]
    found = read(record)
    assert found is not None
    assert not found.repairs


@pytest.mark.parametrize(
    "change",
    [
        {"SliceWeights": [1.0] * 4},
        {"SliceWeights": [1.0, 0.2, -1.0, 1.0, 0.05]},
        {"SliceWeights": "all"},
        {"RejectedSlices": []},
        {"RejectedSlices": [{"Slice": 1, "Reason": "shift"}, {"Slice": 4, "Reason": "bad luck"}]},
        {"RejectedSlices": None},
        {"MendedSlices": [{"Slice": 5}]},
        {"MendedSlices": [{"Slice": 2, "Brightness": 0.0}]},
        {"MendedSlices": [{"Slice": 2, "Shift": [1.0]}]},
        {"MendedSlices": [{"Slice": 2, "Stripes": [{"Frequency": [0.1, 0.2], "Cosine": 1.0}]}]},
    ],
)
def test_what_is_no_verdict_on_this_scan_is_none(change: dict[str, Any]) -> None:
    record = written(verdict())
    assert read({**record, **change}) is None
    assert read(None) is None


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
