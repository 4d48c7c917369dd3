"""Intensity differences between repeats of one contrast.

Two scans of one head never have quite the same intensities. The sensitivity of the receive coils
depends on where the head lies, and scanners rescale every series. Within one contrast this is a
factor that varies smoothly over the head. It has to be corrected: the fit would otherwise explain
a difference of a few percent between repeats by oscillations finer than their slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...space.boxes import enclose
from ...space.grid import Grid
from ...space.mean_space import mean_space
from ..scanner.forward import ForwardOperator
from ..scanner.profile import SliceProfile
from .repaired_scan import RepairedScan

# Coil sensitivity varies over centimetres, anatomy over millimetres.
_FIELD_VOXEL_MM = 4.0
_SMOOTHING_SD_MM = 16.0
_SMOOTHINGS = 3
# Where less than this share of the smoothing kernel lies inside the head, the field approaches the
# factor of the head as a whole.
_PRIOR_SHARE = 0.1
# Overlapping head, in field voxels, that a comparison needs (about 13 ml).
_FEWEST_VOXELS = 200
_LEAST_KNOWN = 0.5


def relative_fields(scans: Sequence[RepairedScan]) -> list[NDArray[np.float32]]:
    """Smooth factor by which each repeat is brighter than the mean of all repeats.

    The logarithms of the scans are compared wherever at least two of them show the head. The
    differences from their mean are smoothed (normalised convolution with a Gaussian). Away from
    the head, the factor is that of the head as a whole.

    Parameters
    ----------
    scans
        Repeats of one contrast.

    Returns
    -------
    list of ndarray
        Factors on the grid of each scan, ``(X, Y, Z)`` float32. They are all 1 for a single scan,
        and where the repeats share too little of the head to be compared.
    """
    ones = [np.ones(scan.volume.grid.shape, dtype=np.float32) for scan in scans]
    if len(scans) < 2:
        return ones
    grids = [scan.placed_grid for scan in scans]
    grid = enclose(mean_space(grids, [_FIELD_VOXEL_MM] * 3), grids)
    intensities = torch.stack([_on(grid, scan) for scan in scans])
    thresholds = [scan.noise.halfway for scan in scans]
    heads = _eroded(intensities > torch.tensor(thresholds).reshape(-1, 1, 1, 1))
    shared = heads & (heads.sum(dim=0) > 1)
    if min(int(head.sum()) for head in shared) < _FEWEST_VOXELS:
        return ones
    logs = torch.where(shared, intensities.clamp(min=1e-30).log(), 0.0)
    differences = logs - logs.sum(dim=0) / shared.sum(dim=0).clamp(min=1)
    return [
        _field_on(scan.placed_grid, grid, _smooth_difference(differences[n], shared[n]))
        for n, scan in enumerate(scans)
    ]


def _smooth_difference(difference: Tensor, head: Tensor) -> Tensor:
    """A difference known within the head, smoothed and continued beyond it, ``(X, Y, Z)``."""
    overall = difference[head].median()
    share = _smoothed(head.float()) + _PRIOR_SHARE
    smooth = overall.expand(difference.shape)
    # Each further smoothing adds what the ones before have flattened too much.
    for _ in range(_SMOOTHINGS):
        smooth = smooth + _smoothed(torch.where(head, difference - smooth, 0.0)) / share
    return smooth


def _eroded(heads: Tensor) -> Tensor:
    """Heads without their outermost voxels, where thick slices mix head and air."""
    return functional.max_pool3d((~heads).float(), 3, stride=1, padding=1) == 0


def _on(grid: Grid, scan: RepairedScan) -> Tensor:
    """Intensities of a scan averaged over the voxels of a coarser grid, ``(X, Y, Z)``."""
    volume = scan.accepted
    data = torch.as_tensor(np.nan_to_num(volume.data, posinf=0.0, neginf=0.0))
    average = ForwardOperator(scan.placed_grid, grid, profile=SliceProfile("rect", "rect"))
    mean = average.forward(data)
    known = torch.as_tensor(np.isfinite(volume.data))
    if bool(known.all()):
        return mean
    # Next to rejected slices, the mean of what is left.
    share = average.forward(known.float()) / average.forward(torch.ones_like(data)).clamp(1e-6)
    return torch.where(share > _LEAST_KNOWN, mean / share, 0.0)


def _field_on(scan_grid: Grid, grid: Grid, logarithm: Tensor) -> NDArray[np.float32]:
    """Factor of a scan from its logarithm on ``grid``; beyond that grid it is 1."""
    points = ForwardOperator(grid, scan_grid, profile=SliceProfile("dirac", "dirac"))
    return np.asarray(points.forward(logarithm).exp().numpy())


def _smoothed(values: Tensor) -> Tensor:
    """Convolve ``(X, Y, Z)`` with a Gaussian; zeros beyond the border."""
    sd = _SMOOTHING_SD_MM / _FIELD_VOXEL_MM
    reach = int(4 * sd)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sd) ** 2)
    kernel /= kernel.sum()
    for axis in range(3):
        sides = [1, 1, 1, 1, 1]
        sides[2 + axis] = -1
        padding = [reach if axis == other else 0 for other in range(3)]
        values = functional.conv3d(values[None, None], kernel.reshape(sides), padding=padding)[0, 0]
    return values
