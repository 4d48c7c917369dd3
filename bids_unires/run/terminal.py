"""A table of the running participants that is updated in place, if there is a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .progress import RunProgress, UnitState, describe_seconds

if TYPE_CHECKING:
    from rich.table import Table

logger = logging.getLogger("bids_unires")

_REFRESHES_PER_SECOND = 2.0
_BAR_WIDTH = 20


@contextmanager
def live_display(progress: RunProgress, wanted: bool = True) -> Iterator[bool]:
    """Show the progress on standard error while the block runs, with messages above it.

    Parameters
    ----------
    progress
        The progress of the run.
    wanted
        Whether to show the progress if there is a terminal.

    Yields
    ------
    bool
        Whether the progress is shown.
    """
    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        yield False
        return
    if os.environ.get("TERM", "dumb") == "dumb":
        yield False
        return
    from rich.console import Console
    from rich.live import Live

    with Live(
        console=Console(stderr=True),
        get_renderable=lambda: progress_table(progress),
        refresh_per_second=_REFRESHES_PER_SECOND,
        transient=True,
    ):
        # The display has replaced sys.stderr, so that messages appear above the table. The log
        # handlers must write to the replacement.
        handlers = [h for h in logger.handlers if type(h) is logging.StreamHandler]
        before = [handler.setStream(sys.stderr) for handler in handlers]
        try:
            yield True
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                if stream is not None:
                    handler.setStream(stream)


def progress_table(progress: RunProgress) -> Table:
    """A table with one row for each running unit of work, and the time left for the run."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    left = progress.seconds_left()
    table = Table(
        title=f"about {describe_seconds(left)} left" if left is not None else None,
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("participant", no_wrap=True)
    table.add_column("phase", no_wrap=True)
    for name in ("iteration", "objective", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    now = time.monotonic()
    for label, state in progress.running().items():
        table.add_row(
            label,
            state.activity,
            ProgressBar(1.0, state.learned or 0.0, _BAR_WIDTH)
            if state.is_learning
            else _iteration(state),
            f"{state.objective:.6g}" if state.number else "",
            describe_seconds(now - state.began),
        )
    return table


def _iteration(state: UnitState) -> str:
    return f"{state.number} of {state.bound}" if state.bound else ""
