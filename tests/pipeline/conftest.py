"""BIDS datasets of a small head, scanned in thick slices."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from bids_unires.cli.main import main
from bids_unires.config import RunConfig
from bids_unires.run import app
from bids_unires.run.devices import THREAD_VARIABLES
from bids_unires.run.workers import attempt
from bids_unires.work.allotment import Allotment
from bids_unires.work.outcome import Process, Result
from bids_unires.work.progress import ProgressListener, listening
from bids_unires.work.unit import UnitOfWork
from tests.pages import with_pages, without_pages
from tests.pipeline.study import COARSE, GROUP, OFFSETS, Study

VOXEL_MM = 5.0
SIDE = 30

ScanWriter = Callable[..., Path]


def head(points: np.ndarray) -> np.ndarray:
    """Intensity at world points ``(..., 3)`` in mm."""
    intensity = np.zeros(points.shape[:-1])
    for centre, radii, value in (
        ((0, 0, 0), (42, 64, 54), 80.0),
        ((0, -4, 4), (34, 54, 45), 140.0),
        ((-16, 10, 6), (9, 26, 14), 50.0),
        ((15, -12, 10), (9, 20, 16), 190.0),
        ((8, 30, -22), (22, 18, 14), 170.0),
        ((0, 62, -20), (9, 10, 14), 100.0),
        ((4, -20, -58), (22, 24, 16), 110.0),
    ):
        inside = np.linalg.norm((points - np.array(centre)) / np.array(radii), axis=-1) < 1
        intensity[inside] = value
    return intensity


def scan_of_head(
    axis: int = 2, offset: tuple[float, float, float] = (0, 0, 0), seed: int = 0, gain: float = 1.0
) -> nib.Nifti1Image:
    """Slices of three voxels across ``axis``; the head lies ``offset`` mm from the centre."""
    step = 3
    shape, sizes = [SIDE] * 3, np.full(3, VOXEL_MM)
    shape[axis] //= step
    sizes[axis] *= step
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = -sizes * (np.array(shape) - 1) / 2
    at = np.moveaxis(np.indices(shape), 0, -1) * sizes + affine[:3, 3] - np.array(offset)
    layers = []
    for through in (np.arange(6) + 0.5) / 6 - 0.5:
        layers.append(head(at + through * sizes * (np.arange(3) == axis)))
    noise = np.random.default_rng(seed).normal(scale=3.0, size=(2, *shape))
    data = gain * np.hypot(np.mean(layers, axis=0) + noise[0], noise[1])
    return nib.Nifti1Image(data.astype(np.float32), affine)


def write_dataset(
    root: Path, scans: dict[str, nib.Nifti1Image], **sidecars: dict[str, Any]
) -> Path:
    """Write named scans the way a user would have them; sidecars by suffix."""
    root.mkdir(parents=True)
    description = {"Name": "Head", "BIDSVersion": "1.10.1", "License": "CC0"}
    (root / "dataset_description.json").write_text(json.dumps(description))
    (root / "README").write_text("Scans of a head that is made of ellipsoids. " * 5)
    for name, image in scans.items():
        unit = [part for part in name.split("_") if part.startswith(("sub-", "ses-"))]
        folder = root.joinpath(*unit, "anat")
        folder.mkdir(parents=True, exist_ok=True)
        image.to_filename(folder / f"{name}.nii.gz")
    for suffix, metadata in sidecars.items():
        (root / f"{suffix}.json").write_text(json.dumps(metadata))
    return root


@pytest.fixture(scope="session")
def make_head_scan() -> Callable[..., nib.Nifti1Image]:
    return scan_of_head


@pytest.fixture(scope="session")
def make_head_dataset() -> Callable[..., Path]:
    return write_dataset


@pytest.fixture(scope="module", autouse=True)
def threads_as_before() -> Iterator[None]:
    """Undo what runs set for the whole process."""
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        for variable in THREAD_VARIABLES:
            patch.setenv(variable, "1")
        yield
    torch.set_num_threads(before)


class ThisProcess:
    """Does what a run leaves to a process of its own, whose start takes longer than small fits."""

    def __enter__(self) -> ThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def attempt(
        self,
        process: Process,
        unit: UnitOfWork,
        config: RunConfig,
        allotment: Allotment,
        listener: ProgressListener,
    ) -> Result:
        with listening(listener):
            return attempt(process, unit, config, allotment)


@contextmanager
def in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "OwnProcess", ThisProcess)
        yield


@pytest.fixture(scope="module", autouse=True)
def all_in_this_process() -> Iterator[None]:
    with in_this_process():
        yield


@pytest.fixture(scope="module", autouse=True)
def pages_where_asked_for() -> Iterator[None]:
    with without_pages():
        yield


@pytest.fixture
def pages(pages_where_asked_for: None) -> Iterator[None]:
    """Have participants' pages made for a test that looks at them."""
    with with_pages():
        yield


