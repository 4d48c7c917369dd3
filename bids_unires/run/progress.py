"""How far a run is: what the pipeline reports, and what is made of it.

The pipeline calls ``listener()``, which is whatever the run set up around it: in the process
of the run itself, or one that sends the reports on to that process.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from ..work.progress import ProgressListener

logger = logging.getLogger("bids_unires")

SECONDS_BETWEEN_MESSAGES = 10.0


class Sender(QueueHandler):
    """Sends reports and messages to another process; `forward` is its other end.

    Parameters
    ----------
    connection
        Writing end of a pipe.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)  # type: ignore[arg-type]
        self._connection = connection

    def phase(self, label: str, name: str) -> None:
        """Send the beginning of a phase."""
        self._send("phase", label, name)

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Send the end of an iteration."""
        self._send("iteration", label, number, bound, objective)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Fill in what may not be sent, with the traceback apart, which not everybody is shown."""
        ready = copy.copy(record)
        ready.msg, ready.args = record.getMessage(), None
        if record.exc_info and not record.exc_text:
            ready.exc_text = logging.Formatter().formatException(record.exc_info)
        ready.exc_info = None
        return ready

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a message that was prepared."""
        self._send("message", record)

    def _send(self, *report: object) -> None:
        # Work is not lost because nobody listens any more.
        with suppress(OSError):
            self._connection.send(report)


def forward(connection: Connection, label: str, to: ProgressListener) -> None:
    """Pass on what a `Sender` sends, until its process is gone.

    Parameters
    ----------
    connection
        Reading end of the pipe, which is closed at the end.
    label
        Participant, and session, that messages are about.
    to
        Who is told of progress; messages go to the log.
    """
    with connection, suppress(EOFError, OSError):
        while True:
            report = connection.recv()
            if report[0] == "message":
                report[1].msg = f"{label} {report[1].msg}"
            pass_on(report, to)


def pass_on(report: tuple[Any, ...], to: ProgressListener) -> None:
    """Give one report of a `Sender` to a listener, or to the log if it is a message."""
    match report:
        case ("phase", *details):
            to.phase(*details)
        case ("iteration", *details):
            to.iteration(*details)
        case ("message", record):
            logger.handle(record)


@dataclass(frozen=True)
class UnitState:
    """Where one unit of work is.

    Times are in s, by the clock of the `RunProgress`.
    """

    began: float
    phase: str = "starting"
    phase_began: float = 0.0
    number: int = 0
    bound: int = 0
    objective: float = 0.0


class RunProgress:
    """Keeps track of all units of work of a run and estimates the time left.

    Parameters
    ----------
    units
        How many there are.
    at_once
        How many of them are worked on at the same time.
    clock
        Seconds since some moment.
    """

    def __init__(
        self, units: int, at_once: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.units = units
        self._started = 0
        self._at_once = at_once
        self._clock = clock
        self._running: dict[str, UnitState] = {}
        self._durations: list[float] = []
        self._lock = threading.Lock()

    def start(self, label: str) -> int:
        """Take note that a unit of work begins; give its number, from 1."""
        with self._lock:
            self._started += 1
            self._running[label] = UnitState(self._clock())
            return self._started

    def phase(self, label: str, name: str) -> None:
        """Take note that a phase of a unit begins."""
        with self._lock:
            now = self._clock()
            state = self._running.get(label, UnitState(now))
            self._running[label] = replace(state, phase=name, phase_began=now, number=0, bound=0)

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Take note of an iteration of a unit's fit."""
        with self._lock:
            state = self._running.get(label, UnitState(self._clock()))
            self._running[label] = replace(state, number=number, bound=bound, objective=objective)

    def finish(self, label: str, counts: bool = True) -> None:
        """Take note that a unit is over.

        Parameters
        ----------
        label
            Participant, and session.
        counts
            Whether its duration says how long others take: not if it failed or was passed over.
        """
        with self._lock:
            state = self._running.pop(label)
            if counts:
                self._durations.append(self._clock() - state.began)

    def state(self, label: str) -> UnitState:
        """Where a running unit is."""
        with self._lock:
            return self._running[label]

    def running(self) -> dict[str, UnitState]:
        """All running units, the earliest first."""
        with self._lock:
            return dict(self._running)

    def seconds_left(self) -> float | None:
        """Estimated time to the end of the run in s; None before there is anything to go by.

        Units that finished tell how long the others take. Before the first has, the running
        ones tell by the pace of their iterations, up to the bound on these, so that it will
        rather be less.
        """
        with self._lock:
            now = self._clock()
            if self._durations:
                typical = sum(self._durations) / len(self._durations)
            elif paced := [t for s in self._running.values() if (t := _total(s, now)) is not None]:
                typical = max(paced)
            else:
                return None
            left = [max(0.0, s.began + typical - now) for s in self._running.values()]
            waiting = (self.units - self._started) * typical
            shared = (sum(left) + waiting) / self._at_once
            return max([shared, *left])


def _total(state: UnitState, now: float) -> float | None:
    """Duration of a unit from beginning to end in s, if its fit uses up all its iterations."""
    if state.number < 1:
        return None
    pace = (now - state.phase_began) / state.number
    return (now - state.began) + pace * max(0, state.bound - state.number)


class ProgressLog:
    """Writes reports to the log, sparsely, and keeps the books.

    Parameters
    ----------
    progress
        The books.
    level
        Of the messages.
    clock
        Seconds since some moment.
    """

    def __init__(
        self,
        progress: RunProgress,
        level: int = logging.INFO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._level = level
        self._clock = clock
        self._said: dict[str, float] = {}

    def phase(self, label: str, name: str) -> None:
        """Log the phase, which also says that the participant is alive."""
        self._progress.phase(label, name)
        self._said[label] = self._clock()
        logger.log(self._level, "%s: %s", label, name)

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Log the iteration unless the last message about the participant is recent."""
        self._progress.iteration(label, number, bound, objective)
        now = self._clock()
        if now - self._said.get(label, now) < SECONDS_BETWEEN_MESSAGES:
            self._said.setdefault(label, now)
            return
        self._said[label] = now
        left = self._progress.seconds_left()
        logger.log(
            self._level,
            "%s: iteration %d, objective %.6g%s",
            label,
            number,
            objective,
            f", about {describe_seconds(left)} left for the run" if left is not None else "",
        )


def describe_seconds(seconds: float) -> str:
    """A duration as people say it.

    Examples
    --------
    >>> [describe_seconds(s) for s in (4.2, 100, 7200, 9000)]
    ['4 s', '2 min', '2 h', '2 h 30 min']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
