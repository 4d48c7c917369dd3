from __future__ import annotations

import logging
import multiprocessing
import sys
import threading
import time
from contextlib import suppress
from itertools import pairwise
from threading import Thread

import pytest

from bids_unires.run import progress as progress_module
from bids_unires.run.progress import (
    SECONDS_BETWEEN_MESSAGES,
    SECONDS_OF_SILENCE,
    ProgressLog,
    RunProgress,
    Sender,
    forward,
    reminders,
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

    def learning(self, label: str, share: float) -> None:
        self.reports.append(("learning", label, share))

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


def test_a_message_without_memory_is_lost_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    class Huge:
        def __str__(self) -> str:
            raise MemoryError

    _, writer = multiprocessing.Pipe(duplex=False)
    sender = Sender(writer)
    sender.handle(logger.makeRecord("x", 20, "file", 1, "%s", (Huge(),), None))
    assert capsys.readouterr().err == ""
    sender.handle(logger.makeRecord("x", 20, "file", 1, "%d", ("no number",), None))
    assert "Logging error" in capsys.readouterr().err


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


def test_what_comes_before_iterations_takes_no_part_in_their_pace(clock: Clock) -> None:
    def left(learning: float) -> float | None:
        progress = RunProgress(1, clock=clock)
        progress.start("a")
        progress.phase("a", "reconstruction")
        clock.now += learning
        progress.iteration("a", 0, 500, 2.0)
        clock.now += 8
        progress.iteration("a", 4, 500, 1.5)
        state = progress.running()["a"]
        assert (state.phase, state.number, state.bound) == ("reconstruction", 4, 500)
        return progress.seconds_left()

    assert left(0) is not None
    assert left(0) == pytest.approx(left(1000))


def test_the_pace_of_learning_tells_before_there_are_iterations(clock: Clock) -> None:
    progress = RunProgress(1, clock=clock)
    progress.start("a")
    progress.phase("a", "reconstruction")
    clock.now += 10
    progress.learning("a", 0.0)
    assert progress.seconds_left() is None
    clock.now += 20
    progress.learning("a", 0.25)
    early = progress.seconds_left()
    assert early is not None
    # Another 60 s of learning, and what follows.
    assert early > 60
    clock.now += 60
    progress.learning("a", 1.0)
    assert progress.seconds_left() == pytest.approx(early - 60)
    clock.now += 5
    assert progress.seconds_left() == pytest.approx(early - 65)


def test_no_more_iterations_are_expected_than_are_allowed(clock: Clock) -> None:
    progress = RunProgress(1, clock=clock)
    progress.start("a")
    progress.iteration("a", 0, 5, 2.0)
    clock.now += 40
    progress.iteration("a", 4, 5, 1.5)
    left = progress.seconds_left()
    # One iteration of 10 s, and what follows the fit; 20 more iterations would take 200 s.
    assert left is not None
    assert 10 < left < 60


# Seconds since a participant began, and the number of iterations by then, as logged: clinical
# sessions with and without learned detail, of three contrasts each. Last, the duration.
RECORDED = {
    "three contrasts, detail learned": (
        [(169, 0), (179, 5), (191, 11), (201, 17)],
        246,
    ),
    "three contrasts, no detail": (
        [
            (110, 0),
            (122, 5),
            (133, 9),
            (145, 13),
            (157, 18),
            (168, 22),
            (181, 27),
            (193, 31),
            (206, 35),
            (217, 38),
        ],
        285,
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_the_time_left_of_recorded_runs_is_right_within_a_factor_of_two(
    clock: Clock, name: str
) -> None:
    reports, duration = RECORDED[name]
    progress = RunProgress(1, clock=clock)
    began = clock.now
    progress.start("a")
    progress.phase("a", "reconstruction")
    told = 0
    for seconds, number in reports:
        clock.now = began + seconds
        progress.iteration("a", number, 512, 1.0)
        left = progress.seconds_left()
        if left is not None:
            told += 1
            assert 0.5 < left / (duration - seconds) < 2
    assert told == len(reports) - 1


def test_participants_that_wait_take_as_long_as_the_first_will(clock: Clock) -> None:
    def left(units: int) -> float:
        progress = RunProgress(units, clock=clock)
        progress.start("a")
        progress.iteration("a", 0, 500, 2.0)
        clock.now += 8
        progress.iteration("a", 4, 500, 1.5)
        found = progress.seconds_left()
        assert found is not None
        return found

    assert left(3) == pytest.approx(left(1) + 2 * (8 + left(1)))


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


def test_the_log_tells_of_learning_now_and_then(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bids_unires")
    progress = RunProgress(1, clock=clock)
    log = ProgressLog(progress, clock=clock)
    progress.start("sub-01")
    log.phase("sub-01", "reconstruction")
    for second in range(41):
        log.learning("sub-01", second / 40)
        clock.now += 1
    assert len(caplog.messages) == 1 + 40 // SECONDS_BETWEEN_MESSAGES
    assert caplog.messages[1] == (
        "sub-01: 25 % of the detail within slices learned, about 66 s left for the run"
    )


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
        "sub-01: iteration 40, objective 1234.5, about 47 s left for the run"
    )


@pytest.mark.parametrize("phase", ["reading", "alignment", "writing"])
def test_every_phase_gives_a_sign_of_life_within_20_s(
    clock: Clock, caplog: pytest.LogCaptureFixture, phase: str
) -> None:
    caplog.set_level(logging.INFO, "bids_unires")
    progress = RunProgress(1, clock=clock)
    log = ProgressLog(progress, clock=clock)
    progress.start("sub-01")
    log.phase("sub-01", phase)
    said = [clock.now]
    for _ in range(60):
        clock.now += 2
        before = len(caplog.messages)
        log.remind()
        said += [clock.now] * (len(caplog.messages) - before)
    gaps = [later - earlier for earlier, later in pairwise(said)]
    assert SECONDS_OF_SILENCE <= min(gaps) <= max(gaps) < 20
    assert caplog.messages[1] == f"sub-01: {phase} goes on, 16 s so far"


def test_learning_that_is_silent_is_named(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bids_unires")
    progress = RunProgress(1, clock=clock)
    log = ProgressLog(progress, clock=clock)
    progress.start("sub-01")
    log.phase("sub-01", "reconstruction")
    clock.now += 5
    log.learning("sub-01", 0.0)
    clock.now += 12
    log.remind()
    assert caplog.messages[-1] == "sub-01: learning detail goes on, 12 s so far"


def test_nobody_is_reminded_of_who_just_spoke_or_has_finished(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bids_unires")
    progress = RunProgress(2, clock=clock)
    log = ProgressLog(progress, clock=clock)
    for label in ("sub-01", "sub-02"):
        progress.start(label)
        log.phase(label, "reconstruction")
    clock.now += 14
    log.iteration("sub-01", 1, 9, 5.0)
    progress.finish("sub-02")
    clock.now += 14
    log.remind()
    assert caplog.messages[-1].startswith("sub-01: iteration 1")


def test_a_thread_reminds_while_the_work_is_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_OF_SILENCE", 0.01)
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_MESSAGES", 0.0)
    monkeypatch.setattr(progress_module, "_SECONDS_BETWEEN_LOOKS", 0.02)
    caplog.set_level(logging.INFO, "bids_unires")
    progress = RunProgress(1)
    log = ProgressLog(progress)
    threads = threading.active_count()
    with reminders(log):
        progress.start("sub-01")
        log.phase("sub-01", "alignment")
        until = time.monotonic() + 20
        while len(caplog.messages) < 2 and time.monotonic() < until:
            time.sleep(0.02)
    assert caplog.messages[1] == "sub-01: alignment goes on, 0 s so far"
    assert threading.active_count() == threads
