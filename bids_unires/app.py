"""One run: check, plan, say what will be done, do it participant by participant."""

from __future__ import annotations

import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from . import __version__
from .config import RunConfig
from .dataset.query import (
    ParticipantPlan,
    describe_plan,
    plan_participants,
    select_participants,
)
from .dataset.validation import check_folders, validate_dataset
from .errors import InputOutputError, OutputError, UniResError, UsageError

logger = logging.getLogger("bids_unires")

# Read by the libraries when they are first imported.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)
CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


class Outcome(Protocol):
    """What the pipeline returns for one unit of work that succeeded."""

    @property
    def label(self) -> str:
        """Participant, and session."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files written."""

    @property
    def seconds(self) -> float:
        """Wall time in s."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should look at."""


@dataclass(frozen=True)
class Failure:
    """One unit of work that failed, and why.

    Parameters
    ----------
    label
        Participant, and session.
    message
        The reason, in one line.
    exit_code
        What the run ends with if nothing else fails differently.
    """

    label: str
    message: str
    exit_code: int


Process = Callable[[ParticipantPlan, RunConfig], Outcome]


def process_participant(plan: ParticipantPlan, config: RunConfig) -> Outcome:
    """Run the participant pipeline, which loads the heavy libraries."""
    from .pipeline.participant import run_participant

    return run_participant(plan, config)


def run(config: RunConfig, process: Process = process_participant) -> int:
    """Do what the command line asked for.

    Parameters
    ----------
    config
        The whole configuration.
    process
        Does one unit of work; has to be importable by name, since with
        ``config.nprocs`` above 1 it is called in processes of its own.

    Returns
    -------
    int
        0, or the exit code of the participants that failed: theirs if it is the
        same for all, else 1.

    Raises
    ------
    UniResError
        If the run as a whole cannot start.
    """
    with _logging_to_stderr(config.verbosity):
        check_folders(config)
        participants = select_participants(config)
        limit_threads(threads_per_participant(config, config.nprocs))
        if not config.skip_bids_validation:
            validate_dataset(config, participants)
        plans = plan_participants(config)
        print(describe_plan(plans), flush=True)
        if config.dry_run:
            return 0
        _check_device(config.device)
        log_file = _prepare_output(config, plans)
        with _logging_to_file(log_file), _termination_as_interrupt():
            return _process_all(config, plans, process, log_file)


def usable_cores() -> int:
    """Cores this process may use: by affinity, and by the limit of its container."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_CPU_LIMIT.read_text("ascii").split()
        limit = cores if quota == "max" else round(int(quota) / int(period))
    except (OSError, ValueError):
        limit = cores
    return max(1, min(cores, limit))


def threads_per_participant(config: RunConfig, at_once: int) -> int:
    """Threads for each of the participants that run at once."""
    return config.omp_nthreads or max(1, usable_cores() // at_once)


def limit_threads(count: int) -> None:
    """Set the number of threads of every library, those already loaded included."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
    if itk := sys.modules.get("SimpleITK"):
        itk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)


def _check_device(name: str) -> None:
    """Refuse a GPU that is not there before anything is written."""
    if name in ("auto", "cpu"):
        return
    from .model.observation import usable_device

    try:
        usable_device(name)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from error


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which schedulers and container engines send, end a run like Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ------------------------------------------------------------------ output and logs


def _prepare_output(config: RunConfig, plans: Sequence[ParticipantPlan]) -> Path:
    """Write the shared files, clear what killed runs left; return the log's path."""
    from .dataset.description import write_dataset_files
    from .dataset.writing import remove_leftovers

    logs = config.output_dir / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{logs} cannot be created: {error.strerror or error}") from error
    folders = (config.output_dir / plan.folder / "anat" for plan in plans)
    for folder in (config.output_dir, logs, *folders):
        remove_leftovers(folder)
    write_dataset_files(config.output_dir, config.bids_dir)
    return logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.log"


@contextmanager
def _logging_to_stderr(verbosity: int, label: str = "") -> Iterator[None]:
    levels = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    level = levels[min(max(verbosity + 2, 0), 3)]
    with _handler(logging.StreamHandler(), level, label):
        yield


@contextmanager
def _logging_to_file(path: Path, label: str = "") -> Iterator[None]:
    """Everything at full detail, tracebacks included."""
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be created: {error.strerror or error}") from error
    with _handler(handler, logging.DEBUG, label):
        yield
    handler.close()


@contextmanager
def _handler(handler: logging.Handler, level: int, label: str) -> Iterator[None]:
    who = f" {label}" if label else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s{who} %(message)s"))
    handler.setLevel(level)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


# ------------------------------------------------------------------ participants


