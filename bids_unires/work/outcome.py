"""The result of a unit of work: its output files, or the reason why it failed."""

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
    """The result that the pipeline returns for a unit of work that succeeded."""

    @property
    def label(self) -> str:
        """``sub-01`` or ``sub-01_ses-a``."""

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that were written."""

    @property
    def missing(self) -> tuple[Path, ...]:
        """Files that could not be made and that the other outputs do not depend on."""

    @property
    def seconds(self) -> float:
        """Wall time in s."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Messages of the warnings that the user should read."""


@dataclass(frozen=True)
class Failure:
    """A unit of work that failed.

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    message
        The reason, in one line.
    exit_code
        Exit code of the run, unless another unit fails with another code.
    """

    label: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class AlreadyDone:
    """A unit of work that an earlier run completed.

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    """

    label: str


@dataclass(frozen=True)
class WorkDone:
    """The results of several units of work.

    Parameters
    ----------
    done
        Labels of the units that this run or an earlier one completed.
    failures
        The units that failed.
    """

    done: frozenset[str]
    failures: tuple[Failure, ...]


Process = Callable[[Any, RunConfig, Allotment], Outcome]
"""Function that does one unit of work, given the configuration of the run and the allotment."""

Result = Outcome | Failure | AlreadyDone


def failure(label: str, error: Exception) -> Failure:
    """Turn the exception that ended a unit of work into a `Failure`."""
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
    return Failure(
        label, f"unexpected {type(error).__name__}: {text} (traceback in the log and with -v)", 1
    )


def killed(label: str, exit_code: int | None, advice: str) -> Failure:
    """Describe the failure of a unit of work whose process ended without a message.

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    exit_code
        Exit code of the process, negative for a signal; None if it is not known.
    advice
        What the user can do if memory was short.
    """
    # The system kills a process (SIGKILL) when memory runs out. Lack of threads has another exit
    # code, because the libraries that cannot start threads end the process themselves.
    lacking = shortage(os.cpu_count() or 1) if exit_code != -signal.SIGKILL else None
    if lacking is not None:
        return Failure(
            label, f"its process ended early, probably for lack of threads: {lacking}", 1
        )
    return Failure(label, f"its process was killed, most often for lack of memory: {advice}", 1)
