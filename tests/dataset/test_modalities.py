from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.errors import UsageError

DatasetMaker = Callable[..., Path]


def plan(bids_dir: Path, **options: Any) -> tuple[ParticipantPlan, ...]:
    return plan_participants(RunConfig(bids_dir, bids_dir.parent / "out", "participant", **options))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("FLIAR", "FLAIR"), ("Flairr", "FLAIR"), ("T2W1", "T2w"), ("t1maps", "T1map")],
)
def test_misspelt_modalities_are_refused_before_work(
    make_dataset: DatasetMaker, typed: str, meant: str
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_FLAIR")
    with pytest.raises(
        UsageError, match=rf"suffix {typed} .*mean {meant}\?.* has images of FLAIR, T1w$"
    ):
        plan(bids_dir, modalities=("T1w", typed))


def test_modalities_that_nobody_has_are_told(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w", "sub-02_FLAIR")
    labels = [each.label for each in plan(bids_dir, modalities=("T1w", "T2w"))]
    assert labels == ["sub-01", "sub-02"]
    assert "no image of T2w was found; there are FLAIR, T1w" in caplog.text


def test_modalities_that_some_have_are_no_matter_for_a_warning(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w", "sub-02_own", "sub-02_FLAIR")
    plan(bids_dir)
    plan(bids_dir, modalities=("T1w", "FLAIR", "own"))
    # A job of an array sees one participant, and a suffix that BIDS lacks may be another's.
    plan(bids_dir, modalities=("T1w", "FLAIR", "own"), participant_label=("01",))
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_group_level_refuses_no_results_whose_scans_are_gone(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    config = RunConfig(bids_dir, bids_dir.parent / "out", "group", modalities=("T1w", "own"))
    assert len(plan_participants(config)) == 1
    assert "no image of own was found; there are T1w" in caplog.text
