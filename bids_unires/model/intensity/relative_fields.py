"""Intensity differences between repeats of one contrast.

Two scans of one head never have quite the same intensities: the receive coils weigh the
head differently when it lies differently, and scanners rescale every series. Within one
contrast that is a factor which varies smoothly over the head. Left in, the fit would take
it for detail: repeats that disagree by a few percent can only be explained together by
oscillations finer than their slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ...space.affines import Affine
from ...space.boxes import enclose
from ...space.grid import Grid
from ...space.mean_space import mean_space
from ...space.volume import Volume
from ..scanner.forward import ForwardOperator
from ..scanner.profile import SliceProfile
from .noise import NoiseEstimate

# Coils vary over centimetres, anatomy over millimetres.
_FIELD_VOXEL_MM = 4.0
_SMOOTHING_SD_MM = 16.0
_SMOOTHINGS = 3
# Where the smoothing finds less than this share of its neighbourhood inside the head, the
# field falls back to the factor of the head as a whole.
_PRIOR_SHARE = 0.1
# Overlapping head, in field voxels, that a comparison needs (about 13 ml).
_FEWEST_VOXELS = 200
_LEAST_KNOWN = 0.5


def relative_fields(
    scans: Sequence[Volume], poses: Sequence[Affine], noise: Sequence[NoiseEstimate]
) -> list[NDArray[np.float32]]:
    """Smooth factor by which each repeat is brighter than the mean of all repeats.

    The logarithms of the scans are compared wherever at least two of them show the head,
    and the differences to their mean are smoothed (normalised convolution with a
    Gaussian); away from the head the factor is that of the head as a whole.

    Parameters
    ----------
    scans
        Repeats of one contrast.
    poses
        ``(4, 4)`` rigid matrices, scan world mm -> common world mm.
    noise
        Noise and contrast of each scan, which tell head from background.

    Returns
    -------
    list of ndarray
        Factors on the grid of each scan, float32; all 1 for a single scan, and where
        repeats share too little of the head to be compared.
    """
    ones = [np.ones(scan.grid.shape, dtype=np.float32) for scan in scans]
    if len(scans) < 2:
        return ones
    placed = [Grid(s.grid.shape, pose @ s.affine) for s, pose in zip(scans, poses, strict=True)]
    grid = enclose(mean_space(placed, [_FIELD_VOXEL_MM] * 3), placed)
    intensities = torch.stack([_on(grid, g, s) for g, s in zip(placed, scans, strict=True)])
    thresholds = [e.halfway for e in noise]
    heads = _eroded(intensities > torch.tensor(thresholds).reshape(-1, 1, 1, 1))
    shared = heads & (heads.sum(dim=0) > 1)
    if min(int(seen.sum()) for seen in shared) < _FEWEST_VOXELS:
        return ones
    logs = torch.where(shared, intensities.clamp(min=1e-30).log(), 0.0)
    mean = logs.sum(dim=0) / shared.sum(dim=0).clamp(min=1)
    fields = []
    for log, seen, own in zip(logs, shared, placed, strict=True):
        difference = log - mean
        overall = difference[seen].median()
        share = _smoothed(seen.float()) + _PRIOR_SHARE
        smooth = overall.expand(grid.shape)
        # What one smoothing flattened shows in the remainder, and the next one adds it.
        for _ in range(_SMOOTHINGS):
            smooth = smooth + _smoothed(torch.where(seen, difference - smooth, 0.0)) / share
        fields.append(_field_on(own, grid, smooth))
    return fields


def _eroded(heads: Tensor) -> Tensor:
    """Drop the outermost voxels of each head, where thick slices mix it with air."""
    return functional.max_pool3d((~heads).float(), 3, stride=1, padding=1) == 0


def _on(grid: Grid, scan_grid: Grid, scan: Volume) -> Tensor:
    """A scan's intensities averaged over the voxels of a coarser grid."""
    data = torch.as_tensor(np.nan_to_num(scan.data, posinf=0.0, neginf=0.0))
    into_scan = ForwardOperator(scan_grid, grid, profile=SliceProfile("rect", "rect"))
    mean = into_scan.forward(data)
    known = torch.as_tensor(np.isfinite(scan.data))
    if bool(known.all()):
        return mean
    # Beside slices that were left out, of what there is.
    share = into_scan.forward(known.float()) / into_scan.forward(torch.ones_like(data)).clamp(1e-6)
    return torch.where(share > _LEAST_KNOWN, mean / share, 0.0)


def _field_on(scan_grid: Grid, grid: Grid, logarithm: Tensor) -> NDArray[np.float32]:
    """Interpolate a field on the voxels of a scan; beyond the field's grid the factor is 1."""
    points = ForwardOperator(grid, scan_grid, profile=SliceProfile("dirac", "dirac"))
    return np.asarray(points.forward(logarithm).exp().numpy())


def _smoothed(values: Tensor) -> Tensor:
    """Convolve with a Gaussian; beyond the border are zeros."""
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
