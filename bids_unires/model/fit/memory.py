"""How much memory a fit takes, before it starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

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


def check_memory(
    grid: Grid,
    contrasts: Sequence[Sequence[Observation]],
    limit: int | None,
    *,
    sampled: bool = False,
    thin_voxels: int = 0,
) -> None:
    """Refuse a fit that would not fit; see `memory_estimate` for what it takes.

    Raises
    ------
    BadDataError
        If the estimate in bytes is above ``limit``.
    """
    needed = _needed(grid, contrasts, sampled, thin_voxels)
    logger.debug("memory estimate: %.1f GiB for a grid of %s", needed / 2**30, grid.shape)
    if limit is not None and needed > limit:
        raise BadDataError(
            f"a grid of {' x '.join(map(str, grid.shape))} voxels for {len(contrasts)} "
            f"contrast{'s' if len(contrasts) > 1 else ''} needs about {needed / 2**30:.1f} GiB of "
            f"memory and {limit / 2**30:.1f} GiB may be used: choose a larger voxel size, or give "
            "more memory"
        )


def has_room_to_learn(
    grid: Grid,
    contrasts: Sequence[Sequence[Observation]],
    limit: int | None,
    *,
    sampled: bool,
    thin_voxels: int,
) -> bool:
    """Whether detail can be learned within ``limit`` bytes; a warning where it cannot."""
    needed = _needed(grid, contrasts, sampled, thin_voxels)
    if limit is None or needed <= limit or not thin_voxels:
        return True
    logger.warning(
        "with detail that is learned within slices the fit would need about %.1f GiB of memory and "
        "%.1f GiB may be used: it does without",
        needed / 2**30,
        limit / 2**30,
    )
    return False


def _needed(
    grid: Grid, contrasts: Sequence[Sequence[Observation]], sampled: bool, thin_voxels: int
) -> int:
    """Bytes that the process needs with a fit on the CPU."""
    estimate = memory_estimate(grid, contrasts, sampled=sampled, thin_voxels=thin_voxels)
    return _BASE_MEMORY + estimate


def memory_estimate(
    grid: Grid,
    contrasts: Sequence[Sequence[Observation]],
    *,
    sampled: bool = False,
    thin_voxels: int = 0,
) -> int:
    """Bytes that images and scans of a fit take on the device it runs on.

    Parameters
    ----------
    grid, contrasts
        What is fitted.
    sampled
        Whether standard deviations are wanted too.
    thin_voxels
        Of the detail that is still to be learned of the scans.
    """
    scans = [scan for repeats in contrasts for scan in repeats]
    arrays = _ARRAYS_PER_CONTRAST * len(contrasts) + _SHARED_ARRAYS
    if sampled:
        sampling = _SAMPLING_ARRAYS_PER_CONTRAST * len(contrasts) + _SAMPLING_SHARED_ARRAYS
        arrays = max(arrays, sampling)
    largest_intermediate = max(
        math.prod(intermediate_grid(grid, scan.grid, scan.profile).grid.shape) for scan in scans
    )
    values = (
        arrays * math.prod(grid.shape)
        + _ARRAYS_PER_SCAN * (sum(math.prod(scan.grid.shape) for scan in scans) + thin_voxels)
        + 2 * largest_intermediate
    )
    return 4 * values


def device_with_room(
    device: torch.device,
    grid: Grid,
    contrasts: Sequence[Sequence[Observation]],
    *,
    sampled: bool = False,
    thin_voxels: int = 0,
) -> torch.device:
    """The device, or the CPU where a GPU has too little memory free."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    needed = memory_estimate(grid, contrasts, sampled=sampled, thin_voxels=thin_voxels)
    if needed <= free:
        return device
    logger.warning(
        "%s has %.1f GiB of memory free and about %.1f GiB are needed; the CPU takes over",
        device,
        free / 2**30,
        needed / 2**30,
    )
    return torch.device("cpu")
