"""Measures of the quality of an image that need no reference image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...records.image import QualityRecord
from ...space.grid import Grid

_DARK_AND_BRIGHT = (5.0, 95.0)


def quality_of(
    image: NDArray[np.float32], grid: Grid, masks: Mapping[str, NDArray[np.bool_]]
) -> QualityRecord:
    """Measure the sharpness and the mean intensity of an image.

    Parameters
    ----------
    image
        Intensities, ``(X, Y, Z)``.
    grid
        Grid of the image.
    masks
        Masks by name, ``(X, Y, Z)`` each. The region is ``brain`` if it exists, else ``head``,
        within ``fov``.
    """
    name = "brain" if "brain" in masks else "head"
    region = masks.get(name, np.ones(image.shape, dtype=bool))
    if "fov" in masks:
        region = region & masks["fov"]
    count = int(np.count_nonzero(region))
    mean = float(image[region].mean(dtype=np.float64)) if count else None
    return QualityRecord(name, count, mean, _sharpness(image, grid, region) if count else None)


def _sharpness(image: NDArray[np.float32], grid: Grid, region: NDArray[np.bool_]) -> float | None:
    dark, bright = np.percentile(image[region], _DARK_AND_BRIGHT)
    if min(image.shape) < 2 or not bright > dark:
        return None
    squares = np.zeros(image.shape, dtype=np.float32)
    for axis, size in enumerate(grid.voxel_size.astype(np.float32)):
        squares += np.gradient(image, size, axis=axis) ** 2
    return float(np.sqrt(squares[region]).mean(dtype=np.float64) / (bright - dark))
