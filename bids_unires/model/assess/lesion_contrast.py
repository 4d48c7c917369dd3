"""Contrast of lesions in an image: their mean intensity less that of the tissue around them.

It is how the evaluation measures what becomes of real lesions, and how a fit says what would become
of small ones (`detectability`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

AROUND_MM = 3.0
"""The tissue around a lesion lies within this distance of it, in mm."""

ERASED = 0.5
"""A lesion that keeps less than this share of its contrast counts as erased, any other as drawn."""


def lesion_contrasts(
    image: NDArray[np.floating],
    labels: NDArray[np.integer],
    inside: NDArray[np.bool_],
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
) -> NDArray[np.float64]:
    """Contrast of each lesion.

    Parameters
    ----------
    image
        Intensities ``(X, Y, Z)``.
    labels
        ``(X, Y, Z)``: 1 to N in the lesions, 0 elsewhere.
    inside
        Bool ``(X, Y, Z)``, true in the head.
    voxel_size
        mm along each axis.

    Returns
    -------
    ndarray
        ``(N,)``: mean of the lesion less that of the voxels of the head within 3 mm of it that
        belong to no lesion; NaN where there are none.

    Examples
    --------
    >>> image = np.full((12, 12, 12), 50.0)
    >>> image[5:7, 5:7, 5:7] = 80
    >>> lesion_contrasts(image, (image > 50).astype(int), image > 0).tolist()
    [30.0]
    """
    reach = [int(np.ceil(AROUND_MM / float(size))) for size in voxel_size]
    boxes = ndimage.find_objects(labels)
    found = np.full(len(boxes), np.nan)
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        wide = tuple(
            slice(max(part.start - more, 0), part.stop + more)
            for part, more in zip(box, reach, strict=True)
        )
        near, values = labels[wide], image[wide].astype(np.float64)
        lesion = near == number
        distance = ndimage.distance_transform_edt(~lesion, voxel_size)
        around = (distance <= AROUND_MM) & (near == 0) & inside[wide]
        if around.any():
            found[number - 1] = values[lesion].mean() - values[around].mean()
    return found
