"""Progress of a run: the reports of the pipeline, and the time left that follows from them.

The pipeline reports to ``listener()``, which the run has set. In the process of the run, it keeps
the progress itself; in a worker process, it sends the reports to the process of the run.
"""

from __future__ import annotations

import copy
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from typing import Any

from ..work.progress import ProgressListener

logger = logging.getLogger("bids_unires")

SECONDS_BETWEEN_MESSAGES = 10.0
# After this time without a message, the log says what a unit is at. On a loaded machine, a part of
# the alignment alone may take minutes.
SECONDS_OF_SILENCE = 15.0
_SECONDS_BETWEEN_LOOKS = 2.0
# Clinical sessions of one to three contrasts converge after 20 to 40 iterations. The map of what
# was measured, writing and the report then take about this share of the time of the iterations.
_USUAL_ITERATIONS = 25
_SHARE_AFTERWARDS = 0.9
# What follows learning takes about this share of the time of learning.
_SHARE_AFTER_LEARNING = 0.9
# A fit that needs more than usual is expected to go on for this share of its iterations, and two.
_SHARE_LEFT, _FEWEST_LEFT = 0.1, 2


class Sender(QueueHandler):
    """Sends reports of progress and log messages to another process; `forward` receives them.

    Parameters
    ----------
    connection
        Writing end of a pipe.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)  # type: ignore[arg-type]
        self._connection = connection

    def phase(self, label: str, name: str) -> None:
        """Send the report that a phase begins."""
        self._send("phase", label, name)

    def learning(self, label: str, share: float) -> None:
        """Send the report that a share of the detail is learned."""
        self._send("learning", label, share)

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Send the report that an iteration ended."""
        self._send("iteration", label, number, bound, objective)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a message; it is lost where memory does not suffice."""
        try:
            self.enqueue(self.prepare(record))
        except MemoryError:
            pass
        except Exception:
            self.handleError(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Turn arguments and traceback into text, since they may not be picklable.

        The traceback stays apart from the message, because only some handlers show it.
        """
        ready = copy.copy(record)
        ready.msg, ready.args = record.getMessage(), None
        if record.exc_info and not record.exc_text:
            ready.exc_text = logging.Formatter().formatException(record.exc_info)
        ready.exc_info = None
        return ready

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a message that `prepare` returned."""
        self._send("message", record)

    def _send(self, *report: object) -> None:
        # Several threads report while they learn.
        self.acquire()
        try:
            # A failed report must not end the unit of work.
            with suppress(OSError):
                self._connection.send(report)
        finally:
            self.release()


def forward(connection: Connection, label: str, to: ProgressListener) -> None:
    """Pass on the reports of a `Sender` until its process has ended.

    Parameters
    ----------
    connection
        Reading end of the pipe, which is closed at the end.
    label
        Label of the unit of work that the reports are about: ``sub-01`` or ``sub-01_ses-a``.
    to
        Receives the reports of progress; messages go to the log.
    """
    with connection, suppress(EOFError, OSError):
        while True:
            report = connection.recv()
            if report[0] == "message":
                report[1].msg = f"{label} {report[1].msg}"
            pass_on(report, to)


def pass_on(report: tuple[Any, ...], to: ProgressListener) -> None:
    """Pass one report of a `Sender` to a listener, or to the log if it is a message."""
    match report:
        case ("phase", *details):
            to.phase(*details)
        case ("learning", *details):
            to.learning(*details)
        case ("iteration", *details):
            to.iteration(*details)
        case ("message", record):
            logger.handle(record)


@dataclass(frozen=True)
class UnitState:
    """The progress of one unit of work.

    Parameters
    ----------
    began
        When it began, in s on the clock of the `RunProgress`.
    phase
        Name of the phase it is in.
    phase_since
        When that phase began.
    number, bound, objective
        Iterations of the fit so far, the most that are allowed, and the objective.
    learned
        Share of the detail within slices that is learned; None if none is.
    learning_since, learned_at
        When learning began, and when that share was reported.
    paced_since
        When the first of these iterations was reported. What came before, such as learning, takes
        no part in their pace.
    paced_from
        Number of that iteration.
    """

    began: float
    phase: str = "starting"
    phase_since: float = 0.0
    number: int = 0
    bound: int = 0
    objective: float = 0.0
    learned: float | None = None
    learning_since: float = 0.0
    learned_at: float = 0.0
    paced_since: float | None = None
    paced_from: int = 0

    @property
    def activity(self) -> str:
        """What it is at: learning, which is a part of a phase, or that phase."""
        return "learning detail" if self.is_learning else self.phase

    @property
    def is_learning(self) -> bool:
        """Whether it learns detail within slices, and iterations have not begun."""
        return self.learned is not None and not self.bound


class RunProgress:
    """Keeps the progress of all units of work of a run and estimates the time left.

    Parameters
    ----------
    units
        Number of units.
    at_once
        Number of units that are processed at the same time.
    clock
        Function that returns a time in s, from any starting point.
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
        """Note that a unit of work begins; return its number, from 1."""
        with self._lock:
            self._started += 1
            now = self._clock()
            self._running[label] = UnitState(now, phase_since=now)
            return self._started

    def phase(self, label: str, name: str) -> None:
        """Note that a phase of a unit begins."""
        with self._lock:
            now = self._clock()
            state = self._running.get(label, UnitState(now))
            self._running[label] = UnitState(state.began, name, now)

    def learning(self, label: str, share: float) -> None:
        """Note that a share of the detail of a unit is learned."""
        with self._lock:
            now = self._clock()
            state = self._running.get(label, UnitState(now))
            since = now if state.learned is None else state.learning_since
            self._running[label] = replace(
                state, learned=share, learning_since=since, learned_at=now
            )

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Note that an iteration of the fit of a unit ended."""
        with self._lock:
            now = self._clock()
            state = self._running.get(label, UnitState(now))
            if state.paced_since is None:
                state = replace(state, paced_since=now, paced_from=number)
            self._running[label] = replace(state, number=number, bound=bound, objective=objective)

    def finish(self, label: str, counts: bool = True) -> None:
        """Note that a unit ended.

        Parameters
        ----------
        label
            ``sub-01`` or ``sub-01_ses-a``.
        counts
            Whether the durations of other units are estimated from this one: not if it failed
            or an earlier run had completed it.
        """
        with self._lock:
            state = self._running.pop(label)
            if counts:
                self._durations.append(self._clock() - state.began)

    def state(self, label: str) -> UnitState:
        """The progress of a running unit."""
        with self._lock:
            return self._running[label]

    def running(self) -> dict[str, UnitState]:
        """All running units, by label, in the order in which they began."""
        with self._lock:
            return dict(self._running)

    def seconds_left(self) -> float | None:
        """Estimated time to the end of the run in s; None before it can be estimated.

        It is estimated from the durations of the units that have finished. Before the first has
        finished, it is estimated from the time per iteration of the running units and the number of
        iterations that fits usually take; before these begin, from the pace of learning.
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
    """Expected duration of a unit in s; None before the pace of its work is known."""
    if state.paced_since is None or state.number <= state.paced_from:
        return _total_from_learning(state)
    pace = (now - state.paced_since) / (state.number - state.paced_from)
    more = math.ceil((1 + _SHARE_LEFT) * state.number) + _FEWEST_LEFT
    expected = min(state.bound, max(_USUAL_ITERATIONS, more))
    left = pace * max(0, expected - state.number)
    return (now - state.began) + left + _SHARE_AFTERWARDS * pace * expected


