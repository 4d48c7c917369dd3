"""Units of work on other machines, with Dask: in jobs of Slurm, or by workers already running.

Dask is optional. It is imported only here, and only if an option asks for it.
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
# Cores and memory (MB) of a job, if no option sets them.
DEFAULT_THREADS = 4
DEFAULT_MEMORY_MB = 8000
_MISSING = "Dask is not installed: pip install 'bids_unires[cluster]'"
# A worker does one unit at a time, because the number of threads and the handlers of messages
# are settings of its whole process.
_sole = threading.Lock()


class DaskWorkers:
    """Workers of a Dask scheduler that do units of work.

    If a worker dies, another one repeats its unit, at most three times. This number is Dask's
    setting ``distributed.scheduler.allowed-failures``.

    Parameters
    ----------
    client
        Client of Dask, connected to the scheduler.
    at_once
        Number of units to submit at the same time.
    threads, memory_mb
        Threads and memory (MB) of each unit; None for the values in the configuration of the
        run.
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
        """Do one unit of work and wait for its result; several threads may call this at once.

        Parameters
        ----------
        process
            Function that does the unit; the workers must be able to import it by name.
        unit
            The unit of work.
        config
            The configuration of the run.
        listener
            Receives reports of progress.

        Returns
        -------
        Outcome, AlreadyDone or Failure
            A failure also if the workers died or the unit was cancelled.
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
        """Cancel the units that have not begun, without waiting for the others."""
        self._client.cancel(list(self._futures.values()), force=True)

    def _receive(self, event: tuple[float, dict[str, Any]]) -> None:
        """Pass on a report of a worker.

        Loading its pickle is safe, because a worker of this run made it.
        """
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
    """Sends reports as events of a Dask worker; `Sender` uses it like the end of a pipe."""

    def __init__(self, topic: str, label: str) -> None:
        distributed = _distributed()
        self._worker = distributed.get_worker()
        self._topic = topic
        self._label = label

    def send(self, report: object) -> None:
        message = {"label": self._label, "report": pickle.dumps(report)}
        self._worker.log_event(self._topic, message)


def _folder_of_paths(config: RunConfig) -> Path | None:
    """Folder that the paths of a run and its units are relative to; None for absolute paths."""
    paths = [getattr(config, field.name) for field in fields(config)]
    relative = any(isinstance(path, Path) and not path.is_absolute() for path in paths)
    return Path.cwd() if relative else None


@dataclass(frozen=True)
class _Limits:
    """Threads and memory that a unit may use on the machine of a worker.

    Parameters
    ----------
    threads, memory_mb
        Number of threads, and memory in MB; None for all that the worker has, since it does one
        unit at a time.
    """

    threads: int | None
    memory_mb: int | None

    def allotment(self, device: str) -> Allotment:
        """The allotment of a unit on this machine."""
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
    """Choose the workers for a run; None if its units are done on this machine.

    Parameters
    ----------
    config
        The configuration of the run.
    units
        Number of units of work, which limits the number of jobs.

    Raises
    ------
    UsageError
        If the workers are not available.
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
    """Use the workers of a Dask scheduler that is already running.

    Parameters
    ----------
    address
        Address of the scheduler, such as ``tcp://10.0.0.1:8786``.

    Yields
    ------
    DaskWorkers
        At least one worker is connected to the scheduler.

    Raises
    ------
    UsageError
        If the scheduler does not answer, it has no worker, or its workers have another version
        of this program.
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
    """Use jobs of Slurm; each is a worker that does one unit of work after the other.

    Lost jobs are replaced. Settings of a site (its network interface, commands that load
    modules) belong in Dask's ``jobqueue.yaml``.

    Parameters
    ----------
    jobs
        Number of jobs to keep running.
    threads, memory_mb
        Cores and memory (MB) of a job.
    directives
        Further options of ``sbatch``, such as ``--partition=gpu``, ``--gres=gpu:1``.
    logs
        Folder for the output that the jobs print.
    scratch
        Folder for temporary files of the workers; None lets Dask choose it.

    Yields
    ------
    DaskWorkers
        The jobs may still be waiting in Slurm's queue.

    Raises
    ------
    UsageError
        If Slurm is not available here, or refuses the jobs.
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
    """Let Slurm test a job, because the run would wait for ever for jobs that Slurm refuses."""
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
        # The import of dask_jobqueue replaces the handler of Ctrl-C by one that ends the program
        # without a message.
        signal.signal(signal.SIGINT, before)
    return dask_jobqueue
