"""Two scans blurred so that they are alike in resolution, wherever they are sampled.

Interpolation between thick slices blurs them: half-way between two slices much, on a slice not at
all. Two scans then seem to match best where slices lie on slices, wherever the head lies. Here a
sample is blurred equally wherever it lies, and each scan is blurred along the slices of the other
one as these are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import make_interp_spline

from ..space.affines import Affine, apply_affine, scaling, voxel_size
from ..space.volume import Volume

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]

# Voxels larger than this are slices to interpolate between; mm in a human head.
_THICK_MM = 2.0
# Share that each neighbouring slice has in a blurred slice. Differences between even and odd
# slices, which interpolation shows on slices and hides half-way between them, are reduced to a
# fifth. With 0.25 they would vanish, but more blur makes two contrasts less alike.
_NEIGHBOUR = 0.2
_NEIGHBOUR_VARIANCE = 2 * _NEIGHBOUR
# Largest step in mm between planes that are interpolated between slices.
_STEP_MM = 1.5
_DARKEST, _BRIGHTEST = 0.001, 0.999
# A Gaussian narrower than this share of a voxel changes nothing.
_NARROWEST = 0.2


@dataclass(frozen=True, eq=False)
class BlurredScan:
    """A scan to be sampled at any points of the world.

    Parameters
    ----------
    data
        Intensities without outliers, ``(X, Y, Z)``.
    into_voxels
        ``(4, 4)``, world mm to voxels of ``data``.
    measured
        ``(X, Y, Z)``, whether voxels were measured; None if all were.
    """

    data: Image
    into_voxels: Affine
    measured: Mask | None = None

    def at(self, points: Points) -> NDArray[np.float64]:
        """Intensities ``(N,)`` at world points ``(N, 3)``, linearly interpolated."""
        voxels = apply_affine(self.into_voxels, points)
        return np.asarray(
            ndimage.map_coordinates(self.data, voxels.T, order=1, mode="nearest"), dtype=np.float64
        )

    def covers(self, points: Points) -> Mask:
        """Whether world points ``(N, 3)`` lie between measured voxels; ``(N,)``."""
        voxels = apply_affine(self.into_voxels, points)
        last = np.array(self.data.shape) - 1
        inside = ((voxels >= 0) & (voxels <= last)).all(axis=1)
        if self.measured is None:
            return np.asarray(inside)
        nearest = np.clip(np.rint(voxels), 0, last).astype(np.intp)
        return np.asarray(inside & self.measured[tuple(nearest.T)])


def blurred_alike(
    one: Volume, other: Volume, sd: float, unit: float = 1.0
) -> tuple[BlurredScan, BlurredScan]:
    """Blur two scans so that they are about alike in resolution.

    Parameters
    ----------
    one, other
        Scans that lie roughly where the head lies.
    sd
        Least standard deviation in mm of what a sample averages over, along every axis.
    unit
        Size of the head relative to a human head.
    """
    return _blurred(one, other, sd, unit), _blurred(other, one, sd, unit)


def _blurred(scan: Volume, other: Volume, sd: float, unit: float) -> BlurredScan:
    sizes = voxel_size(scan.affine)
    data, measured = _without_outliers(scan.data)
    axes = scan.affine[:3, :3] / sizes
    wanted = np.einsum("ik,ij,jk->k", axes, _covariance(other, unit), axes)
    missing = np.maximum(wanted, sd**2) - _variances(scan, unit)
    width = np.sqrt(np.maximum(missing, 0)) / sizes
    data = ndimage.gaussian_filter(
        data, np.where(width > _NARROWEST, width, 0), mode="nearest", truncate=3.0
    )
    finer = np.ones(3)
    for axis in np.flatnonzero(sizes > _THICK_MM * unit):
        if data.shape[axis] > 1:
            factor = math.ceil(sizes[axis] / (_STEP_MM * unit))
            data = _between_slices(data, int(axis), factor)
            finer[axis] = factor
            if measured is not None:
                at = np.rint(np.arange(data.shape[axis]) / factor).astype(np.intp)
                measured = np.take(measured, at, axis=int(axis))
    into_voxels: Affine = np.asarray(
        np.linalg.inv(scan.affine @ scaling(1 / finer)), dtype=np.float64
    )
    return BlurredScan(data, into_voxels, measured)


def _without_outliers(data: Image) -> tuple[Image, Mask | None]:
    """Intensities between two quantiles, and where they were measured; None if everywhere."""
    measured = np.isfinite(data)
    low, high = np.quantile(data[measured], [_DARKEST, _BRIGHTEST]) if measured.any() else (0, 1)
    clipped = np.clip(np.where(measured, data, low), low, high).astype(np.float32)
    return clipped, None if measured.all() else measured


def _variances(scan: Volume, unit: float) -> NDArray[np.float64]:
    """Variance in mm2 along each axis of what a sample averages over, ``(3,)``."""
    sizes = voxel_size(scan.affine)
    between = np.where(sizes > _THICK_MM * unit, _NEIGHBOUR_VARIANCE, 0.0)
    return np.asarray((1 / 12 + between) * sizes**2)


def _covariance(scan: Volume, unit: float) -> NDArray[np.float64]:
    """The same in the axes of the world, ``(3, 3)``."""
    axes = scan.affine[:3, :3] / voxel_size(scan.affine)
    return np.asarray((axes * _variances(scan, unit)) @ axes.T)


def _between_slices(data: Image, axis: int, factor: int) -> Image:
    """Blur slices and interpolate ``factor - 1`` planes between each two of them."""
    count = data.shape[axis]
    spline = make_interp_spline(np.arange(count), np.eye(count), k=min(3, count - 1))
    weights = spline(np.arange((count - 1) * factor + 1) / factor)
    near = [_NEIGHBOUR, 1 - 2 * _NEIGHBOUR, _NEIGHBOUR]
    weights = weights @ ndimage.correlate1d(np.eye(count), near, axis=0, mode="nearest")
    planes = np.tensordot(data, weights.astype(np.float32), axes=(axis, 1))
    return np.ascontiguousarray(np.moveaxis(planes, -1, axis))
