"""Do units of work, one after the other or several at the same time, each with its own result."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Protocol

from ..config import RunConfig
from ..errors import OutputError
from ..records.work_record import abandon, begin, complete, standing
from ..work.allotment import Allotment
from ..work.outcome import AlreadyDone, Failure, Process, Result, failure, killed
from ..work.progress import ProgressListener, listen, listening
from ..work.unit import UnitOfWork
from .devices import AllotmentPool
from .locking import sole_use
from .progress import ProgressLog, RunProgress, Sender, forward, reminders
from .terminal import live_display

logger = logging.getLogger("bids_unires")

_SECONDS_FOR_LAST_REPORTS = 5.0
_STARTING = threading.Lock()


class Successive(Protocol):
    """Interface of objects that do units of work one after the other, in another process."""

    def attempt(
        self,
        process: Process,
        unit: UnitOfWork,
        config: RunConfig,
        allotment: Allotment,
        listener: ProgressListener,
    ) -> Result:
        """Do one unit of work and return its result."""


class Elsewhere(Protocol):
    """Interface of objects that do units of work on other machines.

    The other machine chooses device, threads and memory. Several threads may call ``attempt`` at
    the same time.
    """

    def attempt(
        self, process: Process, unit: UnitOfWork, config: RunConfig, listener: ProgressListener
    ) -> Result:
        """Do one unit of work and return its result."""

    def give_up(self) -> None:
        """Cancel the waiting calls, so that they return soon."""


class Workers:
    """Does the units of work of one run.

    Parameters
    ----------
    process
        Function that does one unit; it must be importable by name, because another process may
        call it.
    config
        The configuration of the run.
    allotments
        Devices, threads and memory of this machine that the units share.
    at_once
        Number of units to do at the same time. If it is above 1, each unit has its own process.
    elsewhere
        Does the units on other machines; None for this machine.
    successive
        Does several units one after the other in another process; None for this process. A
        single unit is done in this process.
    """

    def __init__(
        self,
        process: Process,
        config: RunConfig,
        allotments: AllotmentPool,
        at_once: int,
        elsewhere: Elsewhere | None = None,
        successive: Successive | None = None,
    ) -> None:
        self._process = process
        self._config = config
        self._allotments = allotments
        self._at_once = at_once
        self._elsewhere = elsewhere
        self._successive = successive

    def results(self, units: Sequence[UnitOfWork]) -> Iterator[Result]:
        """Do the units, and yield the result of each when it is ready."""
        progress = RunProgress(len(units), self._at_once)
        with live_display(progress, wanted=self._config.verbosity == 0) as shown:
            log = ProgressLog(progress, logging.DEBUG if shown else logging.INFO)
            is_here = self._at_once == 1 and self._elsewhere is None
            do_all = self._one_by_one if is_here else self._several
            with reminders(log):
                yield from do_all(units, progress, log)

    def _one_by_one(
        self, units: Sequence[UnitOfWork], progress: RunProgress, log: ProgressListener
    ) -> Iterator[Result]:
        def do(unit: UnitOfWork, allotment: Allotment) -> Result:
            if self._successive is not None and len(units) > 1:
                return self._successive.attempt(self._process, unit, self._config, allotment, log)
            with listening(log):
                return attempt(self._process, unit, self._config, allotment)

        for unit in units:
            result = self._do(unit, do, progress)
            yield result
            if self._config.stop_on_first_crash and isinstance(result, Failure):
                return

    def _several(
        self, units: Sequence[UnitOfWork], progress: RunProgress, log: ProgressListener
    ) -> Iterator[Result]:
        """Do each unit in its own process, ``at_once`` of them at the same time.

        In a shared pool of processes, the death of one process would fail all units.
        """
        stopped = threading.Event()

        def do(unit: UnitOfWork, allotment: Allotment) -> Result:
            if self._elsewhere is not None:
                return self._elsewhere.attempt(self._process, unit, self._config, log)
            return _attempt_in_process(self._process, unit, self._config, allotment, log)

        def unless_stopped(unit: UnitOfWork) -> Result | None:
            if stopped.is_set():
                return None
            result = self._do(unit, do, progress)
            if self._config.stop_on_first_crash and isinstance(result, Failure):
                stopped.set()
            return result

        with ThreadPoolExecutor(self._at_once) as threads:
            futures: list[Future[Result | None]] = [
                threads.submit(unless_stopped, unit) for unit in units
            ]
            try:
                for future in as_completed(futures):
                    if (result := future.result()) is not None:
                        yield result
            except BaseException:
                stopped.set()
                self._give_up()
                raise

    def _give_up(self) -> None:
        if self._elsewhere is not None:
            self._elsewhere.give_up()
            return
        for child in multiprocessing.active_children():
            child.terminate()

    def _do(
        self,
        unit: UnitOfWork,
        how: Callable[[UnitOfWork, Allotment], Result],
        progress: RunProgress,
    ) -> Result:
        """Do one unit with a lent allotment, unless an earlier run has completed it."""
        number = progress.start(unit.label)
        result: Result = AlreadyDone(unit.label)
        try:
            if not (self._config.resume and standing(unit, self._config).done):
                with self._allotments.lend() as allotment:
                    device = allotment.device
                    where = f" on {device}" if device not in ("cpu", "auto") else ""
                    logger.info("%s starts%s (%d of %d)", unit.label, where, number, progress.units)
                    result = how(unit, allotment)
            return result
        finally:
            progress.finish(unit.label, counts=not isinstance(result, Failure | AlreadyDone))


def attempt(process: Process, unit: UnitOfWork, config: RunConfig, allotment: Allotment) -> Result:
    """Do one unit of work while holding its lock, and write the record that it is done."""
    lock = config.output_dir / "logs" / f".{unit.label}_{unit.stage}.lock"
    try:
        with sole_use(lock, f"{unit.label} in {config.output_dir}"):
            if config.resume:
                now = standing(unit, config)
                if now.done:
                    return AlreadyDone(unit.label)
                if now.reasons:
                    logger.info("repeated: %s", now)
            with _writable([config.output_dir / folder for folder in unit.folders]):
                begun = begin(unit, config)
                try:
                    outcome = process(unit, config, allotment)
                except BaseException:
                    # Where memory or the disk failed, this may fail too: the first error is told.
                    with suppress(OSError, MemoryError):
                        abandon(unit, config)
                    raise
            if begun is not None:
                complete(unit, config, begun, outcome.outputs, outcome.missing)
            return outcome
    except Exception as error:
        logger.debug("%s failed", unit.label, exc_info=True)
        return failure(unit.label, error)


@contextmanager
def _writable(folders: Sequence[Path]) -> Iterator[None]:
    """Create folders and test that they can be written to, before hours of computation.

    If the block raises, the folders created here are removed if they are still empty.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            missing = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            made = missing + made
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror or error}") from error
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def without_program() -> Iterator[None]:
    """Let a child process start without importing the main script of this process.

    Python would run the script in the child up to its line ``if __name__ == "__main__"``. A
    script that calls `bids_unires.cli.main` may lack that line.
    """
    with _STARTING:
        program = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = program


