"""Quintic B-splines through voxels, which blur what lies between them far less than lines do.

Unser, Aldroubi & Eden 1993, "B-spline signal processing: part I, theory". Beyond the ends,
coefficients are mirrored.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Affine, Grid
from ..kernels.spline import sample_spline
from .forward import ForwardOperator
from .observation import Observation
from .profile import SliceProfile

_ORDER = 5
# Samples on either side of a place that its value depends on.
_REACH = 3
_POINTS = SliceProfile("point", "point")
# A spline asks for that many voxels beyond what is known, as far as it can be told.
_SUPPORT = 4
# Of a voxel's neighbours, at least this share has to be known.
_KNOWN = 0.99
# Voxels that lie as near to each other, in voxels, and over a whole grid, are the same.
_SAME_PLACE = 1e-3


def interpolation(count: int, offset: float = 0.0) -> NDArray[np.float64]:
    """Matrix ``(count, count)`` from samples along a line to values at an offset from each.

    Parameters
    ----------
    count
        How many samples.
    offset
        In samples; beyond the outermost ones those are found.

    Examples
    --------
    >>> np.round(interpolation(5, 1.0) @ [0, 1, 4, 9, 16], 6).tolist()
    [1.0, 4.0, 9.0, 16.0, 16.0]
    """
    places = np.clip(np.arange(count) + offset, 0, count - 1)
    return np.asarray(_basis(count, places) @ _to_coefficients(count))


def interpolated_on(scan: Observation, grid: Grid) -> Observation:
    """A scan of points, interpolated at the voxels of an image.

    Parameters
    ----------
    scan
        At its pose, with a precision for each voxel, 0 where nothing is known.
    grid
        Of the image.

    Returns
    -------
    Observation
        On ``grid``, with as much precision in each mm^3; the same scan where its points
        lie on voxels of the image.
    """
    matrix = np.linalg.inv(scan.world_pose @ scan.affine) @ grid.affine
    if _is_shift(matrix, grid):
        return scan
    placed = Grid(scan.grid.shape, scan.world_pose @ scan.affine)
    linearly = ForwardOperator(placed, grid, profile=_POINTS)
    tau = np.where(scan.missing, 0, scan.tau).astype(np.float32)
    precision, known = torch.from_numpy(tau), torch.from_numpy((tau > 0).astype(np.float32))
    values = _extended(torch.from_numpy(np.where(tau > 0, scan.data, 0)), known)
    found = torch.empty(grid.shape)
    sample_spline(_coefficients(values), matrix[:3], found)
    precision = linearly.forward(precision) * (linearly.forward(known) > _KNOWN)
    precision *= float(abs(np.linalg.det(matrix)))
    return Observation(
        found.numpy(), grid.affine, precision.numpy(), _POINTS, zero_is_missing=False
    )


def _is_shift(matrix: Affine, grid: Grid) -> bool:
    """Whether a matrix takes voxels to voxels of the same size."""
    turned = np.abs(matrix[:3, :3] - np.eye(3)) @ grid.shape
    shift = matrix[:3, 3] - np.round(matrix[:3, 3])
    return bool(max(turned.max(), np.abs(shift).max()) < _SAME_PLACE)


def _extended(values: Tensor, known: Tensor) -> Tensor:
    """Values ``(X, Y, Z)`` also near to where they are known: means of the neighbours that are."""
    values, known = values[None, None], known[None, None]
    for _ in range(_SUPPORT):
        share = torch.nn.functional.avg_pool3d(known, 3, 1, 1)
        around = torch.nn.functional.avg_pool3d(values * known, 3, 1, 1)
        values = torch.where(known > 0, values, around / share.clamp_min(1e-3))
        known = (share > 0).float()
    return values[0, 0]


def _coefficients(values: Tensor) -> Tensor:
    """Of the spline through ``(X, Y, Z)``."""
    for axis, count in enumerate(values.shape):
        matrix = torch.from_numpy(_to_coefficients(count).astype(np.float32))
        values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return values.contiguous()


@lru_cache(maxsize=8)
def _to_coefficients(count: int) -> NDArray[np.float64]:
    """Matrix ``(count, count)`` from samples to coefficients of the spline through them."""
    return np.asarray(np.linalg.inv(_basis(count, np.arange(count, dtype=np.float64))))


def _basis(count: int, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of each of so many coefficients at ``(P,)`` places, ``(P, count)``."""
    indices = np.arange(-_REACH, count + _REACH)
    weights = _weight(np.abs(places[:, None] - indices))
    period = max(2 * (count - 1), 1)
    folded = indices % period
    found = np.zeros((count, len(places)))
    np.add.at(found, np.minimum(folded, period - folded) % count, weights.T)
    return np.asarray(found.T)


def _weight(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a coefficient at a distance, in samples."""
    parts = [
        (-1) ** k * math.comb(_ORDER + 1, k) * np.clip(_REACH - k - distance, 0, None) ** _ORDER
        for k in range(_ORDER + 1)
    ]
    return np.asarray(sum(parts) / math.factorial(_ORDER))
