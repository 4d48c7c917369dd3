"""A unit of work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..config import RunConfig


class UnitOfWork(Protocol):
    """What is done as a whole or not at all: one stage of a participant, or of a session."""

    @property
    def label(self) -> str:
        """``sub-01`` or ``sub-01_ses-a``."""

    @property
    def stage(self) -> str:
        """What is done with it; records of one stage share a folder of this name."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that results are written to, relative to that of all results."""

    @property
    def inputs(self) -> Iterable[tuple[str, Path]]:
        """Names and paths of the files that results depend on."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else of the data results depend on; JSON or nearly so."""

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """Everything of a configuration that results depend on, by name."""
