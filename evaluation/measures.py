"""Measures of the similarity of an image and the truth inside the head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from skimage.metrics import structural_similarity

from bids_unires.demo.score import psnr

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

# The constant of Xue, Zhang, Mou & Bovik 2014, "Gradient magnitude similarity deviation". It is
# given for images from 0 to 255, so it is divided by the square of this range.
_GRADIENT_CONSTANT = 170 / 255**2
_TISSUES = 4


def measure(image: Image, truth: Image, inside: Mask) -> Mapping[str, float]:
    """Compute all measures of an image.

    Parameters
    ----------
    image, truth
        Intensities, ``(X, Y, Z)`` float32.
    inside
        Mask of the voxels to compare, bool ``(X, Y, Z)``.

    Returns
    -------
    mapping
        ``PSNR`` in dB; ``SSIM``, mean structural similarity; ``GMS``, mean similarity of gradient
        magnitudes; ``Dice``, mean overlap of four tissues at their borders; ``edges``, gradient
        energy divided by that of the truth. For all except ``PSNR``, 1 is perfect.
    """
    peak = float(truth[inside].max())
    _, ssim = structural_similarity(
        truth, image, data_range=peak, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    true_gradient, gradient = _gradient(truth / peak), _gradient(image / peak)
    similarity = (2 * true_gradient * gradient + _GRADIENT_CONSTANT) / (
        true_gradient**2 + gradient**2 + _GRADIENT_CONSTANT
    )
    return {
        "PSNR": psnr(image, truth, inside),
        "SSIM": float(ssim[inside].mean()),
        "GMS": float(similarity[inside].mean()),
        "Dice": border_dice(image, truth, inside),
        "edges": float((gradient[inside] ** 2).sum() / (true_gradient[inside] ** 2).sum()),
    }


def border_dice(image: Image, truth: Image, inside: Mask) -> float:
    """Mean Dice overlap of tissues, within one voxel of the borders between them.

    Tissues are ranges of intensity, found in the truth by Otsu's criterion.
    """
    limits = threshold_multiotsu(truth[inside], classes=_TISSUES)
    true, found = np.digitize(truth, limits), np.digitize(image, limits)
    border = ndimage.maximum_filter(true, 3) != ndimage.minimum_filter(true, 3)
    border &= inside
    overlaps = []
    for tissue in range(_TISSUES):
        a, b = true[border] == tissue, found[border] == tissue
        if a.any():
            overlaps.append(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + b.sum()))
    return float(np.mean(overlaps))


def _gradient(image: Image) -> Image:
    return np.asarray(ndimage.generic_gradient_magnitude(image, ndimage.prewitt)) / np.float32(18)
