"""Resampling of segmentations to another grid, such as that of the result."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .affines import Affine
from .arrays import array_of
from .grid import Grid
from .volume import LabelVolume

# Positions are whole numbers of steps of 1/1024 voxel. Products of three weights, and their sums,
# are then exact in 32 bit. So neither rounding nor the order of the axes decides between labels
# of equal weight.
_STEP_BITS = 10
_STEPS = 1 << _STEP_BITS
# Voxels processed at once: few enough to stay in the cache of a processor.
_CHUNK = 1 << 17
_CORNERS = tuple(itertools.product((0, 1), repeat=3))
_MIXED = -1


def resample_labels(
    labels: LabelVolume, grid: Grid, pose: Affine | None = None, *, voxels_at_once: int = _CHUNK
) -> NDArray[np.int32]:
    """Resample a segmentation: take the label with the largest weight in trilinear interpolation.

    This is the same as interpolating the one-hot image of every label trilinearly, and taking the
    label whose image is largest. Only the labels of the eight voxels around a point can win, so
    only these are compared, whatever the number of labels.

    Parameters
    ----------
    labels
        The segmentation.
    grid
        Grid to resample to.
    pose
        ``(4, 4)`` rigid matrix, world mm of the segmentation -> world mm of ``grid``; None
        for the identity.
    voxels_at_once
        Processed together; the result does not depend on it.

    Returns
    -------
    ndarray
        Labels ``(X, Y, Z)``, the shape of ``grid``; 0 outside the segmentation. Among labels of
        equal weight the smallest wins.

    Examples
    --------
    >>> halves = LabelVolume(np.array([[[7]], [[9]]], np.int32), np.eye(4))
    >>> fine = Grid((4, 1, 1), np.array([[0.4, 0, 0, -0.1], *np.eye(4)[1:]]))
    >>> resample_labels(halves, fine)[:, 0, 0].tolist()
    [7, 7, 9, 9]
    """
    motion = np.eye(4) if pose is None else array_of(pose, np.float64)
    into_labels = np.linalg.inv(motion @ labels.affine) @ grid.affine
    # Two voxels of background on every side: samples further out are moved into this border,
    # where all eight neighbours are background.
    padded = torch.from_numpy(np.pad(np.ascontiguousarray(labels.data, dtype=np.int32), 2))
    cells = _cells(padded)
    resampled = np.empty(grid.shape, dtype=np.int32)
    planes = max(1, voxels_at_once // math.prod(grid.shape[1:]))
    for first in range(0, grid.shape[0], planes):
        chunk = resampled[first : first + planes]
        at = _positions(range(first, first + len(chunk)), grid, into_labels, padded.shape)
        chunk[:] = _heaviest_labels(padded, cells, at).reshape(chunk.shape).numpy()
    return resampled


def _cells(padded: Tensor) -> Tensor:
    """Common label of each cell of 2 x 2 x 2 voxels, at the first voxel of the cell.

    -1 if the labels of the cell differ.
    """
    low, high = slice(0, -1), slice(1, None)
    first = padded[low, low, low]
    mixed = torch.zeros(first.shape, dtype=torch.bool)
    for x, y, z in _CORNERS[1:]:
        mixed |= padded[(low, high)[x], (low, high)[y], (low, high)[z]] != first
    cells = torch.zeros_like(padded)
    cells[low, low, low] = torch.where(mixed, _MIXED, first)
    return cells


def _positions(planes: range, grid: Grid, into_labels: Affine, shape: torch.Size) -> Tensor:
    """Positions of planes of a grid in the padded segmentation, in steps, ``(3, N)`` int32."""
    x = torch.arange(planes.start, planes.stop, dtype=torch.float64)[:, None, None]
    y = torch.arange(grid.shape[1], dtype=torch.float64)[:, None]
    z = torch.arange(grid.shape[2], dtype=torch.float64)
    found = []
    for (a, b, c, offset), side in zip((into_labels * _STEPS).tolist(), shape, strict=False):
        at = (a * x + b * y + (offset + 2 * _STEPS)) + c * z
        last = (side - 1) * _STEPS - 1
        found.append(at.round_().clamp_(0, last).to(torch.int32).view(-1))
    return torch.stack(found)


def _heaviest_labels(padded: Tensor, cells: Tensor, at: Tensor) -> Tensor:
    """Labels with the largest weight, ``(N,)``, at positions ``(3, N)`` of a padded segmentation.

    ``at`` is in steps; ``cells`` comes from `_cells`.
    """
    _, height, depth = padded.shape
    x, y, z = at >> _STEP_BITS
    corner = (x * height + y) * depth + z
    heaviest = cells.view(-1).index_select(0, corner)
    mixed = (heaviest == _MIXED).nonzero()[:, 0]
    corners = torch.tensor([(x * height + y) * depth + z for x, y, z in _CORNERS])
    around = padded.view(-1)[corner[mixed] + corners[:, None]]
    heaviest[mixed] = _vote(around, at[:, mixed] & (_STEPS - 1))
    return heaviest


def _vote(around: Tensor, fraction: Tensor) -> Tensor:
    """Label with the largest weight among eight neighbours ``(8, N)``; the smallest if equal.

    ``fraction`` is the position between the neighbours in steps, ``(3, N)``.
    """
    toward = torch.stack([_STEPS - fraction, fraction])
    weights = torch.stack([toward[x, 0] * toward[y, 1] * toward[z, 2] for x, y, z in _CORNERS])
    best, most = around[0].clone(), torch.zeros_like(around[0])
    for label in around:
        weight = ((around == label) * weights).sum(dim=0, dtype=torch.int32)
        better = (weight > most) | ((weight == most) & (label < best))
        best, most = torch.where(better, label, best), torch.where(better, weight, most)
    return best
