"""Solving for the images in turn with everything else that the scans leave open.

Repeats of one contrast say where they lie relative to each other, and how far they can be
believed. Both follow from the images, and the images from both, so they take turns: a few
iterations of the solver, then poses, then weights, until neither changes any more. The last
word has the solver, with everything else fixed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...space.grid import Grid
from ..detail.term import Details, with_details
from ..intensity.noise import NoiseEstimate
from ..scanner.observation import Observation
from ..scanner.resampling import linear_images
from .pose import displacement, refined_poses
from .repeat_weights import reweighed
from .solver import Listener, Progress, Solution, listening_after, solve

if TYPE_CHECKING:
    from ..scanner.slice_groups import SliceMotion

logger = logging.getLogger("bids_unires")

# The images are sharpened a little, beginning with the weights that noise alone would give,
# then the residuals are weighed again, until the scales hardly change. Beginning with large
# scales instead would smooth away the detail whose absence then keeps the scales large.
_MOST_ROUNDS = 8
_ITERATIONS_PER_ROUND = 6
_SETTLED_SCALES = 0.05
_SETTLED_POSES_MM = 0.05


@dataclass(frozen=True, eq=False)
class UnifiedSolution:
    """Images, and all that was found together with them.

    Attributes
    ----------
    solution
        Images and history of all rounds.
    contrasts
        For each contrast its scans, with the poses and precisions the images were made with.
    scales
        For each contrast the scale of each scan's residuals in intensity; the noise where a
        contrast has a single scan.
    lam
        Regularisation of each contrast in mm / intensity.
    motions
        For each contrast how the slices of each scan moved; None for one that was not taken
        apart. Empty where that was not asked for.
    details
        For each contrast what was learned of what lies within its slices; may be empty.
    """

    solution: Solution
    contrasts: tuple[tuple[Observation, ...], ...]
    scales: tuple[tuple[float, ...], ...]
    lam: tuple[float, ...]
    motions: tuple[tuple[SliceMotion | None, ...], ...] = ()
    details: Details = ()


def solve_unified(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    *,
    move: bool,
    tolerance: float,
    max_iter: int,
    device: torch.device,
    start: Tensor | None = None,
    guide: Tensor | None = None,
    details: Details = (),
    on_progress: Listener | None = None,
) -> UnifiedSolution:
    """Solve for the images and, where a contrast has repeats, for their poses and weights.

    Parameters
    ----------
    contrasts
        For each contrast its scans, at the poses to start from.
    noise
        Noise of each scan.
    move
        Whether poses are refined.
    grid, lam, tolerance, max_iter, start, guide, on_progress
        As for `solve`; ``max_iter`` bounds the iterations of the last turn.
    details
        For each contrast what was learned of what lies within its slices; may be empty.
    device
        Where to work.

    Notes
    -----
    A contrast with a single scan keeps its pose: its image explains the scan wherever it
    lies, so the data term holds nothing about it.
    """
    images = linear_images(contrasts, grid, device) if start is None else start.to(device)
    scales = [[estimate.noise_sd for estimate in estimates] for estimates in noise]
    before: tuple[Progress, ...] = ()
    rounds = _MOST_ROUNDS if any(len(scans) > 1 for scans in contrasts) else 0
    for _ in range(rounds):
        sharpened = continued(
            before,
            on_progress,
            with_details(contrasts, details, grid),
            grid,
            lam,
            tolerance,
            _ITERATIONS_PER_ROUND,
            images,
            guide,
        )
        images, before = sharpened.images, sharpened.history
        moved = 0.0
        if move:
            contrasts, moved = _moved(contrasts, grid, images)
        previous, (contrasts, scales) = scales, reweighed(contrasts, noise, grid, images)
        _say_how_repeats_agree(noise, scales, moved)
        if _largest_change(previous, scales) < _SETTLED_SCALES and moved < _SETTLED_POSES_MM:
            break
    solution = continued(
        before,
        on_progress,
        with_details(contrasts, details, grid),
        grid,
        lam,
        tolerance,
        max_iter,
        images,
        guide,
    )
    return UnifiedSolution(
        solution,
        tuple(tuple(scans) for scans in contrasts),
        tuple(tuple(own) for own in scales),
        tuple(lam),
        details=tuple(details),
    )


def _moved(
    contrasts: Sequence[Sequence[Observation]], grid: Grid, images: Tensor
) -> tuple[list[list[Observation]], float]:
    """The scans at refined poses, and how far (mm) any of them moved."""
    refined, furthest = [], 0.0
    for scans, image in zip(contrasts, images, strict=True):
        poses = refined_poses(scans, grid, image)
        for scan, pose in zip(scans, poses, strict=True):
            furthest = max(furthest, displacement(scan.world_pose, pose, grid))
        refined.append([replace(s, pose=pose) for s, pose in zip(scans, poses, strict=True)])
    return refined, furthest


def _say_how_repeats_agree(
    noise: Sequence[Sequence[NoiseEstimate]], scales: Sequence[Sequence[float]], moved: float
) -> None:
    for contrast, (estimates, own) in enumerate(zip(noise, scales, strict=True), start=1):
        if len(own) > 1:
            factor = max(s / e.noise_sd for s, e in zip(own, estimates, strict=True))
            logger.info(
                "contrast %d: %d repeats weighed anew (the objective changes with that); "
                "they differ by %.1f times the noise at most",
                contrast,
                len(own),
                factor,
            )
    logger.info("scans moved by up to %.3f mm", moved)


def _largest_change(before: list[list[float]], after: list[list[float]]) -> float:
    pairs = zip(chain.from_iterable(before), chain.from_iterable(after), strict=True)
    return float(max(np.abs(old - new) / old for old, new in pairs))


def continued(
    before: tuple[Progress, ...],
    on_progress: Listener | None,
    contrasts: Sequence[Sequence[Observation]],
    grid: Grid,
    lam: Sequence[float],
    tolerance: float,
    max_iter: int,
    images: Tensor,
    guide: Tensor | None,
) -> Solution:
    """Solve on from ``images``, counting time and products from where ``before`` ended."""
    earlier = before[-1] if before else Progress(0.0, 0, 0.0)
    solution = solve(
        contrasts,
        grid,
        lam,
        tolerance=tolerance,
        max_iter=max_iter,
        device=str(images.device),
        start=images,
        guide=guide,
        on_progress=listening_after(earlier, on_progress),
    )
    history = (*before, *(progress.after(earlier) for progress in solution.history))
    return replace(solution, history=history)
