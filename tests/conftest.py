"""Small BIDS datasets, written to disk the way a user would have them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hypothesis
import nibabel as nib
import numpy as np
import pytest

from bids_unires.config import LearningEffort
from tests.paths import SHARED

# It needs a package that only `make fuzz` installs.
collect_ignore = ["faults/guided.py"]

# Read when torch is first imported: idle OpenMP threads that spin make tests many times
# slower on a machine that has something else to do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Beside other tests, every one has a core for itself.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Programs that tests start are as strict about warnings as the tests; see pyproject.toml.
os.environ.setdefault("PYTHONWARNINGS", "error,ignore:unclosed database:ResourceWarning")

if "PLAIN_KERNELS" in os.environ:
    # As compiled for any processor of its kind: see `make test-plain`.
    import warp

    warp.config.cpu_compiler_flags = (warp.config.cpu_compiler_flags or "").replace(
        "-march=native", ""
    )

# How long an example takes says something of the machine, not of the program.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

DatasetMaker = Callable[..., Path]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what cannot run here: scans that a user's clone has not, a GPU.

    Where the scans are, one that is missing fails its test.
    """
    if item.get_closest_marker("realdata") and not (SHARED / "data").is_dir():
        pytest.skip("the example scans are not beside the checkout")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU")


def write_scan(path: Path, shape: tuple[int, ...] = (5, 6, 7), seed: int = 0) -> Path:
    """Write a noisy image of 1 x 1 x 4 mm voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.random.default_rng(seed).uniform(1, 100, shape).astype(np.float32)
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    affine[:3, 3] = [-2, 3, -10]
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Spare the time until the disk has a file: those of tests need not outlive a loss of power."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_learning_by_accident(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where a module learns in full, which takes a minute, without saying so.

    Others give ``learning_effort="brief"``, or ``--learning-effort brief``.
    """
    if request.node.get_closest_marker("learns"):
        yield
        return
    from bids_unires.model.detail.parameters import LearningParameters

    def brief_only(effort: LearningEffort) -> LearningParameters:
        assert effort == "brief", "learns in full: say so, or learn briefly"
        return of(effort)

    of = LearningParameters.of
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LearningParameters, "of", brief_only)
        yield


@pytest.fixture
def make_dataset(tmp_path: Path) -> DatasetMaker:
    """Give a function that writes a dataset of the named scans and returns its root."""

    def make(*scans: str, root: str = "raw", **sidecars: Mapping[str, Any]) -> Path:
        folder = tmp_path / root
        folder.mkdir(parents=True, exist_ok=True)
        description = {"Name": "Test", "BIDSVersion": "1.10.1", "License": "CC0"}
        (folder / "dataset_description.json").write_text(json.dumps(description))
        (folder / "README").write_text("A dataset of noise, written by a test. " * 5)
        for seed, scan in enumerate(scans):
            parts = scan.split("_")
            unit = [part for part in parts if part.startswith(("sub-", "ses-"))]
            write_scan(folder.joinpath(*unit, "anat", f"{scan}.nii.gz"), seed=seed)
        for suffix, metadata in sidecars.items():
            (folder / f"{suffix}.json").write_text(json.dumps(metadata))
        return folder

    return make
