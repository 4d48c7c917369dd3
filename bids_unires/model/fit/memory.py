"""How much memory a fit takes, before it starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...errors import BadDataError
from ...space.grid import Grid
from ..scanner.forward import intermediate_grid
from ..scanner.observation import Observation

logger = logging.getLogger("bids_unires")

# Interpreter, libraries and compiled kernels, before any image.
_BASE_MEMORY = 700 * 2**20
# Image-sized float32 arrays the solver holds for each contrast, and once.
_ARRAYS_PER_CONTRAST = 7
_SHARED_ARRAYS = 6
_ARRAYS_PER_SCAN = 6
# The same of sampling, which comes after the solver.
_SAMPLING_ARRAYS_PER_CONTRAST = 5
_SAMPLING_SHARED_ARRAYS = 22


@dataclass(frozen=True, eq=False)
class MemoryNeed:
    """How much memory a fit takes.

    Parameters
    ----------
    grid
        Grid of the images, with its margin.
    contrasts
        For each contrast its scans.
    samples_uncertainty
        Whether standard deviations are wanted, too.
    thin_voxels
        Of the detail that is still to be learned of the scans.
    """

    grid: Grid
    contrasts: Sequence[Sequence[Observation]]
    samples_uncertainty: bool = False
    thin_voxels: int = 0

    @property
    def on_device(self) -> int:
        """Bytes that images and scans take on the device the fit runs on."""
        scans = [scan for repeats in self.contrasts for scan in repeats]
        arrays = _ARRAYS_PER_CONTRAST * len(self.contrasts) + _SHARED_ARRAYS
        if self.samples_uncertainty:
            sampling = _SAMPLING_ARRAYS_PER_CONTRAST * len(self.contrasts)
            arrays = max(arrays, sampling + _SAMPLING_SHARED_ARRAYS)
        largest_intermediate = max(
            math.prod(intermediate_grid(self.grid, scan.grid, scan.profile).grid.shape)
            for scan in scans
        )
        scanned = sum(math.prod(scan.grid.shape) for scan in scans)
        values = (
            arrays * math.prod(self.grid.shape)
            + _ARRAYS_PER_SCAN * (scanned + self.thin_voxels)
            + 2 * largest_intermediate
        )
        return 4 * values

    @property
    def of_process(self) -> int:
        """Bytes that the process needs with the fit on the CPU."""
        return _BASE_MEMORY + self.on_device


def check_memory(need: MemoryNeed, limit: int | None) -> None:
    """Refuse a fit that would not fit into ``limit`` bytes.

    Raises
    ------
    BadDataError
        If the estimate is above the limit.
    """
    needed, shape = need.of_process, need.grid.shape
    logger.debug("memory estimate: %.1f GiB for a grid of %s", needed / 2**30, shape)
    if limit is not None and needed > limit:
        count = len(need.contrasts)
        raise BadDataError(
            f"a grid of {' x '.join(map(str, shape))} voxels for {count} "
            f"contrast{'s' if count > 1 else ''} needs about {needed / 2**30:.1f} GiB of "
            f"memory and {limit / 2**30:.1f} GiB may be used: choose a larger voxel size, or give "
            "more memory"
        )


def has_room_to_learn(need: MemoryNeed, limit: int | None) -> bool:
    """Whether detail can be learned within ``limit`` bytes; a warning where it cannot."""
    needed = need.of_process
    if limit is None or needed <= limit or not need.thin_voxels:
        return True
    logger.warning(
        "with detail that is learned within slices the fit would need about %.1f GiB of memory and "
        "%.1f GiB may be used: it does without",
        needed / 2**30,
        limit / 2**30,
    )
    return False


def device_with_room(device: torch.device, need: MemoryNeed) -> torch.device:
    """The device, or the CPU where a GPU has too little memory free."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    needed = need.on_device
    if needed <= free:
        return device
    logger.warning(
        "%s has %.1f GiB of memory free and about %.1f GiB are needed; the CPU takes over",
        device,
        free / 2**30,
        needed / 2**30,
    )
    return torch.device("cpu")
