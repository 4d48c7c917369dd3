"""The table of the group level: one row for each image, with a description of its columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...dataset.writing import write_json, write_text
from ...records.image import ImageRecord, QualityRecord, ScanRecord
from ...space.affines import Affine, apply_affine
from ...space.grid import corners

TABLE_NAME = "group_unires.tsv"
NOT_AVAILABLE = "n/a"

COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "participant_id": {"Description": "Participant, with sub-"},
    "session_id": {"Description": "Session, with ses-"},
    "contrast": {"Description": "Suffix of the image, and entities that set it apart"},
    "status": {
        "Description": "What became of the image at the group level",
        "Levels": {
            "done": "It is on the shared grid",
            "missing": "The participant level left no image of this contrast, or no run has "
            "brought it to the grid",
            "failed": "The group level could not use it; see reason",
            "outdated": "It lies on a former grid, or in another space, until the group level is "
            "run on the participant again",
        },
    },
    "reason": {"Description": "Why an image is missing or failed"},
    "mode": {
        "Description": "How the image came to the shared grid",
        "Levels": {
            "refit": "Reconstructed on it from the scans",
            "reslice": "Interpolated from the participant level's image by a cubic B-spline",
        },
    },
    "scans": {"Description": "Number of scans of this contrast"},
    "noise_sd": {
        "Description": "Standard deviation of the scans' noise, mean over scans",
        "Units": "arbitrary",
    },
    "contrast_to_noise": {
        "Description": "Difference between mean foreground and mean background of a scan over "
        "the standard deviation of its noise, mean over scans",
    },
    "residual_mean": {
        "Description": "Mean of what the image leaves unexplained of a scan over the standard "
        "deviation of its noise, mean over scans; 0 is ideal"
    },
    "residual_sd": {
        "Description": "Standard deviation of the same, mean over scans; near 1 the image "
        "explains the scan down to its noise"
    },
    "residual_autocorrelation": {
        "Description": "Correlation of neighbouring residuals, the largest in size of all axes "
        "and scans"
    },
    "residual_far_share": {
        "Description": "Share of residuals beyond 4 standard deviations, largest of all scans"
    },
    "sharpness": {
        "Description": "Mean length of the image's gradient in the brain, or the head, over the "
        "range of its intensities there (5th to 95th percentile)",
        "Units": "1/mm",
    },
    "mean_intensity": {
        "Description": "Mean of the image in the brain, or the head",
        "Units": "arbitrary",
    },
    "displacement": {
        "Description": "How far the scans of this contrast lie from the participant's first "
        "scan: mean over the corners of a cube of 100 mm, largest of all scans",
        "Units": "mm",
    },
    "runtime": {"Description": "Time that the participant took at the group level", "Units": "s"},
    "image": {"Description": "The image, relative to this file"},
}

QUALITY_COLUMNS = (
    "noise_sd",
    "contrast_to_noise",
    "residual_mean",
    "residual_sd",
    "residual_autocorrelation",
    "residual_far_share",
    "sharpness",
    "mean_intensity",
    "displacement",
)
"""Columns in which outliers are reported."""

Row = Mapping[str, Any]

# Side of a cube of about the size of a brain, at whose corners motion is measured.
_CUBE_MM = 100.0


def unit_row(participant: str, session: str | None, contrast: str | None) -> dict[str, Any]:
    """Columns with participant, session and contrast of a row."""
    return {
        "participant_id": f"sub-{participant}",
        "session_id": f"ses-{session}" if session else None,
        "contrast": contrast,
    }


def image_columns(record: ImageRecord, first_pose: Affine | None) -> dict[str, Any]:
    """Columns about an image, from its sidecar; None for values that are not recorded.

    Parameters
    ----------
    record
        Record in the sidecar of the image.
    first_pose
        ``(4, 4)``, pose of the first scan of the participant.
    """
    scans = record.scans or ()
    residuals = [scan.residual for scan in scans if scan.residual is not None]
    quality = record.quality or QualityRecord()
    correlations = [r for residual in residuals for r in residual.autocorrelation or ()]
    return {
        "mode": None if record.regridding is None else record.regridding.mode,
        "scans": len(scans) or None,
        "noise_sd": _mean(scan.noise_sd for scan in scans),
        "contrast_to_noise": _mean(map(_contrast_to_noise, scans)),
        "residual_mean": _mean(residual.mean for residual in residuals),
        "residual_sd": _mean(residual.sd for residual in residuals),
        "residual_autocorrelation": max(_known(correlations), key=abs, default=None),
        "residual_far_share": max(
            _known(residual.share_beyond_4_sd for residual in residuals), default=None
        ),
        "sharpness": quality.sharpness,
        "mean_intensity": quality.mean_intensity,
        "displacement": _displacement(scans, first_pose),
        "runtime": record.runtime_seconds,
    }


def first_pose(record: ImageRecord) -> Affine | None:
    """Pose of the first scan of an image, ``(4, 4)``; None if it is not recorded."""
    return record.scans[0].pose if record.scans else None


def write_table(output_dir: Path, rows: Sequence[Row]) -> list[Path]:
    """Write the rows as a table of tab-separated values, and a JSON file about its columns.

    Raises
    ------
    UniResError
        If a file cannot be written.
    """
    path = output_dir / TABLE_NAME
    lines = ["\t".join(COLUMNS)]
    lines += ["\t".join(_cell(row.get(column)) for column in COLUMNS) for row in rows]
    return [
        write_json(path.with_suffix(".json"), data_dictionary()),
        write_text(path, "\n".join(lines) + "\n"),
    ]


def data_dictionary() -> dict[str, dict[str, Any]]:
    """Descriptions of the columns, in their order."""
    return {name: {"LongName": name.replace("_", " "), **about} for name, about in COLUMNS.items()}


def read_reasons(output_dir: Path) -> dict[str, str]:
    """Reasons in the table why participants (and sessions) failed, by label.

    A participant with an image that did not fail is left out. Empty if there is no table, or it
    cannot be read.
    """
    rows = read_rows(output_dir)
    usable = {label for label, row in rows if row.get("status") in ("done", "outdated")}
    return {
        label: row.get("reason") or ""
        for label, row in rows
        if row.get("status") == "failed" and label not in usable
    }


def read_rows(output_dir: Path) -> list[tuple[str, dict[str, str | None]]]:
    """Rows of the existing table, each with the label of its participant and session.

    Values that are not available are None. Empty if there is no table, or it cannot be read.
    """
    try:
        with (output_dir / TABLE_NAME).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, ValueError, csv.Error):
        return []
    found = []
    for row in rows:
        known = {
            name: None if row.get(name) == NOT_AVAILABLE else row.get(name) for name in COLUMNS
        }
        unit = [known["participant_id"], known["session_id"]]
        found.append(("_".join(part for part in unit if part), known))
    return found


def _cell(value: Any) -> str:
    if value is None or value == "":
        return NOT_AVAILABLE
    if isinstance(value, float):
        return f"{value:.6g}" if np.isfinite(value) else NOT_AVAILABLE
    return " ".join(str(value).split())


def _contrast_to_noise(scan: ScanRecord) -> float | None:
    if scan.mu is None or scan.noise_sd is None or scan.noise_sd <= 0:
        return None
    return scan.mu / scan.noise_sd


def _displacement(scans: Sequence[ScanRecord], first: Affine | None) -> float | None:
    poses = [scan.pose for scan in scans if scan.pose is not None]
    if first is None or not poses:
        return None
    points = corners((2, 2, 2)) * _CUBE_MM - _CUBE_MM / 2
    into_first = np.linalg.inv(first)
    moved = [apply_affine(into_first @ pose, points) - points for pose in poses]
    return max(round(float(np.linalg.norm(shift, axis=1).mean()), 4) for shift in moved)


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = _known(values)
    return float(np.mean(numbers)) if numbers else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
