"""Progress of a unit of work: the object that receives reports of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class ProgressListener(Protocol):
    """Interface of objects that receive reports of progress."""

    def phase(self, label: str, name: str) -> None:
        """Receive the report that a phase begins.

        Parameters
        ----------
        label
            ``sub-01`` or ``sub-01_ses-a``.
        name
            Name of the phase, such as ``coregistration``.
        """

    def learning(self, label: str, share: float) -> None:
        """Receive the report that a share of the detail within slices is learned.

        Parameters
        ----------
        label
            ``sub-01`` or ``sub-01_ses-a``.
        share
            From 0, when learning begins, to 1.
        """

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Receive the report that an iteration of the fit ended.

        Parameters
        ----------
        label
            ``sub-01`` or ``sub-01_ses-a``.
        number
            Number of iterations so far.
        bound
            Upper bound on the number of iterations.
        objective
            Value of the objective.
        """


class Silence:
    """A listener that ignores all reports."""

    def phase(self, label: str, name: str) -> None:
        """Ignore the report."""

    def learning(self, label: str, share: float) -> None:
        """Ignore the report."""

    def iteration(self, label: str, number: int, bound: int, objective: float) -> None:
        """Ignore the report."""


_NOBODY = Silence()
_listener: ContextVar[ProgressListener] = ContextVar("_listener")


def listener() -> ProgressListener:
    """The listener of the current run; outside of a run, one that ignores all reports."""
    return _listener.get(_NOBODY)


def listen(to_set: ProgressListener) -> None:
    """Set the listener of this thread, until it is set again."""
    _listener.set(to_set)


@contextmanager
def listening(to_set: ProgressListener) -> Iterator[None]:
    """Set the listener of all code that the block calls; afterwards the former one is back."""
    token = _listener.set(to_set)
    try:
        yield
    finally:
        _listener.reset(token)
