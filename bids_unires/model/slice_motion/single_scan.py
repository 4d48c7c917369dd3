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
from ..intensity.correlation_ratio import brightest, grey_levels, looked_up, mean_at_levels
from ..intensity.smooth_blocks import MAD_TO_SD
from ..prior.total_variation import edge_squares
from ..scanner.forward import ForwardOperator
from ..scanner.observation import Observation
from ..scanner.slice_groups import SliceMotion, split
from ..solve.solver import solve

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
    shown = [image.cpu().numpy() for image in others]
    tops = [brightest(image) for image in shown]
    measured, levels = [], []
    for part in parts:
        operator = ForwardOperator(grid, part.grid, pose=part.pose, profile=part.profile)
        seen = ~part.missing
        measured.append(part.data[seen])
        predictions = [operator.forward(image).cpu().numpy()[seen] for image in others]
        levels.append(grey_levels(predictions, tops))
    values, at = np.concatenate(measured), np.concatenate(levels, axis=1)
    table = mean_at_levels(values, at)
    residual = values - looked_up(table, at)
    head = (at > 1).any(axis=0)
    sd = MAD_TO_SD * float(np.median(np.abs(residual[head]))) if head.any() else 0.0
    flat = grey_levels([image.ravel() for image in shown], tops)
    image = looked_up(table, flat).reshape(grid.shape)
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
