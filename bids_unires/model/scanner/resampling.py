"""Scans interpolated on the wanted grid: the plain alternative to the fit, and its start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...space.grid import Grid, inside, padded
from .forward import ForwardOperator
from .observation import Observation
from .profile import NEARLY_EQUAL, Shape1D, SliceProfile
from .rejected_slices import interpolate_rejected_slices

# What surrounds the head in CT, in Hounsfield units.
AIR_HU = -1000.0


def linear_images(
    contrasts: Sequence[Sequence[Observation]], grid: Grid, device: torch.device
) -> Tensor:
    """Interpolate scans trilinearly on ``grid`` and average repeats where they have data.

    A scan with smaller voxels than those of the grid is averaged over each of these, so that
    nothing is folded. Between the centres and the outer faces of its outermost voxels
    a scan keeps their values. Slices of weight 0 are filled from other repeats, or
    else from their neighbours.

    Parameters
    ----------
    contrasts
        For each contrast its scans.
    grid
        Grid of the wanted images.
    device
        Where to work.

    Returns
    -------
    Tensor
        ``(C, X, Y, Z)`` float32. Where no scan of a contrast has data it is air: 0 where
        that means missing, else -1000 HU, or the darkest value if no scan is as dark.

    Examples
    --------
    >>> scan = Observation(np.array([[[2.0, 4.0]]], np.float32), np.diag([1.0, 1, 2, 1]))
    >>> fine = Grid((1, 1, 6), np.eye(4))
    >>> linear_images([[scan]], fine, torch.device("cpu")).flatten().tolist()
    [2.0, 3.0, 4.0, 4.0, 0.0, 0.0]
    """
    images = torch.zeros((len(contrasts), *grid.shape), device=device)
    for image, scans in zip(images, contrasts, strict=True):
        air = _air(scans)
        total = torch.zeros_like(image)
        # Of repeats the others show the place of a slice that was left out.
        for scan in scans if len(scans) > 1 else map(interpolate_rejected_slices, scans):
            above_air, share = resample_scan(scan, air, grid, device)
            image += above_air
            total += share
        # Less than the share of one scan is the border of the data, where the image falls off.
        image.div_(total.clamp_(min=1)).add_(air)
    return images


def _air(scans: Sequence[Observation]) -> float:
    if scans[0].zero_is_missing:
        return 0.0
    darkest = min(float(np.min(scan.data[~scan.missing], initial=np.inf)) for scan in scans)
    return max(AIR_HU, darkest) if np.isfinite(darkest) else AIR_HU


def resample_scan(
    scan: Observation, air: float, grid: Grid, device: torch.device
) -> tuple[Tensor, Tensor]:
    """A scan interpolated trilinearly on ``grid``, or averaged where its voxels are smaller.

    Parameters
    ----------
    scan
        What to interpolate, at its pose.
    air
        Intensity that is subtracted.
    grid
        Where to.
    device
        Where to work.

    Returns
    -------
    tuple of Tensor
        Sums of what was measured, above air, and how much of each voxel that is: at most 1;
        ``(X, Y, Z)`` both.
    """
    pose = np.eye(4) if scan.pose is None else scan.pose
    placed = Grid(scan.grid.shape, pose @ scan.affine)
    missing = scan.missing
    data = np.where(missing, 0.0, scan.data - air).astype(np.float32)
    resample = ForwardOperator(padded(placed, 1), grid, profile=_profile(grid, placed))
    seen = torch.as_tensor(inside(grid, placed), device=device)
    above_air, share = (
        resample.forward(torch.as_tensor(np.pad(values, 1, mode="edge"), device=device)) * seen
        for values in (data, (~missing).astype(np.float32))
    )
    return above_air, share


def _profile(grid: Grid, scan: Grid) -> SliceProfile:
    """Averages over a voxel of ``grid`` where the scan's are smaller, else points."""
    voxels = np.linalg.norm((np.linalg.inv(scan.affine) @ grid.affine)[:3, :3], axis=0)
    shape: Shape1D = "rect" if voxels.max() > NEARLY_EQUAL else "dirac"
    return SliceProfile(shape, shape)
