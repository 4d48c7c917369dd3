"""Slices that may have moved: their order from the sidecars, and their motion in ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..geometry import Grid, apply_affine, centre_of
from ..model.slice_groups import SliceMotion, SliceOrder, order_of_times, usual_order
from ..model.slice_motion import THICK, SlicePlans
from ..model.slice_pose import motions_of, reach
from .acquired import AcquiredContrast, AcquiredScan

logger = logging.getLogger("bids_unires")


def slice_orders(contrasts: Sequence[AcquiredContrast]) -> SlicePlans:
    """The order of the slices of every 2-D scan, (contrast, repeat).

    ``SliceTiming`` has it where it is stated. A scan that was not acquired slice by slice has
    none, which is logged.
    """
    return [
        [_order(scan, acquired.contrast.modality == "CT") for scan in acquired.scans]
        for acquired in contrasts
    ]


def motion_record(motion: SliceMotion, stack: Grid) -> dict[str, Any]:
    """How slices moved, for a sidecar.

    Parameters
    ----------
    motion
        Of the slices of one scan.
    stack
        The scan's grid: translations are those of its centre, in mm along the axes of its
        world, and rotations are about it, as vectors in degrees.
    """
    centre = centre_of(stack)
    groups = [
        {
            "Slices": list(group),
            "Translation": (apply_affine(matrix, centre) - centre).tolist(),
            "Rotation": Rotation.from_matrix(matrix[:3, :3]).as_rotvec(degrees=True).tolist(),
            "Matrix": matrix.tolist(),
        }
        for group, matrix in zip(motion.groups, motion.motions, strict=True)
    ]
    return {
        "Order": motion.source,
        "LargestDisplacement": largest_motion(motion, stack),
        "Groups": groups,
    }


def motion_from_record(record: object, count: int) -> SliceMotion | None:
    """How slices moved, as `motion_record` has put it.

    Parameters
    ----------
    record
        What a sidecar says; anything else than a record of a stack is no motion.
    count
        Number of slices of the stack.
    """
    try:
        groups = [tuple(int(index) for index in group["Slices"]) for group in record["Groups"]]  # type: ignore[index]
        matrices = [np.array(group["Matrix"], dtype=np.float64) for group in record["Groups"]]  # type: ignore[index]
        source = str(record["Order"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return None
    whole = sorted(index for group in groups for index in group) == list(range(count))
    if not whole or any(matrix.shape != (4, 4) for matrix in matrices):
        return None
    return SliceMotion(tuple(groups), tuple(matrices), source)


def largest_motion(motion: SliceMotion, stack: Grid) -> float:
    """How far (mm, root mean square over the head) the group lay that moved most."""
    return float(reach(motions_of(motion.motions, np.eye(4), stack)).max())


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
    """Time (s) of every slice in the order of the image; None where nothing usable is stated."""
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
    # Of an axis that runs against the image's the last slice comes first.
    backwards = str(metadata.get("SliceEncodingDirection", "")).endswith("-")
    return [float(time) for time in (reversed(stated) if backwards else stated)]
