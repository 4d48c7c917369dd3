"""The memory that a fit needs, estimated before it starts."""

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

# Interpreter, libraries and compiled kernels, in bytes.
_BASE_MEMORY = 700 * 2**20
# Image-sized float32 arrays of the solver: for each contrast, for all contrasts together, and
# scan-sized ones for each scan.
_ARRAYS_PER_CONTRAST = 7
_SHARED_ARRAYS = 6
_ARRAYS_PER_SCAN = 6
# Arrays of learned detail, each with one value for each of its voxels.
_ARRAYS_PER_THIN_VOXEL = 8
# More of both where small lesions are put into the scans.
_LESION_ARRAYS_PER_CONTRAST = 4
_LESION_ARRAYS_PER_THIN_VOXEL = 8
# Image-sized arrays of sampling, which comes after the solver.
_SAMPLING_ARRAYS_PER_CONTRAST = 5
_SAMPLING_SHARED_ARRAYS = 22


@dataclass(frozen=True, eq=False)
class MemoryNeed:
    """The memory that a fit needs.

    Parameters
    ----------
    grid
        Grid of the images, with its margin.
    contrast_count
        Number of contrasts.
    scans
        The scans of all contrasts.
    samples_uncertainty
        Whether standard deviations are estimated.
    thin_voxels
        Number of voxels of the detail that is to be learned.
    puts_lesions
        Whether small lesions are put into the scans.
    """

    grid: Grid
    contrast_count: int
    scans: Sequence[Observation]
    samples_uncertainty: bool = False
    thin_voxels: int = 0
    puts_lesions: bool = False

    @property
    def on_device(self) -> int:
        """Bytes of images and scans on the device of the fit."""
        arrays = _ARRAYS_PER_CONTRAST * self.contrast_count + _SHARED_ARRAYS
        thin_arrays = _ARRAYS_PER_THIN_VOXEL
        if self.puts_lesions:
            arrays += _LESION_ARRAYS_PER_CONTRAST * self.contrast_count
            thin_arrays += _LESION_ARRAYS_PER_THIN_VOXEL
        if self.samples_uncertainty:
            sampling = _SAMPLING_ARRAYS_PER_CONTRAST * self.contrast_count
            arrays = max(arrays, sampling + _SAMPLING_SHARED_ARRAYS)
        largest_intermediate = max(
            math.prod(intermediate_grid(self.grid, scan.grid, scan.profile).grid.shape)
            for scan in self.scans
        )
        scanned = sum(math.prod(scan.grid.shape) for scan in self.scans)
        values = (
            arrays * math.prod(self.grid.shape)
            + _ARRAYS_PER_SCAN * scanned
            + thin_arrays * self.thin_voxels
            + 2 * largest_intermediate
        )
        return 4 * values

    @property
    def of_process(self) -> int:
        """Bytes of the process if the fit runs on the CPU."""
        return _BASE_MEMORY + self.on_device


def check_memory(need: MemoryNeed, limit: int | None) -> None:
    """Refuse a fit that needs more memory than allowed.

    Parameters
    ----------
    need
        The memory that the fit needs.
    limit
        Bytes that may be used; None for no limit.

    Raises
    ------
    BadDataError
        If the estimate is above the limit.
    """
    needed, shape = need.of_process, need.grid.shape
    logger.debug("memory estimate: %.1f GiB for a grid of %s", needed / 2**30, shape)
    if limit is not None and needed > limit:
        count = need.contrast_count
        raise BadDataError(
            f"a grid of {' x '.join(map(str, shape))} voxels for {count} "
            f"contrast{'s' if count > 1 else ''} needs about {needed / 2**30:.1f} GiB of "
            f"memory and {limit / 2**30:.1f} GiB may be used: choose a larger voxel size, or give "
            "more memory"
        )


def has_room_to_learn(need: MemoryNeed, limit: int | None) -> bool:
    """Whether detail can be learned within ``limit`` bytes; if not, it warns."""
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


def has_room_for_lesions(need: MemoryNeed, limit: int | None) -> bool:
    """Whether there is memory to put small lesions into the scans; if not, that is logged."""
    if limit is None or need.of_process <= limit or not need.puts_lesions:
        return True
    logger.info(
        "what small lesions would become is not told: that would need about %.1f GiB of memory",
        need.of_process / 2**30,
    )
    return False


def device_with_room(device: torch.device, need: MemoryNeed) -> torch.device:
    """The device, or the CPU if a GPU has too little free memory."""
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
