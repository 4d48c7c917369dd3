"""How far scans had moved, in numbers that people know from motion plots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..space.affines import Affine, apply_affine
from ..space.grid import Grid, centre_of, corners

# Of the field of view, about what a head fills.
_HEAD_SHARE = 0.6


@dataclass(frozen=True)
class Motion:
    """Where the model put a scan, relative to where its file has it.

    Parameters
    ----------
    shift
        Of the middle of the images, in mm along x (right), y (anterior) and z (superior).
    rotation
        Vector along the axis of rotation, as long as its angle in degrees.
    scale
        1 but for scans that were aligned to a template by a similarity.
    displacement
        Mean distance in mm between the corners of a head-sized box before and after.
    """

    shift: tuple[float, float, float]
    rotation: tuple[float, float, float]
    scale: float
    displacement: float


def motion_of(pose: Affine, grid: Grid) -> Motion:
    """Describe a pose.

    Parameters
    ----------
    pose
        ``(4, 4)``, world mm -> world mm: a rotation, one scale for all axes and a shift.
    grid
        Of the images: its middle stands for that of the head.

    Examples
    --------
    >>> from ..space.affines import translation
    >>> motion = motion_of(translation([0, 3, 4]), Grid((9, 9, 9), np.eye(4)))
    >>> motion.shift, motion.displacement
    ((0.0, 3.0, 4.0), 5.0)
    """
    centre = centre_of(grid)
    box = centre + _HEAD_SHARE * (apply_affine(grid.affine, corners(grid.shape, 0.5)) - centre)
    scale = float(np.cbrt(np.linalg.det(pose[:3, :3])))
    # By way of the inverse, since the middle is known in the space of the images.
    back = np.linalg.inv(pose)
    moved = np.linalg.norm(apply_affine(back, box) - box, axis=-1)
    return Motion(
        _triple(centre - apply_affine(back, centre)),
        _triple(_rotation_vector(pose[:3, :3] / scale)),
        scale,
        float(moved.mean()),
    )


def _rotation_vector(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """In degrees, ``(3,)``."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotation).as_rotvec(degrees=True))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
