"""Whether the content of a file is here, or only a stand-in for it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

# What git-annex (unlocked files) and git-lfs put in place of a file starts with one of these.
POINTER_PREFIXES = (b"/annex/objects/", b"version https://git-lfs")
# No stand-in is larger.
MAX_POINTER_BYTES = 4096


def unavailable(path: Path) -> str | None:
    """Why a file cannot be read, in words; None if its content is here.

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
    """Whether a link that leads there is one of git-annex."""
    return bool({"annex", ".git"} & set(Path(target).parts))


def is_pointer(path: Path) -> bool:
    """Whether a file only names content that git-annex or git-lfs keeps elsewhere."""
    try:
        with path.open("rb") as file:
            return file.read(32).startswith(POINTER_PREFIXES)
    except OSError:
        return False


def awaits_download(path: Path) -> bool:
    """Whether ``datalad get`` would bring the content of a file."""
    return unavailable(path) == "its content is not here"
