"""A look at the slices before the fit, which turns ``--robust`` on where some are damaged.

A robust fit takes longer, and of clean scans it makes about the same images; see the README. So it
is used only where a look of about a second for each scan finds a slice whose brightness jumps, or
that has stripes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...config import RunConfig
from ...dataset.entities import listing
from ...model.fit.scans import noise_of_scan
from ..inspection.slices import find_damaged
from .acquired import AcquiredContrast, AcquiredScan

logger = logging.getLogger("bids_unires")


def screened(contrasts: Sequence[AcquiredContrast], config: RunConfig) -> RunConfig:
    """The configuration for a participant: with a robust fit if slices of a scan are damaged.

    Unchanged if the user decided, or if no scan seems damaged. What is found is logged.

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
    if not config.may_become_robust:
        return config
    damaged = {
        scan.scan.path.name: slices
        for contrast in contrasts
        if contrast.contrast.modality == "MR"
        for scan in contrast.scans
        if (slices := _damaged(scan))
    }
    if not damaged:
        return config
    found = (f"{name} {listing(map(str, slices), most=8)}" for name, slices in damaged.items())
    logger.warning(
        "slices seem damaged (counted from 0): %s; the fit is robust, as with --robust: look what "
        "became of them, and use --no-robust if they are sound",
        "; ".join(found),
    )
    return replace(config, model=replace(config.model, robust=True))


def _damaged(scan: AcquiredScan) -> tuple[int, ...]:
    slices = np.moveaxis(scan.volume.data, scan.acquisition.slice_axis, 0)
    return find_damaged(slices, noise_of_scan(scan.volume, "MR"))
