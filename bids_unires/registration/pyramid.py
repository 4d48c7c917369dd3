"""Scans as registration sees them: smooth images on few voxels, and where the head is.

SimpleITK does the image work; its world is LPS, ours RAS. Its images may have axes that
are not at right angles, as after a gantry tilt: their directions are any three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import BadDataError
from ..space.affines import Affine, apply_affine, scaling, translation, voxel_size
from ..space.volume import Volume

FINEST_MM = 2.0
"""Voxel size in mm of the finest level for human heads, of newborns to adults."""
LEVELS = (1, 2, 4)
"""Voxel size of each level's image in units of the finest, from fine to coarse."""
COARSE = LEVELS[-1]

HEAD_POINTS = 1_000
# Root mean square distance of a head's points from their centre. That of an adult is 50 mm, of a
# newborn 33 mm, and of a mouse 5 mm; smaller ones than this get finer levels.
_SMALLEST_HUMAN_RADIUS_MM = 25.0
# Enough to measure a radius.
_VOXELS_ALONG_AXIS = 48

Mask = NDArray[np.bool_]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Pyramid:
    """A scan as registration sees it.

    Parameters
    ----------
    finest
        Voxel size of the finest level in mm.
    images
        A level of `LEVELS` to the scan's image on it.
    head
        World points (RAS) in the head, ``(N, 3)``.
    box
        Affine from world mm to the scan's voxels, and the scan's last voxel ``(3,)``.
    name
        What messages call the scan.
    region
        Where alone the finer levels are compared, not 0 inside; None for everywhere.
    measured
        Where the scan measured, not 0 inside; None for all of its voxels.
    """

    finest: float
    images: dict[int, sitk.Image]
    head: NDArray[np.float64]
    box: tuple[Affine, NDArray[np.float64]]
    name: str
    region: sitk.Image | None = None
    measured: sitk.Image | None = None

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the head's points in world mm (RAS), ``(3,)``."""
        return np.asarray(self.head.mean(axis=0))

    @property
    def tissue(self) -> float:
        """Volume of the head, or of the part of it that the scan shows, in mm3."""
        coarse = self.images[COARSE]
        return float(_otsu(coarse).sum() * np.prod(coarse.GetSpacing()))

    def sees(self, points: NDArray[np.float64]) -> float:
        """Fraction of world points ``(N, 3)`` that the scan measured."""
        return float(self.seen(points).mean())

    def seen(self, points: NDArray[np.float64], margin: float = 0.0) -> Mask:
        """Which of some world points ``(N, 3)`` the scan measured, ``(N,)``.

        Points up to ``margin`` mm beyond what it measured count, too.
        """
        into_voxels, last = self.box
        voxels = apply_affine(into_voxels, points)
        beyond = 0.5 + margin / voxel_size(np.linalg.inv(into_voxels))
        inside = ((voxels >= -beyond) & (voxels <= last + beyond)).all(axis=1)
        if self.measured is None:
            return np.asarray(inside)
        measured = sitk.GetArrayViewFromImage(self.measured).transpose(2, 1, 0)
        nearest = np.clip(np.rint(voxels), 0, last).astype(np.intp)
        return np.asarray(inside & (measured[tuple(nearest.T)] > 0))


def finest_level(volumes: Iterable[Volume]) -> float:
    """Voxel size in mm of the finest level that suits the heads that scans show.

    Returns
    -------
    float
        `FINEST_MM` for human heads, and a half, a quarter, ... of it for smaller ones, so that
        a head is always about as many voxels wide.
    """
    radius = min(_head_radius(volume) for volume in volumes)
    halvings = math.ceil(math.log2(_SMALLEST_HUMAN_RADIUS_MM / max(radius, 0.1)))
    return FINEST_MM * 0.5 ** max(halvings, 0)


def build_pyramid(
    volume: Volume, threads: int, *, finest: float = FINEST_MM, measured: Mask | None = None
) -> Pyramid:
    """Smooth and resample a scan to isotropic images, and find its head.

    Parameters
    ----------
    volume
        The scan. Its voxels may be of any size and order, its axes may be oblique or,
        after a gantry tilt, sheared.
    threads
        Number of threads to use.
    finest
        Voxel size of the finest level in mm; see `finest_level`.
    measured
        Which voxels were measured, ``(X, Y, Z)``: all others count as outside the field of view.
        None for all.

    Returns
    -------
    Pyramid
        One image for each of `LEVELS`.

    Raises
    ------
    BadDataError
        If the scan has no contrast.
    """
    mask: sitk.Image | None = None
    if measured is not None and measured.any() and not measured.all():
        volume, measured = _measured_part(volume, measured)
        mask = to_image(*_in_canonical_order(measured.astype(np.uint8), volume.affine))
    data, affine = _canonical(volume)
    images: dict[int, sitk.Image] = {}
    image = to_image(data, affine)
    for level in LEVELS:
        image = _isotropic(image, level * finest, threads)
        images[level] = image
    last = np.array(data.shape, dtype=np.float64) - 1
    into_voxels = np.asarray(np.linalg.inv(affine), dtype=np.float64)
    name = str(volume.path) if volume.path else "a scan"
    pyramid = Pyramid(finest, images, np.empty((0, 3)), (into_voxels, last), name, measured=mask)
    return replace(pyramid, head=_head_points(pyramid))


