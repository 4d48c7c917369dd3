"""Scans interpolated on one grid, without a fit (``--method linear``)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from ...config import Modality, ModelSettings
from ...kernels.device import device_name, usable_device
from ...space.arrays import Numbers
from ...space.grid import Grid
from ..scanner.coverage import field_of_view
from ..scanner.observation import Observation
from ..scanner.resampling import linear_images
from .placement import individual_space, say_which_grid, starting_poses
from .result import Reconstruction
from .scans import ScanLike, as_volume, poses_of


def interpolate(
    contrasts: Sequence[Sequence[ScanLike]],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    modalities: Sequence[Modality] | None = None,
    poses: Sequence[Sequence[Numbers]] | None = None,
    grid: Grid | None = None,
) -> Reconstruction:
    """Interpolate the scans of one head trilinearly on one grid.

    Parameters are those of `super_resolve`.

    Raises
    ------
    ValueError, BadDataError
        As for `super_resolve`.
    """
    settings = settings or ModelSettings(method="linear")
    torch_device = usable_device(device)
    if not contrasts or not all(contrasts):
        raise ValueError("every contrast needs at least one scan, and there must be one")
    modalities = ["MR"] * len(contrasts) if modalities is None else modalities
    volumes = [[as_volume(scan) for scan in scans] for scans in contrasts]
    flat = [volume for scans in volumes for volume in scans]
    if poses is None:
        named = [
            c if modality == "MR" else None
            for c, (scans, modality) in enumerate(zip(volumes, modalities, strict=True))
            for _ in scans
        ]
        pose = iter([at.matrix for at in starting_poses(flat, settings, contrasts=named)])
    else:
        pose = chain.from_iterable(poses_of(poses))
    observations = [
        [
            Observation(scan.data, scan.affine, pose=next(pose), zero_is_missing=modality == "MR")
            for scan in scans
        ]
        for scans, modality in zip(volumes, modalities, strict=True)
    ]
    if grid is None:
        placed = [scan.placed_grid for scans in observations for scan in scans]
        grid = individual_space(placed, settings.voxel_size)
        say_which_grid(grid)
    covered = np.stack([field_of_view(scans, grid) for scans in observations])
    return Reconstruction(
        images=linear_images(observations, grid, torch_device).cpu().numpy(),
        grid=grid,
        coverage=np.asarray(covered.all(axis=0)),
        poses=tuple(tuple(scan.world_pose for scan in scans) for scans in observations),
        device=device_name(torch_device),
    )
