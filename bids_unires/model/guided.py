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
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..space.grid import Grid
from .detail.learning import placed_beside
from .detail.term import Details, of_whole_scans
from .intensity.noise import NoiseEstimate
from .prior.total_variation import edge_squares
from .scanner.observation import Observation
from .scanner.profile import NEARLY_EQUAL
from .scanner.slice_groups import SliceMotion, apart
from .slice_motion.solve import SlicePlans, solve_with_slice_motion
from .solve.repeats import UnifiedSolution, solve_unified
from .solve.solver import Listener, Progress, Solution, listening_after
from .solve.sure import least_risk

logger = logging.getLogger("bids_unires")


def tiers(contrasts: Sequence[Sequence[Observation]], grid: Grid) -> tuple[tuple[int, ...], ...]:
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


def solve_in_tiers(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    searched: Sequence[bool],
    *,
    move: bool,
    tolerance: float,
    max_iter: int,
    device: torch.device,
    start: Tensor | None = None,
    slices: SlicePlans | None = None,
    details: Details = (),
    on_progress: Listener | None = None,
) -> UnifiedSolution:
    """Solve for the sharp contrasts, then for the others along the edges of the sharp ones.

    Parameters
    ----------
    contrasts, noise, grid, lam, move, tolerance, max_iter, device, start, on_progress
        As for `solve_unified`; ``max_iter`` holds for each group of `tiers`.
    searched
        Of which contrasts ``lam`` is only where the search for it begins, ``(C,)``.
    slices
        What is known of the slices of each scan, see `solve_with_slice_motion`; None where
        scans are not taken apart.
    details
        For each contrast what was learned of what lies within its slices; may be empty. Not used
        for scans that are taken apart.

    Returns
    -------
    UnifiedSolution
        Contrasts in the order they came in. The history adds the objective of the first
        group to that of the second, whose beginning is a step up.
    """
    order = tiers(contrasts, grid)
    found: list[UnifiedSolution] = []
    guide = None
    history: tuple[Progress, ...] = ()
    for group in order:
        offset = history[-1] if history else Progress(0.0, 0, 0.0)
        tier = Tier(
            [contrasts[c] for c in group],
            [noise[c] for c in group],
            grid,
            [lam[c] for c in group],
            [searched[c] for c in group],
            guide,
            [details[c] for c in group] if details else (),
            tolerance,
            max_iter,
            device,
        )
        part = solve_tier(
            tier,
            move,
            None if start is None else start[list(group)],
            None if slices is None else [slices[c] for c in group],
            _after(offset, on_progress),
        )
        history += tuple(_shifted(progress, offset) for progress in part.solution.history)
        found.append(part)
        if len(found) < len(order):
            logger.info("%d sharp of %d contrasts guide the others", len(group), len(contrasts))
            guide = edge_squares(part.solution.images, grid, part.lam)
    return _merged(order, found, history)


def _shifted(progress: Progress, offset: Progress) -> Progress:
    return progress.after(offset)._replace(objective=progress.objective + offset.objective)


def _after(offset: Progress, on_progress: Listener | None) -> Listener | None:
    if on_progress is None:
        return None
    return lambda progress: on_progress(_shifted(progress, offset))


def _merged(
    order: Sequence[Sequence[int]],
    found: Sequence[UnifiedSolution],
    history: tuple[Progress, ...],
) -> UnifiedSolution:
    """One solution with the contrasts back in their places."""
    if len(found) == 1:
        return found[0]
    places = np.argsort(np.concatenate([np.asarray(group) for group in order])).tolist()
    images = torch.cat([part.solution.images for part in found])[places]
    contrasts = [scans for part in found for scans in part.contrasts]
    scales = [own for part in found for own in part.scales]
    lam = [weight for part in found for weight in part.lam]
    motions = [own for part in found for own in part.motions]
    details = [own for part in found for own in part.details]
    converged = all(part.solution.converged for part in found)
    return replace(
        found[0],
        solution=Solution(images, history, converged),
        contrasts=tuple(contrasts[place] for place in places),
        scales=tuple(scales[place] for place in places),
        lam=tuple(lam[place] for place in places),
        motions=tuple(motions[place] for place in places) if motions else (),
        details=tuple(details[place] for place in places) if details else (),
    )


