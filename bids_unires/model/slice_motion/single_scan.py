"""A contrast with a single scan, as the images of the other contrasts predict it.

An image made of one scan explains its slices wherever they lie, so it does not say how these
moved. The images of other contrasts show the same head. What intensity goes with theirs is
read off the scan itself (`correlation_ratio`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...space.grid import Grid
from ..intensity.correlation_ratio import (
    conditional_means,
    grey_levels,
    interpolate_means,
    robust_maximum,
)
from ..intensity.scan_state import ScanState
from ..intensity.smooth_blocks import MAD_TO_SD
from ..prior.total_variation import edge_squares
from ..scanner.observation import Observation
from ..solve.problem import Problem, Stop
from ..solve.solver import solve_problem

logger = logging.getLogger("bids_unires")

# With more contrasts most combinations of levels would be empty.
_MOST_CONTRASTS = 2
# What an imitation gets wrong is anatomy, alike over about this many voxels of a slice.
_VOXELS_ALIKE = 25.0
WORTHWHILE_MM = 1.0
"""Motion worth a pose of its own, where an imitation is all that says so."""

# Share of the objective. Slices that may lie anywhere are always explained a little better: by
# 0.4 % where they had not moved, by 1.6 to 4.3 % where they had (up to 3 mm and degrees).
_LEAST_GAIN = 0.01
# Until objectives are known well enough to be compared.
_ITERATIONS = 25


def predict_from_other_contrasts(
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
    shown = [image.cpu().numpy() for image in others]
    tops = [robust_maximum(image) for image in shown]
    measured, levels = [], []
    for part in parts:
        operator = part.evenly().operator(grid)
        seen = ~part.missing
        measured.append(part.data[seen])
        predictions = [operator.forward(image).cpu().numpy()[seen] for image in others]
        levels.append(grey_levels(predictions, tops))
    values, at = np.concatenate(measured), np.concatenate(levels, axis=1)
    table = conditional_means(values, at)
    residual = values - interpolate_means(table, at)
    head = (at > 1).any(axis=0)
    sd = MAD_TO_SD * float(np.median(np.abs(residual[head]))) if head.any() else 0.0
    flat = grey_levels([image.ravel() for image in shown], tops)
    image = interpolate_means(table, flat).reshape(grid.shape)
    return torch.as_tensor(image, dtype=torch.float32, device=others[0].device), sd


def split_is_more_probable(problem: Problem, index: int, scan: ScanState, images: Tensor) -> bool:
    """Whether scan and prior are more probable with the slices of a scan where they moved to.

    Parameters
    ----------
    problem
        All contrasts.
    index
        Of the contrast.
    scan
        Its only scan, and how the slices of that moved.
    images
        ``(C, X, Y, Z)``, the images of all contrasts.
    """
    others = [other for other in range(len(images)) if other != index]
    weights = [problem.weights[other] for other in others]
    edges = edge_squares(images[others], problem.grid, weights)
    edges = edges if problem.guide is None else edges + problem.guide
    whole = replace(problem.contrasts[index], scans=(replace(scan, motion=None),), detail=None)
    moved = replace(whole, scans=(scan,)).apart()
    stop = Stop(max_iter=_ITERATIONS)
    apart, together = (
        solve_problem(replace(problem, contrasts=(contrast,), guide=edges), stop)
        .history[-1]
        .objective
        for contrast in (moved, whole)
    )
    logger.info(
        "contrast %d: objective %.6g where its slices moved, %.6g where they stayed together",
        index + 1,
        apart,
        together,
    )
    return apart < (1 - _LEAST_GAIN) * together


def limit_precision(part: Observation, sd: float) -> Observation:
    """A part of a scan as an image explains it that is itself wrong by ``sd`` (0: not at all)."""
    if sd == 0:
        return part
    most = 1 / (_VOXELS_ALIKE * sd**2)
    if isinstance(part.tau, np.ndarray):
        return replace(part, tau=np.minimum(part.tau, np.float32(most)))
    return replace(part, tau=min(part.tau, most))
