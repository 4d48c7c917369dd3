"""The device, threads and memory that a unit of work may use, and the memory it has used."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Allotment:
    """The part of the machine that one unit of work may use while others run at the same time.

    Parameters
    ----------
    device
        Device for the computations: ``cpu``, ``cuda:N``, or ``auto`` for a GPU if there is one.
    threads
        Number of threads, at least 1.
    memory
        Memory in bytes. A fit whose estimated need is larger is refused.
    """

    device: str
    threads: int
    memory: int


def peak_memory() -> int:
    """Largest resident set size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
