from __future__ import annotations

import logging
import multiprocessing
import sys
from contextlib import suppress
from threading import Thread

import pytest

from bids_unires.run.progress import (
    SECONDS_BETWEEN_MESSAGES,
    ProgressLog,
    RunProgress,
    Sender,
    forward,
)
from bids_unires.work.progress import listener, listening

logger = logging.getLogger("bids_unires")


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Notes:
    """Remembers all reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[object, ...]] = []

    def phase(self, label: str, name: str) -> None:
        self.reports.append((label, name))

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        self.reports.append((label, number, bound, objective))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_outside_of_a_run_nobody_listens() -> None:
    listener().phase("sub-01", "fit")
    listener().iteration("sub-01", 1, 2, 3.0)


def test_the_innermost_listener_is_told() -> None:
    outer, inner = Notes(), Notes()
    with listening(outer):
        with suppress(ZeroDivisionError), listening(inner):
            listener().phase("sub-01", "fit")
            raise ZeroDivisionError
        listener().iteration("sub-02", 1, 9, 2.5)
    assert inner.reports == [("sub-01", "fit")]
    assert outer.reports == [("sub-02", 1, 9, 2.5)]


def test_reports_pass_through_a_pipe_until_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bids_unires")
    notes = Notes()
    reader, writer = multiprocessing.Pipe(duplex=False)
    thread = Thread(target=forward, args=(reader, "sub-01", notes))
    thread.start()
    sender = Sender(writer)
    sender.phase("sub-01", "fit")
    sender.iteration("sub-01", 3, 9, 2.5)
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        # A lambda cannot be pickled; the text of it can.
        record = logger.makeRecord("x", 20, "file", 1, "a %s", (lambda: 0,), sys.exc_info())
    sender.handle(record)
    writer.close()
    thread.join(10)
    assert not thread.is_alive()
    assert caplog.messages[0].startswith("sub-01 a <function")
    assert "ZeroDivisionError: by zero" in caplog.text
    assert notes.reports == [("sub-01", "fit"), ("sub-01", 3, 9, 2.5)]
    # Nobody listens any more, which is no reason to stop working.
    sender.phase("sub-01", "writing")


def test_a_listener_that_is_gone_stops_nobody() -> None:
    reader, writer = multiprocessing.Pipe(duplex=False)
    reader.close()
    Sender(writer).phase("sub-01", "fit")


def test_nothing_is_known_in_the_beginning(clock: Clock) -> None:
    progress = RunProgress(2, clock=clock)
    assert progress.seconds_left() is None
    progress.start("a")
    progress.phase("a", "coregistration")
    clock.now += 5
    assert progress.seconds_left() is None


def test_the_pace_of_iterations_bounds_the_first(clock: Clock) -> None:
    progress = RunProgress(3, clock=clock)
    assert progress.start("a") == 1
    clock.now += 10
    progress.phase("a", "fit")
    clock.now += 8
    progress.iteration("a", 4, 20, 1.5)
    # 16 iterations of 2 s, then two participants of 10 + 40 s.
    assert progress.seconds_left() == pytest.approx(32 + 2 * 50)
    state = progress.running()["a"]
    assert (state.phase, state.number, state.bound, state.objective) == ("fit", 4, 20, 1.5)


@pytest.mark.parametrize(("at_once", "left"), [(1, 40 + 70 + 2 * 100), (2, 155), (5, 70)])
def test_those_that_finished_tell_about_the_others(clock: Clock, at_once: int, left: float) -> None:
    progress = RunProgress(6, at_once, clock)
    progress.start("a")
    clock.now += 100
    progress.finish("a")
    progress.start("b")
    clock.now += 30
    progress.start("c")
    clock.now += 30
    progress.start("passed over")
    progress.finish("passed over", counts=False)
    # b has worked for 60 s of 100, c for 30; two are still to come.
    assert progress.seconds_left() == pytest.approx(left)


def test_one_that_takes_longer_is_about_to_end(clock: Clock) -> None:
    progress = RunProgress(2, clock=clock)
    progress.start("a")
    clock.now += 10
    progress.finish("a")
    progress.start("b")
    clock.now += 50
    assert progress.seconds_left() == 0
    assert list(progress.running()) == ["b"]


def test_the_log_is_sparse(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bids_unires")
    progress = RunProgress(1, clock=clock)
    log = ProgressLog(progress, clock=clock)
    progress.start("sub-01")
    log.phase("sub-01", "fit")
    for number in range(1, 41):
        clock.now += 1
        log.iteration("sub-01", number, 100, 1234.5)
    assert len(caplog.messages) == 1 + 40 // SECONDS_BETWEEN_MESSAGES
    assert caplog.messages[0] == "sub-01: fit"
    assert caplog.messages[-1] == (
        "sub-01: iteration 40, objective 1234.5, about 60 s left for the run"
    )
