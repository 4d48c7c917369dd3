"""What trilinear interpolation cannot explain of a scan, however good the image is.

Samples between voxels are blurred by their distance from these. The mean of that is taken out
(`ForwardOperator.sharpened`), but not how it differs from sample to sample. In scans of little
noise that is the larger error wherever the intensity bends.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...space.grid import Grid
from .observation import Observation

# Of second differences, in units of the noise's variance.
_NOISE_OF_BENDS = 6.0


def with_interpolation_error(scan: Observation, grid: Grid) -> Observation:
    """A scan with less precision where its planes bend between the voxels of an image.

    Parameters
    ----------
    scan
        At its pose.
    grid
        Of the image that is to explain it.

    Returns
    -------
    Observation
        Its variance is larger by the square of what was taken out for the mean blur: the blur
        lies between none and 1.5 times that. The same scan where its samples lie on voxels.

    Notes
    -----
    With ``c = mean(f (1 - f) / 2)`` and f the distance of a sample from the voxel below, the
    blur along one axis is c times the second difference, to second order.

    Examples
    --------
    >>> data = np.eye(9, dtype=np.float32)[:, :, None] + np.zeros((9, 9, 4), np.float32)
    >>> scan = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]), 100.0)
    >>> with_interpolation_error(scan, Grid((9, 9, 16), np.eye(4))) is scan
    True
    """
    operator = scan.evenly().operator(grid)
    blur = max(operator.sharpening)
    if blur == 0:
        return scan
    data = np.where(scan.missing, np.float32(np.nan), scan.data)
    tau = np.broadcast_to(np.asarray(scan.tau, dtype=np.float32), data.shape)
    variance = np.divide(1, tau, out=np.zeros_like(data), where=tau > 0)
    squares = np.zeros_like(data)
    steps = np.linalg.inv(grid.affine) @ scan.world_pose @ scan.affine
    for axis in range(3):
        if axis != scan.slice_axis:
            # Second differences over voxels of the image, whatever those of the scan are.
            per_voxel = np.float32(np.linalg.norm(steps[:3, axis]) ** -4)
            bends = _bends(data, axis) ** 2 - _NOISE_OF_BENDS * variance
            squares += per_voxel * np.maximum(bends, 0)
    precision = tau / (1 + tau * np.float32(blur) ** 2 * squares)
    return replace(scan, tau=precision.astype(np.float32))


def _bends(data: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Second differences along an axis; 0 where a neighbour is missing."""
    bends = np.zeros_like(data)
    if data.shape[axis] > 2:
        inner = [slice(None)] * 3
        inner[axis] = slice(1, -1)
        bends[tuple(inner)] = np.nan_to_num(np.diff(data, 2, axis=axis))
    return bends
