"""The object ``UniRes`` in sidecars, in which this program records how it made a file."""

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
    """The record in a sidecar of how its file was made, in addition to the fields of BIDS."""

    @classmethod
    def of_sidecar(cls, sidecar: Mapping[str, Any]) -> Self:
        """Read the record from the content of a sidecar; see `from_json`."""
        return cls.from_json(sidecar.get(_KEY))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record from a sidecar file; see `from_json`.

        Raises
        ------
        SidecarError
            If the file does not exist, or is no sidecar.
        """
        return cls.of_sidecar(load_object(path, MAX_RESULT_SIDECAR_BYTES))

    def in_sidecar(self, sidecar: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a sidecar with this record added; it replaces an existing record."""
        return {**sidecar, _KEY: self.to_json()}
