"""Scans as registration sees them: smooth images on few voxels, and where the head is.

SimpleITK does the image work; its world is LPS, ours RAS. Its images may have axes that
are not at right angles, as after a gantry tilt: their directions are any three.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from ..errors import BadDataError
from ..space.affines import Affine, apply_affine, voxel_size
from ..space.volume import Volume

LEVELS_MM = (2.0, 4.0, 8.0)
"""Voxel size in mm of each level's image, from fine to coarse."""
COARSE_MM = LEVELS_MM[-1]

HEAD_POINTS = 1_000

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Pyramid:
    """A scan as registration sees it.

    Parameters
    ----------
    images
        Voxel size of a level in mm to the scan's image on it.
    head
        World points (RAS) in the head, ``(N, 3)``.
    box
        Affine from world mm to the scan's voxels, and the scan's last voxel ``(3,)``.
    name
        What messages call the scan.
    region
        Where alone the finer levels are compared, not 0 inside; None for everywhere.
    """

    images: dict[float, sitk.Image]
    head: NDArray[np.float64]
    box: tuple[Affine, NDArray[np.float64]]
    name: str
    region: sitk.Image | None = None

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the head's points in world mm (RAS), ``(3,)``."""
        return np.asarray(self.head.mean(axis=0))

    def sees(self, points: NDArray[np.float64]) -> float:
        """Fraction of world points ``(N, 3)`` inside the field of view."""
        into_voxels, last = self.box
        voxels = apply_affine(into_voxels, points)
        return float(((voxels >= -0.5) & (voxels <= last + 0.5)).all(axis=1).mean())


def build_pyramid(volume: Volume, threads: int) -> Pyramid:
    """Smooth and resample a scan to isotropic images, and find its head.

    Parameters
    ----------
    volume
        The scan. Its voxels may be of any size and order, its axes may be oblique or,
        after a gantry tilt, sheared.
    threads
        Number of threads to use.

    Returns
    -------
    Pyramid
        One image for each of `LEVELS_MM`.

    Raises
    ------
    BadDataError
        If the scan has no contrast.
    """
    data, affine = _canonical(volume)
    images: dict[float, sitk.Image] = {}
    image = to_image(data, affine)
    for level in LEVELS_MM:
        image = _isotropic(image, level, threads)
        images[level] = image
    head = _head_points(images[COARSE_MM])
    last = np.array(data.shape, dtype=np.float64) - 1
    into_voxels = np.asarray(np.linalg.inv(affine), dtype=np.float64)
    name = str(volume.path) if volume.path else "a scan"
    return Pyramid(images, head, (into_voxels, last), name)


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


def _canonical(volume: Volume) -> tuple[NDArray[np.float32], Affine]:
    """Data in axial-canonical voxel order without missing values and outliers.

    The same scan stored with other axes or flips gives the same array.
    """
    orientation = nib.orientations.io_orientation(volume.affine)
    data = nib.orientations.apply_orientation(volume.data, orientation)
    affine = volume.affine @ nib.orientations.inv_ornt_aff(orientation, volume.data.shape)
    # Missing is as dark as it gets: 0 in MR, but not in CT, where that is water.
    darkest = float(np.min(data, where=np.isfinite(data), initial=np.inf))
    data = np.where(np.isfinite(data), data, darkest).astype(np.float32)
    low, high = np.quantile(data[::2, ::2, ::2], [0.001, 0.999])
    if not low < high:
        where = f"{volume.path}: " if volume.path else ""
        raise BadDataError(f"{where}no contrast to align by: leave this scan out")
    return np.clip(data, low, high), affine


def to_image(data: NDArray[np.float32], affine: Affine) -> sitk.Image:
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


def _head_points(image: sitk.Image) -> NDArray[np.float64]:
    """World points (RAS) of the voxels brighter than Otsu's threshold, ``(N, 3)``."""
    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetInsideValue(0)
    otsu.SetOutsideValue(1)
    voxels = np.argwhere(sitk.GetArrayFromImage(otsu.Execute(image)))[:, ::-1]
    return apply_affine(affine_of(image), voxels[:: 1 + len(voxels) // HEAD_POINTS])
