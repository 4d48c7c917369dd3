"""Slice profiles: the sensitivity of a scan voxel along each axis, and the slice gap.

The weights are the profile of the excited slice convolved with the linear (hat) basis in which
the image is interpolated. A weighted sum over voxels then equals the integral over the slice
(Brudfors et al. 2018, section 2.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...space.affines import slice_axis, voxel_size
from ...space.grid import Grid

Shape1D = Literal["rect", "triangle", "gauss", "dirac", "point"]
SHAPES: tuple[Shape1D, ...] = ("rect", "triangle", "gauss", "dirac", "point")
POINTS: tuple[Shape1D, ...] = ("dirac", "point")

# A scan voxel up to this much larger than a voxel of the image is treated as a point sample:
# deconvolving such a slight blur takes several times as long and amplifies noise.
NEARLY_EQUAL = 1.25

# A ratio that exceeds an integer by a rounding error (1.000007 from a DICOM header) must not be
# rounded up.
RATIO_TOLERANCE = 1e-4


@dataclass(frozen=True)
class SliceProfile:
    """Sensitivity of a scan voxel along its own axes.

    Parameters
    ----------
    in_plane
        Profile along the two in-plane axes. ``dirac`` and ``point`` sample points there:
        ``dirac`` of the trilinear interpolation of the image, ``point`` of the image itself,
        without the blur that interpolation adds between voxels.
    through_plane
        Profile along the slice axis.
    gap
        Fraction of the slice spacing that is not excited: 0.2 for 4 mm slices every 5 mm,
        negative for overlapping slices.
    axis
        Slice axis (0, 1 or 2); None for the axis of the largest voxel size.
    every
        The scan holds every n-th slice of a stack. The slice spacing of the stack, to which
        ``gap`` refers, is that of the scan divided by this n.

    Raises
    ------
    ValueError
        If a profile is unknown, the gap is not below 1, there is no such axis, or ``every`` is
        not at least 1.
    """

    in_plane: Shape1D = "gauss"
    through_plane: Shape1D = "rect"
    gap: float = 0.0
    axis: int | None = None
    every: int = 1

    def __post_init__(self) -> None:
        for name in (self.in_plane, self.through_plane):
            if name not in SHAPES:
                raise ValueError(f"slice profile must be one of {', '.join(SHAPES)}, got {name!r}")
        if not (math.isfinite(self.gap) and self.gap < 1):
            raise ValueError(f"slice gap must be a fraction below 1, got {self.gap}")
        if self.axis not in (None, 0, 1, 2):
            raise ValueError(f"slice axis must be 0, 1, 2 or None, got {self.axis}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")

    def slice_axis(self, source: Grid) -> int:
        """The slice axis of a scan on ``source``: the given one, else that of the largest side."""
        return slice_axis(source.affine) if self.axis is None else self.axis


def profile_weights(shape: Shape1D, width: float) -> NDArray[np.float64]:
    """Weights of a profile on the integers ``-limit .. limit``.

    Parameters
    ----------
    shape
        Profile; ``dirac`` and ``point`` give a single 1.
    width
        Full width at half maximum, in voxels of the intermediate grid.

    Returns
    -------
    ndarray
        ``(2 * limit + 1,)``. They add up to 1, except for the cut tails of a gauss (below 1e-4).

    Raises
    ------
    ValueError
        If the width of a profile that has one is not positive.

    Examples
    --------
    >>> profile_weights("rect", 2.0).tolist()
    [0.0, 0.25, 0.5, 0.25, 0.0]
    """
    if shape in POINTS:
        return np.ones(1)
    if not width > 0:
        raise ValueError(f"profile width must be above 0, got {width}")
    limit = _half_width(shape, width)
    # The hat is the second difference of a ramp. Convolving the profile with it gives the second
    # difference of the profile's double integral.
    at = np.arange(-limit - 1, limit + 2, dtype=np.float64)
    return np.asarray(np.diff(_double_integral(shape, width, at), n=2))


def _half_width(shape: Shape1D, width: float) -> int:
    if shape == "rect":
        return math.floor((width + 2) / 2)
    if shape == "triangle":
        return math.floor((2 * width + 2) / 2)
    return math.floor(4 * _gauss_sd(width) + 1)


def _gauss_sd(width: float) -> float:
    return width / math.sqrt(8 * math.log(2))


def _double_integral(shape: Shape1D, width: float, at: NDArray[np.float64]) -> NDArray[np.float64]:
    def ramp(offset: float, power: int) -> NDArray[np.float64]:
        return np.asarray(np.clip(at + offset, 0, None) ** power)

    if shape == "rect":
        return np.asarray((ramp(width / 2, 2) - ramp(-width / 2, 2)) / (2 * width))
    if shape == "triangle":
        return np.asarray((ramp(width, 3) - 2 * ramp(0, 3) + ramp(-width, 3)) / (6 * width**2))
    sd = _gauss_sd(width)
    density = np.exp(-0.5 * (at / sd) ** 2) / math.sqrt(2 * math.pi)
    cumulative = np.array([0.5 * (1 + math.erf(value / sd / math.sqrt(2))) for value in at])
    return np.asarray(at * cumulative + sd * density)


def subdivision(target: Grid, source: Grid) -> tuple[int, int, int]:
    """Number of parts of a source voxel along each axis, none larger than a target voxel."""
    steps = voxel_size(np.linalg.inv(target.affine) @ source.affine)
    first, second, third = (max(1, math.ceil(step - RATIO_TOLERANCE)) for step in steps)
    return first, second, third


def profile_for_voxels(
    source: Grid,
    target_voxel_size: ArrayLike,
    *,
    gap: float = 0.0,
    axis: int | None = None,
    through_plane: Shape1D = "rect",
) -> SliceProfile:
    """Choose the slice profile by the sizes of the voxels of scan and image.

    Parameters
    ----------
    source
        Grid of the scan.
    target_voxel_size
        Voxel size of the wanted image in mm: one number, or ``(3,)``.
    gap
        Fraction of the slice spacing that is not excited.
    axis
        Slice axis; None for the axis of the largest voxel size.
    through_plane
        Profile along the slice axis where slices are thicker than the wanted voxels.

    Returns
    -------
    SliceProfile
        ``through_plane`` along the slice axis and a gauss in the plane; ``point`` where scan
        voxels are hardly larger than those of the image.

    Examples
    --------
    >>> scan = Grid((256, 256, 35), np.diag([1.02, 1.02, 4.8, 1.0]))
    >>> profile_for_voxels(scan, 1.0).in_plane
    'point'
    """
    axis = slice_axis(source.affine) if axis is None else axis
    ratio = source.voxel_size / float(np.min(np.asarray(target_voxel_size, dtype=np.float64)))
    in_plane = max(ratio[other] for other in range(3) if other != axis)
    return SliceProfile(
        in_plane="gauss" if in_plane > NEARLY_EQUAL else "point",
        through_plane=through_plane if (1 - min(gap, 0)) * ratio[axis] > NEARLY_EQUAL else "point",
        gap=gap,
        axis=axis,
    )
