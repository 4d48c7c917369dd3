"""Simulated stacks of thick slices, one for each axis in turn, slightly rotated."""

from __future__ import annotations

import numpy as np
import torch

from bids_unires.model import Observation
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

HEAD_MM = (181, 217, 181)
SLICE_MM = 4.0
NOISE_SD = 15.0


def head_grid(voxel_mm: float) -> Grid:
    """A grid of the size of a head, centred on the origin of the world."""
    x, y, z = (round(side / voxel_mm) for side in HEAD_MM)
    centre = translation(-(np.array([x, y, z]) - 1) / 2)
    return Grid((x, y, z), scaling([voxel_mm] * 3) @ centre)


def stack(grid: Grid, axis: int, seed: int) -> Observation:
    """A scan of a textured head: slice axis ``axis``, in plane the voxel size of ``grid``."""
    rng = np.random.default_rng(seed)
    sizes = grid.voxel_size.copy()
    sizes[axis] = SLICE_MM
    extent = np.array(grid.shape) * grid.voxel_size
    sides = np.maximum(1, extent // sizes).astype(int)
    affine = scaling(sizes) @ translation(-(sides - 1) / 2)
    pose = rigid_matrix([*rng.uniform(-2, 2, 3), *rng.uniform(-0.1, 0.1, 3)])
    points = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(sides, sizes, strict=True)]
    x, y, z = np.meshgrid(*points, indexing="ij", sparse=True)
    radius = np.sqrt((x / 75) ** 2 + (y / 92) ** 2 + (z / 75) ** 2)
    texture = 500 + 200 * np.sin(x / 4) * np.cos(y / 5) + 100 * np.sin(z / 3 + seed)
    data = np.where(radius < 1, texture, 0.0) + rng.normal(scale=NOISE_SD, size=tuple(sides))
    return Observation(data.astype(np.float32), affine, NOISE_SD**-2, pose=pose)


def tensors(scan: Observation, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Intensities and precisions of a scan, ``(X, Y, Z)`` each."""
    data = torch.as_tensor(scan.data, device=device)
    return data, torch.full_like(data, NOISE_SD**-2)
