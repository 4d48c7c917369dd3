"""How strong the prior has to be, from the scans themselves.

Stein's unbiased estimate of the risk says how far predicted scans ``A y`` are from what the
scanner would have measured without noise, though nobody knows that: from the residuals, and
from how much of a known, small disturbance of the scans comes through to the prediction. Too
weak a prior lets the disturbance through, too strong a one leaves residuals.

A small block in the middle of the head is enough to tell, so the search costs less than a fit.

References
----------
Stein 1981, "Estimation of the mean of a multivariate normal distribution"; Ramani, Blu &
Unser 2008, "Monte-Carlo SURE: a black-box optimization of regularization parameters for
general denoising algorithms", equation 14.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import translation
from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..scanner.coverage import crop_empty_border, mask_outside
from ..scanner.observation import Observation
from .objective import weighted_data
from .problem import Problem, Stop
from .solver import solve_problem

logger = logging.getLogger("bids_unires")
# Furthest that the risk may lead away from that, in factors of two.
_MOST_OCTAVES = 5
# The least risk counts for so much, and the weight by the noise for the rest: the risk is that
# of the scans, which say nothing of what lies between their slices. Where that is known from
# elsewhere, the prior has nothing to add to it.
_TRUST, _TRUST_IF_KNOWN = 0.5, 1.0
# The block, in voxels and as a share of the first scan's box, and iterations of each fit to it.
_LARGEST_SIDE, _LARGEST_SHARE = 64, 0.6
_ITERATIONS = 25
# Never met, so that the two fits that are compared stop after the same iteration.
_TOLERANCE = 1e-12
# Share of the way from air to head above which a voxel counts as tissue.
_TISSUE = 0.25
_SEED = 1981


@dataclass(frozen=True, eq=False)
class DisturbedScan:
    """A scan, the same one with a disturbance of the noise's size, and where it shows tissue."""

    scan: Observation
    disturbed: Observation
    tissue: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Block:
    """A part of the images, and what the scans say of it, contrast by contrast."""

    problem: Problem
    contrasts: tuple[tuple[DisturbedScan, ...], ...]


def minimise_risk(problem: Problem) -> Problem:
    """Move the weights of the prior towards those of the least estimated risk.

    Parameters
    ----------
    problem
        Contrasts whose weights are searched begin with those they have. Where detail was learned
        it will tell what lies within slices, and the least risk counts in full. The noise of the
        scans is taken for white; the estimate stands and falls with it.

    Returns
    -------
    Problem
        Its weights are within a factor of 32 of those given.
    """
    searched = [contrast.is_searched for contrast in problem.contrasts]
    if not any(searched):
        return problem
    block = middle_block(problem)
    risks: dict[int, NDArray[np.float64]] = {}

    def risk(octave: int) -> NDArray[np.float64]:
        if octave not in risks:
            factor = 2.0**octave
            weights = [
                factor * own.weight if own.is_searched else own.weight for own in problem.contrasts
            ]
            risks[octave] = estimate_risks(block, tuple(weights))
        return risks[octave]

    def least(c: int) -> float:
        return _lowest(lambda octave: float(risk(octave)[c]))

    found = []
    for c, contrast in enumerate(problem.contrasts):
        octave = least(c) if contrast.is_searched else 0.0
        trust = _TRUST if contrast.detail is None else _TRUST_IF_KNOWN
        found.append(contrast.weight * 2.0 ** (trust * octave))
        tried = [f"{risks[o][c]:.3f} at {2.0**o:g}" for o in sorted(risks)]
        shown = ", ".join(tried) if contrast.is_searched else "not searched"
        logger.debug("contrast %d: risk %s", c + 1, shown)
    return problem.weighed(tuple(found))


def _lowest(risk: Callable[[int], float]) -> float:
    """Where a risk is least: downhill in whole octaves, then by the parabola through three."""
    # Weaker first: what lies between slices, of which the risk knows nothing, asks for more.
    at, step = 0, -1 if risk(-1) < risk(0) else 1
    while abs(at) < _MOST_OCTAVES and risk(at + step) < risk(at):
        at += step
    if abs(at) == _MOST_OCTAVES:
        return float(at)
    below, least, above = (risk(at + offset) for offset in (-1, 0, 1))
    return at + 0.5 * (below - above) / max(below + above - 2 * least, np.finfo(float).tiny)


