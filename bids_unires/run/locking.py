"""A lock that lets only one process at a time work on a unit of work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError


@contextmanager
def sole_use(path: Path, of: str) -> Iterator[None]:
    """Hold a lock while the block runs.

    The operating system releases the lock when the process ends, for whatever reason. On network
    file systems, the lock works among the processes of one machine, and among several machines if
    the server and the mount support it. On a file system without locks, the block runs without a
    lock.

    Parameters
    ----------
    path
        File to lock, which is created and removed here.
    of
        What is locked, for the error message if another process holds the lock.

    Raises
    ------
    OutputError
        If another process holds the lock, or the file cannot be created.
    """
    descriptor = _lock(path, of)
    try:
        yield
    finally:
        # Removed before the lock is released: afterwards another process may have locked it.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock(path: Path, of: str) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise OutputError(
                    f"another process is working on {of}: wait for it, or stop it first"
                ) from None
            except OSError:
                return descriptor
            if _is_at(path, descriptor):
                return descriptor
            # The last holder removed the file after this process opened it and before it locked it.
            os.close(descriptor)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be created: {error.strerror or error}") from error


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
