"""A dataset with what both levels made of it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib

from bids_unires.cli.main import main

COARSE = [
    "--voxel-size",
    "5",
    "--reg-scale",
    "20",
    "--device",
    "cpu",
    "--max-iter",
    "10",
    "--learning-effort",
    "brief",
]
GROUP = ["--voxel-size", "5", "--device", "cpu", "--template", "none"]
IN_PLACE = ["--voxel-size", "5", "--device", "cpu", "--align", "none", "--fov", "head"]
RESLICED = [*IN_PLACE, "--group-mode", "reslice"]
# As small as can be, so that who joins sticks out.
TIGHT = [*RESLICED, "--grid-policy", "multiple", "--grid-multiple", "1", "--grid-margin", "0"]
OFFSETS = {"a": (6.0, -4.0, 3.0), "b": (-5.0, 3.0, -6.0)}


@dataclass(frozen=True)
class Study:
    """A dataset, and what the levels made of it."""

    raw: Path
    out: Path

    def group(self, *options: str) -> int:
        return main([str(self.raw), str(self.out), "group", *options])

    def rows(self) -> list[dict[str, str]]:
        with (self.out / "group_unires.tsv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t"))

    def images(self, pattern: str = "*_space-study_*.nii.gz") -> list[Path]:
        return sorted(self.out.glob(f"sub-*/**/{pattern}"))

    def grid_record(self) -> dict[str, Any]:
        (path,) = self.out.glob("tpl-study/anat/*_desc-grid_mask.json")
        return dict(json.loads(path.read_text())["UniRes"])


def load(path: Path) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(path)


def sidecar(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text()))
