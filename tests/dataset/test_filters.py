from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.errors import MissingInputError, NothingSelectedError, UsageError

DatasetMaker = Callable[..., Path]


def plan(bids_dir: Path, **options: Any) -> tuple[ParticipantPlan, ...]:
    return plan_participants(RunConfig(bids_dir, bids_dir.parent / "out", "participant", **options))


@pytest.mark.parametrize(
    ("filters", "runs"),
    [
        ({"t1w": {"acquisition": None}}, ["T1w", "run-2_T1w"]),
        ({"t1w": {"acquisition": "*"}}, ["acq-sag_T1w"]),
        ({"T1w": {"run": 2}}, ["run-2_T1w"]),
        ({"t1w": {"acquisition": [None, "sag"], "run": None}}, ["T1w", "acq-sag_T1w"]),
        ({"t1w": {"subject": "01"}}, ["T1w", "acq-sag_T1w", "run-2_T1w"]),
        ({"ct": {"run": 1}}, ["T1w", "acq-sag_T1w", "run-2_T1w"]),
        ({"t2w": {"run": 1}}, ["T1w", "acq-sag_T1w", "run-2_T1w"]),
        ({"bold": {"task": "rest", "echo": 1}, "fmap": [], "t1w": {"run": 2}}, ["run-2_T1w"]),
    ],
)
def test_filters(
    make_dataset: DatasetMaker, tmp_path: Path, filters: dict[str, Any], runs: list[str]
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_run-2_T1w", "sub-01_acq-sag_T1w")
    file = tmp_path / "filters.json"
    file.write_text(json.dumps(filters))
    (unit,) = plan(bids_dir, bids_filter_file=file)
    names = {scan.path.name for scan in unit.scans}
    assert names == {f"sub-01_{run}.nii.gz" for run in runs}


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"t1w": {"subject": "sub-01"}}, 2),
        ({"t1w": {"datatype": "func"}}, 2),
        ({"t1w": {"session": "*"}}, 2),
        ({"t1w": {"run": 2}}, None),
        ({"t1w": {}}, None),
        ({"pdw": {"subject": "sub-01"}}, None),
    ],
)
def test_a_filter_that_leaves_no_scan_is_told(
    make_dataset: DatasetMaker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    filters: dict[str, Any],
    left: int | None,
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_run-2_T1w", "sub-01_T2w")
    file = tmp_path / "filters.json"
    file.write_text(json.dumps(filters))
    plan(bids_dir, bids_filter_file=file)
    told = f"{file}: the filter of T1w leaves none of {left} scans"
    assert [message.startswith(told) for message in caplog.messages] == [True] * (left is not None)


def test_keys_for_other_programs_are_passed_over_and_named(
    make_dataset: DatasetMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bids_unires")
    bids_dir = make_dataset("sub-01_T1w")
    file = tmp_path / "filters.json"
    file.write_text(json.dumps({"bold": {"task": "rest"}, "t1w": {}}))
    plan(bids_dir, bids_filter_file=file)
    assert caplog.messages == [f"{file}: 'bold' is skipped"]


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        ('{"t1": {}}', UsageError, "'t1'"),
        ('{"blod": {}, "t1w": {}}', UsageError, "unknown key 'blod'"),
        ('{"t1w": {"acq": "x"}}', UsageError, "acquisition"),
        ('{"t1w": "x"}', UsageError, "object"),
        ("[]", UsageError, "object"),
        ("{", UsageError, "JSON"),
        (None, MissingInputError, "does not exist"),
        ('{"t1w": {"subject": "02"}}', NothingSelectedError, "filters"),
        ('{"t1w": {"run": 9}}', NothingSelectedError, "filters"),
    ],
)
def test_filters_that_cannot_be(
    make_dataset: DatasetMaker,
    tmp_path: Path,
    content: str | None,
    error: type[Exception],
    says: str,
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    file = tmp_path / "filters.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(error, match=says):
        plan(bids_dir, bids_filter_file=file, participant_label=("01",))