def _total_from_learning(state: UnitState) -> float | None:
    """Expected duration of a unit in s from the pace of learning; None before that is known."""
    if not state.learned:
        return None
    learning = (state.learned_at - state.learning_since) / state.learned
    return state.learning_since - state.began + (1 + _SHARE_AFTER_LEARNING) * learning


class ProgressLog:
    """Listener that notes all reports in a `RunProgress` and writes some of them to the log.

    Parameters
    ----------
    progress
        The progress of the run.
    level
        Level of the log messages.
    clock
        Function that returns a time in s, from any starting point.
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
        """Log that a phase begins, which also shows that the participant is being processed."""
        self._progress.phase(label, name)
        self._said[label] = self._clock()
        logger.log(self._level, "%s: %s", label, name)

    def learning(self, label: str, share: float) -> None:
        """Log the share, unless the last message about the participant is recent."""
        self._progress.learning(label, share)
        self._say(label, f"{100 * share:.0f} % of the detail within slices learned")

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Log the iteration, unless the last message about the participant is recent."""
        self._progress.iteration(label, number, bound, objective)
        self._say(label, f"iteration {number}, objective {objective:.6g}")

    def remind(self) -> None:
        """Log what a unit is at, and since when, for each that has said nothing for a while."""
        now = self._clock()
        for label, state in self._progress.running().items():
            if now - self._said.setdefault(label, now) >= SECONDS_OF_SILENCE:
                since = state.learning_since if state.is_learning else state.phase_since
                so_far = describe_seconds(now - since)
                self._say(label, f"{state.activity} goes on, {so_far} so far")

    def _say(self, label: str, what: str) -> None:
        now = self._clock()
        if now - self._said.get(label, now) < SECONDS_BETWEEN_MESSAGES:
            self._said.setdefault(label, now)
            return
        self._said[label] = now
        left = self._progress.seconds_left()
        when = f", about {describe_seconds(left)} left for the run" if left is not None else ""
        logger.log(self._level, "%s: %s%s", label, what, when)


@contextmanager
def reminders(log: ProgressLog) -> Iterator[None]:
    """Let a thread remind of units that have said nothing for a while, as long as a block runs."""
    ended = threading.Event()

    def remind() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            log.remind()

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def describe_seconds(seconds: float) -> str:
    """A duration in words, rounded to s, min or h.

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
