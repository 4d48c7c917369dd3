from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import ParticipantPlan, plan_participants

DatasetMaker = Callable[..., Path]
FileAdder = Callable[..., Path]
SCANS = (
    "sub-01_T1w",
    "sub-01_run-1_T2w",
    "sub-01_run-2_T2w",
    "sub-01_acq-tse_FLAIR",
    "sub-02_ses-a_T1w",
    "sub-02_ses-b_T1w",
)


def plan(bids_dir: Path, **options: Any) -> tuple[ParticipantPlan, ...]:
    return plan_participants(RunConfig(bids_dir, bids_dir.parent / "out", "participant", **options))


def matched(plans: tuple[ParticipantPlan, ...]) -> dict[str, str]:
    """Label image to scan, both without extensions."""
    return {
        label.path.name.split(".")[0]: scan.path.name.split(".")[0]
        for unit in plans
        for scan in unit.scans
        for label in scan.labels
    }


@pytest.fixture
def labels_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(
    ("name", "scan"),
    [
        ("sub-01_run-2_desc-lesion_dseg", "sub-01_run-2_T2w"),
        ("sub-01_run-02_seg-tissue_dseg", "sub-01_run-2_T2w"),
        ("sub-01_acq-tse_space-orig_label-WMH_dseg", "sub-01_acq-tse_FLAIR"),
        ("sub-01_dseg", "sub-01_T1w"),
        ("sub-01_space-T1w_atlas-AAL_dseg", "sub-01_T1w"),
        ("sub-02_ses-b_desc-manual_dseg", "sub-02_ses-b_T1w"),
    ],
)
def test_the_name_tells_the_scan(
    make_dataset: DatasetMaker,
    add_image: FileAdder,
    labels_dir: Path,
    caplog: pytest.LogCaptureFixture,
    beside: bool,
    name: str,
    scan: str,
) -> None:
    bids_dir = make_dataset(*SCANS)
    add_image(bids_dir if beside else labels_dir, name)
    plans = plan(bids_dir, labels=None if beside else labels_dir)
    assert matched(plans) == {name: scan}
    assert not caplog.records
    (label,) = (label for unit in plans for image in unit.scans for label in image.labels)
    dataset = "raw" if beside else "labels"
    assert label.uri.startswith(f"bids:{dataset}:sub-")
    root = bids_dir if beside else labels_dir
    assert root / label.uri.split(":", 2)[2] == label.path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sub-01_acq-sag_dseg", "no scan of this run has the same acq"),
        ("sub-01_run-3_dseg", "no scan of this run"),
        ("sub-01_space-MNI152NLin2009cAsym_dseg", "in the space 'MNI152NLin2009cAsym'"),
        ("sub-01_space-FLAIR_desc-x_dseg", "no scan of this run"),
    ],
)
def test_labels_of_no_scan_are_named(
    make_dataset: DatasetMaker,
    add_image: FileAdder,
    caplog: pytest.LogCaptureFixture,
    name: str,
    says: str,
) -> None:
    bids_dir = make_dataset(*SCANS)
    add_image(bids_dir, name)
    assert matched(plan(bids_dir)) == {}
    (record,) = caplog.records
    assert name in record.getMessage()
    assert says in record.getMessage()