def middle_block(problem: Problem) -> Block:
    """A block in the middle of the head, and what the scans say of it."""
    corner, sides = _middle(problem.contrasts[0].scans[0], problem.grid)
    part = Grid(sides, problem.grid.affine @ translation(corner))
    guide = problem.guide
    if guide is not None:
        x, y, z = (slice(low, low + side) for low, side in zip(corner, sides, strict=True))
        guide = guide[x, y, z].contiguous()
    rng = np.random.default_rng(_SEED)
    disturbed = tuple(
        tuple(_disturbed(scan, part, rng) for scan in contrast.scans)
        for contrast in problem.contrasts
    )
    return Block(replace(problem.without_detail(), grid=part, guide=guide), disturbed)


def _middle(state: ScanState, grid: Grid) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """First voxel and sides of the block around the middle of the head."""
    scan = state.observation
    head = np.nan_to_num(scan.data) > state.noise.halfway
    middle = [float(np.median(index)) if index.size else 0.0 for index in np.nonzero(head)]
    into_grid = np.linalg.inv(grid.affine) @ scan.world_pose @ scan.affine
    centre = (into_grid @ [*middle, 1.0])[:3]
    # Of the scan's box, not of the grid, whose margins are wider for some fits than for others.
    half = np.abs(into_grid[:3, :3]) @ np.array(scan.data.shape) / 2
    extent = np.minimum(2 * half, grid.shape)
    x, y, z = (min(_LARGEST_SIDE, math.ceil(_LARGEST_SHARE * side)) for side in extent)
    corner = np.clip(
        np.round(centre - np.array([x, y, z]) / 2), 0, np.array(grid.shape) - (x, y, z)
    )
    return tuple(corner.astype(int).tolist()), (x, y, z)


def _disturbed(state: ScanState, part: Grid, rng: np.random.Generator) -> DisturbedScan:
    scan, noise = mask_outside(state.observation, part), state.noise
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), scan.data.shape)
    data = np.where(
        scan.missing, np.float32(np.nan), scan.data + np.float32(noise.noise_sd) * signs
    )
    disturbed = crop_empty_border(replace(scan, data=data))
    scan = crop_empty_border(
        replace(scan, data=np.where(scan.missing, np.float32(np.nan), scan.data))
    )
    span = noise.foreground_mean - noise.background_mean
    tissue = ~scan.missing & (np.nan_to_num(scan.data) > noise.background_mean + _TISSUE * span)
    return DisturbedScan(scan, disturbed, tissue)


def estimate_risks(block: Block, weights: tuple[float, ...]) -> NDArray[np.float64]:
    """Estimated risk per voxel of every contrast, ``(C,)``, in units of the noise's variance.

    Parameters
    ----------
    block
        What is fitted.
    weights
        Weight of the prior of each contrast in mm / intensity.
    """
    problem, stop = block.problem.weighed(weights), Stop(_TOLERANCE, _ITERATIONS)

    def fitted(shown: Callable[[DisturbedScan], Observation]) -> Tensor:
        pairs = zip(problem.contrasts, block.contrasts, strict=True)
        contrasts = tuple(contrast.of([shown(one) for one in own]) for contrast, own in pairs)
        return solve_problem(problem.of(contrasts), stop).images

    images, moved = fitted(lambda one: one.scan), fitted(lambda one: one.disturbed)
    parts = zip(block.contrasts, images, moved, strict=True)
    return np.array([_risk(problem.grid, *part) for part in parts])


def _risk(grid: Grid, scans: Sequence[DisturbedScan], image: Tensor, moved: Tensor) -> float:
    total, count = 0.0, 0
    for one in scans:
        scan = one.scan
        operator = scan.operator(grid)
        measured, precision = weighted_data(scan, image.device)
        disturbance = weighted_data(one.disturbed, image.device)[0] - measured
        predicted = operator.forward(image)
        response = operator.forward(moved) - predicted
        terms = precision * ((measured - predicted) ** 2 + 2 * disturbance * response)
        tissue = torch.as_tensor(one.tissue, device=image.device)
        total += float(terms[tissue].double().sum())
        count += int(tissue.sum())
    return total / max(count, 1) - 1
