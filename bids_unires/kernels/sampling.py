"""The geometry of one scan as the kernels need it: in voxels, without world coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Samples up to this distance outside the outermost voxel centres count, in voxels.
RIM = 0.05


@dataclass(frozen=True, eq=False)
class Sampling:
    """How a scan samples the wanted image, in voxels.

    The measurement of a scan is modelled in two steps. First the wanted image is sampled
    trilinearly on an *intermediate* grid, which divides the axes of the scan finely. Then weighted
    sums are taken along each axis, with a stride.

    Parameters
    ----------
    target_shape
        Sides of the wanted image, in voxels.
    source_shape
        Sides of the scan, in voxels.
    matrix
        ``(3, 4)`` float64, intermediate voxel index -> target voxel index.
    ratio
        Stride along each axis: intermediate voxels per scan voxel.
    weights
        Slice profile along each axis, each ``(K,)`` float64 with odd K.
    """

    target_shape: tuple[int, int, int]
    source_shape: tuple[int, int, int]
    matrix: NDArray[np.float64]
    ratio: tuple[int, int, int]
    weights: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]

    @property
    def blurred_axes(self) -> tuple[int, ...]:
        """Axes along which the profile has more than one weight."""
        return tuple(axis for axis in range(3) if len(self.weights[axis]) > 1)

    @property
    def intermediate_shape(self) -> tuple[int, int, int]:
        """Sides of the intermediate grid, which contains the profile of every scan voxel."""
        first, second, third = (
            (side - 1) * ratio + len(weights)
            for side, ratio, weights in zip(
                self.source_shape, self.ratio, self.weights, strict=True
            )
        )
        return first, second, third