@pytest.mark.parametrize(
    ("name", "sidecar", "scan"),
    [
        ("sub-01_desc-x_dseg", {"Sources": ["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"]}, "T2w"),
        ("sub-01_desc-x_dseg", {"Sources": "bids::sub-01/anat/sub-01_T2w.nii.gz"}, "T2w"),
        ("sub-01_desc-x_dseg", {"RawSources": ["sub-01/anat/sub-01_FLAIR.nii.gz"]}, "FLAIR"),
        ("sub-01_acq-odd_dseg", {"SpatialReference": "bids:raw:sub-01/sub-01_T1w.nii.gz"}, "T1w"),
        (
            "sub-01_dseg",
            {
                "Sources": [f"bids:raw:sub-01/anat/sub-01_{s}.nii.gz" for s in ("T1w", "T2w")],
                "SpatialReference": "bids:raw:sub-01/anat/sub-01_T2w.nii.gz",
            },
            "T2w",
        ),
        ("sub-01_space-T2w_desc-x_dseg", {}, "T2w"),
        ("sub-01_desc-x_dseg", {}, None),
        ("sub-01_desc-x_dseg", {"Sources": ["bids::sub-01/anat/sub-01_PDw.nii.gz"]}, None),
        ("sub-01_desc-x_dseg", {"Sources": [7, {"a": 1}]}, None),
    ],
)
def test_the_sidecar_tells_what_the_name_leaves_open(
    make_dataset: DatasetMaker,
    add_image: FileAdder,
    labels_dir: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    sidecar: dict[str, Any],
    scan: str | None,
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_T2w", "sub-01_FLAIR")
    add_image(labels_dir, name, sidecar)
    expected = {} if scan is None else {name: f"sub-01_{scan}"}
    assert matched(plan(bids_dir, labels=labels_dir)) == expected
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == (scan is None)
    assert all(name in message and "Sources" in message for message in warned)


def test_tables_and_maps_come_along(
    make_dataset: DatasetMaker, add_image: FileAdder, labels_dir: Path
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w")
    add_image(labels_dir, "sub-01_desc-x_dseg", {"LabelMap": {"1": "lesion"}})
    add_image(labels_dir, "sub-02_desc-x_dseg")
    (labels_dir / "desc-x_dseg.tsv").write_text("index\tname\n1\tshared\n")
    own = labels_dir / "sub-02/anat/sub-02_desc-x_dseg.tsv"
    own.write_text("index\tname\n1\town\n")
    first, second = (unit.scans[0].labels[0] for unit in plan(bids_dir, labels=labels_dir))
    assert first.metadata["LabelMap"] == {"1": "lesion"}
    assert first.lookup == labels_dir / "desc-x_dseg.tsv"
    assert second.lookup == own
    assert second.entities == {"sub": "02", "desc": "x"}


def test_only_labels_of_the_run_are_looked_at(
    make_dataset: DatasetMaker,
    add_image: FileAdder,
    labels_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bids_dir = make_dataset("sub-01_ses-a_T1w", "sub-01_ses-b_T1w", "sub-02_ses-a_T1w")
    for name in ("sub-01_ses-b_dseg", "sub-02_ses-a_dseg", "sub-03_ses-a_dseg"):
        add_image(labels_dir, name)
    add_image(labels_dir, "sub-01_ses-a_desc-brain_mask")
    with caplog.at_level(logging.WARNING):
        plans = plan(bids_dir, labels=labels_dir, participant_label=("01",), session_label=("a",))
    assert matched(plans) == {}
    assert "has no label image" in caplog.text
    assert matched(plan(bids_dir, labels=bids_dir)) == {}


def test_misplaced_and_misnamed_labels_are_passed_over(
    make_dataset: DatasetMaker,
    add_image: FileAdder,
    labels_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w")
    right = add_image(labels_dir, "sub-01_dseg")
    (labels_dir / "sub-02" / "anat").mkdir(parents=True)
    (labels_dir / "sub-02/anat/sub-01_dseg.nii.gz").symlink_to(right)
    (labels_dir / "sub-01/anat/sub-01_my lesion_dseg.nii.gz").symlink_to(right)
    assert matched(plan(bids_dir, labels=labels_dir)) == {"sub-01_dseg": "sub-01_T1w"}
    assert "my lesion" in caplog.text
    assert "sub-02/anat/sub-01_dseg" in caplog.text


def test_ct_has_labels_too(
    make_dataset: DatasetMaker, add_image: FileAdder, labels_dir: Path
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    add_image(bids_dir, "sub-01_ct", datatype="ct")
    add_image(labels_dir, "sub-01_space-ct_desc-bleed_dseg", datatype="ct")
    plans = plan(bids_dir, labels=labels_dir, modalities=("T1w", "ct"))
    assert matched(plans) == {"sub-01_space-ct_desc-bleed_dseg": "sub-01_ct"}
