"""What sidecars of the group level say is read again, and nothing that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bids_unires.cli.main import parse_arguments
from bids_unires.records.entries import Record
from bids_unires.records.study import (
    CohortMeanRecord,
    GridSettingsRecord,
    StudyGridRecord,
    StudyMeanRecord,
    StudyPlacementRecord,
)
from bids_unires.space.affines import translation
from bids_unires.space.grid import Grid

SETTINGS = GridSettingsRecord("head", "none", "rigid", (1.0, 1.0, 2.0), 5.0, "pow23", 16)
GRID = StudyGridRecord((3, 4, 5), translation([1, 2, 3]), SETTINGS, ("sub-01",), 0, 1)
PLACEMENT = StudyPlacementRecord(
    "rigid", "none", translation([1, 2, 3]), {"head": (np.zeros(3), np.ones(3))}
)


@pytest.mark.parametrize(
    "record",
    [GRID, PLACEMENT, SETTINGS, CohortMeanRecord(("sub-01",), 2), StudyMeanRecord(3, 100.0)],
)
def test_a_record_comes_back_as_it_was_written(record: Record) -> None:
    content = json.loads(json.dumps(record.to_json()))
    assert json.loads(json.dumps(type(record).from_json(content).to_json())) == content


def test_the_grid_is_that_of_the_record() -> None:
    assert GRID.grid == Grid((3, 4, 5), translation([1, 2, 3]))


@pytest.mark.parametrize(
    "change",
    [
        {"Shape": [3, 4]},
        {"Shape": [3, 4, 0]},
        {"Shape": [3, 4, 5.5]},
        {"Affine": None},
        {"Affine": np.zeros((4, 4)).tolist()},
    ],
)
def test_what_is_no_grid_is_none(change: dict[str, Any]) -> None:
    assert StudyGridRecord.from_json({**GRID.to_json(), **change}).grid is None


def test_settings_of_a_run_are_those_that_its_record_has() -> None:
    config = parse_arguments(["in", "out", "group", "--voxel-size", "1", "1", "2", "--fov", "head"])
    settings = GridSettingsRecord.of_run(config)
    assert settings.is_complete
    assert GridSettingsRecord.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert not GridSettingsRecord.from_json({"fov": "head"}).is_complete


@pytest.mark.parametrize("ends", [None, [[0, 0, 0]], [[0, 0], [1, 1]], [[0, 0, 0], [1, 1, "x"]]])
def test_an_extent_that_cannot_be_used_is_left_out(ends: object) -> None:
    extent = {"brain": ends, "head": [[0, 0, 0], [1, 1, 1]]}
    found = StudyPlacementRecord.from_json({"Extent": extent}).extent
    assert found is not None
    assert list(found) == ["head"]