def _process_all(
    config: RunConfig, plans: Sequence[ParticipantPlan], process: Process, log_file: Path
) -> int:
    at_once = min(config.nprocs, len(plans))
    threads = threads_per_participant(config, at_once)
    limit_threads(threads)
    logger.info(
        "bids_unires %s: %s, %s, log in %s",
        __version__,
        f"{at_once} participants at once" if at_once > 1 else "one participant at a time",
        f"{threads} threads" if threads > 1 else "1 thread" + (" each" if at_once > 1 else ""),
        log_file,
    )
    logger.debug("settings: %s", json.dumps(config.as_dict()))
    logger.debug("plan: %s", describe_plan(plans))
    if at_once == 1:
        results = _one_by_one(config, plans, process)
    else:
        results = _at_once(config, plans, process, log_file, at_once)
    done, failures = 0, []
    for result in results:
        if isinstance(result, Failure):
            failures.append(result)
            logger.error("%s failed: %s", result.label, result.message)
        else:
            done += 1
            _report(result)
    return _conclude(done, failures, len(plans), config.output_dir)


def _one_by_one(
    config: RunConfig, plans: Sequence[ParticipantPlan], process: Process
) -> Iterator[Outcome | Failure]:
    for number, plan in enumerate(plans, start=1):
        logger.info("%s starts (%d of %d)", plan.label, number, len(plans))
        result = _attempt(process, plan, config)
        yield result
        if config.stop_on_first_crash and isinstance(result, Failure):
            return


def _at_once(
    config: RunConfig,
    plans: Sequence[ParticipantPlan],
    process: Process,
    log_file: Path,
    at_once: int,
) -> Iterator[Outcome | Failure]:
    """Give every participant a process of its own, ``at_once`` of them at a time.

    A pool shared by all would lose every participant with the one whose process dies.
    """
    stopped = threading.Event()

    def attempt(plan: ParticipantPlan) -> Outcome | Failure | None:
        if stopped.is_set():
            return None
        logger.info("%s starts", plan.label)
        result = _attempt_in_process(process, plan, config, log_file)
        if config.stop_on_first_crash and isinstance(result, Failure):
            stopped.set()
        return result

    with ThreadPoolExecutor(at_once) as threads:
        futures: list[Future[Outcome | Failure | None]] = [
            threads.submit(attempt, plan) for plan in plans
        ]
        try:
            for future in as_completed(futures):
                if (result := future.result()) is not None:
                    yield result
        except BaseException:
            stopped.set()
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _attempt_in_process(
    process: Process, plan: ParticipantPlan, config: RunConfig, log_file: Path
) -> Outcome | Failure:
    # A forked child would inherit the locks of the parent's threads, and CUDA forbids it.
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(_work, process, plan, config, log_file).result()
    except BrokenProcessPool:
        return Failure(
            plan.label,
            "its process was killed, most often for lack of memory: "
            "run fewer at once (--nprocs) or on a larger machine",
            1,
        )
    except Exception as error:
        return _failure(plan.label, error)


def _work(
    process: Process, plan: ParticipantPlan, config: RunConfig, log_file: Path
) -> Outcome | Failure:
    """Body of a worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with ExitStack() as stack:
        stack.enter_context(_logging_to_stderr(config.verbosity, plan.label))
        stack.enter_context(_logging_to_file(log_file, plan.label))
        return _attempt(process, plan, config)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, whatever it is doing.

    What is half-written then has no final name.
    """
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _attempt(process: Process, plan: ParticipantPlan, config: RunConfig) -> Outcome | Failure:
    try:
        return process(plan, config)
    except Exception as error:
        logger.debug("%s failed", plan.label, exc_info=True)
        return _failure(plan.label, error)


def _failure(label: str, error: Exception) -> Failure:
    if isinstance(error, UniResError):
        return Failure(label, str(error), error.exit_code)
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, MemoryError):
        return Failure(label, "not enough memory: use larger voxels (--voxel-size)", 1)
    if isinstance(error, OSError):
        return Failure(label, text, InputOutputError.exit_code)
    return Failure(label, f"unexpected {type(error).__name__}: {text} (traceback in the log)", 1)


def _report(outcome: Outcome) -> None:
    count = len(outcome.warnings)
    noted = f", {count} warning{'s' if count > 1 else ''} above" if count else ""
    logger.info(
        "%s done in %.0f s, %d files written%s",
        outcome.label,
        outcome.seconds,
        len(outcome.outputs),
        noted,
    )


def _conclude(done: int, failures: Sequence[Failure], planned: int, output_dir: Path) -> int:
    """Say how it went; return the exit code."""
    if done:
        logger.info("%d of %d done, results in %s", done, planned, output_dir)
    if not failures:
        return 0
    left_out = planned - done - len(failures)
    logger.error(
        "%d of %d failed%s: %s",
        len(failures),
        planned,
        f", {left_out} not started" if left_out else "",
        ", ".join(failure.label for failure in failures),
    )
    codes = {failure.exit_code for failure in failures}
    return codes.pop() if len(codes) == 1 else 1
