"""A look at the slices before the fit, which turns remedies on where they are needed.

A robust fit takes longer, and of clean scans it makes about the same images; see the README. So
``--robust`` is used only where a look of about a second for each scan finds a slice whose
brightness jumps, or that has stripes; ``--interleave-correction`` where odd and even slices differ.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...config import RunConfig
from ...dataset.entities import listing
from ...model.fit.scans import noise_of_scan
from ...model.scanner.interleave import estimate_interleave
from ..inspection.slices import find_damaged
from .acquired import AcquiredContrast, AcquiredScan

# Logarithm of the factor of even slices. Of 14 clean stacks, halves have at most 0.005; in one of a
# clinical session, even slices are 4 % brighter (0.02), which shows as stripes across the slices.
_UNEVEN = 0.01

logger = logging.getLogger("bids_unires")


def screened(contrasts: Sequence[AcquiredContrast], config: RunConfig) -> RunConfig:
    """The configuration for a participant, with the remedies that its slices need.

    The fit is robust if slices of a scan are damaged, and evens out the brightness of slices if odd
    and even ones of a scan differ. Unchanged if the user decided, or if all scans seem clean. What
    is found is logged.

    Parameters
    ----------
    contrasts
        The scans. Those of CT are not looked at: their slices are calibrated.
    config
        The configuration of the run.

    Raises
    ------
    BadDataError
        If a scan has no contrast or is too small. The message names its file.
    """
    scans = [
        scan
        for contrast in contrasts
        if contrast.contrast.modality == "MR"
        for scan in contrast.scans
    ]
    model = config.model
    if config.may_even_slices:
        model = replace(model, interleave_correction=_some_are_uneven(scans))
    if config.may_become_robust:
        model = replace(model, robust=_some_are_damaged(scans))
    return config if model == config.model else replace(config, model=model)


def _some_are_uneven(scans: Sequence[AcquiredScan]) -> bool:
    uneven = {scan.scan.path.name: excess for scan in scans if (excess := _unevenness(scan))}
    for name, excess in uneven.items():
        logger.info(
            "%s: even slices are %.1f %% %s than odd ones, which is corrected "
            "(--no-interleave-correction: it is not)",
            name,
            100 * abs(np.expm1(2 * excess)),
            "brighter" if excess > 0 else "darker",
        )
    return bool(uneven)


def _unevenness(scan: AcquiredScan) -> float:
    """Logarithm of the factor of even slices if it is large in both halves of the stack; else 0."""
    slices = np.moveaxis(scan.volume.data, scan.acquisition.slice_axis, 0)
    halfway = noise_of_scan(scan.volume, "MR").halfway
    # The second half starts with an even slice, too.
    middle = len(slices) // 4 * 2
    halves = [estimate_interleave(half, 0, halfway) for half in (slices[:middle], slices[middle:])]
    least = min(halves, key=abs)
    agree = halves[0] * halves[1] > 0
    return float(np.mean(halves)) if agree and abs(least) > _UNEVEN else 0.0


def _some_are_damaged(scans: Sequence[AcquiredScan]) -> bool:
    damaged = {scan.scan.path.name: slices for scan in scans if (slices := _damaged(scan))}
    if not damaged:
        return False
    found = (f"{name} {listing(map(str, slices), most=8)}" for name, slices in damaged.items())
    logger.warning(
        "slices seem damaged (counted from 0): %s; the fit is robust, as with --robust: look what "
        "became of them, and use --no-robust if they are sound",
        "; ".join(found),
    )
    return True


def _damaged(scan: AcquiredScan) -> tuple[int, ...]:
    slices = np.moveaxis(scan.volume.data, scan.acquisition.slice_axis, 0)
    return find_damaged(slices, noise_of_scan(scan.volume, "MR"))
