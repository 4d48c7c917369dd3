"""Images and segmentations in memory: voxel data and their position in the world."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .affines import Affine, translation
from .arrays import array_of, image_of
from .grid import Grid, centre_of


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid.

    Parameters
    ----------
    data
        Intensities, ``(X, Y, Z)``: an array, a tensor or nested lists, converted to an array of
        float32. 0 and NaN mean *missing*.
    affine
        ``(4, 4)``, voxel index to world mm (RAS+); kept as an array of float64.
    path
        The file it was read from, for messages.

    Raises
    ------
    ValueError
        If the data do not have three axes.
    """

    data: NDArray[np.float32]
    affine: Affine
    path: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", image_of(self.data, np.float32))
        object.__setattr__(self, "affine", array_of(self.affine, np.float64))

    @property
    def grid(self) -> Grid:
        """Grid of the intensities."""
        return Grid((self.data.shape[0], self.data.shape[1], self.data.shape[2]), self.affine)


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """A segmentation: a label for each voxel; labels are numbers without an order.

    Parameters
    ----------
    data
        Labels, ``(X, Y, Z)``: an array, a tensor or nested lists, converted to an array of int32;
        0 is background, no label is negative.
    affine
        ``(4, 4)``, voxel index to world mm (RAS+); kept as an array of float64.
    path
        The file it was read from, for messages.

    Raises
    ------
    ValueError
        If the data do not have three axes.
    """

    data: NDArray[np.int32]
    affine: Affine
    path: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", image_of(self.data, np.int32))
        object.__setattr__(self, "affine", array_of(self.affine, np.float64))

    @property
    def grid(self) -> Grid:
        """Grid of the labels."""
        return Grid((self.data.shape[0], self.data.shape[1], self.data.shape[2]), self.affine)


def reset_origin(volume: Volume) -> tuple[Volume, Affine]:
    """Move a volume so that the centre of its field of view is the origin of the world.

    In CT the origin is often that of the table, metres away from the head. The directions of the
    axes do not change.

    Returns
    -------
    volume
        The same data with another affine.
    shift
        ``(4, 4)`` translation, world mm of the file -> world mm of the volume returned. A
        pose of the volume, ``(4, 4)``, is ``pose @ shift`` for the file.

    Examples
    --------
    >>> far = Volume(np.ones((3, 3, 3), np.float32), translation([0, -200, 1500]))
    >>> near, shift = reset_origin(far)
    >>> near.affine[:3, 3].tolist(), shift[:3, 3].tolist()
    ([-1.0, -1.0, -1.0], [-1.0, 199.0, -1501.0])
    """
    shift = translation(-centre_of(volume.grid))
    return replace(volume, affine=shift @ volume.affine), shift
