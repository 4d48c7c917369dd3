"""Units of work on other machines, by Dask: jobs of Slurm, or workers that run already.

Dask is imported here and nowhere else, and only when asked for.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import RunConfig
from ..errors import UsageError
from ..work.allotment import Allotment
from ..work.outcome import Failure, Outcome, Process, Result
from ..work.progress import ProgressListener, listening
from ..work.unit import UnitOfWork
from .devices import choose_devices, find_gpus, limit_threads, usable_cores, usable_memory
from .progress import Sender
from .workers import attempt

logger = logging.getLogger("bids_unires")

SECONDS_TO_CONNECT = 20.0
# Of a job that nothing is said about.
DEFAULT_THREADS = 4
DEFAULT_MEMORY_MB = 8000
_MISSING = "Dask is not installed: pip install 'bids_unires[cluster]'"
# One unit at a time in a worker: threads and messages are settings of its whole process.
_sole = threading.Lock()


class DaskWorkers:
    """Does units of work wherever a Dask scheduler sends them.

    A unit whose worker died is done again by another one, three times at most, which is
    Dask's own setting ``distributed.scheduler.allowed-failures``.

    Parameters
    ----------
    client
        Connected to the scheduler.
    at_once
        Units worth submitting at the same time.
    threads, memory_mb
        What every unit may use; None for what the run says.
    """

    def __init__(
        self,
        client: Any,
        at_once: int = 1,
        threads: int | None = None,
        memory_mb: int | None = None,
    ) -> None:
        self.at_once = at_once
        self._client = client
        self._threads = threads
        self._memory_mb = memory_mb
        self._topic = f"bids_unires-{secrets.token_hex(4)}"
        self._listeners: dict[str, ProgressListener] = {}
        self._futures: dict[str, Any] = {}
        client.subscribe_topic(self._topic, self._receive)

    def attempt(
        self,
        process: Process,
        unit: UnitOfWork,
        config: RunConfig,
        listener: ProgressListener,
    ) -> Result:
        """Do one unit of work and wait for it; several threads may call this at once.

        Parameters
        ----------
        process
            Does the unit; importable by name where the workers are.
        unit
            Which one.
        config
            The configuration of the run.
        listener
            Is told of progress.

        Returns
        -------
        Outcome, AlreadyDone or Failure
            A failure too where the workers died, or were cancelled.
        """
        distributed = _distributed()
        limits = _Limits(self._threads or config.omp_nthreads, self._memory_mb or config.mem_mb)
        self._listeners[unit.label] = listener
        future = self._client.submit(
            _attempt_on_worker,
            *(process, unit, config, limits, self._topic, _folder_of_paths(config)),
            key=f"{unit.label}-{secrets.token_hex(4)}",
            pure=False,
        )
        self._futures[unit.label] = future
        try:
            result: Result = future.result()
        except distributed.KilledWorker:
            message = "every worker that tried it died, most often for lack of memory or time"
            return Failure(unit.label, f"{message}: ask for more of them", 1)
        except distributed.CancelledError:
            return Failure(unit.label, "cancelled, or the Dask scheduler was lost", 1)
        except Exception as error:
            text = " ".join(str(error).split())
            return Failure(unit.label, f"the worker could not do it: {text}", 1)
        else:
            return result
        finally:
            self._futures.pop(unit.label, None)
            self._listeners.pop(unit.label, None)

    def give_up(self) -> None:
        """Cancel what has not begun and wait for nothing."""
        self._client.cancel(list(self._futures.values()), force=True)

    def _receive(self, event: tuple[float, dict[str, Any]]) -> None:
        """Pass on what a worker says; events are pickled by workers of this very run."""
        _, message = event
        label = message["label"]
        match pickle.loads(message["report"]):
            case ("phase", *report) if label in self._listeners:
                self._listeners[label].phase(*report)
            case ("iteration", *report) if label in self._listeners:
                self._listeners[label].iteration(*report)
            case ("message", record):
                record.msg = f"{label} {record.msg}"
                logger.handle(record)


class _Events:
    """What `Sender` takes for the end of a pipe: events of a Dask worker."""

    def __init__(self, topic: str, label: str) -> None:
        distributed = _distributed()
        self._worker = distributed.get_worker()
        self._topic = topic
        self._label = label

    def send(self, report: object) -> None:
        message = {"label": self._label, "report": pickle.dumps(report)}
        self._worker.log_event(self._topic, message)


def _folder_of_paths(config: RunConfig) -> Path | None:
    """Folder that paths of a run and of its units are relative to; None if they are absolute."""
    paths = [getattr(config, field.name) for field in fields(config)]
    relative = any(isinstance(path, Path) and not path.is_absolute() for path in paths)
    return Path.cwd() if relative else None


@dataclass(frozen=True)
class _Limits:
    """What a unit may use of the machine of a worker, which does one at a time.

    Parameters
    ----------
    threads, memory_mb
        None for all there is.
    """

    threads: int | None
    memory_mb: int | None

    def allotment(self, device: str) -> Allotment:
        """On this machine."""
        memory = usable_memory() if self.memory_mb is None else self.memory_mb * 10**6
        return Allotment(device, self.threads or usable_cores(), memory)


def _attempt_on_worker(
    process: Process,
    unit: UnitOfWork,
    config: RunConfig,
    limits: _Limits,
    topic: str,
    folder: Path | None,
) -> Result:
    """Do one unit of work in the process of a Dask worker."""
    sender = Sender(_Events(topic, unit.label))  # type: ignore[arg-type]
    with _sole, listening(sender), _messages_to(sender), ExitStack() as stack:
        if folder is not None:
            try:
                stack.enter_context(chdir(folder))
            except OSError as error:
                return _not_seen(unit.label, folder, error)
        allotment = limits.allotment(config.device)
        limit_threads(allotment.threads)
        return attempt(partial(_on_a_device_here, process), unit, config, allotment)


def _not_seen(label: str, folder: Path, error: OSError) -> Failure:
    reason = f"{folder} cannot be entered on {os.uname().nodename}: {error.strerror or error}"
    return Failure(label, f"{reason}; give folders that all workers see", UsageError.exit_code)


def _on_a_device_here(
    process: Process, unit: Any, config: RunConfig, allotment: Allotment
) -> Outcome:
    devices = choose_devices(allotment.device, find_gpus)
    return process(unit, config, replace(allotment, device=devices.names[0]))


@contextmanager
def _messages_to(sender: Sender) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(sender)
    try:
        yield
    finally:
        logger.removeHandler(sender)
        logger.setLevel(level)


def workers_elsewhere(config: RunConfig, units: int) -> AbstractContextManager[DaskWorkers | None]:
    """Choose the workers that a run asks for; None for those of this machine.

    Parameters
    ----------
    config
        The configuration of the run.
    units
        How many units of work there are; no more jobs are asked for.

    Raises
    ------
    UsageError
        If they cannot be had.
    """
    if config.scheduler is not None:
        return running_workers(config.scheduler)
    if config.cluster is None:
        return nullcontext()
    return slurm_workers(
        min(config.nprocs, units),
        config.omp_nthreads or DEFAULT_THREADS,
        config.mem_mb or DEFAULT_MEMORY_MB,
        shlex.split(config.cluster_args),
        config.output_dir / "logs" / "jobs",
        config.work_dir,
    )


@contextmanager
def running_workers(address: str) -> Iterator[DaskWorkers]:
    """Use the workers of a Dask scheduler that runs already.

    Parameters
    ----------
    address
        Of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Yields
    ------
    DaskWorkers
        At least one of them is there.

    Raises
    ------
    UsageError
        If nothing answers, there is no worker, or the workers have another version.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"--scheduler: no Dask scheduler answers at {address}") from error
    with client:
        count = len(client.scheduler_info(n_workers=-1)["workers"])
        if not count:
            raise UsageError(f"--scheduler: the Dask scheduler at {address} has no workers")
        _check_versions(client)
        yield DaskWorkers(client, count)


