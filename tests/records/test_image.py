"""What sidecars of images say is read again as it was meant, and nothing that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_unires.config import ModelSettings, SpaceSettings
from bids_unires.dataset.writing import write_json
from bids_unires.model import Detectability, LesionKind, LesionOdds
from bids_unires.model.detail.term import DetailStatement
from bids_unires.model.robust.repair import SliceRepair
from bids_unires.model.scanner.slice_groups import MovedGroup, SliceMotion
from bids_unires.records.detectability import DetectabilityRecord
from bids_unires.records.image import (
    DetailRecord,
    ImageRecord,
    PriorRecord,
    QualityRecord,
    RegriddingRecord,
    ResidualRecord,
    ScanRecord,
    SliceProfileRecord,
    stated_settings,
)
from bids_unires.records.slice_motion import SliceMotionRecord
from bids_unires.records.slice_verdicts import SliceVerdictRecord
from bids_unires.space.affines import translation
from bids_unires.space.grid import Grid

MOTION = SliceMotion(
    (MovedGroup((0, 2), np.eye(4)), MovedGroup((1, 3), translation([1, 2, 3]))), "SliceTiming"
)
STACK = Grid((10, 10, 4), np.diag([1.0, 1.0, 4.0, 1.0]))
SCAN = ScanRecord(
    source="bids:raw:sub-01/anat/sub-01_T1w.nii.gz",
    noise_sd=2.5,
    tau=0.16,
    mu=100.0,
    noise_method="rice-mixture",
    residual_scale=2.6,
    interleave_log_scale=0.0,
    slice_profile=SliceProfileRecord("gauss", "rect", "2D", 2, 0.2, "SliceThickness"),
    residual=ResidualRecord(0.01, 0.9, 0.8, (0.1, None, -0.2), 0.0001, 1000, ("too large",)),
    verdict=SliceVerdictRecord({1: "shift"}, {2: SliceRepair(0.9, (1.0, 0.0))}, (1.0, 0.2, 1.0)),
    origin_shift=(1.0, 2.0, 3.0),
    pose=translation([4, 5, 6]),
    pose_parameters=(4.0, 5.0, 6.0, 0.0, 0.0, 0.0),
    slice_motion=SliceMotionRecord.of_motion(MOTION, STACK),
)
IMAGE = ImageRecord(
    version="1.2.3",
    settings=stated_settings(ModelSettings(reg_scale=3.0), SpaceSettings()),
    device="cpu",
    iterations=12,
    converged=True,
    objective=1234.5,
    runtime_seconds=3.5,
    peak_memory_bytes=2**30,
    prior=PriorRecord(0.25, DetailRecord(12.5, 0.8, True)),
    scans=(SCAN, ScanRecord(pose=np.eye(4), slice_motion=SliceMotionRecord(groups=()))),
    detectability=DetectabilityRecord.of_statement(
        Detectability("dark", "MR", (LesionOdds(LesionKind(3.0, 0.3), 27, 0.4444, 0.6, 0.35, 0.2),))
    ),
    regridding=RegriddingRecord("refit", "bids::a", "bids::b", translation([0, 0, 1])),
    quality=QualityRecord("brain", 1000, 300.0, 0.12),
)


def written(record: ImageRecord) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(record.in_sidecar({"EchoTime": 0.1})))
    return content


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_json(tmp_path / "image.json", IMAGE.in_sidecar({"EchoTime": 0.1}))
    assert json.loads(path.read_text("utf-8")) == written(IMAGE)
    assert written(ImageRecord.read(path)) == written(IMAGE)
    assert written(IMAGE)["EchoTime"] == 0.1


def test_what_small_lesions_become_is_in_the_sidecar() -> None:
    content = written(IMAGE)["UniRes"]["Detectability"]
    assert content["Units"] == "share of the intensity of tissue"
    assert content["Lesions"] == [
        {
            "Diameter": 3.0,
            "Contrast": 0.3,
            "Count": 27,
            "Kept": 0.444,
            "Erased": 0.6,
            "Drawn": 0.35,
            "Missed": 0.2,
        }
    ]


def test_a_record_takes_the_place_of_the_one_that_is_there() -> None:
    again = ImageRecord(version="2").in_sidecar(written(IMAGE))
    assert ImageRecord.of_sidecar(again).version == "2"
    assert ImageRecord.of_sidecar(again).device is None


def test_what_an_image_was_interpolated_without_is_not_written() -> None:
    content = ImageRecord(scans=(ScanRecord(source="a"),)).to_json()
    assert content == {"SchemaVersion": 1, "Scans": [{"Source": "a"}]}


def test_what_was_looked_for_and_not_found_is_null() -> None:
    scans = (ScanRecord(slice_motion=SliceMotionRecord(groups=())),)
    content = ImageRecord(prior=PriorRecord(0.25), scans=scans).to_json()
    assert content["LearnedDetail"] is None
    assert content["Scans"] == [{"SliceMotion": None}]


def test_what_the_first_releases_wrote_is_read() -> None:
    content = written(IMAGE)["UniRes"]
    del content["SchemaVersion"]
    assert written(ImageRecord.from_json(content)) == written(IMAGE)


def test_entries_of_another_meaning_are_not_read() -> None:
    content = written(IMAGE)["UniRes"] | {"SchemaVersion": 2}
    assert ImageRecord.from_json(content).to_json() == {"SchemaVersion": 1}


@pytest.mark.parametrize("damage", [None, 7, "text", [], {}, [3], {"a": 3}, float("nan"), True])
def test_whatever_is_damaged_the_rest_is_read(damage: object) -> None:
    whole = written(IMAGE)["UniRes"]
    for key in whole.keys() - {"SchemaVersion"}:
        found = ImageRecord.from_json({**whole, key: damage}).to_json()
        assert all(found[name] == whole[name] for name in whole if name != key)
    scan = whole["Scans"][0]
    # The verdict on the slices is usable as a whole or not at all.
    together = {"RejectedSlices", "MendedSlices", "SliceWeights"}
    for key in scan:
        found = ScanRecord.from_json({**scan, key: damage}).to_json()
        apart = scan.keys() - {key} - (together if key in together else set())
        assert all(found[name] == scan[name] for name in apart)


def test_settings_are_those_of_the_model() -> None:
    assert IMAGE.model == ModelSettings(reg_scale=3.0)
    assert ImageRecord.from_json(json.loads(json.dumps(IMAGE.to_json()))).model == IMAGE.model


@pytest.mark.parametrize(
    "settings", [None, {"voxel_size": 3}, {"tolerance": "small"}, {"method": "magic"}, {"x": 1}]
)
def test_without_usable_settings_they_are_the_defaults(settings: Any) -> None:
    assert ImageRecord(settings=settings).model == ModelSettings()


@pytest.mark.parametrize("shown", [False, True])
def test_what_was_learned_is_read_from_its_record(shown: bool) -> None:
    record = {"ErrorSD": 12.5, "ExplainedShare": 0.8, "OtherContrast": shown}
    assert DetailRecord.from_json(record).statement == DetailStatement(12.5, 0.8, shown)


@pytest.mark.parametrize(
    "record",
    [
        None,
        "0.8",
        {},
        {"ErrorSD": 12.5},
        {"ErrorSD": 0, "ExplainedShare": 0.8},
        {"ErrorSD": float("nan"), "ExplainedShare": 0.8},
        {"ErrorSD": 12.5, "ExplainedShare": 1.2},
        {"ErrorSD": "much", "ExplainedShare": 0.8},
    ],
)
def test_what_says_nothing_of_detail_is_none(record: object) -> None:
    assert DetailRecord.from_json(record).statement is None
