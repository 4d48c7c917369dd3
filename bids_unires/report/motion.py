"""Motion of scans as shifts and rotations, as motion plots usually show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..space.affines import Affine, apply_affine
from ..space.grid import Grid, centre_of, corners

# Fraction of each side of the field of view that a head fills, approximately.
_HEAD_SHARE = 0.6


@dataclass(frozen=True)
class Motion:
    """Position of a scan in the model, relative to its position in the file.

    Parameters
    ----------
    shift
        Shift of the middle of the images, in mm along x (right), y (anterior) and z (superior).
    rotation
        Vector along the axis of rotation; its length is the angle in degrees.
    scale
        1, except for scans that were aligned to a template by a similarity; without unit.
    displacement
        Mean displacement of the corners of a box of the size of a head, in mm.
    """

    shift: tuple[float, float, float]
    rotation: tuple[float, float, float]
    scale: float
    displacement: float


def motion_of(pose: Affine, grid: Grid) -> Motion:
    """Describe a pose by its shift, rotation, scale and displacement.

    Parameters
    ----------
    pose
        ``(4, 4)``, world mm -> world mm: a rotation, one scale for all axes and a shift.
    grid
        Grid of the images; its middle approximates that of the head.

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
    # The inverse is used because the middle is known in the world of the images.
    back = np.linalg.inv(pose)
    moved = np.linalg.norm(apply_affine(back, box) - box, axis=-1)
    return Motion(
        _triple(centre - apply_affine(back, centre)),
        _triple(_rotation_vector(pose[:3, :3] / scale)),
        scale,
        float(moved.mean()),
    )


def _rotation_vector(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation vector in degrees, ``(3,)``."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_matrix(rotation).as_rotvec(degrees=True))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
