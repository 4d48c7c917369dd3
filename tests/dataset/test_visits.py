"""Which sessions share a space, and what their units of work depend on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bids_unires.config import ModelSettings, RunConfig, SpaceSettings
from bids_unires.dataset.visits import describe_visits, plan_run
from bids_unires.errors import NothingSelectedError, UsageError

DatasetMaker = Callable[..., Path]
TWO = ("sub-01_ses-2_T1w", "sub-01_ses-10_T1w", "sub-02_ses-1_T1w", "sub-03_T1w")


@pytest.fixture
def config(make_dataset: DatasetMaker) -> RunConfig:
    raw = make_dataset(*TWO)
    out = raw.parent / "out"
    return RunConfig(raw, out, "participant", subject_anatomical_reference="first-lex")


def test_sessions_have_a_space_each_unless_asked_otherwise(config: RunConfig) -> None:
    plan = plan_run(replace(config, subject_anatomical_reference="sessionwise"))
    assert plan.visits == ()
    assert len(plan.units) == len(TWO)
    for unit in plan.units:
        assert unit.shared_placement is None
        assert "subject_anatomical_reference" not in unit.settings(config)
    assert describe_visits(plan, config) == []


def test_only_participants_with_several_sessions_share_one(config: RunConfig) -> None:
    plan = plan_run(config)
    (visits,) = plan.visits
    assert [each.session for each in visits.plans] == ["2", "10"]
    assert [unit.label for unit in plan.units if unit.shared_placement] == [
        "sub-01_ses-2",
        "sub-01_ses-10",
    ]
    assert plan.without({"sub-01"}) == plan.units[2:]
    (line,) = describe_visits(plan, config)
    assert line == "sub-01: 2 visits on one grid, in the space of the first: 2, 10"


def test_a_session_that_is_done_alone_lies_with_all_others(config: RunConfig) -> None:
    plan = plan_run(replace(config, session_label=("10",)))
    assert [unit.label for unit in plan.units] == ["sub-01_ses-10"]
    (visits,) = plan.visits
    assert len(visits.plans) == 2


def test_units_are_done_again_when_their_placement_changes(config: RunConfig) -> None:
    unit, *_ = plan_run(config).units
    placement = config.output_dir / (
        "sub-01/anat/sub-01_space-individual_res-1mm_desc-fov_mask.json"
    )
    assert dict(unit.inputs)[placement.name] == placement
    assert unit.settings(config)["subject_anatomical_reference"] == "first-lex"


def test_aligned_visits_are_named_by_the_template(config: RunConfig) -> None:
    aligned = replace(config, space=SpaceSettings(align="rigid"))
    (visits,) = plan_run(aligned).visits
    assert "_space-MNI152NLin2009cAsymRigid_" in visits.grid_path(aligned).name


def test_scans_outside_of_sessions_are_told(
    make_dataset: DatasetMaker, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    raw = make_dataset("sub-01_ses-1_T1w", "sub-01_T1w", root="mixed")
    with caplog.at_level(logging.WARNING, "bids_unires"):
        plan = plan_run(replace(config, bids_dir=raw))
    assert plan.visits == ()
    assert len(plan.units) == 2
    assert "sub-01 has scans in sessions and outside of them" in caplog.text


def test_sessions_without_scans_are_refused_as_ever(config: RunConfig) -> None:
    with pytest.raises(NothingSelectedError):
        plan_run(replace(config, session_label=("10",), participant_label=("02",)))


def test_one_grid_needs_one_voxel_size(config: RunConfig) -> None:
    denoised = ModelSettings(method="denoise", voxel_size=(0, 0, 0))
    with pytest.raises(UsageError, match="needs one voxel size for all visits"):
        replace(config, model=denoised)
