from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.console import Console

from bids_unires.run.logs import logging_to_stderr
from bids_unires.run.progress import RunProgress
from bids_unires.run.terminal import live_display, progress_table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def progress() -> RunProgress:
    """Two participants of three, one of them iterating."""
    progress = RunProgress(3, 2)
    for label in ("sub-01", "sub-02"):
        progress.start(label)
    progress.phase("sub-01", "reconstruction")
    progress.phase("sub-02", "coregistration")
    progress.iteration("sub-01", 6, 100, 48056.5)
    progress.iteration("sub-01", 7, 100, 48055.5)
    return progress


def test_the_table_has_a_row_for_everyone_at_work(progress: RunProgress) -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(progress_table(progress))
    title, _, *rows = console.export_text().splitlines()
    assert title.startswith("about ")
    assert [row.split()[:6] for row in rows] == [
        ["sub-01", "reconstruction", "7", "of", "100", "48055.5"],
        ["sub-02", "coregistration", "0", "s"],
    ]


def test_learning_has_a_bar(progress: RunProgress) -> None:
    progress.learning("sub-02", 0.5)
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(progress_table(progress))
    row = console.export_text().splitlines()[-1]
    assert row.startswith("sub-02")
    assert "learning detail" in row
    assert row.count("━") == 10


def test_a_terminal_shows_messages_and_the_table(
    progress: RunProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    logger = logging.getLogger("bids_unires")
    with logging_to_stderr(0):
        (handler,) = (h for h in logger.handlers if isinstance(h, logging.StreamHandler))
        with live_display(progress) as shown:
            assert shown
            logger.info("a message, not [bold]marked up")
            # Not into the table, but above it.
            assert handler.stream is sys.stderr is not terminal
        assert handler.stream is terminal
        logger.info("afterwards")
    assert sys.stderr is terminal
    written = terminal.getvalue()
    assert "a message, not [bold]marked up\n" in written
    assert "sub-02" in written
    assert written.endswith("INFO afterwards\n")


@pytest.mark.parametrize(
    ("terminal", "term", "wanted"), [(0, "xterm", 1), (1, "dumb", 1), (1, "xterm", 0)]
)
def test_elsewhere_nothing_is_shown(
    progress: RunProgress, monkeypatch: pytest.MonkeyPatch, terminal: int, term: str, wanted: int
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", term)
    with live_display(progress, bool(wanted)) as shown:
        assert not shown
    assert stream.getvalue() == ""


def test_no_standard_error_is_no_terminal(
    progress: RunProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with live_display(progress) as shown:
        assert not shown
