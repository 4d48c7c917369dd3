"""A process beside that of the run, which does one unit of work after the other."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pickle import PicklingError
from types import FrameType, TracebackType

from ..config import RunConfig
from ..work.allotment import Allotment
from ..work.outcome import Process, Result, failure, killed
from ..work.progress import ProgressListener
from ..work.unit import UnitOfWork
from .progress import pass_on
from .workers import attempt, connect, without_program

# For what is half-written to be removed; a kernel that computes is not interrupted.
_SECONDS_TO_END = 5.0


class OwnProcess:
    """Does units of work one after the other, outside of the process of the run.

    A unit whose process is killed, as for lack of memory, fails alone: the next one is done
    in a new process. All others share one, and load libraries once.
    """

    def __init__(self) -> None:
        self._running: tuple[SpawnProcess, Connection] | None = None

    def __enter__(self) -> OwnProcess:
        """Wait with the process until there is work."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End the process, also in the middle of a unit."""
        self._end(at_once=error is not None)

    def attempt(
        self,
        process: Process,
        unit: UnitOfWork,
        config: RunConfig,
        allotment: Allotment,
        listener: ProgressListener,
    ) -> Result:
        """Do one unit of work; its reports and messages come out here."""
        try:
            return self._result(unit.label, (process, unit, config, allotment), listener)
        except (EOFError, ConnectionError):
            return killed(
                unit.label,
                self._exit_code(),
                "run on a larger machine, or with larger voxels (--voxel-size)",
            )
        except Exception as error:
            self._end(at_once=True)
            return failure(unit.label, error)

    def _result(
        self,
        label: str,
        work: tuple[Process, UnitOfWork, RunConfig, Allotment],
        listener: ProgressListener,
    ) -> Result:
        connection = self._connection()
        connection.send(label)
        connection.send(work)
        while (report := connection.recv())[0] != "result":
            pass_on(report, listener)
        result: Result = report[1]
        return result

    def _connection(self) -> Connection:
        """The line to the process, which is started if there is none that lives."""
        if self._running is not None and self._running[0].is_alive():
            return self._running[1]
        self._end(at_once=True)
        # A forked child would inherit the locks of the parent's threads, and CUDA forbids it.
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        child = spawn.Process(target=_serve, args=(there,))
        with there, without_program():
            child.start()
        self._running = child, here
        return here

    def _exit_code(self) -> int | None:
        """How the process ended, which has closed its end of the line."""
        if self._running is None:
            return None
        child, _ = self._running
        child.join(_SECONDS_TO_END)
        code = child.exitcode
        self._end(at_once=True)
        return code

    def _end(self, *, at_once: bool) -> None:
        if self._running is None:
            return
        child, connection = self._running
        self._running = None
        # Waiting for work, it takes that for its end.
        connection.close()
        if at_once:
            child.terminate()
        child.join(_SECONDS_TO_END)
        if child.exitcode is None:
            child.kill()
            child.join()


def _serve(connection: Connection) -> None:
    """Do what comes along the line, until it is closed."""
    # Ctrl-C reaches this process too, and is for the other one to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    unable: Exception | None = None
    try:
        connect(connection)
    except RuntimeError as error:
        # No thread may be started: the process of the run is waiting to be told.
        unable = error
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            label = connection.recv()
            try:
                work = connection.recv()
                result = attempt(*work) if unable is None else failure(label, unable)
            except Exception as error:
                result = failure(label, error)
            try:
                connection.send(("result", result))
            except (TypeError, ValueError, AttributeError, PicklingError) as error:
                connection.send(("result", failure(label, error)))


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Not while what is half-written is removed.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
