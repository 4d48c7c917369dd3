"""A scan whose slices were judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...space.affines import Affine
from ...space.grid import Grid
from ...space.volume import Volume
from ..scanner.profile import SliceProfile
from .noise import NoiseEstimate
from .scan_state import SlicePlan


@dataclass(frozen=True, eq=False)
class RepairedScan:
    """A scan with repaired slices and weights of its slices.

    Parameters
    ----------
    volume
        The scan, damaged slices repaired.
    accepted
        The same scan, its rejected slices missing (NaN).
    noise
        Noise of the accepted slices.
    profile
        Slice profile.
    pose
        ``(4, 4)``, scan world mm -> world mm of the images.
    slices
        What is known of its slices before the fit.
    slice_weights
        Factor on the precision of each slice, ``(K,)``; None for 1 throughout.
    """

    volume: Volume
    accepted: Volume
    noise: NoiseEstimate
    profile: SliceProfile
    pose: Affine
    slices: SlicePlan = None
    slice_weights: NDArray[np.float64] | None = None

    @property
    def placed_grid(self) -> Grid:
        """Its voxels in the world of the images."""
        return Grid(self.volume.grid.shape, self.pose @ self.volume.affine)
