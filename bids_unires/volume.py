"""An image in memory: voxel data and where they lie in the world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .geometry import Affine, Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """Intensities on a grid.

    Parameters
    ----------
    data
        Intensities as float32, ``(X, Y, Z)``. 0 and NaN mean *missing*.
    affine
        ``(4, 4)`` float64, voxel index to world mm (RAS+).
    path
        The file it was read from, for messages.
    """

    data: NDArray[np.float32]
    affine: Affine
    path: Path | None = None

    @property
    def grid(self) -> Grid:
        """The grid the intensities live on."""
        return Grid((self.data.shape[0], self.data.shape[1], self.data.shape[2]), self.affine)
