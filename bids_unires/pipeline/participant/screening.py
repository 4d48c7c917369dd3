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
from numpy.typing import NDArray

from ...config import RunConfig
from ...dataset.entities import listing
from ...model.fit.scans import noise_of_scan
from ..inspection.slices import find_damaged, unevenness
from .acquired import AcquiredContrast, AcquiredScan

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
            "%s: even slices are %.1f %% %s than odd ones; this is corrected "
            "(--no-interleave-correction prevents it)",
            name,
            100 * abs(np.expm1(2 * excess)),
            "brighter" if excess > 0 else "darker",
        )
    return bool(uneven)


def _unevenness(scan: AcquiredScan) -> float:
    return unevenness(_slices(scan), noise_of_scan(scan.volume, "MR"))


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
    return find_damaged(_slices(scan), noise_of_scan(scan.volume, "MR"))


def _slices(scan: AcquiredScan) -> NDArray[np.float32]:
    return np.moveaxis(scan.volume.data, scan.acquisition.slice_axis, 0)
