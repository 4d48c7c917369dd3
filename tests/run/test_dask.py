"""Units of work on Dask workers: retried when a worker dies, reported, configured."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.errors import BadDataError, UsageError
from bids_unires.run import dask as cluster
from bids_unires.work.allotment import Allotment
from bids_unires.work.outcome import AlreadyDone, Failure
from bids_unires.work.progress import listener

distributed = pytest.importorskip("distributed")


@dataclass(frozen=True)
class Unit:
    """A unit of work without inputs; what it does stands in its label."""

    label: str
    stage: str = "participant"
    folders: tuple[Path, ...] = (Path("results"),)
    inputs: tuple[tuple[str, Path], ...] = ()
    metadata: tuple[()] = ()

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True)
class Made:
    label: str
    outputs: tuple[Path, ...]
    seconds: float = 1.0
    warnings: tuple[str, ...] = ()
    missing: tuple[Path, ...] = ()


def work(plan: Unit, config: RunConfig, allotment: Allotment) -> Made:
    """What runs on the workers: by its label, fail, or kill the worker once or always."""
    output = config.output_dir / "results" / f"{plan.label}.txt"
    tried = config.output_dir / f"{plan.label}.tried"
    if "fatal" in plan.label or ("killed" in plan.label and not tried.exists()):
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "bad" in plan.label:
        raise BadDataError("this scan is constant")
    listener().phase(plan.label, "reading")
    listener().iteration(plan.label, 3, 10, 12.5)
    logging.getLogger("bids_unires").warning("look at %s", "this")
    output.write_text(f"{allotment.device} {allotment.threads} {os.environ['OMP_NUM_THREADS']}")
    return Made(plan.label, (output,))


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.reports: list[tuple[object, ...]] = []
        self.enough = threading.Event()

    def phase(self, label: str, name: str) -> None:
        self.reports.append((label, name))

    def learning(self, label: str, share: float) -> None:
        self.reports.append((label, share))

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        self.reports.append((label, number, bound, objective))
        self.enough.set()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A scheduler with two workers, each a process of its own that is started again."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as running:
        yield running.scheduler_address


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    (tmp_path / "out" / "logs").mkdir(parents=True)
    return RunConfig(tmp_path / "in", tmp_path / "out", "participant", omp_nthreads=3)


def test_a_unit_is_done_on_a_worker(address: str, config: RunConfig) -> None:
    heard = Heard()
    with cluster.running_workers(address) as workers:
        result = workers.attempt(work, Unit("sub-01"), config, heard)
        assert heard.enough.wait(10)
        assert isinstance(result, Made), result
        assert result.outputs[0].read_text() == "cpu 3 3"
        assert heard.reports == [("sub-01", "reading"), ("sub-01", 3, 10, 12.5)]
        assert isinstance(workers.attempt(work, Unit("sub-01"), config, heard), AlreadyDone)


def test_relative_folders_are_those_of_the_run(
    address: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = replace(config, bids_dir=Path("in"), output_dir=Path("out"))
    with cluster.running_workers(address) as workers:
        result = workers.attempt(work, Unit("sub-05"), relative, Heard())
        assert isinstance(result, Made), result
        assert (tmp_path / "out" / "results" / "sub-05.txt").exists()
        # The workers stand where they stood, so that the folder may go.
        assert str(tmp_path) not in workers._client.run(os.getcwd).values()


def test_a_folder_that_a_worker_does_not_see_is_named(
    address: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with cluster.running_workers(address) as workers:
        monkeypatch.setattr(Path, "cwd", lambda: tmp_path / "elsewhere")
        relative = replace(config, output_dir=Path("out"))
        result = workers.attempt(work, Unit("sub-06"), relative, Heard())
    assert isinstance(result, Failure)
    assert result.exit_code == UsageError.exit_code
    assert f"{tmp_path / 'elsewhere'} cannot be entered" in result.message


def test_messages_of_a_worker_name_their_unit(
    address: str, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    with cluster.running_workers(address) as workers:
        workers.attempt(work, Unit("sub-02"), config, heard)
        assert heard.enough.wait(10)
        # Events arrive in their order; one more is certain to be behind the message.
        workers.attempt(work, Unit("sub-03"), config, Heard())
    assert "sub-02 look at this" in caplog.messages


def test_a_unit_whose_worker_died_is_done_by_another(address: str, config: RunConfig) -> None:
    labels = ["sub-1", "sub-2killed", "sub-3", "sub-4"]
    with cluster.running_workers(address) as workers, ThreadPoolExecutor(4) as threads:
        results = list(
            threads.map(lambda label: workers.attempt(work, Unit(label), config, Heard()), labels)
        )
    # A result that had not left the worker died with it: then the unit is found to be done.
    assert {type(result) for result in results} <= {Made, AlreadyDone}, results
    assert isinstance(results[labels.index("sub-2killed")], Made), results
    assert {path.stem for path in (config.output_dir / "results").iterdir()} == set(labels)
    assert (config.output_dir / "sub-2killed.tried").exists()


@pytest.mark.slow
def test_a_unit_that_kills_every_worker_fails(address: str, config: RunConfig) -> None:
    with cluster.running_workers(address) as workers:
        result = workers.attempt(work, Unit("sub-fatal"), config, Heard())
        assert isinstance(result, Failure)
        assert "every worker that tried it died" in result.message
        after = workers.attempt(work, Unit("sub-after"), config, Heard())
        assert isinstance(after, Made), after


def test_a_failure_keeps_its_message_and_code(address: str, config: RunConfig) -> None:
    with cluster.running_workers(address) as workers:
        result = workers.attempt(work, Unit("sub-bad"), config, Heard())
    assert result == Failure("sub-bad", "this scan is constant", BadDataError.exit_code)


def test_giving_up_ends_what_waits(address: str, config: RunConfig) -> None:
    with cluster.running_workers(address) as workers, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(workers.attempt, _wait, Unit("sub-slow"), config, Heard())
        while not (config.output_dir / "begun").exists():
            threading.Event().wait(0.05)
        workers.give_up()
        result = waiting.result(20)
        (config.output_dir / "enough").touch()
    assert isinstance(result, Failure)
    assert "cancelled" in result.message


def _wait(plan: Unit, config: RunConfig, allotment: Allotment) -> Made:
    (config.output_dir / "begun").touch()
    while not (config.output_dir / "enough").exists():
        threading.Event().wait(0.05)
    return Made(plan.label, ())


# Dask leaves a socket open where a cluster does not start, and tells of ports that others use.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:Port 8787 is already in use")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_that_slurm_refuses_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")
    program = tmp_path / "sbatch"
    program.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition: nowhere' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with (
        pytest.raises(UsageError, match="Slurm refuses the jobs: invalid partition: nowhere"),
        cluster.slurm_workers(1, 1, 500, ["--partition=nowhere"], tmp_path),
    ):
        pass
    gc.collect()


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 1.0)
    with (
        pytest.raises(UsageError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        cluster.running_workers("tcp://127.0.0.1:9"),
    ):
        pass


def test_workers_of_another_version_are_refused(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "__version__", "99")
    with (
        pytest.raises(UsageError, match="and this is 99: install the same"),
        cluster.running_workers(address),
    ):
        pass
