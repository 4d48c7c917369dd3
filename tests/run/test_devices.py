from __future__ import annotations

import os
import resource
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread

import pytest

from bids_unires.config import RunConfig
from bids_unires.errors import UsageError
from bids_unires.run import devices as resources
from bids_unires.run.devices import AllotmentPool, Gpus, choose_devices

TWO = Gpus(("cuda:0", "cuda:1"), "2 GPUs are usable")
NONE = Gpus((), "no GPU is usable: there is none")


@pytest.mark.parametrize(("limit", "cores"), [(None, 8), (2.5, 2), (0.2, 1), (64.0, 8)])
def test_cores_are_those_of_the_container(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, cores: int
) -> None:
    monkeypatch.setattr(resources, "core_limit", lambda: limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert resources.usable_cores() == cores
    config = RunConfig(Path("in"), Path("out"), "participant")
    assert resources.threads_each(config, 2) == max(1, cores // 2)
    assert resources.threads_each(config, 100) == 1
    assert resources.threads_each(replace(config, omp_nthreads=5), 2) == 5


def test_thread_limits_reach_loaded_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    import SimpleITK
    import torch

    for variable in resources.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")
    before = torch.get_num_threads(), SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        resources.limit_threads(3)
        assert torch.get_num_threads() == 3
        assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
        assert os.environ["OMP_NUM_THREADS"] == "3"
    finally:
        torch.set_num_threads(before[0])
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])


@pytest.mark.parametrize(
    ("name", "gpus", "names", "reason"),
    [
        ("auto", TWO, ("cuda:0", "cuda:1"), "2 GPUs are usable"),
        ("auto", NONE, ("cpu",), "no GPU is usable: there is none"),
        ("cuda", TWO, ("cuda:0", "cuda:1"), "as asked for"),
        ("cuda:1", TWO, ("cuda:1",), "as asked for"),
    ],
)
def test_a_name_stands_for_devices(
    name: str, gpus: Gpus, names: tuple[str, ...], reason: str
) -> None:
    devices = choose_devices(name, lambda: gpus)
    assert (devices.names, devices.reason) == (names, reason)


def test_the_cpu_needs_no_look_at_gpus() -> None:
    def fail() -> Gpus:
        pytest.fail("looked for GPUs")

    assert choose_devices("cpu", fail).names == ("cpu",)


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda", NONE, "no GPU is usable: there is none"),
        ("cuda:0", NONE, "no GPU is usable: there is none"),
        ("cuda:2", TWO, "offers cuda:0, cuda:1"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(name: str, gpus: Gpus, message: str) -> None:
    with pytest.raises(UsageError, match=f"--device: no device '{name}': .*{message}"):
        choose_devices(name, lambda: gpus)


def test_gpus_are_those_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert resources.find_gpus() == Gpus(("cuda:0", "cuda:1", "cuda:2"), "3 GPUs are usable")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resources.find_gpus() == Gpus((), "no GPU is usable: CUDA_VISIBLE_DEVICES is ''")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built for the CPU" in resources.find_gpus().reason


@pytest.mark.parametrize("visible", [None, "0"])
def test_what_torch_says_of_the_driver_is_the_reason(
    monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    import torch

    from bids_unires.kernels import device

    monkeypatch.setattr(device, "complaint_about_driver", lambda: "the driver is too old")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert resources.find_gpus() == Gpus((), "no GPU is usable: the driver is too old")


@pytest.mark.parametrize(("users", "most"), [(2, 1), (3, 1), (4, 2), (7, 3)])
def test_devices_are_shared_evenly(users: int, most: int) -> None:
    pool = AllotmentPool(("cuda:0", "cuda:1", "cuda:2"), 2, 2**30)
    lent: list[str] = []
    together = Barrier(users)

    def use() -> None:
        with pool.lend() as allotment:
            assert (allotment.threads, allotment.memory) == (2, 2**30)
            lent.append(allotment.device)
            together.wait(10)

    threads = [Thread(target=use) for _ in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(lent.count(name) for name in lent) == most


def test_a_device_given_back_is_lent_again() -> None:
    pool = AllotmentPool(("cuda:0", "cuda:1"), 2, 2**30)
    with pool.lend() as first:
        with pytest.raises(ZeroDivisionError), pool.lend() as second:
            raise ZeroDivisionError
        with pool.lend() as third:
            assert third == second != first


@pytest.mark.parametrize(
    ("limit", "refused"), [(resource.RLIM_INFINITY, False), (2**32, False), (2**30, True)]
)
def test_an_address_space_that_libraries_fill_is_refused(
    limit: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    with pytest.raises(UsageError, match="allows 1024 MiB") if refused else nullcontext():
        resources.check_address_space()
