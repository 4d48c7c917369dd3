"""What a program is told to do, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evaluation.peers.cases import Case
from evaluation.peers.environments import Environment


@dataclass(frozen=True)
class Job:
    """One image to make.

    Parameters
    ----------
    case
        The slices, of which a program may be told thickness and gap.
    scan
        NIfTI file of the scan.
    folder
        An empty folder for what the program writes.
    python
        The interpreter of the program's environment.
    """

    case: Case
    scan: Path
    folder: Path
    python: Path


@dataclass(frozen=True)
class Peer:
    """A program with settings.

    Parameters
    ----------
    name
        What tables call it.
    program
        Program and version.
    settings
        What it is told, in the words of the documentation.
    environment
        Where it runs; None for ours.
    words
        Its command line for a job; it may write files that the program reads into the folder.
    image
        Name of the image that it leaves in the folder of a job.
    """

    name: str
    program: str
    settings: str
    environment: Environment | None
    words: Callable[[Job], list[str]]
    image: str = "image.nii.gz"

    @property
    def folder(self) -> str:
        """Name of a folder for what it makes."""
        return self.name.lower().replace(",", "").replace(" ", "-")
