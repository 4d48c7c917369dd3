"""What one participant may use, and what it did use."""

from __future__ import annotations

import os
import resource
import sys

from ..config import RunConfig
from ..run import control_groups


def memory_limit(config: RunConfig) -> int:
    """Bytes a participant may use: its share of ``--mem-mb``, or of the memory there is."""
    if config.mem_mb is not None:
        return config.mem_mb * 10**6 // config.nprocs
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(machine, control_groups.memory_limit() or machine) // config.nprocs


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
