"""Who is told how far a unit of work is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class ProgressListener(Protocol):
    """What can be told how far a participant is."""

    def phase(self, label: str, name: str) -> None:
        """Take note that a phase begins.

        Parameters
        ----------
        label
            Participant, and session.
        name
            What is being done, such as ``coregistration``.
        """

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Take note that an iteration of the fit ended.

        Parameters
        ----------
        label
            Participant, and session.
        number
            Iterations so far.
        bound
            Upper bound on their number.
        objective
            Value of the objective.
        """


class Silence:
    """Listens to nothing."""

    def phase(self, label: str, name: str) -> None:
        """Forget it."""

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Forget it."""


_NOBODY = Silence()
_listener: ContextVar[ProgressListener] = ContextVar("_listener")


def listener() -> ProgressListener:
    """The listener of the run that this code is part of; outside of a run, nobody."""
    return _listener.get(_NOBODY)


def listen(to_set: ProgressListener) -> None:
    """Make a listener that of all code of this thread, for good."""
    _listener.set(to_set)


@contextmanager
def listening(to_set: ProgressListener) -> Iterator[None]:
    """Make a listener that of all code the block calls."""
    token = _listener.set(to_set)
    try:
        yield
    finally:
        _listener.reset(token)
