"""Solving for the images in turn with everything else that the scans leave open.

Repeats of one contrast say where they lie relative to each other, and how far they can be
believed. Both follow from the images, and the images from both, so they take turns: a few
iterations of the solver, then poses, then weights, until neither changes any more. The last
word has the solver, with everything else fixed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ..state import ContrastState
from .pose import displacement, refine_poses
from .problem import Problem, Stop
from .repeat_weights import reweight_repeats
from .solver import Listener, Solution, continue_solving

logger = logging.getLogger("bids_unires")

# The images are sharpened a little, beginning with the weights that noise alone would give,
# then the residuals are weighed again, until the scales hardly change. Beginning with large
# scales instead would smooth away the detail whose absence then keeps the scales large.
_MOST_ROUNDS = 8
_ITERATIONS_PER_ROUND = 6
_SETTLED_SCALES = 0.05
_SETTLED_POSES_MM = 0.05


@dataclass(frozen=True, eq=False)
class Fitted:
    """Images, and what was found together with them.

    Attributes
    ----------
    contrasts
        Each contrast with the poses, precisions and weight its image was made with.
    solution
        Images and history of all rounds.
    """

    contrasts: tuple[ContrastState, ...]
    solution: Solution


def solve_with_repeats(
    problem: Problem,
    stop: Stop,
    start: Tensor | None = None,
    on_progress: Listener | None = None,
) -> Fitted:
    """Solve for the images and, where a contrast has repeats, for their poses and weights.

    Parameters
    ----------
    problem, start, on_progress
        As for `solve_problem`.
    stop
        Of the last turn.

    Notes
    -----
    A contrast with a single scan keeps its pose: its image explains the scan wherever it
    lies, so the data term holds nothing about it.
    """
    solution = Solution(problem.start(start), (), False)
    rounds = _MOST_ROUNDS if any(own.has_repeats for own in problem.contrasts) else 0
    for _ in range(rounds):
        solution = continue_solving(
            problem, stop.after(_ITERATIONS_PER_ROUND), solution, on_progress
        )
        images = solution.images
        moved = 0.0
        if problem.refines_poses:
            problem, moved = _moved(problem, images)
        before, problem = problem, _reweighed(problem, images)
        _say_how_repeats_agree(problem, moved)
        if _largest_change(before, problem) < _SETTLED_SCALES and moved < _SETTLED_POSES_MM:
            break
    return Fitted(problem.contrasts, continue_solving(problem, stop, solution, on_progress))


def _moved(problem: Problem, images: Tensor) -> tuple[Problem, float]:
    """The scans at refined poses, and how far (mm) any of them moved."""
    refined, furthest = [], 0.0
    for contrast, image in zip(problem.contrasts, images, strict=True):
        scans = []
        poses = refine_poses(contrast.observations, problem.grid, image)
        for scan, pose in zip(contrast.scans, poses, strict=True):
            was = scan.observation.world_pose
            furthest = max(furthest, displacement(was, pose, problem.grid))
            scans.append(scan.at(pose))
        refined.append(replace(contrast, scans=tuple(scans)))
    return problem.of(tuple(refined)), furthest


def _reweighed(problem: Problem, images: Tensor) -> Problem:
    """The scans of repeated contrasts with the precisions that their residuals call for."""
    pairs = zip(problem.contrasts, images, strict=True)
    return problem.of(
        tuple(
            replace(contrast, scans=reweight_repeats(contrast.scans, problem.grid, image))
            if contrast.has_repeats
            else contrast
            for contrast, image in pairs
        )
    )


def _say_how_repeats_agree(problem: Problem, moved: float) -> None:
    for number, contrast in enumerate(problem.contrasts, start=1):
        if contrast.has_repeats:
            logger.info(
                "contrast %d: %d repeats weighed anew (the objective changes with that); "
                "they differ by %.1f times the noise at most",
                number,
                len(contrast.scans),
                max(scan.residual_scale / scan.noise.noise_sd for scan in contrast.scans),
            )
    logger.info("scans moved by up to %.3f mm", moved)


def _largest_change(before: Problem, after: Problem) -> float:
    """The largest relative change of the scale of any scan's residuals."""
    old, new = (
        np.array([scan.residual_scale for contrast in p.contrasts for scan in contrast.scans])
        for p in (before, after)
    )
    return float((np.abs(old - new) / old).max())
