"""The order in which the slices of a scan were acquired, from its sidecar."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...model.scanner.slice_groups import SliceOrder, order_of_times, usual_order
from ...model.slice_motion.solve import THICK
from .acquired import AcquiredContrast, AcquiredScan

logger = logging.getLogger("bids_unires")


def slice_orders(contrasts: Sequence[AcquiredContrast]) -> list[list[SliceOrder | None]]:
    """The order of the slices of every 2-D scan, (contrast, repeat).

    It is taken from ``SliceTiming`` if the sidecar has it. A scan that was not acquired slice by
    slice has no order; this is logged.
    """
    return [
        [_order(scan, acquired.contrast.modality == "CT") for scan in acquired.scans]
        for acquired in contrasts
    ]


def _order(scan: AcquiredScan, is_ct: bool) -> SliceOrder | None:
    axis = scan.acquisition.slice_axis
    sizes = scan.volume.grid.voxel_size
    thin = sizes[axis] < THICK * np.delete(sizes, axis).max()
    reason = ""
    if is_ct:
        reason = "CT"
    elif scan.acquisition.dimensionality == "3D":
        reason = "3D acquisition"
    elif scan.acquisition.dimensionality == "unknown" and thin:
        reason = "thin slices and no MRAcquisitionType, taken for 3D"
    if reason:
        logger.info("%s: its slices stay together (%s)", scan.scan.path.name, reason)
        return None
    count = scan.volume.grid.shape[axis]
    times = _slice_times(scan.scan.metadata, count)
    if times is None:
        return usual_order(count)
    return order_of_times(times, "SliceTiming")


def _slice_times(metadata: Mapping[str, Any], count: int) -> list[float] | None:
    """Time (s) of every slice, in the order of the image; None if no valid times are stated."""
    stated = metadata.get("SliceTiming")
    if stated is None:
        return None
    numbers = isinstance(stated, list) and all(
        isinstance(time, int | float) and not isinstance(time, bool) and np.isfinite(time)
        for time in stated
    )
    if not numbers or len(stated) != count or len(set(stated)) < 2:
        logger.warning("SliceTiming is not one time for each of %d slices; it is not used", count)
        return None
    # If the slice encoding direction is opposite to the image axis, the first time is that of the
    # last slice.
    backwards = str(metadata.get("SliceEncodingDirection", "")).endswith("-")
    return [float(time) for time in (reversed(stated) if backwards else stated)]
