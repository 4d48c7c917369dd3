from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_unires.config import GroupSettings, ModelSettings, RunConfig, SpaceSettings
from bids_unires.errors import UsageError
from bids_unires.pipeline.group.study_alignment import Extent
from bids_unires.pipeline.group.study_grid import find_grid, halvings, write_grid
from bids_unires.space.boxes import reaches
from bids_unires.space.grid import Grid

PEOPLE: dict[str, Extent] = {
    "sub-01": (np.array([-60.0, -80.0, -50.0]), np.array([60.0, 70.0, 70.0])),
    "sub-02": (np.array([-65.0, -75.0, -50.0]), np.array([55.0, 72.0, 60.0])),
}


def config(tmp_path: Path, **group: Any) -> RunConfig:
    return RunConfig(
        tmp_path / "in",
        tmp_path,
        "group",
        model=ModelSettings(voxel_size=(2.0, 2.0, 2.0)),
        space=SpaceSettings(align="rigid"),
        group=GroupSettings(**group),
    )


@pytest.mark.parametrize(
    ("group", "shape"),
    [
        ({}, (96, 96, 96)),
        ({"grid_policy": "pow2"}, (128, 128, 128)),
        ({"grid_policy": "multiple", "grid_multiple": 16}, (80, 96, 80)),
        ({"grid_policy": "multiple", "grid_multiple": 1, "grid_margin": 0.0}, (63, 76, 60)),
    ],
)
def test_the_box_of_all_is_rounded_up_by_the_policy(
    tmp_path: Path, group: dict[str, Any], shape: tuple[int, int, int]
) -> None:
    study = find_grid(PEOPLE, config(tmp_path, **group))
    assert study.grid.shape == shape
    margin = group.get("grid_margin", 5.0)
    for low, high in PEOPLE.values():
        assert reaches(study.grid, low - margin, high + margin)


def test_a_grid_stays_while_it_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = {"sub-01": PEOPLE["sub-01"]}
    made = find_grid(first, config(tmp_path))
    write_grid(made, [], config(tmp_path))
    with caplog.at_level(logging.INFO, "bids_unires"):
        again = find_grid(PEOPLE, config(tmp_path))
    assert again.grid == made.grid
    assert again.members == ("sub-01", "sub-02")
    assert "still holds" in caplog.text
    alone = find_grid(PEOPLE, config(tmp_path, grid_margin=6.0))
    assert alone.grid != made.grid


def test_a_grid_that_no_longer_holds_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = find_grid(PEOPLE, config(tmp_path))
    write_grid(made, [], config(tmp_path))
    far = (np.array([-60.0, -80.0, -50.0]), np.array([60.0, 140.0, 70.0]))
    again = find_grid({**PEOPLE, "sub-03": far}, config(tmp_path))
    assert again.grid.shape == (96, 128, 96)
    assert "too small for sub-03" in caplog.text


def test_a_grid_whose_margin_somebody_needs_is_replaced(tmp_path: Path) -> None:
    settings = config(tmp_path, grid_policy="multiple", grid_multiple=1)
    made = find_grid(PEOPLE, settings)
    write_grid(made, [], settings)
    low, high = PEOPLE["sub-01"]
    larger = {"sub-03": (low, high + np.array([0.0, 6.0, 0.0]))}
    assert reaches(made.grid, *larger["sub-03"])
    again = find_grid({**PEOPLE, **larger}, settings)
    assert reaches(again.grid, low - 5, high + np.array([5.0, 11.0, 5.0]))


def test_who_forces_a_grid_beyond_the_limit_is_named(tmp_path: Path) -> None:
    far = (np.array([-60.0, -80.0, -50.0]), np.array([60.0, 70.0, 480.0]))
    people = {**PEOPLE, "sub-03": far}
    with pytest.raises(UsageError, match=r"along z .* 256; sub-03 forces it .* 410 mm less"):
        find_grid(people, config(tmp_path))
    with pytest.raises(UsageError, match=r"--voxel-size (\d\.\d+)") as raised:
        find_grid(people, config(tmp_path))
    advised = float(str(raised.value).split("--voxel-size ")[1].split()[0])
    larger = config(tmp_path)
    larger = RunConfig(**{**vars(larger), "model": ModelSettings(voxel_size=(advised,) * 3)})
    assert max(find_grid(people, larger).grid.shape) == 256
    assert find_grid(people, config(tmp_path, grid_policy="multiple")).grid.shape[2] == 272


def test_the_grid_holds_those_outside_the_run(tmp_path: Path) -> None:
    first, second = ({label: extent} for label, extent in PEOPLE.items())
    alone = find_grid(first, config(tmp_path, grid_policy="multiple", grid_multiple=1))
    both = find_grid(first, config(tmp_path, grid_policy="multiple", grid_multiple=1), second)
    assert both.members == alone.members == ("sub-01",)
    for low, high in PEOPLE.values():
        assert reaches(both.grid, low - 5, high + 5)
    assert both.grid != alone.grid


def test_a_grid_that_holds_others_stays_even_without_resuming(tmp_path: Path) -> None:
    first, second = ({label: extent} for label, extent in PEOPLE.items())
    settings = replace(config(tmp_path, grid_policy="multiple", grid_multiple=1), resume=False)
    far = {"sub-03": (np.array([-60.0, -80.0, -50.0]), np.array([60.0, 140.0, 70.0]))}
    made = find_grid({**PEOPLE, **far}, settings)
    write_grid(made, [], settings)
    assert find_grid(first, settings, second).grid == made.grid
    assert find_grid(PEOPLE, settings).grid != made.grid


def test_who_forces_too_large_a_grid_from_outside_the_run_is_to_be_removed(tmp_path: Path) -> None:
    far = {"sub-03": (np.array([-60.0, -80.0, -50.0]), np.array([60.0, 70.0, 480.0]))}
    with pytest.raises(UsageError, match=r"sub-03 forces it .*removing its \*_space-study_\*"):
        find_grid(PEOPLE, config(tmp_path), far)


@pytest.mark.parametrize(
    ("shape", "times"), [((192, 192, 256), 6), ((96, 48, 80), 4), ((63, 64, 64), 0)]
)
def test_halvings(shape: tuple[int, int, int], times: int) -> None:
    assert halvings(Grid(shape, np.eye(4))) == times
