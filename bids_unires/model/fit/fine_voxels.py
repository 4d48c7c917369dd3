"""Voxels of CT that are much smaller than the wanted ones are averaged before the fit.

A head CT often has voxels of 0.4 to 0.5 mm within slices. An image of 1 mm voxels, interpolated
between them, cannot follow such a scan at the rim of bone, and the fit would distort the image to
come closer. Averaged to about the wanted size, the scan is what the image can show.
"""

from __future__ import annotations

import numpy as np

from ...space.affines import scaling, slice_axis, translation
from ...space.volume import Volume


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
        incomplete block at the far end of an axis are left out.

    Examples
    --------
    >>> fine = Volume(np.zeros((9, 8, 3), np.float32), np.diag([0.5, 0.5, 5.0, 1.0]))
    >>> averaged_within_slices(fine, 1.0).data.shape
    (4, 4, 3)
    """
    across = slice_axis(volume.affine)
    together = [
        1 if axis == across else max(1, round(voxel_size / float(size)))
        for axis, size in enumerate(volume.grid.voxel_size)
    ]
    if max(together) == 1 or min(np.floor_divide(volume.data.shape, together)) == 0:
        return volume
    whole = [side // n for side, n in zip(volume.data.shape, together, strict=True)]
    x, y, z = (slice(side * n) for side, n in zip(whole, together, strict=True))
    sides = [part for pair in zip(whole, together, strict=True) for part in pair]
    data = volume.data[x, y, z].reshape(sides).mean(axis=(1, 3, 5), dtype=np.float32)
    centre = translation([(n - 1) / 2 for n in together])
    return Volume(data, volume.affine @ centre @ scaling(together), volume.path)
