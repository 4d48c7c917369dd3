"""A look at the slices before the fit, which turns remedies on where they are needed.

A robust fit takes longer, and of clean scans it makes about the same images; see the README. So
``--robust`` is used only where a look of about a second for each scan finds a slice whose
brightness jumps, or that has stripes; ``--interleave-correction`` where odd and even slices differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...config import RunConfig
from ...dataset.entities import listing
from ...model.fit.scans import noise_of_scan
from ...model.intensity.noise import NoiseEstimate
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
    if not (config.may_even_slices or config.may_become_robust):
        return config
    noise = {scan: noise_of_scan(scan.volume, "MR") for scan in scans}
    model = config.model
    if config.may_even_slices:
        model = replace(model, interleave_correction=_some_are_uneven(noise))
    if config.may_become_robust:
        model = replace(model, robust=_some_are_damaged(noise))
    return config if model == config.model else replace(config, model=model)


def _some_are_uneven(scans: Mapping[AcquiredScan, NoiseEstimate]) -> bool:
    found = {scan.scan.path.name: unevenness(_slices(scan), noise) for scan, noise in scans.items()}
    uneven = {name: excess for name, excess in found.items() if excess}
    for name, excess in uneven.items():
        logger.info(
            "%s: even slices are %.1f %% %s than odd ones; this is corrected "
            "(--no-interleave-correction prevents it)",
            name,
            100 * abs(np.expm1(2 * excess)),
            "brighter" if excess > 0 else "darker",
        )
    return bool(uneven)


def _some_are_damaged(scans: Mapping[AcquiredScan, NoiseEstimate]) -> bool:
    looks = {
        scan.scan.path.name: find_damaged(_slices(scan), noise) for scan, noise in scans.items()
    }
    damaged = {name: slices for name, slices in looks.items() if slices}
    if not damaged:
        return False
    found = (f"{name} {listing(map(str, slices), most=8)}" for name, slices in damaged.items())
    logger.warning(
        "slices seem damaged (counted from 0): %s; the fit is robust, as with --robust: look what "
        "became of them, and use --no-robust if they are sound",
        "; ".join(found),
    )
    return True


def _slices(scan: AcquiredScan) -> NDArray[np.float32]:
    return np.moveaxis(scan.volume.data, scan.acquisition.slice_axis, 0)