def _attempt_in_process(
    process: Process,
    unit: UnitOfWork,
    config: RunConfig,
    allotment: Allotment,
    listener: ProgressListener,
) -> Result:
    """Do one unit of work in a new process of this machine."""
    # A forked child would inherit locks of the parent's threads, and CUDA does not allow it.
    spawn = multiprocessing.get_context("spawn")
    reader, writer = spawn.Pipe(duplex=False)
    reports = threading.Thread(target=forward, args=(reader, unit.label, listener), daemon=True)
    reports.start()
    try:
        with writer, ProcessPoolExecutor(1, spawn, connect, (writer,)) as pool:
            with without_program():
                future = pool.submit(attempt, process, unit, config, allotment)
            # The child has its own copy of this end by now. Once all copies are closed, the
            # reader sees the end of the pipe.
            writer.close()
            result = future.result()
        return result
    except BrokenProcessPool:
        return killed(unit.label, None, "run fewer at once (--nprocs) or on a larger machine")
    except Exception as error:
        return failure(unit.label, error)
    finally:
        reports.join(_SECONDS_FOR_LAST_REPORTS)


def connect(writer: Connection) -> None:
    """Send all reports and messages of a worker process to the process of the run."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender = Sender(writer)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(sender)
    listen(sender)


def _end_with_parent() -> None:
    """End this process as soon as its parent process has ended, whatever it is doing.

    Incomplete files have temporary names, so that no final file is incomplete.
    """
    if parent := multiprocessing.parent_process():
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
