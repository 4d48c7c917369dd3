from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.derivatives import ParticipantResult, find_results
from bids_unires.dataset.naming import (
    derivative_path,
    fov_mask_path,
    label_path,
    mask_path,
    sidecar_path,
    study_image_path,
    template_transform_path,
    transform_path,
)
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.dataset.writing import atomic_path
from bids_unires.errors import MissingInputError

DatasetMaker = Callable[..., Path]
FileAdder = Callable[..., Path]


@pytest.fixture
def plans(make_dataset: DatasetMaker, add_image: FileAdder) -> tuple[ParticipantPlan, ...]:
    bids_dir = make_dataset("sub-1_T1w", "sub-1_ce-gad_T1w", "sub-2_ses-a_T1w", "sub-10_T1w")
    add_image(bids_dir, "sub-1_ct", datatype="ct")
    add_image(bids_dir, "sub-3_ct", datatype="ct")
    add_image(bids_dir, "sub-1_space-T1w_desc-x_dseg", {"Sources": ["sub-1_T1w.nii.gz"]})
    return plan_participants(
        RunConfig(bids_dir, bids_dir.parent / "out", "participant", modalities=("T1w", "ct"))
    )


def place(path: Path, content: str = "image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def write_results(out: Path, plan: ParticipantPlan, **space: Any) -> None:
    """Files of the right names; what they hold is not looked at."""
    grid: dict[str, Any] = {"voxel_size": (1, 1, 1), **space}
    place(fov_mask_path(out, plan, **grid))
    place(mask_path(out, plan, desc="brain", **grid))
    for contrast in plan.contrasts:
        path = place(derivative_path(out, plan, contrast, desc="sr", **grid))
        place(
            sidecar_path(path), json.dumps({"Of": contrast.name, "UniRes": {"a": {"b": [[[1]]]}}})
        )
    for scan in plan.scans:
        place(transform_path(out, plan, scan, space=space.get("space", "individual")))
        for label in scan.labels:
            place(label_path(out, plan, scan, label, **grid))


@pytest.fixture
def out(plans: tuple[ParticipantPlan, ...], tmp_path: Path) -> Path:
    for plan in plans:
        write_results(tmp_path / "out", plan)
    return tmp_path / "out"


def by_label(results: tuple[ParticipantResult, ...]) -> dict[str, ParticipantResult]:
    return {result.label: result for result in results}


def test_everything_that_was_written_is_found(
    out: Path, plans: tuple[ParticipantPlan, ...]
) -> None:
    results = find_results(out)
    assert [result.label for result in results] == ["sub-1", "sub-2_ses-a", "sub-3", "sub-10"]
    for result, plan in zip(results, plans, strict=True):
        assert (result.participant, result.session) == (plan.participant, plan.session)
        assert (result.space, result.res) == ("individual", "1mm")
        assert {image.contrast for image in result.images} == {c.name for c in plan.contrasts}
        for image in result.images:
            assert image.metadata["Of"] == image.contrast
            assert image.desc == "sr"
            contrast = next(c for c in plan.contrasts if c.name == image.contrast)
            assert image.entities == contrast.entities
            expected = derivative_path(out, plan, contrast, desc="sr", voxel_size=(1, 1, 1))
            assert image.path == expected
        assert result.fov_mask == fov_mask_path(out, plan, voxel_size=(1, 1, 1))
        assert result.shared_datatype == plan.shared_datatype
        assert set(result.transforms) == {transform_path(out, plan, scan) for scan in plan.scans}
        assert len(result.labels) == sum(len(scan.labels) for scan in plan.scans)
        assert result.problems == ()


def test_images_of_others_are_no_results(out: Path, plans: tuple[ParticipantPlan, ...]) -> None:
    before = find_results(out)
    folder = out / "sub-1" / "anat"
    for name in (
        "res-1mm_desc-smoothed_T1w",
        "res-2mm_desc-smoothed_T1w",
        "res-1mm_desc-srStd_T1w",
    ):
        place(folder / f"sub-1_space-individual_{name}.nii.gz")
    assert find_results(out) == before


def test_results_name_what_is_made_of_them(out: Path) -> None:
    result = by_label(find_results(out))["sub-2_ses-a"]
    path = template_transform_path(out, result, "study")
    assert path.name == "sub-2_ses-a_from-individual_to-study_mode-image_xfm.txt"


def test_every_grid_is_a_result_and_that_of_the_study_is_none(
    out: Path, plans: tuple[ParticipantPlan, ...]
) -> None:
    write_results(out, plans[0], space="MNIRigid")
    write_results(out, plans[0], voxel_size=(2, 2, 2))
    write_results(out, plans[0], space="study")
    place(study_image_path(out, {"suffix": "T1w"}, voxel_size=(1, 1, 1)))
    place(template_transform_path(out, plans[0], "MNI"))
    first = [result for result in find_results(out) if result.participant == "1"]
    assert [(result.space, result.res) for result in first] == [
        ("MNIRigid", "1mm"),
        ("individual", "1mm"),
        ("individual", "2mm"),
    ]
    assert len(first[0].transforms) == 3
    assert len(first[1].transforms) == 4


def test_participants_without_results_are_named(
    out: Path, plans: tuple[ParticipantPlan, ...], caplog: pytest.LogCaptureFixture
) -> None:
    for path in (out / "sub-1" / "anat").glob("*_T1w.nii.gz"):
        path.unlink()
    (out / "sub-1" / "ct").rename(out / "sub-1" / "away")
    (out / "sub-4" / "figures").mkdir(parents=True)
    place(out / "sub-5.html")
    results = by_label(find_results(out))
    assert list(results) == ["sub-1", "sub-2_ses-a", "sub-3", "sub-4", "sub-10"]
    for label in ("sub-1", "sub-4"):
        assert results[label].images == ()
        assert "no reconstructed image" in results[label].problems[0]
        assert f"{label}: no reconstructed image" in caplog.text


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_an_unreadable_sidecar_is_named(
    out: Path, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    (image,) = by_label(find_results(out))["sub-10"].images
    sidecar = sidecar_path(image.path)
    if content is None:
        sidecar.unlink()
    else:
        sidecar.write_text(content)
    results = by_label(find_results(out))
    (image,) = results["sub-10"].images
    assert image.metadata == {}
    assert len(results["sub-10"].problems) == 1
    assert str(sidecar) in caplog.text
    assert results["sub-1"].problems == ()


def test_empty_and_half_written_files_are_no_results(out: Path) -> None:
    folder = out / "sub-10" / "anat"
    (image,) = by_label(find_results(out))["sub-10"].images
    image.path.write_bytes(b"")
    (folder / "sub-10_space-individual_res-1mm_desc-fov_mask.nii.gz").unlink()
    with atomic_path(folder / "sub-10_space-individual_res-1mm_desc-sr_T2w.nii.gz") as half:
        half.write_text("image")
        result = by_label(find_results(out))["sub-10"]
    assert result.images == ()
    assert result.fov_mask is None
    assert len(result.problems) == 2
    assert str(image.path) in result.problems[0]


def test_there_has_to_be_an_output_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="participant level"):
        find_results(tmp_path / "absent")
