"""Sharp contrasts are solved for first, and guide the others.

Where a contrast was measured in every voxel of the wanted images, its own scans show where its
edges are. Contrasts of thick slices show that less exactly. If all shared one prior, staircases,
noise and any misalignment of the thick slices would influence where the sharp contrast is
smoothed. So the sharp contrasts are solved for first, and their edges guide the others: the second
objective is the joint one with the sharp images held fixed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..space.grid import Grid
from .prior.total_variation import edge_squares
from .scanner.observation import Observation
from .scanner.profile import NEARLY_EQUAL
from .slice_motion.solve import solve_with_slice_motion
from .solve.problem import Problem, Stop
from .solve.repeats import Fitted, solve_with_repeats
from .solve.solver import Listener, Progress, Solution, listen_from
from .solve.sure import minimise_risk
from .state import ContrastState

logger = logging.getLogger("bids_unires")

# The images that place slices need no convergence before the weight is searched.
_ITERATIONS_TO_PLACE = 1


def group_by_sharpness(
    contrasts: Sequence[Sequence[Observation]], grid: Grid
) -> tuple[tuple[int, ...], ...]:
    """Groups of contrasts in the order to solve for them: those sharp on ``grid``, then the others.

    A contrast is sharp if the voxels of one of its scans are hardly larger than the wanted ones
    along any axis.

    Parameters
    ----------
    contrasts
        For each contrast its scans.
    grid
        Grid of the wanted images.

    Returns
    -------
    tuple of tuple of int
        Indices of contrasts; one or two groups, none of them empty.
    """
    finest = min(grid.voxel_size)
    sharp = [
        any(max(scan.grid.voxel_size) <= NEARLY_EQUAL * finest for scan in scans)
        for scans in contrasts
    ]
    groups = (
        tuple(c for c, is_sharp in enumerate(sharp) if is_sharp),
        tuple(c for c, is_sharp in enumerate(sharp) if not is_sharp),
    )
    return tuple(group for group in groups if group)


def solve_guided(
    problem: Problem,
    stop: Stop,
    start: Tensor | None = None,
    on_progress: Listener | None = None,
) -> Fitted:
    """Solve for the sharp contrasts, then for the others, guided by the edges of the sharp ones.

    Parameters
    ----------
    start
        Images to start from, ``(C, X, Y, Z)``; `starting_images` if None.
    problem, on_progress
        As for `solve_with_repeats`. If the order of the slices of any scan is known, stacks are
        split as in `solve_with_slice_motion`.
    stop
        When the solver stops, for each group of `group_by_sharpness`.

    Returns
    -------
    Fitted
        Contrasts in the order of ``problem``. In its history, the objective of the second group is
        added to the final one of the first group.
    """
    groups = group_by_sharpness([c.observations for c in problem.contrasts], problem.grid)
    fits: list[Fitted] = []
    guide = None
    history: tuple[Progress, ...] = ()
    for group in groups:
        offset = history[-1] if history else Progress(0.0, 0, 0.0)
        contrasts = tuple(problem.contrasts[c] for c in group)
        fit = _solve_group(
            replace(problem, contrasts=contrasts, guide=guide),
            stop,
            None if start is None else start[list(group)],
            _listen_after(offset, on_progress),
        )
        history += tuple(_after(progress, offset) for progress in fit.solution.history)
        fits.append(fit)
        if len(fits) < len(groups):
            logger.info(
                "%d sharp of %d contrasts guide the others", len(group), len(problem.contrasts)
            )
            guide = edge_squares(fit.solution.images, problem.grid, fit.problem.weights)
    return _merged(groups, fits, history)


def _solve_group(
    problem: Problem, stop: Stop, start: Tensor | None, on_progress: Listener | None
) -> Fitted:
    """Find the weights of the prior, then the images with poses and weights of repeats.

    If slices may have moved, they are placed first, with the initial weights: to the risk estimate,
    misplaced slices are noise that no prior removes. If no slice moved, the scans are fitted as if
    slice motion had not been asked for.
    """
    if not problem.knows_slices:
        return solve_with_repeats(minimise_risk(problem), stop, start, on_progress)
    if not any(contrast.is_searched for contrast in problem.contrasts):
        return solve_with_slice_motion(problem, stop, start, on_progress)
    brief = stop.after(_ITERATIONS_TO_PLACE)
    placed = solve_with_slice_motion(problem, brief, start, on_progress)
    before = placed.solution.history
    later = listen_from(before[-1], on_progress)
    if placed.problem.has_slice_motion:
        fit = _solve_with_known_motion(problem, placed, stop, later)
    else:
        fit = solve_with_repeats(minimise_risk(problem), stop, start, later)
    history = (*before, *(progress.after(before[-1]) for progress in fit.solution.history))
    return replace(fit, solution=replace(fit.solution, history=history))


def _solve_with_known_motion(
    problem: Problem, placed: Fitted, stop: Stop, on_progress: Listener | None
) -> Fitted:
    """Find the weights of the prior and the images, with the slices as a fit has placed them."""

    def place(contrast: ContrastState, found: ContrastState) -> ContrastState:
        return contrast.with_poses_of(found).with_motion_of(found)

    known = problem.changed(place, placed.contrasts)
    weights = minimise_risk(known.split_by_motion()).weights
    known = replace(known.with_weights(weights), refines_poses=False)
    fit = solve_with_slice_motion(known, stop, placed.solution.images, on_progress)
    # The motion as it was given, without rounding errors.
    exact = fit.problem.changed(ContrastState.with_motion_of, placed.contrasts)
    return replace(fit, problem=exact)


def _after(progress: Progress, offset: Progress) -> Progress:
    """Progress of a group, counted from the start of the group before."""
    return progress.after(offset)._replace(objective=progress.objective + offset.objective)


def _listen_after(offset: Progress, on_progress: Listener | None) -> Listener | None:
    if on_progress is None:
        return None
    return lambda progress: on_progress(_after(progress, offset))


def _merged(
    groups: tuple[tuple[int, ...], ...], fits: Sequence[Fitted], history: tuple[Progress, ...]
) -> Fitted:
    """The fits of all groups as one, with the contrasts in their original order."""
    first = fits[0]
    if len(fits) == 1:
        return first
    places = np.argsort(np.concatenate([np.asarray(group) for group in groups])).tolist()
    images = torch.cat([fit.solution.images for fit in fits])[places]
    contrasts = [contrast for fit in fits for contrast in fit.contrasts]
    converged = all(fit.solution.converged for fit in fits)
    tolerance = max(fit.solution.tolerance for fit in fits)
    return Fitted(
        first.problem.with_contrasts(contrasts[place] for place in places),
        Solution(images, history, converged, tolerance),
    )
