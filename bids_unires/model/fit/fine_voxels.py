"""Voxels of CT that are much smaller than the wanted ones are averaged before the fit.

A head CT often has voxels of 0.4 to 0.5 mm within slices. An image of 1 mm voxels, interpolated
between them, cannot follow such a scan at the rim of bone, and the fit would distort the image to
come closer. Averaged to about the wanted size, the scan is what the image can show.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...space.affines import scaling, slice_axis, translation
from ...space.volume import Volume
from ..intensity.noise import NoiseEstimate

_ROUNDING = 1e-3


def averaged_within_slices(volume: Volume, voxel_size: float) -> Volume:
    """A scan whose voxels within slices are averaged to about a size.

    Parameters
    ----------
    volume
        The scan. A voxel is missing (NaN) if one that it is made of is.
    voxel_size
        Wanted voxel size in mm.

    Returns
    -------
    Volume
        The scan as it is if its voxels are more than two thirds as wide as that. Voxels of an
        incomplete block at the far end of an axis are left out. Averaged voxels are no wider than
        the slice spacing, so that the slice axis stays what it is.

    Examples
    --------
    >>> fine = Volume(np.zeros((9, 8, 3), np.float32), np.diag([0.5, 0.5, 5.0, 1.0]))
    >>> averaged_within_slices(fine, 1.0).data.shape
    (4, 4, 3)
    """
    together = voxels_together(volume, voxel_size)
    if max(together) == 1 or min(np.floor_divide(volume.data.shape, together)) == 0:
        return volume
    whole = [side // n for side, n in zip(volume.data.shape, together, strict=True)]
    x, y, z = (slice(side * n) for side, n in zip(whole, together, strict=True))
    sides = [part for pair in zip(whole, together, strict=True) for part in pair]
    data = volume.data[x, y, z].reshape(sides).mean(axis=(1, 3, 5), dtype=np.float32)
    centre = translation([(n - 1) / 2 for n in together])
    return Volume(data, volume.affine @ centre @ scaling(together), volume.path)


def voxels_together(volume: Volume, voxel_size: float) -> tuple[int, int, int]:
    """Numbers of voxels along each axis that `averaged_within_slices` averages."""
    sizes = [float(size) for size in volume.grid.voxel_size]
    across = slice_axis(volume.affine)
    x, y, z = (
        1
        if axis == across
        else max(1, min(round(voxel_size / size), math.floor(sizes[across] / size + _ROUNDING)))
        for axis, size in enumerate(sizes)
    )
    return x, y, z


def noise_of_averages(noise: NoiseEstimate, together: tuple[int, int, int]) -> NoiseEstimate:
    """Noise of averages of voxels, from that of the voxels.

    In a scan of few voxels, noise can hardly be told from anatomy any more.

    Parameters
    ----------
    noise
        Noise of the scan as acquired.
    together
        Numbers of voxels that were averaged along each axis.

    Examples
    --------
    >>> white = NoiseEstimate(3.0, -1000.0, 40.0, "gaussian-mixture")
    >>> round(noise_of_averages(white, (3, 3, 1)).noise_sd, 6)
    1.0
    """
    pairs = list(zip(noise.kernel, together, strict=True))
    variance = math.prod(_variance_of_average(width, count) for width, count in pairs)
    x, y, z = (width / count for width, count in pairs)
    return replace(noise, noise_sd=noise.noise_sd * math.sqrt(variance), kernel=(x, y, z))


def _variance_of_average(width: float, count: int) -> float:
    """Variance of an average of so many voxels in a row, over that of one."""
    if not width:
        return 1 / count
    apart = np.subtract.outer(np.arange(count), np.arange(count))
    return float(np.exp(-(apart**2) / (4 * width**2)).mean())