# Of the images that slices were placed with, the search for the strength needs nothing.
_ITERATIONS_TO_PLACE = 1


@dataclass(frozen=True, eq=False)
class Tier:
    """What a fit of some contrasts begins with.

    Parameters
    ----------
    contrasts
        For each contrast its scans, at the poses to start from.
    noise
        Noise of each scan.
    grid
        Grid of the images.
    lam
        Regularisation of each contrast in mm / intensity.
    searched
        Of which contrasts ``lam`` is only where the search for it begins, ``(C,)``.
    guide
        As for `solve`.
    details
        As for `solve_unified`; of scans that are taken apart they are not used.
    tolerance, max_iter
        As for `solve_unified`.
    device
        Where to work.
    """

    contrasts: Sequence[Sequence[Observation]]
    noise: Sequence[Sequence[NoiseEstimate]]
    grid: Grid
    lam: Sequence[float]
    searched: Sequence[bool]
    guide: Tensor | None
    details: Details
    tolerance: float
    max_iter: int
    device: torch.device

    def strengths(self) -> tuple[float, ...]:
        """Regularisation of each contrast, searched for where it is to be."""
        return least_risk(
            self.contrasts,
            self.noise,
            self.grid,
            self.lam,
            self.searched,
            self.device,
            self.guide,
            [detail is not None for detail in self.details] if self.details else None,
        )

    def placed_as(self, fitted: UnifiedSolution) -> Tier:
        """With the poses that a fit has found, and nothing else of it."""
        contrasts = [
            [replace(scan, pose=found.pose) for scan, found in zip(scans, own, strict=True)]
            for scans, own in zip(self.contrasts, fitted.contrasts, strict=True)
        ]
        details = placed_beside(self.details, self.contrasts, contrasts)
        return replace(self, contrasts=contrasts, details=details)

    def apart(self, motions: Sequence[Sequence[SliceMotion | None]]) -> Tier:
        """With every group of slices that moved as a scan of its own."""
        contrasts, noise = apart(self.contrasts, self.noise, motions)
        details = of_whole_scans(self.details, motions)
        return replace(self, contrasts=contrasts, noise=noise, details=details)


def solve_tier(
    tier: Tier,
    move: bool,
    start: Tensor | None,
    slices: SlicePlans | None,
    on_progress: Listener | None,
) -> UnifiedSolution:
    """Find the strengths of the prior, then the images and everything that goes with them.

    Where slices may have moved, that is found out first, at the strengths to begin with: to
    the risk, slices out of place are noise that no prior removes. If none moved, the scans
    are fitted as if nobody had asked.

    Parameters
    ----------
    tier
        The contrasts.
    move, start, on_progress
        As for `solve_unified`.
    slices
        As for `solve_with_slice_motion`; None where scans are not taken apart.
    """
    if slices is None or not any(tier.searched):
        return _solve(tier, tier.strengths(), slices, move, start, on_progress)
    brief = replace(tier, max_iter=_ITERATIONS_TO_PLACE)
    placed = _solve(brief, tier.lam, slices, move, start, on_progress)
    before, motions = placed.solution.history, placed.motions
    later = listening_after(before[-1], on_progress)
    if any(motion is not None for own in motions for motion in own):
        still = tier.placed_as(placed)
        lam = still.apart(motions).strengths()
        found = _solve(still, lam, motions, False, placed.solution.images, later)
    else:
        found = _solve(tier, tier.strengths(), None, move, start, later)
    history = (*before, *(progress.after(before[-1]) for progress in found.solution.history))
    return replace(found, solution=replace(found.solution, history=history), motions=motions)


def _solve(
    tier: Tier,
    lam: Sequence[float],
    slices: SlicePlans | None,
    move: bool,
    start: Tensor | None,
    on_progress: Listener | None,
) -> UnifiedSolution:
    solver = solve_unified if slices is None else partial(solve_with_slice_motion, slices=slices)
    return solver(
        tier.contrasts,
        tier.noise,
        tier.grid,
        lam,
        move=move,
        tolerance=tier.tolerance,
        max_iter=tier.max_iter,
        device=tier.device,
        start=start,
        guide=tier.guide,
        details=tier.details,
        on_progress=on_progress,
    )
