from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bids_unires.pipeline.group.table import (
    COLUMNS,
    first_pose,
    image_columns,
    read_reasons,
    read_rows,
    unit_row,
    write_table,
)
from bids_unires.records.image import ImageRecord
from bids_unires.space.affines import translation


def scan(shift: float = 0.0, noise: float = 2.0, **residual: Any) -> dict[str, Any]:
    return {
        "NoiseSD": noise,
        "Mu": 100.0,
        "Pose": translation([shift, 0, 0]).tolist(),
        "Residual": {"Mean": 0.1, "SD": 0.9, "Autocorrelation": [0.1, -0.4, 0.2], **residual},
    }


def test_columns_come_from_the_sidecar() -> None:
    metadata = {
        "UniRes": {
            "Scans": [scan(1.0, 2.0, SD=0.8), scan(4.0, 4.0, SD=1.0, ShareBeyond4SD=0.01)],
            "Quality": {"Sharpness": 0.12, "MeanIntensity": 300.0},
            "Group": {"Mode": "refit"},
            "RuntimeSeconds": 12.5,
        }
    }
    record = ImageRecord.of_sidecar(metadata)
    found = image_columns(record, translation([1.0, 0, 0]))
    assert found["scans"] == 2
    assert found["noise_sd"] == 3.0
    assert found["contrast_to_noise"] == pytest.approx((50 + 25) / 2)
    assert found["residual_sd"] == pytest.approx(0.9)
    assert found["residual_autocorrelation"] == -0.4
    assert found["residual_far_share"] == 0.01
    assert found["displacement"] == pytest.approx(3.0)
    assert (found["mode"], found["sharpness"], found["runtime"]) == ("refit", 0.12, 12.5)


@pytest.mark.parametrize(
    "metadata",
    [{}, {"UniRes": 3}, {"UniRes": {"Scans": [7, {"Pose": "here", "NoiseSD": 0, "Mu": "x"}]}}],
)
def test_a_sidecar_that_says_nothing_leaves_gaps(metadata: dict[str, Any]) -> None:
    record = ImageRecord.of_sidecar(metadata)
    found = image_columns(record, np.eye(4))
    assert found["displacement"] is None
    assert found["contrast_to_noise"] is None
    assert found["mode"] is None
    assert first_pose(record) is None


def test_the_table_reads_back(tmp_path: Path) -> None:
    rows = [
        {**unit_row("01", None, "T1w"), "status": "done", "noise_sd": 1.23456789},
        {**unit_row("02", "a", None), "status": "failed", "reason": "it\tis\nbroken"},
    ]
    table, dictionary = sorted(write_table(tmp_path, rows), reverse=True)
    with table.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file, delimiter="\t")
    assert list(first) == list(COLUMNS) == list(json.loads(dictionary.read_text()))
    assert (first["session_id"], first["noise_sd"], first["sharpness"]) == ("n/a", "1.23457", "n/a")
    assert second["reason"] == "it is broken"
    assert (second["session_id"], second["contrast"]) == ("ses-a", "n/a")


def test_reasons_of_failures_read_back(tmp_path: Path) -> None:
    assert read_reasons(tmp_path) == {}
    rows = [
        {**unit_row("01", None, "T1w"), "status": "done"},
        {**unit_row("02", "a", "T1w"), "status": "failed", "reason": 'it is "broken"\tand blank'},
        {**unit_row("03", None, None), "status": "missing", "reason": "no image"},
        {**unit_row("04", None, "T1w"), "status": "done"},
        {**unit_row("04", None, "FLAIR"), "status": "failed", "reason": "of another run"},
    ]
    write_table(tmp_path, rows)
    assert read_reasons(tmp_path) == {"sub-02_ses-a": 'it is "broken" and blank'}
    labels = [label for label, _ in read_rows(tmp_path)]
    assert labels == ["sub-01", "sub-02_ses-a", "sub-03", "sub-04", "sub-04"]
    assert read_rows(tmp_path)[2][1]["contrast"] is None


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"participant_id\nsub-01\n"])
def test_a_table_that_tells_no_reason_is_no_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "group_unires.tsv").write_bytes(content)
    assert read_reasons(tmp_path) == {}
