"""Plain files become the unit of work that a BIDS dataset of the same scans would be."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from bids_unires.dataset.plain_files import FilesRequest, PlainContrast, PlainLabels, plan_files
from tests.conftest import write_scan

KNOWN = ["T1a", "my_T2w_tse", "PD", "ax_t2_FLAIR", "T2star"]


def planned(folder: Path, *names: str, labels: tuple[PlainLabels, ...] = ()) -> list[str]:
    for seed, name in enumerate(names):
        if not (folder / f"{name}.nii").exists():
            write_scan(folder / f"{name}.nii", seed=seed)
    contrasts = (PlainContrast.from_text(str(folder / f"{name}.nii")) for name in names)
    return [each.name for each in plan_files(FilesRequest(tuple(contrasts), labels)).contrasts]


def test_known_contrasts_are_in_the_order_of_bids_whatever_that_of_the_files(
    tmp_path: Path,
) -> None:
    for names in itertools.permutations(KNOWN):
        assert planned(tmp_path, *names) == KNOWN


def test_others_keep_their_order_and_come_before_ct(tmp_path: Path) -> None:
    wanted = ["T1", "swi", "t10", "angio", "CT"]
    assert planned(tmp_path, "CT", "swi", "t10", "T1", "angio") == wanted


def test_names_that_differ_in_signs_only_stay_apart(tmp_path: Path) -> None:
    names = ["T1", "T_1", "T-1", "ct", "c t", "√"]
    plan = plan_files(
        FilesRequest(
            tuple(
                PlainContrast.from_text(str(write_scan(tmp_path / f"{name}.nii"))) for name in names
            )
        )
    )
    entities = [frozenset(contrast.entities.items()) for contrast in plan.contrasts]
    assert len(set(entities)) == len(names)
    assert [each.modality for each in plan.contrasts].count("CT") == 1
    assert all(
        value.isascii() and value.isalnum()
        for contrast in plan.contrasts
        for value in contrast.entities.values()
    )


def test_repeats_are_runs_of_one_contrast(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_scan(tmp_path / f"{name}.nii.gz")
    (tmp_path / "a.json").write_text('{"EchoTime": 0.1}')
    text = f"T1={tmp_path}/b.nii.gz,{tmp_path}/a.nii.gz"
    plan = plan_files(FilesRequest((PlainContrast.from_text(text),), folder=tmp_path / "out"))
    (contrast,) = plan.contrasts
    assert [scan.entities["run"] for scan in contrast.scans] == ["1", "2"]
    assert [scan.uri for scan in contrast.scans] == ["../b.nii.gz", "../a.nii.gz"]
    assert [dict(scan.metadata) for scan in contrast.scans] == [{}, {"EchoTime": 0.1}]
    assert plan.label == "T1"


@pytest.mark.parametrize("scan", ["T1", "x1", "x1.nii", "{}/x1.nii"])
def test_labels_belong_to_a_scan_by_any_of_its_names(scan: str, tmp_path: Path) -> None:
    files = [write_scan(tmp_path / name) for name in ("x1.nii", "x2.nii", "seg.nii")]
    contrasts = (PlainContrast("T1", (files[0],)), PlainContrast("T2", (files[1],)))
    label = PlainLabels.from_text(f"{files[2]}={scan.format(tmp_path)}")
    plan = plan_files(FilesRequest(contrasts, (label,)))
    assert [[each.path for each in scan.labels] for scan in plan.scans] == [[files[2]], []]
