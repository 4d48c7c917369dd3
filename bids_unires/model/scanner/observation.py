"""One scan as the solver sees it: data, noise precision, profile, pose and weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ...space.affines import Affine
from ...space.arrays import array_of, image_of
from ...space.grid import Grid
from .forward import ForwardOperator
from .profile import SliceProfile


@dataclass(frozen=True, eq=False)
class Observation:
    """A scan with all that the objective needs to know of it.

    Arrays may be given as tensors or lists; they are kept as arrays of numpy.

    Parameters
    ----------
    data
        Intensities ``(X, Y, Z)``; a voxel that is not finite is missing, and so is one
        that is 0 unless ``zero_is_missing`` says otherwise.
    affine
        ``(4, 4)``, voxel index to world mm.
    tau
        Noise precision, 1 / sd^2, in 1 / intensity^2: one number, or one for each voxel.
    profile
        Slice profile.
    pose
        ``(4, 4)`` rigid matrix, scan world mm -> world mm of the wanted image;
        None for the identity.
    interleave
        Logarithm of the factor of even slices; odd ones have its inverse.
    slice_weights
        Factor on the precision of each slice, ``(K,)`` along the slice axis of the profile; a
        slice of weight 0 is missing. None for 1 throughout.
    zero_is_missing
        Whether 0 stands for "not measured", as in masked magnitude images; in CT it is
        the intensity of water.

    Raises
    ------
    ValueError
        If the data do not have three axes.
    """

    data: NDArray[np.float32]
    affine: Affine
    tau: float | NDArray[np.float32] = 1.0
    profile: SliceProfile = field(default_factory=SliceProfile)
    pose: Affine | None = None
    interleave: float = 0.0
    slice_weights: NDArray[np.float64] | None = None
    zero_is_missing: bool = True

    def __post_init__(self) -> None:
        tau = array_of(self.tau)
        kept = {
            "data": image_of(self.data, np.float32),
            "affine": array_of(self.affine, np.float64),
            "tau": tau.astype(np.float32, copy=False) if tau.ndim else float(tau),
            "pose": None if self.pose is None else array_of(self.pose, np.float64),
            "slice_weights": (
                None if self.slice_weights is None else array_of(self.slice_weights, np.float64)
            ),
        }
        for name, value in kept.items():
            object.__setattr__(self, name, value)

    @property
    def grid(self) -> Grid:
        """The grid of the scan as acquired."""
        return Grid((self.data.shape[0], self.data.shape[1], self.data.shape[2]), self.affine)

    @property
    def world_pose(self) -> Affine:
        """The pose, the identity where none is given."""
        return np.eye(4) if self.pose is None else self.pose

    def operator(self, grid: Grid) -> ForwardOperator:
        """The forward operator from an image on ``grid`` to this scan."""
        return ForwardOperator(
            grid, self.grid, pose=self.pose, profile=self.profile, interleave=self.interleave
        )

    def ignoring_interleave(self) -> Observation:
        """The scan as if its even and odd slices were equally bright; its data do not change."""
        return self if self.interleave == 0 else replace(self, interleave=0.0)

    @property
    def placed_grid(self) -> Grid:
        """Its voxels in the world of the image."""
        return self.grid.moved(self.world_pose)

    @property
    def slice_axis(self) -> int:
        """The axis (0, 1 or 2) across the slices."""
        return self.profile.slice_axis(self.grid)

    @property
    def weight_of_slices(self) -> NDArray[np.float64]:
        """Weight of each slice, ``(K,)``; 1 where none is given."""
        if self.slice_weights is None:
            return np.ones(self.data.shape[self.slice_axis])
        return self.slice_weights

    @property
    def slice_factor(self) -> NDArray[np.float32]:
        """Weight of each slice, broadcastable over the scan."""
        sides = [1, 1, 1]
        sides[self.slice_axis] = -1
        return self.weight_of_slices.astype(np.float32).reshape(sides)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Voxels that were not measured or whose slice has weight 0, bool ``(X, Y, Z)``."""
        unknown = ~np.isfinite(self.data)
        if self.slice_weights is not None:
            unknown |= self.slice_factor == 0
        return unknown | (self.data == 0) if self.zero_is_missing else unknown
