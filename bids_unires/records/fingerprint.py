"""By what a file is known again."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .entries import text, whole


@dataclass(frozen=True)
class Fingerprint:
    """By what a file is known again.

    In JSON: ``SHA256``, ``Size`` and ``ModifiedNs``.

    Parameters
    ----------
    sha256
        Checksum of its content, in hexadecimal digits.
    size
        In bytes; None where that was not kept.
    modified_ns
        When it was last written to, in ns since 1970; None where that was not kept.
    """

    sha256: str
    size: int | None = None
    modified_ns: int | None = None

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """Take the fingerprint of a file.

        Raises
        ------
        OSError
            If it cannot be read, or is no regular file.
        """
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device might never end.
            raise OSError(errno.EINVAL, "no regular file", str(path))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(digest, status.st_size, status.st_mtime_ns)

    @classmethod
    def from_json(cls, content: object) -> Self | None:
        """Read a fingerprint; None where this is none."""
        stated = content if isinstance(content, Mapping) else {}
        digest = text(stated.get("SHA256"))
        if digest is None:
            return None
        return cls(digest, whole(stated.get("Size")), whole(stated.get("ModifiedNs")))

    def to_json(self) -> dict[str, Any]:
        """The fingerprint in the types of JSON."""
        return {"Size": self.size, "ModifiedNs": self.modified_ns, "SHA256": self.sha256}

    def is_of(self, path: Path) -> bool:
        """Whether a file is the one that this was taken of.

        By size and time; where only the time differs, as in a copy, or none is known, by content.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        status = path.stat()
        if self.size is not None and status.st_size != self.size:
            return False
        if self.modified_ns is not None and status.st_mtime_ns == self.modified_ns:
            return True
        return self.of_file(path).sha256 == self.sha256


def fingerprints(value: object) -> Mapping[str, Fingerprint] | None:
    """Read fingerprints by the names of their files; None where one of them is none."""
    if not isinstance(value, Mapping):
        return None
    found = {name: Fingerprint.from_json(one) for name, one in value.items()}
    usable = {name: one for name, one in found.items() if one is not None}
    return usable if len(usable) == len(found) else None
