"""What a job on a cluster may use, as files for other programs state it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from .given_options import GivenOption


@dataclass(frozen=True)
class Job:
    """A job that processes one participant.

    Parameters
    ----------
    cores
        Number of cores of the CPU.
    memory_gb
        Memory in GB.
    hours
        Longest duration in hours.
    gpu
        Whether the job has a GPU.
    bids_dir
        Folder or URL of the raw dataset; None if it is not known.

    Raises
    ------
    UsageError
        If a number is not above 0.
    """

    cores: int = 4
    memory_gb: int = 8
    hours: int = 1
    gpu: bool = False
    bids_dir: str | None = None

    def __post_init__(self) -> None:
        for name in ("cores", "memory_gb", "hours"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be above 0, got {getattr(self, name)}")

    @property
    def time(self) -> str:
        """Longest duration, as Slurm spells it."""
        return f"{self.hours:02d}:00:00"

    @property
    def options(self) -> tuple[GivenOption, ...]:
        """The options that tell the program what it may use."""
        return (
            GivenOption("--omp-nthreads", self.cores),
            GivenOption("--mem-mb", self.memory_gb * 1000),
        )
