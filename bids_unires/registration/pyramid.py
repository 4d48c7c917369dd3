"""Scans prepared for registration: smooth images on few voxels, and points in the head.

SimpleITK processes the images. Its world is LPS, that of this program RAS. The axes of its images
may be oblique to each other, as after a gantry tilt.
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
# Root mean square distance of the points of a head from their centre: 50 mm for an adult, 33 mm
# for a newborn, 5 mm for a mouse. Heads smaller than this limit get finer levels.
_SMALLEST_HUMAN_RADIUS_MM = 25.0
# Enough voxels to measure the radius.
_VOXELS_ALONG_AXIS = 48

Mask = NDArray[np.bool_]

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Pyramid:
    """A scan prepared for registration.

    Parameters
    ----------
    finest
        Voxel size of the finest level in mm.
    images
        Image of the scan at each level of `LEVELS`.
    head
        World points (RAS, mm) in the head, ``(N, 3)``.
    box
        Affine ``(4, 4)`` from world mm to voxels of the scan, and index of its last voxel,
        ``(3,)``.
    name
        Name of the scan in messages.
    region
        Mask of the region where the finer levels are compared, not 0 inside; None for everywhere.
    measured
        Mask of the voxels that the scan measured, not 0 inside; None for all voxels.
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
        """Centre of the points in the head in world mm (RAS), ``(3,)``."""
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
        """Whether the scan measured each of the world points ``(N, 3)``; bool, ``(N,)``.

        Points up to ``margin`` mm outside the field of view count as well.
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
    """Voxel size of the finest level that suits the smallest head among the scans.

    Returns
    -------
    float
        In mm: `FINEST_MM` for human heads, and a half, a quarter, ... of `FINEST_MM` for smaller
        heads, so that a head always has about the same width in voxels.
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
        The scan. Its voxels may have any size and order. Its axes may be oblique or, after a
        gantry tilt, sheared.
    threads
        Number of threads to use.
    finest
        Voxel size of the finest level in mm; see `finest_level`.
    measured
        True for voxels that were measured, ``(X, Y, Z)``; all others count as outside the field
        of view. None if all voxels were measured.

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
        mask = to_image(*in_canonical_order(measured.astype(np.uint8), volume.affine))
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
    """The same pyramid, with its finer levels compared only inside a mask (0 outside)."""
    region = sitk.Cast(to_image(mask.data, mask.affine) > 0, sitk.sitkUInt8)
    return replace(pyramid, region=region)


def affine_of(image: sitk.Image) -> Affine:
    """Affine ``(4, 4)`` of an image of SimpleITK, voxel index to world mm (RAS)."""
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    return np.asarray(RAS_TO_LPS @ lps)


def _measured_part(volume: Volume, measured: Mask) -> tuple[Volume, Mask]:
    """The bounding box of the measured voxels, and the mask inside the box.

    Voxels of the box that were not measured receive the value of the nearest measured voxel.
    """
    box = ndimage.find_objects(measured.astype(np.uint8))[0]
    inside = measured[box]
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    data = volume.data[box][tuple(nearest)]
    start = translation([float(part.start) for part in box])
    return replace(volume, data=data, affine=volume.affine @ start), inside


def in_canonical_order(data: NDArray[Any], affine: Affine) -> tuple[NDArray[Any], Affine]:
    """Permute and flip the axes so that they are as close as possible to those of the world.

    Parameters
    ----------
    data
        ``(X, Y, Z)``.
    affine
        ``(4, 4)``, voxel index -> world mm; both are returned changed in the same way.
    """
    orientation = nib.orientations.io_orientation(affine)
    ordered = nib.orientations.apply_orientation(data, orientation)
    return ordered, affine @ nib.orientations.inv_ornt_aff(orientation, data.shape)


def _canonical(volume: Volume) -> tuple[NDArray[np.float32], Affine]:
    """Data in axial-canonical voxel order without missing values and outliers.

    The same scan stored with other axes or flips gives the same array.
    """
    data, affine = in_canonical_order(volume.data, volume.affine)
    # Missing voxels take the darkest value. That is not always 0: in CT, 0 is water.
    darkest = float(np.min(data, where=np.isfinite(data), initial=np.inf))
    data = np.where(np.isfinite(data), data, darkest).astype(np.float32)
    low, high = np.quantile(data[::2, ::2, ::2], [0.001, 0.999])
    if not low < high:
        where = f"{volume.path}: " if volume.path else ""
        raise BadDataError(f"{where}no contrast to align by: leave this scan out")
    return np.clip(data, low, high), affine


def _head_radius(volume: Volume) -> float:
    """Root mean square distance of the points of a head from their centre, in mm."""
    data, affine = _canonical(volume)
    steps = [-(-side // _VOXELS_ALONG_AXIS) for side in data.shape]
    few = data[:: steps[0], :: steps[1], :: steps[2]]
    points = apply_affine(affine @ scaling(steps), np.argwhere(_otsu(to_image(few, np.eye(4)))))
    return float(np.sqrt(points.var(axis=0).sum()))


def _otsu(image: sitk.Image) -> Mask:
    """Voxels brighter than Otsu's threshold, bool ``(X, Y, Z)``."""
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetInsideValue(0)
    otsu.SetOutsideValue(1)
    return np.asarray(sitk.GetArrayFromImage(otsu.Execute(image)).transpose(2, 1, 0) > 0)


def to_image(data: NDArray[Any], affine: Affine) -> sitk.Image:
    """An array ``(X, Y, Z)`` and its affine (RAS) as an image of SimpleITK (LPS)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.transpose(2, 1, 0)))
    spacing = voxel_size(affine)
    lps = RAS_TO_LPS @ affine
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def _isotropic(image: sitk.Image, level: float, threads: int) -> sitk.Image:
    """Blur an image and sample it every ``level`` mm.

    An axis is blurred less, the coarser its own voxels are.
    """
    spacing = np.array(image.GetSpacing())
    extent = np.array(image.GetSize()) * spacing
    variance = np.maximum((0.5 * level) ** 2 - (0.5 * spacing) ** 2, 0)
    blur = sitk.DiscreteGaussianImageFilter()
    blur.SetNumberOfThreads(threads)
    blur.SetVariance(variance.tolist())
    size = np.maximum(np.round(extent / level), 1)
    # Both grids share their centre, so that the result does not depend on the storage order.
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
    """World points (RAS, mm) of the voxels brighter than Otsu's threshold, ``(N, 3)``."""
    image = pyramid.images[COARSE]
    # Listed slice by slice, the order in which SimpleITK stores voxels.
    voxels = np.argwhere(_otsu(image).transpose(2, 1, 0))[:, ::-1]
    points = apply_affine(affine_of(image), voxels[:: 1 + len(voxels) // HEAD_POINTS])
    seen = pyramid.seen(points)
    return points[seen] if seen.any() else points
