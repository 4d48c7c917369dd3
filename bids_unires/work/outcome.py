"""What became of a unit of work."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..config import RunConfig
from ..errors import InputOutputError, UniResError
from .allotment import Allotment
from .threads import is_lack_of_threads, shortage


class Outcome(Protocol):
    """What the pipeline returns for one unit of work that succeeded."""

    @property
    def label(self) -> str:
        """Participant, and session."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files written."""

    @property
    def missing(self) -> tuple[Path, ...]:
        """Files that could not be made, without which the others are good."""

    @property
    def seconds(self) -> float:
        """Wall time in s."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should look at."""


@dataclass(frozen=True)
class Failure:
    """One unit of work that failed, and why.

    Parameters
    ----------
    label
        Participant, and session.
    message
        The reason, in one line.
    exit_code
        What the run ends with if nothing else fails differently.
    """

    label: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class AlreadyDone:
    """One unit of work that an earlier run finished.

    Parameters
    ----------
    label
        Participant, and session.
    """

    label: str


@dataclass(frozen=True)
class WorkDone:
    """What became of some units of work.

    Parameters
    ----------
    done
        Labels of those that are done, now or by an earlier run.
    failures
        Those that failed.
    """

    done: frozenset[str]
    failures: tuple[Failure, ...]


Process = Callable[[Any, RunConfig, Allotment], Outcome]
"""Does one unit of work, in a run so configured, with what it may use."""

Result = Outcome | Failure | AlreadyDone


def failure(label: str, error: Exception) -> Failure:
    """What an exception tells of the unit of work that it ended."""
    if isinstance(error, UniResError):
        return Failure(label, str(error), error.exit_code)
    text = " ".join(str(error).split()) or "no message"
    if is_lack_of_threads(error):
        reason = shortage(os.cpu_count() or 1) or "give --omp-nthreads 1 and --nprocs 1"
        return Failure(label, f"no more threads or processes can be started ({text}): {reason}", 1)
    if isinstance(error, MemoryError):
        return Failure(label, "not enough memory: use larger voxels (--voxel-size)", 1)
    if isinstance(error, OSError):
        return Failure(label, text, InputOutputError.exit_code)
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and isinstance(error, ImportError | RuntimeError):
        reason = f"probably too little memory, of which ulimit -v allows {limit // 2**20} MiB"
        return Failure(label, f"{text}: {reason}", 1)
    return Failure(label, f"unexpected {type(error).__name__}: {text} (traceback in the log)", 1)


def killed(label: str, exit_code: int | None, advice: str) -> Failure:
    """What is known of a unit of work whose process ended without a word.

    Parameters
    ----------
    label
        Participant, and session.
    exit_code
        Of the process, negative for a signal; None if it is not known.
    advice
        What helps if memory was short.
    """
    # Who runs out of memory is killed; libraries that get no threads end the process themselves.
    lacking = shortage(os.cpu_count() or 1) if exit_code != -signal.SIGKILL else None
    if lacking is not None:
        return Failure(
            label, f"its process ended early, probably for lack of threads: {lacking}", 1
        )
    return Failure(label, f"its process was killed, most often for lack of memory: {advice}", 1)
