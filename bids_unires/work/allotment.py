"""What a unit of work may use of the machine that it is done on, and what it did use."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Allotment:
    """What one unit of work may use, beside those that are done at the same time.

    Parameters
    ----------
    device
        Where it computes: ``cpu``, ``cuda:N``, or ``auto`` for a GPU if there is one.
    threads
        How many, at least 1.
    memory
        In bytes; a fit that is estimated to need more is refused.
    """

    device: str
    threads: int
    memory: int


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
