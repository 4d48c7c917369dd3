"""Contrasts that are solved for together: how strong their prior is, then their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ..geometry import Grid
from .alternation import UnifiedSolution, solve_unified
from .learned_detail import Details, placed_beside
from .noise import NoiseEstimate
from .observation import Observation
from .slice_groups import SliceMotion, apart, of_whole_scans
from .slice_motion import SlicePlans, solve_with_slice_motion
from .solver import Listener, listening_after
from .strength import least_risk

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
