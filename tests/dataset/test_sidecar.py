from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bids_unires.dataset.query import Contrast, LabelImage, ParticipantPlan, Scan
from bids_unires.dataset.sidecar import (
    derivative_uri,
    image_sidecar,
    inherited_metadata,
    label_sidecar,
    mask_sidecar,
    transform_sidecar,
)


def scan(name: str, **metadata: Any) -> Scan:
    path = Path(f"/raw/sub-01/anat/sub-01_{name}.nii.gz")
    return Scan(path, {"suffix": "T1w"}, metadata, f"bids:raw:sub-01/anat/{path.name}")


T1W = Contrast(
    "T1w",
    {"suffix": "T1w"},
    (
        scan("run-1_T1w", EchoTime=0.002, FlipAngle=8, SliceThickness=4, MTState=False),
        scan("run-2_T1w", EchoTime=0.002, FlipAngle=9, SliceThickness=4, MTState=False),
    ),
)
T2W = Contrast("T2w", {"suffix": "T2w"}, (scan("T2w", SkullStripped=True, SliceTiming=[0, 1]),))
PLAN = ParticipantPlan("01", None, (T1W, T2W))
GRID = "bids::sub-01/anat/grid.nii.gz"


def sidecar(contrast: Contrast) -> dict[str, Any]:
    return image_sidecar(
        PLAN,
        contrast,
        description="Made.",
        voxel_size=(1, 1, 2),
        spatial_reference=GRID,
    )


def test_sources_are_all_scans_and_those_of_the_contrast_come_first() -> None:
    assert [Path(uri).name for uri in sidecar(T2W)["Sources"]] == [
        "sub-01_T2w.nii.gz",
        "sub-01_run-1_T1w.nii.gz",
        "sub-01_run-2_T1w.nii.gz",
    ]
    assert all(uri.startswith("bids:raw:sub-01/anat/") for uri in sidecar(T1W)["Sources"])


def test_what_bids_requires_is_there() -> None:
    content = sidecar(T1W)
    assert content["Resolution"] == "1 x 1 x 2 mm"
    assert content["SpatialReference"] == GRID
    assert content["SkullStripped"] is False
    assert content["Description"] == "Made."
    assert sidecar(T2W)["SkullStripped"] is True


def test_metadata_are_inherited_if_they_hold_for_the_result() -> None:
    assert inherited_metadata(T1W.scans) == {"EchoTime": 0.002, "MTState": False}
    assert inherited_metadata(T2W.scans) == {}
    assert sidecar(T1W)["EchoTime"] == 0.002


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({"EchoTime": "short"}, False),
        ({"Units": "ms"}, True),
        ({"Units": 3}, False),
        ({"EchoTime": True}, False),
        ({"EchoTime": [0.01, 0.02]}, True),
        ({"Manufacturer": 7}, False),
        ({"Manufacturer": "x"}, True),
        ({"MTState": 1}, False),
        ({"MTState": True}, True),
        ({"RepetitionTime": {"a": 1}}, False),
        ({"KVP": 120}, True),
    ],
)
def test_values_of_the_wrong_type_are_left_out(metadata: dict[str, Any], kept: bool) -> None:
    assert inherited_metadata([scan("T1w", **metadata)]) == (metadata if kept else {})


def test_labels_keep_what_their_numbers_mean() -> None:
    label = LabelImage(
        Path("x"),
        {},
        {"LabelMap": {"1": "lesion"}, "SpatialReference": "old"},
        "bids:labels:x",
        None,
    )
    content = label_sidecar(
        T1W.scans[0], label, description="Drawn.", voxel_size=(1, 1, 1), spatial_reference=GRID
    )
    assert content["LabelMap"] == {"1": "lesion"}
    assert content["Sources"] == ["bids:labels:x", T1W.scans[0].uri]
    assert content["SpatialReference"] == GRID
    assert content["Resolution"] == "1 mm isotropic"


def test_masks_are_regions_and_not_skull_stripped() -> None:
    content = mask_sidecar(PLAN, description="Where.", voxel_size=(1, 1, 1), spatial_reference=GRID)
    assert content["Type"] == "ROI"
    assert "SkullStripped" not in content
    assert len(content["Sources"]) == 3


def test_transforms_name_both_ends() -> None:
    content = transform_sidecar(T1W.scans[0], description="Moves.", spatial_reference=GRID)
    assert content["Sources"] == [T1W.scans[0].uri, GRID]


def test_own_files_are_named_from_the_root() -> None:
    out = Path("/out")
    assert derivative_uri(out, out / "sub-01/anat/a.nii.gz") == "bids::sub-01/anat/a.nii.gz"