def write_cohort(root: Path) -> Study:
    """Two contrasts and labels, two sessions, and a scan that cannot be read."""
    scans = {
        "sub-01_T1w": scan_of_head(2, seed=1),
        "sub-01_FLAIR": scan_of_head(0, seed=2, gain=2.0),
        "sub-02_ses-a_T1w": scan_of_head(2, OFFSETS["a"], seed=3),
        "sub-02_ses-b_T1w": scan_of_head(1, OFFSETS["b"], seed=4, gain=3.0),
        "sub-03_T1w": scan_of_head(2, seed=5),
    }
    raw = write_dataset(root / "raw", scans)
    damaged = raw / "sub-03" / "anat" / "sub-03_T1w.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    folder = root / "labels" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (root / "labels" / "dataset_description.json").write_text(
        json.dumps({"Name": "Labels", "BIDSVersion": "1.10.1", "DatasetType": "derivative"})
    )
    scan = scans["sub-01_T1w"]
    drawn = (scan.get_fdata() > 100).astype(np.uint8) * 3
    nib.Nifti1Image(drawn, scan.affine).to_filename(folder / "sub-01_seg-core_dseg.nii.gz")
    (folder / "sub-01_seg-core_dseg.json").write_text(
        json.dumps({"SpatialReference": "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"})
    )
    return Study(raw, root / "out")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give a function that makes a folder once for all workers that run tests at the same time."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def once(name: str, make: Callable[[Path], object]) -> Path:
        made, done = folder / name, folder / f"{name}.done"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                # Of a worker that failed.
                shutil.rmtree(made, ignore_errors=True)
                make(made)
                done.touch()
        return made

    return once


def write_participants(root: Path) -> Study:
    """Have the participant level done on the cohort."""
    cohort = write_cohort(root)
    argv = [str(cohort.raw), str(cohort.out), "participant", *COARSE]
    with in_this_process(), with_pages():
        assert main([*argv, "--labels", str(root / "labels")]) == 65
    return cohort


@pytest.fixture(scope="session")
def participants(prepared: Callable[..., Path]) -> Study:
    """The participant level on a cohort; left as it is, since others use it at the same time."""
    root = prepared("participants", write_participants)
    return Study(root / "raw", root / "out")


@pytest.fixture(scope="session")
def aligned(participants: Study, prepared: Callable[..., Path]) -> Study:
    """The group level after it; left as it is, too."""

    def make(root: Path) -> None:
        shutil.copytree(participants.out, root)
        with in_this_process():
            assert Study(participants.raw, root).group(*GROUP) == 0

    return Study(participants.raw, prepared("aligned", make))


@pytest.fixture(scope="module")
def finished(aligned: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Everybody aligned to the mean of the cohort, and reconstructed on the shared grid."""
    out = tmp_path_factory.mktemp("finished") / "out"
    shutil.copytree(aligned.out, out)
    return Study(aligned.raw, out)


@pytest.fixture
def study(participants: Study, tmp_path: Path) -> Study:
    """A copy of what the participant level left, to be changed by a test."""
    out = tmp_path / "out"
    shutil.copytree(participants.out, out)
    return Study(participants.raw, out)
