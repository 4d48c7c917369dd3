"""A contrast with a single scan, predicted from the images of other contrasts.

An image made of one scan predicts its slices wherever they lie, and does not show how they moved.
The images of other contrasts show the same head. Which intensity goes with theirs is estimated from
the scan itself (`correlation_ratio`).
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
from ..state import ContrastState

logger = logging.getLogger("bids_unires")

# With more contrasts, hardly any voxel would have most combinations of levels.
_MOST_CONTRASTS = 2
# Errors of such a prediction are anatomy, and similar over about this many voxels of a slice.
_SIMILAR_VOXELS = 25.0
WORTHWHILE_MM = 1.0
"""Motion (mm) that justifies a pose of its own, where only other contrasts show it."""

# Share of the objective. With freely placed slices the objective is always a little lower: by 0.4 %
# if they had not moved, by 1.6 to 4.3 % if they had (up to 3 mm and degrees).
_LEAST_GAIN = 0.01
# After so many iterations objectives can be compared.
_ITERATIONS = 25


def predict_from_other_contrasts(
    parts: Sequence[Observation], others: Sequence[Tensor], grid: Grid
) -> tuple[Tensor, float]:
    """Predict the image of a contrast from the images of other contrasts.

    Parameters
    ----------
    parts
        The only scan of the contrast, or its groups of slices, at their poses.
    others
        Images ``(X, Y, Z)`` of other contrasts. At most the first two are used.
    grid
        Their grid.

    Returns
    -------
    image
        ``(X, Y, Z)`` float32.
    sd
        Robust standard deviation, within the head, of the difference between scan and prediction.
    """
    others = others[:_MOST_CONTRASTS]
    images = np.stack([image.cpu().numpy() for image in others])
    maxima = [robust_maximum(image) for image in images]
    measured, predicted = [], []
    for part in parts:
        operator = part.ignoring_interleave().operator(grid)
        known = ~part.missing
        measured.append(part.data[known])
        predicted.append([operator.forward(image).cpu().numpy()[known] for image in others])
    values = np.concatenate(measured)
    levels = grey_levels(np.concatenate(predicted, axis=1), maxima)
    means = conditional_means(values, levels)
    residual = values - interpolate_means(means, levels)
    head = (levels > 1).any(axis=0)
    sd = MAD_TO_SD * float(np.median(np.abs(residual[head]))) if head.any() else 0.0
    voxels = grey_levels(images.reshape(len(images), -1), maxima)
    image = interpolate_means(means, voxels).reshape(grid.shape)
    return torch.as_tensor(image, dtype=torch.float32, device=others[0].device), sd


def split_is_more_probable(problem: Problem, index: int, scan: ScanState, images: Tensor) -> bool:
    """Whether scan and prior are more probable with the slices of a scan at their own poses.

    Parameters
    ----------
    problem
        All contrasts.
    index
        Index of the contrast.
    scan
        Its only scan, and how the slices of that moved.
    images
        ``(C, X, Y, Z)``, the images of all contrasts.
    """
    others = [other for other in range(len(images)) if other != index]
    weights = [problem.weights[other] for other in others]
    edges = edge_squares(images[others], problem.grid, weights)
    edges = edges if problem.guide is None else edges + problem.guide

    def objective(contrast: ContrastState) -> float:
        alone = replace(problem, contrasts=(contrast,), guide=edges)
        return solve_problem(alone, Stop(max_iter=_ITERATIONS)).history[-1].objective

    whole = replace(problem.contrasts[index], scans=(replace(scan, motion=None),), detail=None)
    split = objective(replace(whole, scans=(scan,)).split_by_motion())
    together = objective(whole)
    logger.info(
        "%s: objective %.6g where its slices moved, %.6g where they stayed together",
        whole.name,
        split,
        together,
    )
    return split < (1 - _LEAST_GAIN) * together


def limit_precision(part: Observation, sd: float) -> Observation:
    """A scan with less precision, for an image that has an error of its own.

    Parameters
    ----------
    part
        The scan, or a part of it.
    sd
        Standard deviation of the error of the image, in intensity; 0 for an exact image.
    """
    if sd == 0:
        return part
    most = 1 / (_SIMILAR_VOXELS * sd**2)
    if isinstance(part.tau, np.ndarray):
        return replace(part, tau=np.minimum(part.tau, np.float32(most)))
    return replace(part, tau=min(part.tau, most))
