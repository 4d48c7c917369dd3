"""Recognise files of git-annex and git-lfs whose content is stored elsewhere."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# The pointer files of git-annex (unlocked files) and git-lfs start with one of these.
POINTER_PREFIXES = (b"/annex/objects/", b"version https://git-lfs")
# Largest size of a pointer file.
MAX_POINTER_BYTES = 4096


def unavailable(path: Path) -> str | None:
    """The reason, in words, why a file cannot be read; None if its content is here.

    Only the first bytes of small files are read.
    """
    try:
        status = path.stat()
    except OSError as error:
        if not path.is_symlink():
            return f"it cannot be read ({error.strerror})"
        target = os.readlink(path)
        if is_kept_by_git(target):
            return "its content is not here"
        return f"it is a link to {target}, which cannot be read ({error.strerror})"
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file"
    if status.st_size == 0:
        return "it is empty"
    if status.st_size > MAX_POINTER_BYTES:
        return None
    return "its content is not here" if is_pointer(path) else None


def is_kept_by_git(target: str) -> bool:
    """Whether a symbolic link with this target is a link of git-annex."""
    return bool({"annex", ".git"} & set(Path(target).parts))


def is_pointer(path: Path) -> bool:
    """Whether a file is a pointer of git-annex or git-lfs to content stored elsewhere."""
    try:
        with path.open("rb") as file:
            return file.read(32).startswith(POINTER_PREFIXES)
    except OSError:
        return False


def awaits_download(path: Path) -> bool:
    """Whether ``datalad get`` can fetch the content of a file."""
    return unavailable(path) == "its content is not here"
