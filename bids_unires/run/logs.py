"""Messages of a run: on standard error, and in full detail in the log file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path

from ..errors import OutputError

logger = logging.getLogger("bids_unires")

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@contextmanager
def logging_to_stderr(verbosity: int) -> Iterator[None]:
    """Show messages while the block runs.

    Parameters
    ----------
    verbosity
        0 shows messages of progress, -1 only warnings and errors, -2 only errors, and 1 all
        messages with tracebacks.
    """
    levels = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
    level = levels[min(max(verbosity + 2, 0), 3)]
    formatter = _formatter() if level == logging.DEBUG else _OneLine()
    with _handler(logging.StreamHandler(), level, formatter):
        yield


@contextmanager
def holding_back() -> Iterator[None]:
    """Keep messages of all levels for the file that `logging_to_file` opens within the block.

    Planning logs which files it leaves out, before the folder of the log exists.
    """
    never = logging.CRITICAL + 1
    handler = MemoryHandler(sys.maxsize, flushLevel=never, flushOnClose=False)
    with _handler(handler, logging.DEBUG, _formatter()):
        yield


@contextmanager
def logging_to_file(path: Path) -> Iterator[None]:
    """Write the messages held back to a file, then all messages while the block runs.

    Raises
    ------
    OutputError
        If the file cannot be created.
    """
    try:
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"{path} cannot be created: {error.strerror or error}") from error
    with _handler(handler, logging.DEBUG, _formatter()):
        _hand_over(handler)
        yield


def _hand_over(handler: logging.Handler) -> None:
    """Give a handler the messages that were held back, and stop holding messages back."""
    for holding in [each for each in logger.handlers if isinstance(each, MemoryHandler)]:
        logger.removeHandler(holding)
        holding.setTarget(handler)
        holding.flush()


def _formatter() -> logging.Formatter:
    return logging.Formatter(_FORMAT)


class _OneLine(logging.Formatter):
    """Formats messages without tracebacks, which are in the log file."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        return self.formatMessage(record)


@contextmanager
def _handler(handler: logging.Handler, level: int, formatter: logging.Formatter) -> Iterator[None]:
    handler.setFormatter(formatter)
    handler.setLevel(level)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()
