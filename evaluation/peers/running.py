"""Run a program, with the time and memory that it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")


@dataclass(frozen=True)
class Run:
    """What a program took.

    Attributes
    ----------
    seconds
        Wall time in s.
    processor_seconds
        Time in s of all processors, with that of the processes that it waited for.
    peak_mib
        Most memory that its largest process held at once, in MiB.
    threads, cores
        Threads that it was allowed, and cores of the machine.
    date
        Day on which it ended, as ISO 8601.
    """

    seconds: float
    processor_seconds: float
    peak_mib: float
    threads: int
    cores: int
    date: str

    def save(self, path: Path) -> None:
        """Write it as JSON; the file is there as a whole, or not at all."""
        written = path.with_suffix(".part")
        written.write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")
        written.replace(path)

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text("utf-8")))


def run(words: Sequence[str], log: Path, threads: int) -> Run:
    """Run a program to its end.

    Parameters
    ----------
    words
        Its command line.
    log
        File for what it prints.
    threads
        Threads that it may use, as OpenMP and ITK are told.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
    }
    used = log.with_suffix(".used")
    launcher = [sys.executable, "-S", str(LAUNCHER), str(used)]
    began = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [*launcher, *words], stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{Path(words[0]).name} ended with {done.returncode}; see {log}")
    return Run(
        seconds=round(time.perf_counter() - began, 1),
        threads=threads,
        cores=os.cpu_count() or 1,
        date=time.strftime("%Y-%m-%d"),
        **json.loads(used.read_text("utf-8")),
    )
