"""How many more threads and processes the system allows, and advice where these are too few."""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

from . import control_groups

# Several libraries have a thread pool of the requested size, and start a few more threads.
POOLS_PER_PARTICIPANT = 8


def shortage(threads: int) -> str | None:
    """Check whether the system allows enough threads.

    Parameters
    ----------
    threads
        Number of threads that all participants processed at the same time use together.

    Returns
    -------
    str or None
        What limits the number of threads, and what to do; None if enough threads are allowed.
    """
    left = min([*_left_to_user(), *_left_to_group()], default=None)
    if left is None or left[0] >= POOLS_PER_PARTICIPANT * threads:
        return None
    return (
        f"{left[1]}, of which {max(left[0], 0)} are left: give --omp-nthreads 1 and --nprocs 1, or "
        "have that limit raised"
    )


def is_lack_of_threads(error: BaseException) -> bool:
    """Whether an exception means that no more threads or processes could be started."""
    if isinstance(error, OSError):
        return error.errno == errno.EAGAIN and error.filename is None
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _left_to_user() -> list[tuple[int, str]]:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # This limit does not apply to root.
    if limit == resource.RLIM_INFINITY or os.getuid() == 0:
        return []
    return [(limit - _threads_of(os.getuid()), f"ulimit -u allows {limit} threads and processes")]


def _threads_of(user: int) -> int:
    """Number of threads of all processes of a user that are visible here."""
    count = 0
    for process in Path("/proc").iterdir():
        # A process may end while its files are read.
        with suppress(OSError):
            if process.name.isdecimal() and process.stat().st_uid == user:
                count += sum(1 for _ in (process / "task").iterdir())
    return count


def _left_to_group() -> list[tuple[int, str]]:
    return [
        (most - now, f"the container or job may have {most} threads and processes")
        for now, most in control_groups.threads_and_limits()
    ]
