"""A child process of the run that does one unit of work after the other."""

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

# Time for a process to remove incomplete files before it is killed. A running kernel cannot be
# interrupted.
_SECONDS_TO_END = 5.0


class OwnProcess:
    """Does units of work one after the other, in a child process of the run.

    If the process is killed, for example for lack of memory, only the current unit fails, and
    the next unit is done in a new process. Otherwise all units share one process, so that the
    libraries are loaded once.
    """

    def __init__(self) -> None:
        self._running: tuple[SpawnProcess, Connection] | None = None

    def __enter__(self) -> OwnProcess:
        """Return this object; the process is started with the first unit of work."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """End the process, also while it does a unit of work."""
        self._end(at_once=error is not None)

    def attempt(
        self,
        process: Process,
        unit: UnitOfWork,
        config: RunConfig,
        allotment: Allotment,
        listener: ProgressListener,
    ) -> Result:
        """Do one unit of work; its reports and messages are passed on in this process."""
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
        """The connection to the process, which is started if it is not running."""
        if self._running is not None and self._running[0].is_alive():
            return self._running[1]
        self._end(at_once=True)
        # A forked child would inherit locks of the parent's threads, and CUDA does not allow it.
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        child = spawn.Process(target=_serve, args=(there,))
        with there, without_program():
            child.start()
        self._running = child, here
        return here

    def _exit_code(self) -> int | None:
        """Exit code of a process that has closed its connection; None if it is not known."""
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
        # A process that waits for work ends when the connection is closed.
        connection.close()
        if at_once:
            child.terminate()
        child.join(_SECONDS_TO_END)
        if child.exitcode is None:
            child.kill()
            child.join()


def _serve(connection: Connection) -> None:
    """Do the units of work that arrive on a connection, until it is closed."""
    # Ctrl-C reaches this process too, but the process of the run handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    unable: Exception | None = None
    try:
        connect(connection)
    except RuntimeError as error:
        # No thread could be started. The process of the run waits for a result, so every unit is
        # answered with this error.
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
    # A second signal must not interrupt the removal of incomplete files.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
