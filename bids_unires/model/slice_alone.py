"""A contrast with a single scan, as the images of the other contrasts predict it.

An image made of one scan explains its slices wherever they lie, so it does not say how these
moved. The images of other contrasts show the same head. What intensity goes with theirs is
read off the scan itself, as the mean over all voxels where the others predict the same: the
correlation ratio's model of how two contrasts relate (Roche et al. 1998, "The correlation
ratio as a new similarity measure for multimodal image registration", equation 4).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..geometry import Grid
from .forward import ForwardOperator
from .observation import Observation
from .prior import edge_squares
from .slice_groups import SliceMotion, split
from .smooth_blocks import MAD_TO_SD
from .solver import solve

logger = logging.getLogger("bids_unires")

# Grey levels of each of the other contrasts that are told apart, and how far (in these) the
# means are smoothed: where few voxels have some levels, their neighbours speak for them, and
# where there are none, those further off.
_LEVELS = 24
_SMOOTHINGS = (1.0, 4.0, 16.0)
_FEWEST_VOXELS = 1e-3
# With more contrasts most combinations of levels would be empty.
_MOST_CONTRASTS = 2
_BRIGHTEST = 0.998
# What an imitation gets wrong is anatomy, alike over about this many voxels of a slice.
_VOXELS_ALIKE = 25.0
WORTHWHILE_MM = 1.0
"""Motion worth a pose of its own, where an imitation is all that says so."""

# Share of the objective. Slices that may lie anywhere are always explained a little better: by
# 0.4 % where they had not moved, by 1.6 to 4.3 % where they had (up to 3 mm and degrees).
_LEAST_GAIN = 0.01
# Until objectives are known well enough to be compared.
_ITERATIONS = 25


def imitation(
    parts: Sequence[Observation], others: Sequence[Tensor], grid: Grid
) -> tuple[Tensor, float]:
    """Image of a contrast as other contrasts predict it, and how well it predicts the scan.

    Parameters
    ----------
    parts
        The scan, or its groups of slices, at their poses.
    others
        Images ``(X, Y, Z)`` of other contrasts; of more than two the first two are used.
    grid
        Where they lie.

    Returns
    -------
    image
        ``(X, Y, Z)`` float32.
    sd
        Robust standard deviation of what it leaves unexplained of the head.
    """
    others = others[:_MOST_CONTRASTS]
    tops = [_bright(image) for image in others]
    measured, levels = [], []
    for part in parts:
        operator = ForwardOperator(grid, part.grid, pose=part.pose, profile=part.profile)
        seen = ~part.missing
        measured.append(part.data[seen])
        predictions = [operator.forward(image).cpu().numpy()[seen] for image in others]
        levels.append(_levels(predictions, tops))
    values, at = np.concatenate(measured), np.concatenate(levels, axis=1)
    table = _means(values, at)
    residual = values - _looked_up(table, at)
    head = (at > 1).any(axis=0)
    sd = MAD_TO_SD * float(np.median(np.abs(residual[head]))) if head.any() else 0.0
    flat = _levels([image.cpu().numpy().ravel() for image in others], tops)
    image = _looked_up(table, flat).reshape(grid.shape)
    return torch.as_tensor(image, dtype=torch.float32, device=others[0].device), sd


def apart_is_better(
    scan: Observation,
    motion: SliceMotion,
    grid: Grid,
    images: Tensor,
    index: int,
    lam: Sequence[float],
    guide: Tensor | None,
) -> bool:
    """Whether scan and prior are more probable with the slices of a scan where they moved to.

    Parameters
    ----------
    scan, motion
        The only scan of a contrast, and how its slices moved.
    grid, images, lam
        Images ``(C, X, Y, Z)`` of all contrasts, where they lie, and their regularisation.
    index
        Of the contrast.
    guide
        Edges of still other images, or None; see `JointTotalVariation`.
    """
    others = [other for other in range(len(images)) if other != index]
    edges = edge_squares(images[others], grid, [lam[other] for other in others])
    edges = edges if guide is None else edges + guide
    moved = split(scan, motion.groups, motion.poses(scan.world_pose))
    apart, together = (
        solve(
            [parts],
            grid,
            [lam[index]],
            max_iter=_ITERATIONS,
            device=str(images.device),
            guide=edges,
        )
        .history[-1]
        .objective
        for parts in (moved, [scan])
    )
    logger.info(
        "contrast %d: objective %.6g where its slices moved, %.6g where they stayed together",
        index + 1,
        apart,
        together,
    )
    return apart < (1 - _LEAST_GAIN) * together


def believed(part: Observation, sd: float) -> Observation:
    """A part of a scan as an image explains it that is itself wrong by ``sd`` (0: not at all)."""
    if sd == 0:
        return part
    most = 1 / (_VOXELS_ALIKE * sd**2)
    if isinstance(part.tau, np.ndarray):
        return replace(part, tau=np.minimum(part.tau, np.float32(most)))
    return replace(part, tau=min(part.tau, most))


def _bright(image: Tensor) -> float:
    values = image.cpu().numpy()
    positive = values[values > 0]
    return float(np.quantile(positive[::7], _BRIGHTEST)) if positive.size > 7 else 1.0


def _levels(values: Sequence[NDArray[np.float32]], tops: Sequence[float]) -> NDArray[np.float64]:
    """Intensities ``(N,)`` of each contrast as levels, ``(C, N)``, from 0 to the brightest."""
    scaled = [own / top * (_LEVELS - 1) for own, top in zip(values, tops, strict=True)]
    return np.clip(np.stack(scaled), 0, _LEVELS - 1)


def _means(values: NDArray[np.float32], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the values at every combination of levels, one axis for each contrast."""
    sides = (_LEVELS,) * len(levels)
    cells = np.ravel_multi_index(np.rint(levels).astype(np.intp), sides)
    size = _LEVELS ** len(levels)
    sums = np.bincount(cells, weights=values, minlength=size).reshape(sides).astype(np.float64)
    counts = np.bincount(cells, minlength=size).reshape(sides).astype(np.float64)
    means = np.zeros(sides)
    for sd in reversed(_SMOOTHINGS):
        near, weight = _smoothed(sums, sd), _smoothed(counts, sd)
        means = np.where(weight > _FEWEST_VOXELS, near / np.maximum(weight, _FEWEST_VOXELS), means)
    return means


def _smoothed(table: NDArray[np.float64], sd: float) -> NDArray[np.float64]:
    """Convolve with a Gaussian along every axis; beyond the border are zeros."""
    at = np.arange(_LEVELS)
    kernel = np.exp(-0.5 * ((at[:, None] - at) / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
    for axis in range(table.ndim):
        table = np.moveaxis(np.tensordot(kernel, table, axes=(1, axis)), 0, axis)
    return table


def _looked_up(table: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multilinear interpolation of a table at ``(C, N)``, within its sides."""
    below = np.minimum(at.astype(np.intp), _LEVELS - 2)
    share = at - below
    values = np.zeros(at.shape[1])
    for corner in product((0, 1), repeat=len(at)):
        places = [own + step for own, step in zip(below, corner, strict=True)]
        weights = [f if step else 1 - f for f, step in zip(share, corner, strict=True)]
        values += np.prod(weights, axis=0) * table[tuple(places)]
    return values
