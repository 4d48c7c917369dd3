"""Segmentations on the grid of the result."""

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

# Positions in steps of 1/1024 voxel: products of three weights and their sums are exact in
# 32 bit, so that neither rounding nor the order of the axes decides between equal weights.
_STEP_BITS = 10
_STEPS = 1 << _STEP_BITS
# Voxels worked on at once: few enough to stay in a processor's cache.
_CHUNK = 1 << 17
_CORNERS = tuple(itertools.product((0, 1), repeat=3))
_MIXED = -1


def resample_labels(
    labels: LabelVolume, grid: Grid, pose: Affine | None = None
) -> NDArray[np.int32]:
    """Resample a segmentation: the label that weighs most in a trilinear interpolation.

    It is the largest of the one-hot images of all labels, each interpolated trilinearly.
    At any point only the labels of the eight voxels around it can be that, so these are
    compared to each other, whatever the number of labels.

    Parameters
    ----------
    labels
        The segmentation.
    grid
        Where labels are wanted.
    pose
        ``(4, 4)`` rigid matrix, world mm of the segmentation -> world mm of ``grid``; None
        for the identity.

    Returns
    -------
    ndarray
        Labels, of the shape of ``grid``; 0 outside of the segmentation. The smallest label
        wins among equals.

    Examples
    --------
    >>> halves = LabelVolume(np.array([[[7]], [[9]]], np.int32), np.eye(4))
    >>> fine = Grid((4, 1, 1), np.array([[0.4, 0, 0, -0.1], *np.eye(4)[1:]]))
    >>> resample_labels(halves, fine)[:, 0, 0].tolist()
    [7, 7, 9, 9]
    """
    motion = np.eye(4) if pose is None else array_of(pose, np.float64)
    into_labels = np.linalg.inv(motion @ labels.affine) @ grid.affine
    # Two voxels of background all around: a sample beyond them is moved there, and sees no other.
    padded = torch.from_numpy(np.pad(np.ascontiguousarray(labels.data, dtype=np.int32), 2))
    cells = _cells(padded)
    resampled = np.empty(grid.shape, dtype=np.int32)
    planes = max(1, _CHUNK // math.prod(grid.shape[1:]))
    for first in range(0, grid.shape[0], planes):
        chunk = resampled[first : first + planes]
        at = _positions(range(first, first + len(chunk)), grid, into_labels, padded.shape)
        chunk[:] = _heaviest_labels(padded, cells, at).reshape(chunk.shape).numpy()
    return resampled


def _cells(padded: Tensor) -> Tensor:
    """Label of each cell of eight voxels, named by its first one; -1 where they differ."""
    low, high = slice(0, -1), slice(1, None)
    first = padded[low, low, low]
    mixed = torch.zeros(first.shape, dtype=torch.bool)
    for x, y, z in _CORNERS[1:]:
        mixed |= padded[(low, high)[x], (low, high)[y], (low, high)[z]] != first
    cells = torch.zeros_like(padded)
    cells[low, low, low] = torch.where(mixed, _MIXED, first)
    return cells


def _positions(planes: range, grid: Grid, into_labels: Affine, shape: torch.Size) -> Tensor:
    """Positions of some planes of a grid in the padded segmentation, in steps; ``(3, N)`` int32."""
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
    """Labels ``(N,)`` at positions ``(3, N)`` of a padded segmentation."""
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
    """Label with the most weight among eight neighbours ``(8, N)``, the smallest of equals."""
    toward = torch.stack([_STEPS - fraction, fraction])
    weights = torch.stack([toward[x, 0] * toward[y, 1] * toward[z, 2] for x, y, z in _CORNERS])
    best, most = around[0].clone(), torch.zeros_like(around[0])
    for label in around:
        weight = ((around == label) * weights).sum(dim=0, dtype=torch.int32)
        better = (weight > most) | ((weight == most) & (label < best))
        best, most = torch.where(better, label, best), torch.where(better, weight, most)
    return best
