"""Participants on Dask workers that are jobs of a real Slurm of one node."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from bids_unires.config import ModelSettings, RunConfig
from bids_unires.dataset.description import write_dataset_files
from bids_unires.dataset.query import plan_participants
from bids_unires.errors import UsageError
from bids_unires.run.app import process_participant
from bids_unires.run.dask import DaskWorkers, slurm_workers
from bids_unires.work.outcome import Failure, Result
from tests.containers.dataset import write_small_dataset
from tests.documented import documented
from tests.paths import ROOT

dask = pytest.importorskip("dask")

PARTICIPANTS = ("01", "02", "03")


class Phases:
    """A listener that tells when a phase is reached."""

    def __init__(self) -> None:
        self.seen = threading.Event()

    def phase(self, label: str, name: str) -> None:
        self.seen.set()

    def learning(self, label: str, share: float) -> None:
        """Not of interest."""

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Not of interest."""


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    bids = write_small_dataset(tmp_path / "bids", PARTICIPANTS)
    (tmp_path / "out" / "logs").mkdir(parents=True)
    model = ModelSettings(voxel_size=(5, 5, 5))
    config = RunConfig(bids, tmp_path / "out", "participant", model=model, omp_nthreads=1)
    write_dataset_files(config.output_dir, bids)
    return config


@pytest.fixture
def here(slurm_conf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment in which Slurm is found, and in which workers find this checkout."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Its own settings have to be there before, or they go together with these.
    pytest.importorskip("dask_jobqueue")
    with dask.config.set({"jobqueue.slurm.interface": "lo", "jobqueue.slurm.walltime": "00:05:00"}):
        yield


def start(
    workers: DaskWorkers, config: RunConfig, threads: ThreadPoolExecutor, phases: Phases
) -> list[Future[Result]]:
    return [
        threads.submit(workers.attempt, process_participant, plan, config, phases)
        for plan in plan_participants(config)
    ]


def jobs() -> list[str]:
    return subprocess.check_output(["squeue", "-h", "-o", "%A", "-t", "R"], text=True).split()


@pytest.mark.usefixtures("here")
def test_participants_survive_the_loss_of_a_job(config: RunConfig, tmp_path: Path) -> None:
    phases = Phases()
    with ExitStack() as stack:
        workers = stack.enter_context(slurm_workers(2, 1, 1500, (), tmp_path / "jobs"))
        threads = stack.enter_context(ThreadPoolExecutor(len(PARTICIPANTS)))
        results = start(workers, config, threads, phases)
        assert phases.seen.wait(90)
        lost = jobs()[0]
        subprocess.run(["scancel", "--signal=KILL", "--full", lost], check=True)
        done = [result.result(200) for result in results]
    assert not [result for result in done if isinstance(result, Failure)], done
    for participant in PARTICIPANTS:
        assert list((config.output_dir / f"sub-{participant}").rglob("*_desc-sr_T1w.nii.gz"))
    end = time.monotonic() + 30
    while jobs():
        assert time.monotonic() < end, "jobs are left"
        time.sleep(0.2)


def run_command(config: RunConfig, *options: str) -> tuple[int, str]:
    """The whole program, as at the prompt of a login node."""
    folders = [config.bids_dir, config.output_dir, "participant"]
    fixed = ["--voxel-size", "5", "--skip-bids-validation", "--omp-nthreads", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "bids_unires", *folders, *fixed, *options],
        env={**os.environ, "DASK_JOBQUEUE__SLURM__INTERFACE": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.usefixtures("here")
def test_the_command_runs_participants_in_jobs(config: RunConfig) -> None:
    options = ["--cluster", "slurm", "--nprocs", "2", "--mem-mb", "1500"]
    code, said = run_command(config, *options)
    assert code == 0, said
    assert "3 of 3 done" in said
    assert "reconstruction grid" in said
    code, said = run_command(config, *options)
    assert code == 0, said
    assert said.count("finished earlier") == 3


@pytest.mark.usefixtures("here")
def test_the_documented_command_runs_in_jobs(config: RunConfig) -> None:
    # Of this machine's size.
    stand_ins = {
        "BIDS": config.bids_dir,
        "OUT": config.output_dir,
        "--nprocs 20": "--nprocs 2",
        "--omp-nthreads 4": "--omp-nthreads 1",
        "--mem-mb 8000": "--mem-mb 1500",
    }
    command = documented("docs/how-to/slurm.md", "bids_unires BIDS OUT participant --cl", stand_ins)
    command = command.replace("bids_unires", f"{sys.executable} -m bids_unires", 1)
    done = subprocess.run(
        ["bash", "-c", f"{command} --voxel-size 5 --skip-bids-validation"],
        env={**os.environ, "DASK_JOBQUEUE__SLURM__INTERFACE": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 3 done" in done.stderr
    assert list((config.output_dir / "logs" / "jobs").iterdir())


@pytest.mark.usefixtures("here")
def test_the_command_names_an_unknown_partition(config: RunConfig) -> None:
    code, said = run_command(config, "--cluster", "slurm", "--cluster-args=--partition=nowhere")
    assert code == UsageError.exit_code
    assert said.strip().splitlines()[-1].endswith("Invalid partition name specified")


@pytest.mark.usefixtures("here")
def test_an_unknown_partition_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="invalid partition specified: nowhere"),
        slurm_workers(1, 1, 500, ["--partition=nowhere"], tmp_path),
    ):
        pass


def test_without_slurm_nothing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(UsageError, match="there is no sbatch here"),
        slurm_workers(1, 1, 500, (), tmp_path),
    ):
        pass
