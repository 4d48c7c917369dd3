"""Scans on one grid by interpolation alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...config import Modality, ModelSettings
from ...kernels.device import device_name, usable_device
from ...space.affines import Affine
from ...space.grid import Grid
from ..scanner.coverage import coverage
from ..scanner.observation import Observation
from ..scanner.resampling import linear_images
from .placement import individual_space, starting_poses
from .result import Reconstruction
from .scans import ScanLike, volumes_of


def interpolate(
    contrasts: Sequence[Sequence[ScanLike]],
    settings: ModelSettings | None = None,
    device: str = "auto",
    *,
    modalities: Sequence[Modality] | None = None,
    poses: Sequence[Sequence[Affine]] | None = None,
    grid: Grid | None = None,
) -> Reconstruction:
    """Interpolate the scans of one head trilinearly on one grid, without any model.

    Parameters and errors are those of `super_resolve`.
    """
    settings = settings or ModelSettings(method="linear")
    torch_device = usable_device(device)
    volumes = volumes_of(contrasts)
    modalities = ["MR"] * len(volumes) if modalities is None else modalities
    poses = starting_poses(volumes, settings) if poses is None else poses
    grid = individual_space(volumes, poses, settings) if grid is None else grid
    observations = [
        [
            Observation(scan.data, scan.affine, pose=pose, zero_is_missing=modality == "MR")
            for scan, pose in zip(scans, scan_poses, strict=True)
        ]
        for scans, scan_poses, modality in zip(volumes, poses, modalities, strict=True)
    ]
    covered = np.stack([coverage(scans, grid) for scans in observations])
    return Reconstruction(
        images=linear_images(observations, grid, torch_device).cpu().numpy(),
        grid=grid,
        coverage=np.asarray(covered.all(axis=0)),
        poses=tuple(tuple(scan_poses) for scan_poses in poses),
        device=device_name(torch_device),
    )
