from __future__ import annotations

import json
from pathlib import Path

import pytest

from bids_unires.dataset.query import ParticipantPlan
from bids_unires.errors import (
    InvalidDatasetError,
    MissingInputError,
    NothingSelectedError,
    UsageError,
)
from bids_unires.export.selection import Selection, contrasts_of, select_images
from tests.export.conftest import write_results

Plans = dict[str, ParticipantPlan]


def test_everything_is_selected_in_a_stated_order(results: Path) -> None:
    units = select_images(results, Selection())
    assert [unit.label for unit in units] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b", "sub-03"]
    assert list(units[0].images) == ["T1w", "rec-norm_T2w", "FLAIR"]
    assert contrasts_of(units) == ("T1w", "rec-norm_T2w", "FLAIR")


def test_labels_and_contrasts_narrow_it(results: Path) -> None:
    chosen = Selection(participants=("02",), sessions=("a",), contrasts=("FLAIR",))
    (unit,) = select_images(results, chosen)
    assert unit.label == "sub-02_ses-a"
    assert list(unit.images) == ["FLAIR"]


@pytest.mark.parametrize(
    ("selection", "named"),
    [
        (Selection(participants=("7",)), "participant 7; it has 01, 02, 03"),
        (Selection(sessions=("z",)), "session z; it has a, b"),
        (Selection(contrasts=("PDw",)), "PDw; there are T1w, rec-norm_T2w, FLAIR"),
        (Selection(resolution="2mm"), "it has space-individual_res-1mm"),
    ],
)
def test_what_is_not_there_is_named(results: Path, selection: Selection, named: str) -> None:
    with pytest.raises(NothingSelectedError, match=named):
        select_images(results, selection)


def test_several_resolutions_have_to_be_told_apart(results: Path, plans: Plans) -> None:
    write_results(results, plans["sub-01"], voxel_size=(2, 2, 2))
    with pytest.raises(UsageError, match=r"sub-01 .*res-1mm.*res-2mm; choose by --space and --res"):
        select_images(results, Selection())
    (unit,) = select_images(results, Selection(resolution="2mm"))
    assert (unit.label, unit.resolution) == ("sub-01", "2mm")


def test_super_resolved_images_go_before_interpolated_ones(results: Path, plans: Plans) -> None:
    write_results(results, plans["sub-03"], descs=("resliced", "denoised", "sr"))
    (unit,) = select_images(results, Selection(participants=("03",)))
    assert unit.images["T1w"].desc == "sr"


def test_images_of_the_group_level_are_a_choice(results: Path, plans: Plans) -> None:
    write_results(results, plans["sub-01"], space="study")
    assert all(unit.space == "individual" for unit in select_images(results, Selection()))
    units = select_images(results, Selection(space="study"))
    assert [(unit.label, unit.space) for unit in units] == [("sub-01", "study")]


def test_only_results_of_this_program_are_handed_over(results: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="does not exist"):
        select_images(tmp_path / "nowhere", Selection())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidDatasetError, match="name the output folder of a run"):
        select_images(tmp_path / "empty", Selection())
    path = results / "dataset_description.json"
    content = json.loads(path.read_text()) | {"GeneratedBy": [{"Name": "other"}]}
    path.write_text(json.dumps(content))
    with pytest.raises(InvalidDatasetError, match="no results of bids_unires"):
        select_images(results, Selection())
