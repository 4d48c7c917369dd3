"""What becomes of lesions: how much of their contrast an image keeps, and spots that are false.

The truth has 1 mm voxels, and a mask of its lesions. A lesion is a group of voxels that touch, if
only by a corner. Its contrast is its mean intensity less that of the head around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.model.assess.lesion_contrast import ERASED, lesion_contrasts

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIZES: Mapping[str, tuple[float, float]] = {
    "5 to 30 mm3": (5.0, 30.0),
    "30 to 100 mm3": (30.0, 100.0),
    "100 mm3 and more": (100.0, np.inf),
}
"""Classes of lesions by their volume in mm3: at least the first, less than the second."""

_TOUCH = np.ones((3, 3, 3), dtype=bool)
# A spot is brighter than what surrounds it: a difference of Gaussians, sd in voxels.
_SPOT, _SURROUNDINGS = 0.7, 3.0
# A spot is as bright as this share of the median lesion. It is false if no voxel of the truth
# nearby is as bright as the second share of that.
_BRIGHT, _TRUE = 0.5, 0.75
_LEAST_FALSE = 8
# Voxels from the rim of the head within which no spot counts.
_RIM = 3


@dataclass(frozen=True)
class Survival:
    """What becomes of the lesions of one size.

    Attributes
    ----------
    count
        Number of lesions.
    kept
        Median share of their contrast that the image keeps; NaN without any lesion.
    erased
        Share of lesions that keep less than half of it; NaN without any lesion.
    """

    count: int
    kept: float
    erased: float


class Lesions:
    """The lesions of a head whose truth is known.

    Parameters
    ----------
    truth
        Intensities ``(X, Y, Z)``, 1 mm voxels.
    mask
        Bool ``(X, Y, Z)``, true in lesions.
    head
        Bool ``(X, Y, Z)``, true in the head.

    Raises
    ------
    ValueError
        If shapes differ.

    Examples
    --------
    >>> truth = np.full((20, 20, 20), 50, dtype=np.float32)
    >>> truth[8:10, 8:10, 8:10] = 80
    >>> lesions = Lesions(truth, truth > 60, truth > 0)
    >>> half = (truth + 50) / 2
    >>> lesions.survival(half)["5 to 30 mm3"]
    Survival(count=1, kept=0.5, erased=0.0)
    """

    def __init__(self, truth: Image, mask: Mask, head: Mask) -> None:
        if not truth.shape == mask.shape == head.shape:
            raise ValueError(f"shapes differ: {truth.shape}, {mask.shape}, {head.shape}")
        self._truth, self._head = truth, head
        self._labels, self.count = ndimage.label(mask, _TOUCH)
        self.volumes = np.bincount(self._labels.ravel(), minlength=self.count + 1)[1:]
        self._inner = ndimage.binary_erosion(head, iterations=_RIM)

    def contrasts(self, image: Image) -> NDArray[np.float64]:
        """Contrast of each lesion in an image ``(X, Y, Z)``, ``(N,)``; NaN with no head around."""
        return lesion_contrasts(image, self._labels, self._head)

    def kept(self, image: Image) -> NDArray[np.float64]:
        """Share of its contrast that an image ``(X, Y, Z)`` keeps of each lesion, ``(N,)``."""
        return self.contrasts(image) / self.contrasts(self._truth)

    def survival(self, image: Image) -> Mapping[str, Survival]:
        """What becomes of the lesions of each of `SIZES` in an image ``(X, Y, Z)``."""
        return survival(self.volumes, self.kept(image))

    def false_spots(self, image: Image) -> int:
        """Number of spots of at least 8 mm3 that an image has where the truth has none.

        Spots differ from what surrounds them in the direction in which most lesions do.
        """
        sign = np.float32(np.sign(np.nanmedian(self.contrasts(self._truth)))) if self.count else 1
        true, spots = (_spots(sign * values) for values in (self._truth, image))
        at = ndimage.maximum(true, self._labels, np.arange(1, self.count + 1))
        usual = [float(peak) for peak, volume in zip(at, self.volumes, strict=True) if volume >= 5]
        if not usual:
            return 0
        least = _BRIGHT * float(np.median(usual))
        unknown = ndimage.maximum_filter(true, 3) < _TRUE * least
        labels, _ = ndimage.label((spots > least) & unknown & self._inner, _TOUCH)
        return int(np.count_nonzero(np.bincount(labels.ravel())[1:] >= _LEAST_FALSE))


def survival(volumes: NDArray[np.int64], kept: NDArray[np.float64]) -> Mapping[str, Survival]:
    """What becomes of the lesions of each of `SIZES`.

    Parameters
    ----------
    volumes
        Volume of each lesion in mm3, ``(N,)``; those of several heads may be joined.
    kept
        Share of its contrast that is kept, ``(N,)``; NaN where it is not known.
    """
    found = {}
    for name, (least, most) in SIZES.items():
        shares = kept[(volumes >= least) & (volumes < most) & np.isfinite(kept)]
        found[name] = Survival(
            len(shares),
            float(np.median(shares)) if len(shares) else float("nan"),
            float(np.mean(shares < ERASED)) if len(shares) else float("nan"),
        )
    return found


def _spots(image: Image) -> Image:
    """How much brighter each voxel is than what surrounds it, ``(X, Y, Z)``."""
    narrow, wide = (ndimage.gaussian_filter(image, sd) for sd in (_SPOT, _SURROUNDINGS))
    return np.asarray(narrow - wide)
