"""Scans interpolated on a grid: the result of ``--method linear``, and where a fit starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import apply_affine, translation
from ...space.grid import Grid, inside, padded
from .coverage import footprint_margin
from .forward import ForwardOperator
from .observation import Observation
from .profile import NEARLY_EQUAL, Shape1D, SliceProfile
from .rejected_slices import interpolate_rejected_slices

# Air in CT, in Hounsfield units.
AIR_HU = -1000.0
# Share of a voxel above which all of it was measured, but for rounding.
_WHOLE_SHARE = 0.999


def linear_images(
    contrasts: Sequence[Sequence[Observation]], grid: Grid, device: torch.device
) -> Tensor:
    """Interpolate scans trilinearly on ``grid`` and average repeats where they have data.

    A scan with smaller voxels than those of the grid is averaged over each of these, which avoids
    aliasing. Between the centres and the outer faces of its outermost voxels a scan keeps their
    values. Slices of weight 0 are filled from other repeats or, without any, from their neighbours.

    Parameters
    ----------
    contrasts
        For each contrast its scans.
    grid
        Grid of the wanted images.
    device
        Device of the images.

    Returns
    -------
    Tensor
        ``(C, X, Y, Z)`` float32. Voxels where no scan of a contrast has data have the intensity
        of air: 0 in MR; in CT -1000 HU, or the darkest value if no scan is as dark.

    Examples
    --------
    >>> scan = Observation(np.array([[[2.0, 4.0]]], np.float32), np.diag([1.0, 1, 2, 1]))
    >>> fine = Grid((1, 1, 6), np.eye(4))
    >>> linear_images([[scan]], fine, torch.device("cpu")).flatten().tolist()
    [2.0, 3.0, 4.0, 4.0, 0.0, 0.0]
    """
    images = torch.zeros((len(contrasts), *grid.shape), device=device)
    for c, scans in enumerate(contrasts):
        _add_average(scans, grid, images[c])
    return images


def starting_images(
    contrasts: Sequence[Sequence[Observation]], grid: Grid, device: torch.device
) -> Tensor:
    """`linear_images`, continued a little beyond the fields of view.

    Slices reach beyond the centres of the outermost voxels of an image, so that its grid has a
    margin that no scan measured. Where a field of view ends within the head, the images of least
    cost show the head in the margin, too. A fit that starts with air there takes a hundred
    iterations and more to replace it: only the prior acts on these voxels, and it holds a layer
    of air together.

    Parameters
    ----------
    contrasts, grid, device
        As for `linear_images`.

    Returns
    -------
    Tensor
        ``(C, X, Y, Z)`` float32. Around the scans of a contrast, images have the values at the
        nearest faces, as far as `footprint_margin` and one voxel more.

    Examples
    --------
    >>> scan = Observation(np.array([[[2.0, 4.0]]], np.float32), np.diag([1.0, 1, 2, 1]))
    >>> fine = Grid((1, 1, 8), translation([0, 0, -2]))
    >>> starting_images([[scan]], fine, torch.device("cpu")).flatten().tolist()
    [2.0, 2.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0]
    """
    images = linear_images(contrasts, grid, device)
    for c, scans in enumerate(contrasts):
        reach = (footprint_margin(grid, scans) + 1) * float(max(grid.voxel_size))
        outside = np.ones(grid.shape, dtype=bool)
        for scan in scans:
            outside &= ~inside(grid, scan.placed_grid)
        for scan in scans:
            _continue(scan.placed_grid, reach, grid, outside, images[c])
    return images


def fill_where_precise(image: Tensor, scan: Observation, grid: Grid) -> None:
    """Replace an image by a scan, interpolated trilinearly, where the scan has any precision.

    Parameters
    ----------
    image
        ``(X, Y, Z)`` float32 on ``grid``, changed in place.
    scan
        The scan at its pose. A voxel of the image takes its value if all voxels of the scan that
        it is interpolated from are measured and have a precision above 0.
    grid
        Grid of the image.
    """
    precise = replace(scan, data=np.where(np.asarray(scan.tau) > 0, scan.data, np.float32(np.nan)))
    # Points suffice where a fit starts; averages over smaller voxels take five times as long.
    values, share = _resampled(precise, 0.0, grid, image.device, SliceProfile("dirac", "dirac"))
    image.copy_(torch.where(share > _WHOLE_SHARE, values / share, image))


def _continue(
    box: Grid, reach: float, grid: Grid, outside: NDArray[np.bool_], image: Tensor
) -> None:
    """Give voxels around a box the values within it that are nearest along its axes.

    Parameters
    ----------
    box
        Grid of a scan in the world of the image.
    reach
        mm beyond its faces.
    grid, image
        The image ``(X, Y, Z)``, changed in place, and its grid.
    outside
        Bool ``(X, Y, Z)``: voxels that are still to be filled; those near the box become False.
    """
    beyond = np.ceil(reach / box.voxel_size).astype(int)
    x, y, z = (np.array(box.shape) + 2 * beyond).tolist()
    near = outside & inside(grid, Grid((x, y, z), box.affine @ translation(-beyond)))
    voxels = np.argwhere(near)
    nearest = _nearest_within(box, grid, voxels)
    to, at = (tuple(torch.as_tensor(rows.T, device=image.device)) for rows in (voxels, nearest))
    image[to] = image[at]
    outside &= ~near


def _nearest_within(box: Grid, grid: Grid, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Voxels ``(N, 3)`` of a grid within a box that are nearest to others along its axes."""
    into_box = np.linalg.inv(box.affine) @ grid.affine
    # So far within the faces that the nearest voxel of the grid lies within them, too.
    inset = np.maximum(np.abs(into_box[:3, :3]).sum(axis=1) / 2 - 0.5, 0)
    last = np.array(box.shape) - 1.0
    low = np.minimum(inset, last / 2)
    within = np.clip(apply_affine(into_box, voxels), low, last - low)
    nearest = np.rint(apply_affine(np.linalg.inv(into_box), within)).astype(np.int64)
    return np.clip(nearest, 0, np.array(grid.shape) - 1)


