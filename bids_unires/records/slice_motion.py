"""How slices moved, in a sidecar and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..model.scanner.slice_groups import SliceMotion
from ..model.slice_motion.pose import motion_parameters, rms_displacement
from ..space.affines import apply_affine
from ..space.grid import Grid, centre_of


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
    return float(rms_displacement(motion_parameters(motion.motions, np.eye(4), stack)).max())
