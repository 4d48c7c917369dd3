"""Mask of the head in an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..config import Modality
from ..space.affines import Affine, voxel_size
from ..space.volume import Volume
from .pyramid import FINEST_MM, Mask, finest_level

HISTOGRAM_BINS = 256
WORKING_MM = 2.0
AIR_HOUNSFIELD = -1000.0
# Threshold for tissue, as a fraction of the way from the mean of the dark voxels (0) to the mean
# of the bright voxels (1). Muscle far from the coil and fluid are darker than most of the head.
TISSUE_SHARE = 0.3
SPECK_MM3 = 2_000.0
OPENING_MM = 6.0
CLOSING_MM = 10.0


def head_mask(image: NDArray[np.float32], affine: Affine) -> Mask:
    """Voxels of the head, including its cavities and bones.

    Parameters
    ----------
    image
        Intensities of a scan, ``(X, Y, Z)``, MR or CT; the background may be noise, air
        or set to 0, and intensities may vary smoothly.
    affine
        ``(4, 4)``, voxel index to world mm.

    Returns
    -------
    ndarray
        Bool, ``(X, Y, Z)``: the largest bright region, smoothed and filled. Empty if the
        image is constant.

    Notes
    -----
    Otsu's threshold (*A threshold selection method from gray-level histograms*, 1979) separates
    dark from bright voxels. It is applied to the square root of the intensities, so that bright
    fat does not outweigh the contrast between tissue and background. The mask is computed on
    voxels of about 2 mm, and on finer ones for the heads of small animals.
    """
    finite = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    low, high = np.quantile(finite[::2, ::2, ::2], [0.001, 0.995])
    low = max(low, AIR_HOUNSFIELD)
    if not low < high:
        return np.zeros(image.shape, dtype=bool)
    unit = finest_level([Volume(finite, affine)]) / FINEST_MM
    coarse, factors = _block_means(np.clip(finite, low, high), affine, unit * WORKING_MM)
    shown = np.sqrt(np.clip((coarse - low) / (high - low), 0, 1))
    # In mm of a head scaled to human size, as are the radii below.
    sizes = voxel_size(affine) * factors / unit
    bright = _without_specks(shown > _tissue_threshold(shown), sizes)
    head = _largest(_filled(_closed(bright, sizes)))
    return _enlarged(_largest(_opened(head, sizes)), factors, image.shape)


def nonempty_voxels(image: NDArray[np.float32], modality: Modality) -> Mask:
    """Voxels ``(X, Y, Z)`` that are not empty: not 0 in MR, brighter than air in CT."""
    if modality == "CT":
        return np.asarray(image > max(AIR_HOUNSFIELD, float(image.min())))
    return np.asarray(image != 0)


def _block_means(
    image: NDArray[np.float32], affine: Affine, size: float
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Means of blocks of about ``size`` mm, and voxels per block along each axis, ``(3,)``."""
    factors = np.maximum(1, np.round(size / voxel_size(affine))).astype(np.intp)
    missing = -np.array(image.shape) % factors
    whole = np.pad(image, [(0, int(n)) for n in missing], mode="edge")
    x, y, z = (int(n) for n in factors)
    sides = np.array(whole.shape) // factors
    blocks = whole.reshape(sides[0], x, sides[1], y, sides[2], z)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float32)), factors


def _enlarged(mask: Mask, factors: NDArray[np.intp], shape: tuple[int, ...]) -> Mask:
    """Resample a mask of blocks to the original voxels, with an interpolated border."""
    centre = (1 / factors - 1) / 2
    share = ndimage.affine_transform(
        mask.astype(np.float32), 1 / factors, centre, output_shape=shape, order=1, mode="nearest"
    )
    return np.asarray(share > 0.5)


def _tissue_threshold(values: NDArray[np.float32]) -> float:
    """Threshold between background and tissue, for values from 0 to 1."""
    counts, edges = np.histogram(values, bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sum_below = np.cumsum(counts * middles)[:-1]
    sum_above = (counts * middles).sum() - sum_below
    dark = sum_below / np.maximum(below, 1)
    bright = sum_above / np.maximum(above, 1)
    best = np.argmax(below * above * (bright - dark) ** 2)
    return float(dark[best] + TISSUE_SHARE * (bright[best] - dark[best]))


def _without_specks(mask: Mask, sizes: NDArray[np.float64]) -> Mask:
    """Remove small regions, which are noise.

    All larger regions stay, not only the largest: bone separates the scalp from the brain.
    """
    labels, _ = ndimage.label(mask)
    large = np.bincount(labels.ravel()) * sizes.prod() > SPECK_MM3
    large[0] = False
    return np.asarray(large[labels])


def _opened(mask: Mask, sizes: NDArray[np.float64]) -> Mask:
    """Remove parts thinner than twice the radius; outside the image counts as inside the mask."""
    core = ndimage.distance_transform_edt(mask, sampling=sizes) > OPENING_MM
    if not core.any():
        return mask
    grown = ndimage.distance_transform_edt(~core, sampling=sizes) <= OPENING_MM
    return np.asarray(grown & mask)


def _largest(mask: Mask) -> Mask:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _closed(mask: Mask, sizes: NDArray[np.float64]) -> Mask:
    """Fill gaps narrower than twice the radius."""
    if not mask.any():
        return mask
    margin = [(width, width) for width in np.ceil(CLOSING_MM / sizes).astype(int) + 1]
    inside = tuple(slice(width, -width) for width, _ in margin)
    padded = np.pad(mask, margin)
    grown = ndimage.distance_transform_edt(~padded, sampling=sizes) <= CLOSING_MM
    shrunk = ndimage.distance_transform_edt(grown, sampling=sizes) > CLOSING_MM
    return np.asarray(shrunk[inside] | mask)


def _filled(mask: Mask) -> Mask:
    """Fill holes, also plane by plane: that fills holes that are open only at the image border."""
    planes = [
        np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(mask, axis, 0)], axis)
        for axis in range(3)
    ]
    return np.asarray(ndimage.binary_fill_holes(np.any(planes, axis=0)))
