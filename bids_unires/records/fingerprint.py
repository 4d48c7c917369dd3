"""The fingerprint of a file: checksum, size and time of its last change."""

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
    """Checksum, size and time of a file, by which a later run recognises it.

    In JSON: ``SHA256``, ``Size`` and ``ModifiedNs``.

    Parameters
    ----------
    sha256
        SHA-256 checksum of the content, in hexadecimal digits.
    size
        Size in bytes; None if it was not recorded.
    modified_ns
        Time of the last change, in ns since 1970; None if it was not recorded.
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
            If the file cannot be read, or is no regular file.
        """
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device may never end.
            raise OSError(errno.EINVAL, "no regular file", str(path))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(digest, status.st_size, status.st_mtime_ns)

    @classmethod
    def from_json(cls, content: object) -> Self | None:
        """Read a fingerprint; None if the content is no fingerprint."""
        stated = content if isinstance(content, Mapping) else {}
        digest = text(stated.get("SHA256"))
        if digest is None:
            return None
        return cls(digest, whole(stated.get("Size")), whole(stated.get("ModifiedNs")))

    def to_json(self) -> dict[str, Any]:
        """The fingerprint in the types of JSON."""
        return {"Size": self.size, "ModifiedNs": self.modified_ns, "SHA256": self.sha256}

    def is_of(self, path: Path) -> bool:
        """Whether this is the fingerprint of a file.

        Size and time are compared. If the time differs, as it does for a copy, or is not recorded,
        the checksum is compared too.

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
    """Read fingerprints by the names of their files; None if one of them is not valid."""
    if not isinstance(value, Mapping):
        return None
    found = {name: Fingerprint.from_json(one) for name, one in value.items()}
    usable = {name: one for name, one in found.items() if one is not None}
    return usable if len(usable) == len(found) else None
