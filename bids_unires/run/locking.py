"""One process at a time on one unit of work."""

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

    The kernel drops the lock with the process, however that ends. On network file systems
    it binds the processes of one machine at least, those of several where the server and the
    mount support it; where there are no locks at all the block runs without.

    Parameters
    ----------
    path
        File to lock, made and removed here.
    of
        What the lock stands for, to be named when another process has it.

    Raises
    ------
    OutputError
        If another process holds the lock, or the file cannot be created.
    """
    descriptor = _lock(path, of)
    try:
        yield
    finally:
        # Before the lock is dropped: afterwards the file may be that of another process.
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
            # Its last holder removed it between our opening and locking it.
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
