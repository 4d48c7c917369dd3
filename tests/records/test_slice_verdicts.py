"""What was thought of slices is read again as it was meant, or not at all."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bids_unires.model import SliceVerdict
from bids_unires.model.robust.repair import SliceRepair
from bids_unires.model.robust.stripes import Stripes
from bids_unires.model.robust.verdict import FEATURES
from bids_unires.records.slice_verdicts import SliceVerdictRecord


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