def compared_in(pyramid: Pyramid, mask: Volume) -> Pyramid:
    """A pyramid whose finer levels are compared inside a mask alone, 0 outside."""
    region = sitk.Cast(to_image(mask.data, mask.affine) > 0, sitk.sitkUInt8)
    return replace(pyramid, region=region)


def affine_of(image: sitk.Image) -> Affine:
    """Voxel index to world mm (RAS) of an image."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return np.asarray(RAS_TO_LPS @ lps)


def _measured_part(volume: Volume, measured: Mask) -> tuple[Volume, Mask]:
    """The box that was measured, and what was in it; beyond that the nearest value measured."""
    box = ndimage.find_objects(measured.astype(np.uint8))[0]
    inside = measured[box]
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    data = volume.data[box][tuple(nearest)]
    start = translation([float(part.start) for part in box])
    return replace(volume, data=data, affine=volume.affine @ start), inside


def _in_canonical_order(data: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """Voxels along the world's axes, as near as their own axes come to these."""
    orientation = nib.orientations.io_orientation(affine)
    ordered = nib.orientations.apply_orientation(data, orientation)
    return ordered, affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)


def _canonical(volume: Volume) -> tuple[NDArray[np.float32], Affine]:
    """Data in axial-canonical voxel order without missing values and outliers.

    The same scan stored with other axes or flips gives the same array.
    """
    data, affine = _in_canonical_order(volume.data, volume.affine)
    # Missing is as dark as it gets: 0 in MR, but not in CT, where that is water.
    darkest = float(np.min(data, where=np.isfinite(data), initial=np.inf))
    data = np.where(np.isfinite(data), data, darkest).astype(np.float32)
    low, high = np.quantile(data[::2, ::2, ::2], [0.001, 0.999])
    if not low < high:
        where = f"{volume.path}: " if volume.path else ""
        raise BadDataError(f"{where}no contrast to align by: leave this scan out")
    return np.clip(data, low, high), affine


def _head_radius(volume: Volume) -> float:
    """Root mean square distance in mm of a head's points from their centre."""
    data, affine = _canonical(volume)
    steps = [-(-side // _VOXELS_ALONG_AXIS) for side in data.shape]
    few = data[:: steps[0], :: steps[1], :: steps[2]]
    points = apply_affine(affine @ scaling(steps), np.argwhere(_otsu(to_image(few, np.eye(4)))))
    return float(np.sqrt(points.var(axis=0).sum()))


def _otsu(image: sitk.Image) -> Mask:
    """Voxels brighter than Otsu's threshold, axes in the order x, y, z."""
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetInsideValue(0)
    otsu.SetOutsideValue(1)
    return np.asarray(sitk.GetArrayFromImage(otsu.Execute(image)).transpose(2, 1, 0) > 0)


def to_image(data: NDArray[Any], affine: Affine) -> sitk.Image:
    """An image of SimpleITK's with the voxels of an array, and their place in the world (RAS)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    spacing = voxel_size(affine)
    lps = RAS_TO_LPS @ affine
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def _isotropic(image: sitk.Image, level: float, threads: int) -> sitk.Image:
    """Blur an image as far as its spacing leaves room, and sample it every ``level`` mm."""
    spacing = np.array(image.GetSpacing())
    extent = np.array(image.GetSize()) * spacing
    variance = np.maximum((0.5 * level) ** 2 - (0.5 * spacing) ** 2, 0)
    blur = sitk.DiscreteGaussianImageFilter()
    blur.SetNumberOfThreads(threads)
    blur.SetVariance(variance.tolist())
    size = np.maximum(np.round(extent / level), 1)
    # Both grids share their centre, so that storage order does not shift one of them.
    inset = (extent - spacing - (size - 1) * level) / 2
    resample = sitk.ResampleImageFilter()
    resample.SetNumberOfThreads(threads)
    resample.SetSize(size.astype(int).tolist())
    resample.SetOutputSpacing([level] * 3)
    resample.SetOutputDirection(image.GetDirection())
    direction = np.array(image.GetDirection()).reshape(3, 3)
    resample.SetOutputOrigin((np.array(image.GetOrigin()) + direction @ inset).tolist())
    resample.SetInterpolator(sitk.sitkLinear)
    resample.UseNearestNeighborExtrapolatorOn()
    resampled: sitk.Image = resample.Execute(blur.Execute(image))
    return resampled


def _head_points(pyramid: Pyramid) -> NDArray[np.float64]:
    """World points (RAS) of the voxels brighter than Otsu's threshold, ``(N, 3)``."""
    image = pyramid.images[COARSE]
    # Counted slice by slice, as images of SimpleITK's are stored.
    voxels = np.argwhere(_otsu(image).transpose(2, 1, 0))[:, ::-1]
    points = apply_affine(affine_of(image), voxels[:: 1 + len(voxels) // HEAD_POINTS])
    seen = pyramid.seen(points)
    return points[seen] if seen.any() else points
