from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import ParticipantPlan, describe_plan, plan_participants
from bids_unires.errors import (
    InvalidDatasetError,
    NothingSelectedError,
    UsageError,
)

DatasetMaker = Callable[..., Path]


def plan(bids_dir: Path, **options: Any) -> tuple[ParticipantPlan, ...]:
    return plan_participants(RunConfig(bids_dir, bids_dir.parent / "out", "participant", **options))


def names(plans: tuple[ParticipantPlan, ...]) -> dict[str, dict[str, list[str]]]:
    """Label to contrast to what sets its scans apart in their file names."""
    return {
        unit.label: {
            contrast.name: [
                scan.path.name.removeprefix(f"{unit.label}_").removesuffix(".nii.gz")
                for scan in contrast.scans
            ]
            for contrast in unit.contrasts
        }
        for unit in plans
    }


def test_contrasts_and_repeats(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset(
        "sub-01_FLAIR",
        "sub-01_run-2_T1w",
        "sub-01_run-10_T1w",
        "sub-01_acq-sag_T1w",
        "sub-01_acq-AX2_T1w",
        "sub-01_acq-mprage_T1w",
        "sub-01_ce-gad_T1w",
        "sub-01_rec-norm_T2w",
        "sub-01_echo-1_T2starw",
        "sub-01_echo-2_T2starw",
        "sub-01_T2w",
        "sub-01_PDw",
    )
    assert names(plan(bids_dir)) == {
        "sub-01": {
            "T1w": ["acq-AX2_T1w", "acq-sag_T1w", "run-2_T1w", "run-10_T1w"],
            "acq-mprage_T1w": ["acq-mprage_T1w"],
            "ce-gad_T1w": ["ce-gad_T1w"],
            "T2w": ["T2w"],
            "rec-norm_T2w": ["rec-norm_T2w"],
            "PDw": ["PDw"],
            "FLAIR": ["FLAIR"],
            "echo-1_T2starw": ["echo-1_T2starw"],
            "echo-2_T2starw": ["echo-2_T2starw"],
        }
    }
    assert list(names(plan(bids_dir))["sub-01"])[:4] == [
        "T1w",
        "acq-mprage_T1w",
        "ce-gad_T1w",
        "T2w",
    ]


def test_sessions_are_units_of_their_own(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-02_T1w", "sub-01_ses-b_T1w", "sub-01_ses-a_T1w", "sub-10_T2w")
    assert list(names(plan(bids_dir))) == ["sub-01_ses-a", "sub-01_ses-b", "sub-02", "sub-10"]
    assert list(names(plan(bids_dir, session_label=("b",)))) == ["sub-01_ses-b"]
    assert plan(bids_dir, session_label=("b",))[0].folder == Path("sub-01/ses-b")


def test_labels_and_modalities_select(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-1_T1w", "sub-1_T2w", "sub-10_T1w", "sub-2_T2w")
    assert list(names(plan(bids_dir, participant_label=("1",)))) == ["sub-1"]
    selected = names(plan(bids_dir, modalities=("T2w",)))
    assert selected == {"sub-1": {"T2w": ["T2w"]}, "sub-2": {"T2w": ["T2w"]}}


def test_only_raw_images_are_found(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    scan = (bids_dir / "sub-01/anat/sub-01_T1w.nii.gz").read_bytes()
    for elsewhere in (
        "derivatives/bids_unires/sub-01/anat/sub-01_space-individual_desc-sr_T1w.nii.gz",
        "derivatives/bids_unires/sub-01/anat/sub-01_run-7_T1w.nii.gz",
        "sourcedata/sub-01/anat/sub-01_T1w.nii.gz",
        "code/sub-01/anat/sub-01_T1w.nii.gz",
        ".git/sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/func/sub-01_task-rest_T1w.nii.gz",
        "sub-01/anat/sub-01_desc-old_T1w.nii.gz",
        "sub-01/anat/old/sub-01_run-2_T1w.nii.gz",
        "sub-01/anat/sub-01_part-phase_T1w.nii.gz",
    ):
        (bids_dir / elsewhere).parent.mkdir(parents=True, exist_ok=True)
        (bids_dir / elsewhere).write_bytes(scan)
    assert names(plan(bids_dir)) == {"sub-01": {"T1w": ["T1w"]}}
    assert "the entity desc" in caplog.text


def test_folders_above_the_dataset_say_nothing(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w", root="sub-99/ses-x/func/acq-odd_run-3/raw")
    (unit,) = plan(bids_dir)
    assert unit.label == "sub-01"
    assert unit.contrasts[0].name == "T1w"
    assert "run" not in unit.scans[0].entities
    assert unit.scans[0].uri == "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"


def test_metadata_are_inherited(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset(
        "sub-01_T1w", "sub-02_T1w", T1w={"EchoTime": 0.002, "SliceThickness": 4}
    )
    sidecar = bids_dir / "sub-02/anat/sub-02_T1w.json"
    sidecar.write_text(json.dumps({"SliceThickness": 5}))
    first, second = (unit.scans[0].metadata for unit in plan(bids_dir))
    assert first == {"EchoTime": 0.002, "SliceThickness": 4}
    assert second == {"EchoTime": 0.002, "SliceThickness": 5}


def test_plans_travel_to_other_processes(make_dataset: DatasetMaker) -> None:
    plans = plan(make_dataset("sub-01_run-01_T1w", T1w={"EchoTime": 0.002}))
    assert pickle.loads(pickle.dumps(plans)) == plans
    assert plans[0].scans[0].entities["run"] == "01"


def test_unknown_labels_list_the_known(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_ses-a_T1w")
    with pytest.raises(NothingSelectedError, match="participant 03; it has 01, 02"):
        plan(bids_dir, participant_label=("01", "03"))
    with pytest.raises(NothingSelectedError, match="there are a"):
        plan(bids_dir, session_label=("z",))
    with pytest.raises(NothingSelectedError, match="no sessions"):
        plan(bids_dir, participant_label=("01",), session_label=("a",))


def test_participants_without_images_are_told(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T2w")
    assert list(names(plan(bids_dir, modalities=("T1w",)))) == ["sub-01"]
    assert "participant 02" in caplog.text
    with pytest.raises(NothingSelectedError, match="FLAIR"):
        plan(bids_dir, modalities=("FLAIR",))


def test_datasets_that_are_none(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset()
    with pytest.raises(InvalidDatasetError, match="no participant"):
        plan(bids_dir)


def test_broken_sidecars_are_named(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    (bids_dir / "sub-01/anat/sub-01_T1w.json").write_text("{")
    with pytest.raises(InvalidDatasetError, match=r"sub-01_T1w\.json"):
        plan(bids_dir)


def test_the_same_image_twice_is_refused(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    scan = bids_dir / "sub-01/anat/sub-01_T1w.nii.gz"
    scan.with_name("sub-01_T1w.nii").write_bytes(scan.read_bytes())
    with pytest.raises(InvalidDatasetError, match="same name"):
        plan(bids_dir)


def test_a_kept_index_is_used_again(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w", T1w={"EchoTime": 0.002})
    database = tmp_path / "index"
    options = {"bids_database_dir": database}
    assert list(names(plan(bids_dir, participant_label=("01",), **options))) == ["sub-01"]
    (bids_dir / "sub-02/anat/sub-02_T1w.nii.gz").rename(tmp_path / "away.nii.gz")
    second = plan(bids_dir, participant_label=("02",), **options)
    assert second[0].scans[0].metadata["EchoTime"] == 0.002
    with pytest.raises(UsageError, match="holds the index of"):
        plan(make_dataset("sub-01_T1w", root="other"), **options)


def test_the_plan_names_every_scan(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        text = describe_plan(plan(make_dataset("sub-01_T1w", "sub-01_run-2_T1w", "sub-02_T2w")))
    assert text.splitlines() == [
        "3 scans in 2 units of work",
        "sub-01",
        "  T1w: 2 scans",
        "    sub-01_T1w.nii.gz",
        "    sub-01_run-2_T1w.nii.gz",
        "sub-02",
        "  T2w: 1 scan",
        "    sub-02_T2w.nii.gz",
    ]
    assert not caplog.records
