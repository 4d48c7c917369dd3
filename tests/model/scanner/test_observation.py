"""Scans as the solver sees them, and the names of devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bids_unires.kernels.device import usable_device
from bids_unires.model.scanner.observation import Observation
from bids_unires.model.scanner.profile import SliceProfile
from bids_unires.space.grid import Grid


def test_an_observation_lies_on_the_grid_of_its_scan() -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    scan = Observation(np.ones((2, 3, 4), np.float32), affine)
    assert scan.grid == Grid((2, 3, 4), affine)
    assert scan.profile == SliceProfile()


@pytest.mark.parametrize("spell", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_arrays_tensors_and_lists_make_the_same_observation(spell: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    given = {
        "data": rng.integers(0, 3, (2, 3, 4)),
        "affine": np.diag([1.0, 1.0, 4.0, 1.0]),
        "tau": rng.uniform(1, 2, (2, 3, 4)),
        "pose": np.eye(4),
        "slice_weights": np.array([1.0, 0.0, 0.5, 1.0]),
    }
    scan = Observation(**{name: spell(values) for name, values in given.items()})
    for name, values in given.items():
        np.testing.assert_allclose(getattr(scan, name), values, rtol=1e-7, err_msg=name)
    assert scan.missing.sum() == (given["data"] == 0)[..., [0, 2, 3]].sum() + 6
    assert isinstance(replace(scan, tau=spell(np.array(2.0))).tau, float)


def test_an_observation_has_three_axes() -> None:
    with pytest.raises(ValueError, match="three axes"):
        Observation(np.ones((2, 3, 4, 1)), np.eye(4))


def test_the_processor_is_always_there() -> None:
    assert usable_device("cpu") == torch.device("cpu")


def test_the_first_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device() == torch.device("cuda", 0)
    assert usable_device("cuda") == torch.device("cuda", 0)
    assert usable_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match=r"no device 'cuda:2': this machine offers 2"):
        usable_device("cuda:2")


def test_without_a_gpu_the_processor_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert usable_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match="offers 0 CUDA devices"):
        usable_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "", "mps", "cuda:x", "meta"])
def test_other_devices_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="device must be auto, cpu, cuda or cuda:N"):
        usable_device(name)
