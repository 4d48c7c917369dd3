"""Solving in turn for the images, and for the poses and weights of repeats.

The repeats of a contrast show where they lie relative to each other, and how far they agree. Poses
and weights follow from the images, and the images from poses and weights. So they take turns: a
few iterations of the solver, then poses, then weights, until neither changes any more. In the last
turn the solver runs until it converges, with poses and weights fixed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from ..state import ContrastState
from .pose import refine_poses
from .problem import Problem, Stop
from .repeat_weights import reweight_repeats
from .solver import Listener, Solution, continue_solving

logger = logging.getLogger("bids_unires")

# The first images are made with weights from the noise alone and few iterations. Then weights and
# images take turns until the scales hardly change. Starting from large scales instead would smooth
# detail away, and the missing detail would keep the scales large.
_MOST_ROUNDS = 8
_ITERATIONS_PER_ROUND = 6
_SETTLED_SCALES = 0.05
_SETTLED_POSES_MM = 0.05


@dataclass(frozen=True, eq=False)
class Fitted:
    """Images, and the contrasts with all that was found together with them.

    Attributes
    ----------
    problem
        Its contrasts have the poses, precisions and weights that the images were made with.
    solution
        Images and history of all rounds.
    """

    problem: Problem
    solution: Solution

    @property
    def contrasts(self) -> tuple[ContrastState, ...]:
        """The contrasts with what was found of them, in the order of the images."""
        return self.problem.contrasts


def solve_with_repeats(
    problem: Problem,
    stop: Stop,
    start: Tensor | None = None,
    on_progress: Listener | None = None,
) -> Fitted:
    """Solve for the images and, where a contrast has repeats, for their poses and weights.

    Parameters
    ----------
    start
        Images to start from, ``(C, X, Y, Z)``; `starting_images` if None.
    problem, on_progress
        As for `solve_problem`.
    stop
        When the last turn stops; sooner if the fit starts from learned detail.

    Notes
    -----
    A contrast with a single scan keeps its pose: the image moves with the pose, so that the data
    cannot determine it.
    """
    if start is None and problem.has_detail_throughout:
        stop = stop.from_detail()
    solution = Solution(problem.start(start), (), False, stop.tolerance)
    has_repeats = any(contrast.has_repeats for contrast in problem.contrasts)
    for _ in range(_MOST_ROUNDS if has_repeats else 0):
        brief = stop.after(_ITERATIONS_PER_ROUND)
        solution = continue_solving(problem, brief, solution, on_progress)
        moved = 0.0
        if problem.refines_poses:
            problem, moved = _with_refined_poses(problem, solution.images)
        before, problem = problem, _reweighted(problem, solution.images)
        _log_agreement(problem, moved)
        if _largest_change(before, problem) < _SETTLED_SCALES and moved < _SETTLED_POSES_MM:
            break
    return Fitted(problem, continue_solving(problem, stop, solution, on_progress))


def _with_refined_poses(problem: Problem, images: Tensor) -> tuple[Problem, float]:
    """The problem with refined poses, and how far (mm) any scan moved."""
    refined, furthest = [], 0.0
    for c, contrast in enumerate(problem.contrasts):
        updates = refine_poses(contrast.observations, problem.grid, images[c])
        furthest = max(furthest, *(update.displacement(problem.grid) for update in updates))
        refined.append(contrast.at_poses([update.after for update in updates]))
    return problem.with_contrasts(refined), furthest


def _reweighted(problem: Problem, images: Tensor) -> Problem:
    """The problem with the precisions of repeats that follow from their residuals."""

    def reweight(contrast: ContrastState, image: Tensor) -> ContrastState:
        if not contrast.has_repeats:
            return contrast
        return replace(contrast, scans=reweight_repeats(contrast.scans, problem.grid, image))

    return problem.changed(reweight, images)


def _log_agreement(problem: Problem, moved: float) -> None:
    for contrast in problem.contrasts:
        if contrast.has_repeats:
            logger.info(
                "%s and its repeats: %d scans weighed anew (the objective changes with that); "
                "they differ by %.1f times the noise at most",
                contrast.name,
                len(contrast.scans),
                max(scan.residual_scale / scan.noise.noise_sd for scan in contrast.scans),
            )
    logger.info("scans moved by up to %.3f mm", moved)


def _largest_change(before: Problem, after: Problem) -> float:
    """The largest relative change of the scale of the residuals of any scan."""
    old, new = (
        np.array([scan.residual_scale for c in problem.contrasts for scan in c.scans])
        for problem in (before, after)
    )
    return float((np.abs(old - new) / old).max())
