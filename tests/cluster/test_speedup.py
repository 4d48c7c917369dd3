"""Two Dask workers take little more than half the time of one, and give the same files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bids_unires.run.devices import usable_cores
from tests.containers.compare import differences, listing
from tests.containers.dataset import write_small_dataset

distributed = pytest.importorskip("distributed")

PARTICIPANTS = tuple(f"{number:02}" for number in range(1, 11))
# Long enough a participant that what is done once (starting, planning, the workers' imports)
# counts little.
OPTIONS = ("--voxel-size", "2", "--omp-nthreads", "1", "--skip-bids-validation")
MOST_OF_ONE_WORKER = 0.6
# Others' use of two cores that leaves a measurement alone.
MOST_OF_OTHERS = 0.05


@dataclass(frozen=True)
class Took:
    """What a run took.

    Parameters
    ----------
    seconds
        Wall time in s.
    command, workers
        CPU time in s of the command, and of each worker.
    others
        Share of the cores that went to other programs.
    """

    seconds: float
    command: float
    workers: tuple[float, ...]
    others: float

    @property
    def undisturbed(self) -> float:
        """Wall time in s on cores that do nothing else, with the work shared out evenly."""
        return self.command + sum(self.workers) / len(self.workers)


def run(bids: Path, out: Path, workers: int) -> Took:
    """Do the participants on workers of one thread each that have just been started."""
    command = [sys.executable, "-m", "bids_unires", bids, out, "participant", *OPTIONS]
    with distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        processes = [psutil.Process(nanny.pid) for nanny in cluster.workers.values()]
        began, busy, own = time.perf_counter(), cores_busy(), time_of(psutil.Process())
        before = [time_of(process) for process in processes]
        done = subprocess.run(
            [*command, "--scheduler", cluster.scheduler_address],
            capture_output=True,
            text=True,
            check=False,
        )
        seconds, busy = time.perf_counter() - began, cores_busy() - busy
        command_took = time_of(psutil.Process()) - own
        workers_took = [time_of(process) - t for process, t in zip(processes, before, strict=True)]
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" done in ") == len(PARTICIPANTS), done.stderr
    others = (busy - command_took - sum(workers_took)) / seconds / usable_cores()
    return Took(seconds, command_took, tuple(workers_took), max(0.0, others))


def cores_busy() -> float:
    """Seconds for which the cores of this machine have worked, for whomever."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def time_of(process: psutil.Process) -> float:
    """CPU seconds of a process, and of those that it started and that have ended."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


@pytest.mark.skipif("CLUSTER_TESTS" not in os.environ, reason="takes minutes: make cluster-test")
@pytest.mark.timeout(1800)
def test_two_workers_take_little_more_than_half_the_time(tmp_path: Path) -> None:
    if usable_cores() < 2:
        pytest.skip("needs two cores")
    bids = write_small_dataset(tmp_path / "bids", PARTICIPANTS)
    one = run(bids, tmp_path / "one", workers=1)
    two = run(bids, tmp_path / "two", workers=2)
    assert len(listing(tmp_path / "one")) > 10 * len(PARTICIPANTS)
    assert not differences(tmp_path / "one", tmp_path / "two")

    wall, undisturbed = two.seconds / one.seconds, two.undisturbed / one.undisturbed
    said = f"{wall:.2f} of the wall time, {undisturbed:.2f} if undisturbed: {one}, {two}"
    print(said)
    assert undisturbed <= MOST_OF_ONE_WORKER, said
    assert min(two.workers) > 0.3 * sum(two.workers), f"not shared out: {said}"
    # Two workers and somebody else on two cores say nothing of the workers.
    if max(one.others, two.others) <= MOST_OF_OTHERS:
        assert wall <= MOST_OF_ONE_WORKER, said
