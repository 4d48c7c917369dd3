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
from ..intensity.noise import NoiseEstimate
from ..scanner.coverage import within, without_empty_border
from ..scanner.forward import ForwardOperator
from ..scanner.observation import Observation
from .objective import weighted_data
from .solver import solve

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
class _Disturbed:
    """A scan, the same one with a disturbance of the noise's size, and where it shows tissue."""

    scan: Observation
    disturbed: Observation
    tissue: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Block:
    """A part of the images, and what the scans say of it."""

    grid: Grid
    contrasts: Sequence[Sequence[_Disturbed]]
    guide: Tensor | None
    device: torch.device


def least_risk(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    searched: Sequence[bool],
    device: torch.device,
    guide: Tensor | None = None,
    known: Sequence[bool] | None = None,
) -> tuple[float, ...]:
    """Weights of the prior, from those given towards those of the least estimated risk.

    Parameters
    ----------
    contrasts
        For each contrast its scans.
    noise
        Noise of each scan; the estimate stands and falls with it, and takes it for white.
    grid
        Grid of the wanted images.
    lam
        Weights to begin with in mm / intensity, ``(C,)``.
    searched
        Which contrasts' weights may change, ``(C,)``.
    device
        Where to work.
    guide
        As for `solve`.
    known
        Of which contrasts something else will tell the fit what lies within slices, ``(C,)``;
        of none by default.

    Returns
    -------
    tuple of float
        ``(C,)``, within a factor of 32 of ``lam``.
    """
    if not any(searched):
        return tuple(lam)
    block = _block(contrasts, noise, grid, guide, device)
    risks: dict[int, NDArray[np.float64]] = {}

    def risk(octave: int) -> NDArray[np.float64]:
        if octave not in risks:
            factors = [2.0**octave if free else 1.0 for free in searched]
            risks[octave] = _risks(block, [w * f for w, f in zip(lam, factors, strict=True)])
        return risks[octave]

    def least(c: int) -> float:
        return _lowest(lambda octave: float(risk(octave)[c]))

    found = []
    for c, (weight, free) in enumerate(zip(lam, searched, strict=True)):
        octave = least(c) if free else 0.0
        trust = _TRUST_IF_KNOWN if known is not None and known[c] else _TRUST
        found.append(weight * 2.0 ** (trust * octave))
        tried = ", ".join(f"{risks[o][c]:.3f} at {2.0**o:g}" for o in sorted(risks) if free)
        logger.debug("contrast %d: risk %s", c + 1, tried or "not searched")
    return tuple(found)


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


def _block(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    guide: Tensor | None,
    device: torch.device,
) -> _Block:
    corner, sides = _middle(contrasts[0][0], noise[0][0], grid)
    part = Grid(sides, grid.affine @ translation(corner))
    if guide is not None:
        cut = tuple(slice(low, low + side) for low, side in zip(corner, sides, strict=True))
        guide = guide[cut].contiguous()
    rng = np.random.default_rng(_SEED)
    disturbed = [
        [
            _disturbed(within(scan, part), own, rng)
            for scan, own in zip(scans, estimates, strict=True)
        ]
        for scans, estimates in zip(contrasts, noise, strict=True)
    ]
    return _Block(part, disturbed, guide, device)


def _middle(
    scan: Observation, noise: NoiseEstimate, grid: Grid
) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """First voxel and sides of the block around the middle of the head."""
    head = np.nan_to_num(scan.data) > noise.halfway
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


def _disturbed(scan: Observation, noise: NoiseEstimate, rng: np.random.Generator) -> _Disturbed:
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), scan.data.shape)
    data = np.where(
        scan.missing, np.float32(np.nan), scan.data + np.float32(noise.noise_sd) * signs
    )
    disturbed = without_empty_border(replace(scan, data=data))
    scan = without_empty_border(
        replace(scan, data=np.where(scan.missing, np.float32(np.nan), scan.data))
    )
    span = noise.foreground_mean - noise.background_mean
    tissue = ~scan.missing & (np.nan_to_num(scan.data) > noise.background_mean + _TISSUE * span)
    return _Disturbed(scan, disturbed, tissue)


def _risks(block: _Block, lam: Sequence[float]) -> NDArray[np.float64]:
    """Estimated risk per voxel of every contrast, in units of the noise's variance."""

    def fitted(contrasts: Sequence[Sequence[Observation]]) -> Tensor:
        return solve(
            contrasts,
            block.grid,
            lam,
            tolerance=_TOLERANCE,
            max_iter=_ITERATIONS,
            device=str(block.device),
            guide=block.guide,
        ).images

    images = fitted([[one.scan for one in scans] for scans in block.contrasts])
    moved = fitted([[one.disturbed for one in scans] for scans in block.contrasts])
    return np.array(
        [_risk(block.grid, *own) for own in zip(block.contrasts, images, moved, strict=True)]
    )


def _risk(grid: Grid, scans: Sequence[_Disturbed], image: Tensor, moved: Tensor) -> float:
    total, count = 0.0, 0
    for one in scans:
        scan = one.scan
        operator = ForwardOperator(
            grid, scan.grid, pose=scan.pose, profile=scan.profile, interleave=scan.interleave
        )
        measured, precision = weighted_data(scan, image.device)
        disturbance = weighted_data(one.disturbed, image.device)[0] - measured
        predicted = operator.forward(image)
        response = operator.forward(moved) - predicted
        terms = precision * ((measured - predicted) ** 2 + 2 * disturbance * response)
        tissue = torch.as_tensor(one.tissue, device=image.device)
        total += float(terms[tissue].double().sum())
        count += int(tissue.sum())
    return total / max(count, 1) - 1
