"""Sharp contrasts first: what thick slices may learn from them, and not the other way round.

Where a contrast was measured in every voxel of the wanted images, its own scans say where
its edges are. Contrasts of thick slices know that less well: in a prior shared by all, their
staircases, their noise and what is left of a misalignment would decide where the sharp one
is smoothed. So the sharp contrasts are solved for by themselves, and their edges then guide
the others. The second objective is the joint one with the sharp images held fixed.
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

logger = logging.getLogger("bids_unires")

# Of the images that slices were placed with, the search for the weight needs nothing.
_ITERATIONS_TO_PLACE = 1


def group_by_sharpness(
    contrasts: Sequence[Sequence[Observation]], grid: Grid
) -> tuple[tuple[int, ...], ...]:
    """Contrasts in the order to solve for: those sharp on ``grid``, then the others.

    A contrast is sharp where the voxels of one of its scans are hardly larger than the
    wanted ones along any axis.

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
    """Solve for the sharp contrasts, then for the others along the edges of the sharp ones.

    Parameters
    ----------
    problem, start, on_progress
        As for `solve_with_repeats`. Where the plan of any scan's slices is known, stacks are
        taken apart as by `solve_with_slice_motion`.
    stop
        Holds for each group of `group_by_sharpness`.

    Returns
    -------
    Fitted
        Contrasts in the order they came in. The history adds the objective of the first
        group to that of the second, whose beginning is a step up.
    """
    order = group_by_sharpness(
        [contrast.observations for contrast in problem.contrasts], problem.grid
    )
    found: list[Fitted] = []
    guide = None
    history: tuple[Progress, ...] = ()
    for group in order:
        offset = history[-1] if history else Progress(0.0, 0, 0.0)
        contrasts = tuple(problem.contrasts[c] for c in group)
        part = _solve_tier(
            replace(problem, contrasts=contrasts, guide=guide),
            stop,
            None if start is None else start[list(group)],
            _after(offset, on_progress),
        )
        history += tuple(_shifted(progress, offset) for progress in part.solution.history)
        found.append(part)
        if len(found) < len(order):
            logger.info(
                "%d sharp of %d contrasts guide the others", len(group), len(problem.contrasts)
            )
            weights = [contrast.weight for contrast in part.contrasts]
            guide = edge_squares(part.solution.images, problem.grid, weights)
    return _merged(order, found, history)


def _solve_tier(
    problem: Problem, stop: Stop, start: Tensor | None, on_progress: Listener | None
) -> Fitted:
    """Find the weights of the prior, then the images and everything that goes with them.

    Where slices may have moved, that is found out first, at the weights to begin with: to
    the risk, slices out of place are noise that no prior removes. If none moved, the scans
    are fitted as if nobody had asked.
    """
    if not problem.knows_slices:
        return solve_with_repeats(minimise_risk(problem), stop, start, on_progress)
    if not any(contrast.is_searched for contrast in problem.contrasts):
        return solve_with_slice_motion(problem, stop, start, on_progress)
    brief = stop.after(_ITERATIONS_TO_PLACE)
    placed = solve_with_slice_motion(problem, brief, start, on_progress)
    before = placed.solution.history
    later = listen_from(before[-1], on_progress)
    if any(contrast.is_apart for contrast in placed.contrasts):
        still = _as_placed(problem, placed)
        weights = minimise_risk(still.apart()).weights
        given = replace(still.weighed(weights), refines_poses=False)
        found = solve_with_slice_motion(given, stop, placed.solution.images, later)
        found = _moved_as(placed, found)
    else:
        found = solve_with_repeats(minimise_risk(problem), stop, start, later)
    history = (*before, *(progress.after(before[-1]) for progress in found.solution.history))
    return replace(found, solution=replace(found.solution, history=history))


def _as_placed(problem: Problem, placed: Fitted) -> Problem:
    """The problem with the poses of scans and slices that a fit has found, taken as given."""
    pairs = zip(problem.contrasts, placed.contrasts, strict=True)
    return problem.of(tuple(own.placed_as(found).moved_as(found) for own, found in pairs))


def _moved_as(placed: Fitted, found: Fitted) -> Fitted:
    """A fit, the motion of slices as it was given to it, without the rounding since."""
    pairs = zip(found.contrasts, placed.contrasts, strict=True)
    return replace(found, contrasts=tuple(own.moved_as(given) for own, given in pairs))


def _shifted(progress: Progress, offset: Progress) -> Progress:
    return progress.after(offset)._replace(objective=progress.objective + offset.objective)


def _after(offset: Progress, on_progress: Listener | None) -> Listener | None:
    if on_progress is None:
        return None
    return lambda progress: on_progress(_shifted(progress, offset))


def _merged(
    order: Sequence[Sequence[int]], found: Sequence[Fitted], history: tuple[Progress, ...]
) -> Fitted:
    """One solution with the contrasts back in their places."""
    if len(found) == 1:
        return found[0]
    places = np.argsort(np.concatenate([np.asarray(group) for group in order])).tolist()
    images = torch.cat([part.solution.images for part in found])[places]
    contrasts = [contrast for part in found for contrast in part.contrasts]
    converged = all(part.solution.converged for part in found)
    return Fitted(tuple(contrasts[place] for place in places), Solution(images, history, converged))