def _add_average(scans: Sequence[Observation], grid: Grid, image: Tensor) -> None:
    """Fill an image of zeros ``(X, Y, Z)`` with the average of the scans of a contrast."""
    air = _air(scans)
    total = torch.zeros_like(image)
    # A rejected slice of one repeat is filled from the other repeats.
    for scan in scans if len(scans) > 1 else map(interpolate_rejected_slices, scans):
        above_air, share = resample_scan(scan, air, grid, image.device)
        image += above_air
        total += share
    # At the border of the data, where the sum of shares is below 1, the image falls off to air.
    image.div_(total.clamp_(min=1)).add_(air)


def _air(scans: Sequence[Observation]) -> float:
    if scans[0].zero_is_missing:
        return 0.0
    darkest = min(float(np.min(scan.data[~scan.missing], initial=np.inf)) for scan in scans)
    return max(AIR_HU, darkest) if np.isfinite(darkest) else AIR_HU


def resample_scan(
    scan: Observation, air: float, grid: Grid, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Interpolate a scan trilinearly on ``grid``, or average it where its voxels are smaller.

    Parameters
    ----------
    scan
        The scan at its pose.
    air
        Intensity of air, which is subtracted.
    grid
        Grid of the result.
    device
        Device of the result.

    Returns
    -------
    tuple of Tensor
        Weighted sums of the measured intensities above air, and the sums of the weights, at most
        1: the share of each voxel that was measured. Both are ``(X, Y, Z)`` float32.
    """
    return _resampled(scan, air, grid, device, _profile(grid, scan.placed_grid))


def _resampled(
    scan: Observation, air: float, grid: Grid, device: torch.device, profile: SliceProfile
) -> tuple[Tensor, Tensor]:
    """`resample_scan` with a profile of the voxels of ``grid``."""
    placed = scan.placed_grid
    missing = scan.missing
    data = np.where(missing, 0.0, scan.data - air).astype(np.float32)
    resample = ForwardOperator(padded(placed, 1), grid, profile=profile)
    covered = torch.as_tensor(inside(grid, placed), device=device)
    above_air, share = (
        resample.forward(torch.as_tensor(np.pad(values, 1, mode="edge"), device=device)) * covered
        for values in (data, (~missing).astype(np.float32))
    )
    return above_air, share


def _profile(grid: Grid, scan: Grid) -> SliceProfile:
    """A rect as wide as a voxel of ``grid`` where the scan's voxels are smaller, else points."""
    voxels = np.linalg.norm((np.linalg.inv(scan.affine) @ grid.affine)[:3, :3], axis=0)
    shape: Shape1D = "rect" if voxels.max() > NEARLY_EQUAL else "dirac"
    return SliceProfile(shape, shape)
