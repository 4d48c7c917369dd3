"""The error that trilinear interpolation of the image adds to a predicted scan.

Trilinear interpolation blurs a sample the more, the further it lies from the voxels of the image.
The mean blur is corrected (`ForwardOperator.sharpened`), its variation from sample to sample is
not. In scans with little noise, this error exceeds the noise where the intensity is curved.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...space.grid import Grid
from .observation import Observation

# Variance of second differences of white noise, in units of the variance of the noise.
_NOISE_OF_CURVATURE = 6.0


def with_interpolation_error(scan: Observation, grid: Grid) -> Observation:
    """A scan with less precision where interpolating the image adds an error.

    Parameters
    ----------
    scan
        The scan at its pose.
    grid
        Grid of the image that predicts it.

    Returns
    -------
    Observation
        The variance of every voxel grows by the square of the correction for the mean blur: the
        blur itself lies between 0 and 1.5 times its mean. Where all samples lie on voxels of the
        image, the scan is returned as it is.

    Notes
    -----
    Let f be the distance of a sample from the voxel below, in voxels, and
    ``c = mean(f (1 - f) / 2)``. To second order, the blur along one axis is c times the second
    difference of the intensity.

    Examples
    --------
    >>> data = np.eye(9, dtype=np.float32)[:, :, None] + np.zeros((9, 9, 4), np.float32)
    >>> scan = Observation(data, np.diag([1.0, 1.0, 4.0, 1.0]), 100.0)
    >>> with_interpolation_error(scan, Grid((9, 9, 16), np.eye(4))) is scan
    True
    """
    operator = scan.ignoring_interleave().operator(grid)
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
            # Second differences over voxels of the image, not of the scan.
            per_voxel = np.float32(np.linalg.norm(steps[:3, axis]) ** -4)
            curvature = _second_differences(data, axis) ** 2 - _NOISE_OF_CURVATURE * variance
            squares += per_voxel * np.maximum(curvature, 0)
    precision = tau / (1 + tau * np.float32(blur) ** 2 * squares)
    return replace(scan, tau=precision.astype(np.float32))


def _second_differences(data: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Second differences along an axis, ``(X, Y, Z)``; 0 where a neighbour is missing."""
    differences = np.zeros_like(data)
    if data.shape[axis] > 2:
        inner = [slice(None)] * 3
        inner[axis] = slice(1, -1)
        differences[tuple(inner)] = np.nan_to_num(np.diff(data, 2, axis=axis))
    return differences
