"""The interface of a unit of work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..config import RunConfig


class UnitOfWork(Protocol):
    """One stage of processing of a participant or session; it succeeds or fails as a whole."""

    @property
    def label(self) -> str:
        """``sub-01`` or ``sub-01_ses-a``."""

    @property
    def stage(self) -> str:
        """Name of the stage, which is also the name of the folder of its records."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that results are written to, relative to the output folder."""

    @property
    def inputs(self) -> Iterable[tuple[str, Path]]:
        """Names and paths of the input files that the results depend on."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Further input data that the results depend on, in types that JSON can hold."""

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The settings in a configuration that the results depend on, by name."""
