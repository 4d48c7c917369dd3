"""The object in sidecars that tells how the program made a file; nobody else reads or writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..dataset.derivatives import MAX_RESULT_SIDECAR_BYTES
from ..dataset.metadata import load_object
from .entries import VersionedRecord

_KEY = "UniRes"


@dataclass(frozen=True, eq=False)
class SidecarRecord(VersionedRecord):
    """What a sidecar tells, beside what BIDS defines, of how its file was made."""

    @classmethod
    def of_sidecar(cls, sidecar: Mapping[str, Any]) -> Self:
        """Take the record out of a sidecar; see `from_json`."""
        return cls.from_json(sidecar.get(_KEY))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record in a sidecar; see `from_json`.

        Raises
        ------
        SidecarError
            If the file is not there, or no sidecar.
        """
        return cls.of_sidecar(load_object(path, MAX_RESULT_SIDECAR_BYTES))

    def in_sidecar(self, sidecar: Mapping[str, Any]) -> dict[str, Any]:
        """A sidecar with this record in it, in the place of one that is there."""
        return {**sidecar, _KEY: self.to_json()}