def _version() -> str:
    return __version__


def _check_versions(client: Any) -> None:
    try:
        versions = set(client.run(_version).values())
    except Exception as error:
        raise UsageError(
            f"--scheduler: the workers cannot use bids_unires, install it where they run: {error}"
        ) from error
    if versions != {__version__}:
        raise UsageError(
            f"--scheduler: the workers have bids_unires {', '.join(sorted(versions))}, "
            f"and this is {__version__}: install the same"
        )


@contextmanager
def slurm_workers(
    jobs: int,
    threads: int,
    memory_mb: int,
    directives: Sequence[str],
    logs: Path,
    scratch: Path | None = None,
) -> Iterator[DaskWorkers]:
    """Use jobs of Slurm, each of them a worker that does one unit of work after the other.

    Lost jobs are replaced. What a site needs beyond this (the network interface, lines
    that load modules) belongs into Dask's ``jobqueue.yaml``.

    Parameters
    ----------
    jobs
        How many to keep running.
    threads, memory_mb
        Cores and memory (MB) of a job.
    directives
        Further options of ``sbatch``, such as ``--partition=gpu``, ``--gres=gpu:1``.
    logs
        Folder for what the jobs print.
    scratch
        Folder for temporary files of the workers; chosen by Dask if None.

    Yields
    ------
    DaskWorkers
        The jobs may still be waiting in Slurm's queue.

    Raises
    ------
    UsageError
        If there is no Slurm here, or it refuses such jobs.
    """
    distributed = _distributed()
    with _jobqueue().SLURMCluster(
        cores=1,
        processes=1,
        job_cpu=threads,
        memory=f"{memory_mb}MB",
        python=sys.executable,
        job_script_prologue=["export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}"],
        job_extra_directives=list(directives),
        log_directory=str(logs),
        local_directory=None if scratch is None else str(scratch),
    ) as cluster:
        _check_job(cluster.job_script())
        cluster.adapt(minimum=jobs, maximum=jobs, interval="2s")
        with distributed.Client(cluster, set_as_default=False) as client:
            yield DaskWorkers(client, jobs, threads, memory_mb)


def _check_job(script: str) -> None:
    """Let Slurm look at a job; what it refuses would otherwise be waited for in vain."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        try:
            done = subprocess.run(
                ["sbatch", "--test-only", file.name], capture_output=True, text=True, check=False
            )
        except FileNotFoundError:
            raise UsageError("--cluster slurm: there is no sbatch here") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.replace("sbatch: error:", "").split())
        raise UsageError(f"--cluster slurm: Slurm refuses the jobs: {said}")


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UsageError(_MISSING) from error
    return distributed


def _jobqueue() -> Any:
    before = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise UsageError(_MISSING) from error
    finally:
        # The import lets Ctrl-C end the program without a word, for programs of its own.
        signal.signal(signal.SIGINT, before)
    return dask_jobqueue
