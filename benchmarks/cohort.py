"""Time and memory of the group level against the number of participants.

``python -m benchmarks.cohort 50 100 200`` simulates cohorts of these sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bids_unires.config import ModelSettings, RunConfig
from bids_unires.dataset.description import write_dataset_files
from bids_unires.dataset.naming import derivative_path, fov_mask_path, sidecar_path, transform_path
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.dataset.transforms import write_transform
from bids_unires.dataset.writing import write_image, write_json, write_mask
from bids_unires.records.image import ImageRecord, ScanRecord
from bids_unires.space.affines import Affine

VOXEL_MM = 8.0
SIDE = 24
SLICE_VOXELS = 3
NOISE = 3.0
OPTIONS = ["--align", "none", "--fov", "head", "--voxel-size", f"{VOXEL_MM:g}"]


def simulate(root: Path, count: int) -> tuple[Path, Path]:
    """Write a raw dataset, and results as the participant level would write them.

    Parameters
    ----------
    root
        A new folder.
    count
        Number of participants.

    Returns
    -------
    tuple of Path
        Folders of the dataset and of its derivatives.
    """
    raw, derived = root / "raw", root / "derived"
    raw.mkdir(parents=True)
    description = {"Name": "Simulated heads", "BIDSVersion": "1.10.1", "License": "CC0"}
    write_json(raw / "dataset_description.json", description)
    for number in range(1, count + 1):
        name = f"sub-{number:03}"
        thick = _head(number).reshape(SIDE, SIDE, -1, SLICE_VOXELS).mean(axis=3)
        noise = np.random.default_rng(number).normal(scale=NOISE, size=(2, *thick.shape))
        scan = np.hypot(thick + noise[0], noise[1])
        write_image(raw / name / "anat" / f"{name}_T1w.nii.gz", scan, _affine(SLICE_VOXELS))
    write_dataset_files(derived, raw)
    config = RunConfig(raw, derived, "participant", model=ModelSettings(voxel_size=(VOXEL_MM,) * 3))
    for plan in plan_participants(config):
        _write_result(plan, config)
    return raw, derived


def _write_result(plan: ParticipantPlan, config: RunConfig) -> None:
    (contrast,) = plan.contrasts
    (scan,) = contrast.scans
    sizes = config.model.voxel_size
    image = derivative_path(config.output_dir, plan, contrast, desc="sr", voxel_size=sizes)
    write_image(image, _head(int(plan.participant)), _affine(1))
    record = ImageRecord(
        settings={"voxel_size": list(sizes), "max_iter": 20},
        scans=(ScanRecord(source=scan.uri, noise_sd=NOISE, mu=100.0, pose=np.eye(4)),),
    )
    write_json(sidecar_path(image), record.in_sidecar({"Resolution": "8 mm"}))
    mask = fov_mask_path(config.output_dir, plan, voxel_size=sizes)
    write_mask(mask, np.ones([SIDE] * 3), _affine(1))
    write_transform(transform_path(config.output_dir, plan, scan), np.eye(4))


def _affine(slice_voxels: int) -> Affine:
    sizes = np.array([VOXEL_MM, VOXEL_MM, VOXEL_MM * slice_voxels])
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = -(SIDE * VOXEL_MM - sizes) / 2
    return affine


def _head(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An ellipsoid with a core, whose size and position depend on ``number``; ``(X, Y, Z)``."""
    rng = np.random.default_rng(1_000 + number)
    at = np.moveaxis(np.indices([SIDE] * 3), 0, -1) * VOXEL_MM + _affine(1)[:3, 3]
    at = (at - rng.uniform(-6, 6, 3)) / rng.uniform(0.92, 1.08, 3)
    image = np.zeros([SIDE] * 3, dtype=np.float32)
    for radii, value in (((62, 76, 66), 80.0), ((50, 62, 54), 140.0), ((18, 26, 20), 60.0)):
        image[np.linalg.norm(at / np.array(radii), axis=-1) < 1] = value
    return image


def measure(count: int, options: list[str]) -> dict[str, Any]:
    """Run the group level on a cohort in a separate process; return its time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        raw, derived = simulate(Path(folder) / "cohort", count)
        command = [sys.executable, "-m", "bids_unires", str(raw), str(derived), "group", "-q"]
        began = time.perf_counter()
        process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"the group level ended with exit code {process.returncode}")
        table = (derived / "group_unires.tsv").read_text("utf-8").splitlines()
        return {
            "participants": count,
            "rows done": sum("\tdone\t" in line for line in table),
            "seconds": round(seconds, 2),
            "cpu seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "peak MB": round(usage.ru_maxrss / 1024),
        }


def main() -> None:
    """Measure cohorts of the sizes given; print one JSON object per line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cohort", description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[50, 100, 200])
    parser.add_argument("--option", action="append", default=[], help="passed on, such as=this")
    arguments = parser.parse_args()
    for row in _rows(arguments.counts, [*OPTIONS, *arguments.option]):
        print(json.dumps(row), flush=True)


def _rows(counts: list[int], options: list[str]) -> Iterator[dict[str, Any]]:
    for count in counts:
        yield measure(count, options)


if __name__ == "__main__":
    main()
