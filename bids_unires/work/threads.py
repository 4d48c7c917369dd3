"""How many more threads and processes may be started, and what to do where that is too few."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

from . import control_groups

# Pools of several libraries, each with as many threads as are asked for, and a few of their own.
POOLS_PER_PARTICIPANT = 8


def shortage(threads: int) -> str | None:
    """Say that too few threads may be started, and what helps; None where there are enough.

    Parameters
    ----------
    threads
        Threads that all participants at once are to use together.
    """
    left = min([*_left_to_user(), *_left_to_group()], default=None)
    if left is None or left[0] >= POOLS_PER_PARTICIPANT * threads:
        return None
    return (
        f"{left[1]}, of which {max(left[0], 0)} are left: give --omp-nthreads 1 and --nprocs 1, or "
        "have that limit raised"
    )


def is_lack_of_threads(error: BaseException) -> bool:
    """Whether an exception says that the system let no more threads or processes start."""
    if isinstance(error, OSError):
        return error.errno == errno.EAGAIN and error.filename is None
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _left_to_user() -> list[tuple[int, str]]:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # The limit is not for root.
    if limit == resource.RLIM_INFINITY or os.getuid() == 0:
        return []
    return [(limit - _threads_of(os.getuid()), f"ulimit -u allows {limit} threads and processes")]


def _threads_of(user: int) -> int:
    """Threads of all processes of a user that can be seen."""
    count = 0
    for process in Path("/proc").iterdir():
        # It may end while it is looked at.
        with suppress(OSError):
            if process.name.isdecimal() and process.stat().st_uid == user:
                count += sum(1 for _ in (process / "task").iterdir())
    return count


def _left_to_group() -> list[tuple[int, str]]:
    return [
        (most - now, f"the container or job may have {most} threads and processes")
        for now, most in control_groups.threads_and_limits()
    ]
