"""The weight of the prior, searched by Stein's unbiased risk estimate.

The estimate tells how far predicted scans ``A y`` are from scans without noise, although these are
unknown. It follows from the residuals, and from how much a small known disturbance of the scans
changes the predictions. If the prior is too weak, predictions follow the disturbance; if it is too
strong, residuals are large.

The risk is estimated in a small block in the middle of the head, so that the search takes less time
than a fit.

References
----------
Stein 1981, "Estimation of the mean of a multivariate normal distribution"; Ramani, Blu &
Unser 2008, "Monte-Carlo SURE: a black-box optimization of regularization parameters for
general denoising algorithms", equation 14.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import translation
from ...space.grid import Grid
from ..intensity.noise import coloured
from ..intensity.scan_state import ScanState
from ..scanner.coverage import crop_empty_border, mask_outside
from ..scanner.observation import Observation
from ..scanner.resampling import linear_images
from ..state import ContrastState
from .objective import weighted_data
from .problem import Problem, Stop
from .solver import solve_problem

logger = logging.getLogger("bids_unires")
# Largest change of the weights, in factors of two.
_MOST_OCTAVES = 5
# Logarithms of the weights move this share of the way from those by the noise to those of least
# risk. The risk is that of predicted scans, which do not show what lies between their
# slices. With learned detail that is known, and the least risk counts in full.
_SHARE_OF_RISK, _SHARE_WITH_DETAIL = 0.5, 1.0
# Side of the block in voxels and as a share of the box of the first scan.
_LARGEST_SIDE, _LARGEST_SHARE = 64, 0.6
# Iterations of a fit from interpolated scans, and of one from the images of half or twice the
# weights, which is then as near to its end.
_ITERATIONS, _FURTHER_ITERATIONS = 25, 10
# Too low to be met: both fits that are compared stop after the same iteration.
_TOLERANCE = 1e-12
# Share of the way from air to head above which a voxel counts as tissue.
_TISSUE = 0.25
_SEED = 1981


@dataclass(frozen=True, eq=False)
class DisturbedScan:
    """A scan in a block, with and without a disturbance.

    Attributes
    ----------
    state
        The scan.
    disturbed
        The same scan with a disturbance as large as the noise.
    tissue
        Bool ``(X, Y, Z)``: voxels of the scan that show tissue.
    """

    state: ScanState
    disturbed: Observation
    tissue: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DisturbedContrast:
    """A contrast, and its scans in a block with and without a disturbance."""

    contrast: ContrastState
    scans: tuple[DisturbedScan, ...]

    @property
    def measured(self) -> ContrastState:
        """The contrast with the scans in the block."""
        return replace(self.contrast, scans=tuple(scan.state for scan in self.scans))

    @property
    def disturbed(self) -> ContrastState:
        """The contrast with the disturbed scans in the block."""
        scans = tuple(scan.state.with_observation(scan.disturbed) for scan in self.scans)
        return replace(self.contrast, scans=scans)


class FitPair(NamedTuple):
    """Images ``(C, X, Y, Z)`` of the scans, and of the disturbed scans."""

    measured: Tensor
    disturbed: Tensor


@dataclass(frozen=True, eq=False)
class Block:
    """A block of the images.

    Attributes
    ----------
    problem
        The problem on the grid of the block.
    contrasts
        Its contrasts, with and without a disturbance.
    """

    problem: Problem
    contrasts: tuple[DisturbedContrast, ...]

    @cached_property
    def interpolated(self) -> FitPair:
        """The scans and the disturbed scans, interpolated."""
        return FitPair(
            self._interpolated([contrast.measured for contrast in self.contrasts]),
            self._interpolated([contrast.disturbed for contrast in self.contrasts]),
        )

    def _interpolated(self, contrasts: Sequence[ContrastState]) -> Tensor:
        scans = [contrast.observations for contrast in contrasts]
        return linear_images(scans, self.problem.grid, self.problem.device)


def minimise_risk(problem: Problem) -> Problem:
    """Move the weights of the prior towards those of the least estimated risk.

    Parameters
    ----------
    problem
        Where the weight of a contrast is searched, the search starts from its weight. The estimate
        assumes that the noise of the scans is white, or coloured by a known kernel.

    Returns
    -------
    Problem
        Its weights are within a factor of 32 of those given.
    """
    if not any(contrast.is_searched for contrast in problem.contrasts):
        return problem
    block = middle_block(problem)
    risks: dict[int, NDArray[np.float64]] = {}
    fits: dict[int, FitPair] = {}

    def risk(octave: int) -> NDArray[np.float64]:
        if octave not in risks:
            factor = 2.0**octave
            weights = tuple(
                factor * contrast.weight if contrast.is_searched else contrast.weight
                for contrast in problem.contrasts
            )
            near = fits.get(octave - 1, fits.get(octave + 1))
            fits[octave] = fitted_pair(block, weights, near)
            risks[octave] = estimate_risks(block, fits[octave])
        return risks[octave]

    def octave_of_least_risk(c: int) -> float:
        return _minimum(lambda octave: float(risk(octave)[c]))

    weights = []
    for c, contrast in enumerate(problem.contrasts):
        octave = octave_of_least_risk(c) if contrast.is_searched else 0.0
        share = _SHARE_OF_RISK if contrast.detail is None else _SHARE_WITH_DETAIL
        weights.append(contrast.weight * 2.0 ** (share * octave))
        tried = [f"{risks[o][c]:.3f} at {2.0**o:g}" for o in sorted(risks)]
        shown = ", ".join(tried) if contrast.is_searched else "not searched"
        logger.debug("%s: risk %s", contrast.name, shown)
    return problem.with_weights(weights)


def _minimum(risk: Callable[[int], float]) -> float:
    """Octave of the least risk: downhill by whole octaves, then by a parabola through three."""
    # Where both directions lower the risk, the weaker prior is taken: the risk does not show what
    # lies between slices, and strong priors lose it.
    at, step = 0, -1 if risk(-1) < risk(0) else 1
    while abs(at) < _MOST_OCTAVES and risk(at + step) < risk(at):
        at += step
    if abs(at) == _MOST_OCTAVES:
        return float(at)
    below, least, above = (risk(at + offset) for offset in (-1, 0, 1))
    return at + 0.5 * (below - above) / max(below + above - 2 * least, np.finfo(float).tiny)


def middle_block(problem: Problem) -> Block:
    """A block in the middle of the head, and the scans in it.

    Parameters
    ----------
    problem
        The problem on the whole grid.
    """
    corner, sides = _middle(problem.contrasts[0].scans[0], problem.grid)
    grid = Grid(sides, problem.grid.affine @ translation(corner))
    guide = problem.guide
    if guide is not None:
        x, y, z = (slice(corner[axis], corner[axis] + sides[axis]) for axis in range(3))
        guide = guide[x, y, z].contiguous()
    rng = np.random.default_rng(_SEED)
    block = replace(problem.without_detail(), grid=grid, guide=guide)
    disturbed = tuple(
        DisturbedContrast(contrast, tuple(_disturbed(scan, grid, rng) for scan in contrast.scans))
        for contrast in block.contrasts
    )
    return Block(block, disturbed)


def _middle(state: ScanState, grid: Grid) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """First voxel, and sides in voxels, of the block around the middle of the head."""
    scan = state.observation
    head = np.nan_to_num(scan.data) > state.noise.halfway
    middle = [float(np.median(index)) if index.size else 0.0 for index in np.nonzero(head)]
    into_grid = np.linalg.inv(grid.affine) @ scan.world_pose @ scan.affine
    centre = (into_grid @ [*middle, 1.0])[:3]
    # The size follows from the box of the scan, since margins of the grid differ between fits.
    half = np.abs(into_grid[:3, :3]) @ np.array(scan.data.shape) / 2
    extent = np.minimum(2 * half, grid.shape)
    x, y, z = (min(_LARGEST_SIDE, math.ceil(_LARGEST_SHARE * side)) for side in extent)
    corner = np.clip(
        np.round(centre - np.array([x, y, z]) / 2), 0, np.array(grid.shape) - (x, y, z)
    )
    return tuple(corner.astype(int).tolist()), (x, y, z)


def _disturbed(state: ScanState, grid: Grid, rng: np.random.Generator) -> DisturbedScan:
    scan, noise = mask_outside(state.observation, grid), state.noise
    signs = rng.choice(np.array([-1, 1], dtype=np.float32), scan.data.shape)
    # Disturbances have the covariance of the noise, as the divergence needs them (Eldar 2009,
    # "Generalized SURE for exponential families", section IV).
    shaped = coloured(signs, noise.kernel)
    data = np.where(
        scan.missing, np.float32(np.nan), scan.data + np.float32(noise.noise_sd) * shaped
    )
    disturbed = crop_empty_border(replace(scan, data=data))
    scan = crop_empty_border(
        replace(scan, data=np.where(scan.missing, np.float32(np.nan), scan.data))
    )
    span = noise.foreground_mean - noise.background_mean
    tissue = ~scan.missing & (np.nan_to_num(scan.data) > noise.background_mean + _TISSUE * span)
    return DisturbedScan(state.with_observation(scan), disturbed, tissue)


def fitted_pair(block: Block, weights: tuple[float, ...], near: FitPair | None = None) -> FitPair:
    """Images of the scans in a block, and of the disturbed scans.

    Parameters
    ----------
    block
        The block, and the scans in it.
    weights
        Weight of the prior of each contrast in mm / intensity.
    near
        Images with half or twice these weights to start from; None to start from the scans.
    """
    start = block.interpolated if near is None else near
    stop = Stop(_TOLERANCE, _ITERATIONS if near is None else _FURTHER_ITERATIONS)

    def fit(contrasts: Iterable[ContrastState], images: Tensor) -> Tensor:
        problem = block.problem.with_contrasts(contrasts).with_weights(weights)
        return solve_problem(problem, stop, images).images

    return FitPair(
        fit((contrast.measured for contrast in block.contrasts), start.measured),
        fit((contrast.disturbed for contrast in block.contrasts), start.disturbed),
    )


def estimate_risks(block: Block, fits: FitPair) -> NDArray[np.float64]:
    """Estimated risk per voxel of every contrast, ``(C,)``, in units of the noise variance.

    Parameters
    ----------
    block
        The block, and the scans in it.
    fits
        Images of the scans and of the disturbed scans, all with the same weights of the prior.
    """
    return np.array(
        [
            _risk(block.problem.grid, contrast.scans, fits.measured[c], fits.disturbed[c])
            for c, contrast in enumerate(block.contrasts)
        ]
    )


def _risk(grid: Grid, scans: Sequence[DisturbedScan], image: Tensor, disturbed: Tensor) -> float:
    """Risk of one contrast, from its images of the scans and of the disturbed scans."""
    total, count = 0.0, 0
    for pair in scans:
        scan = pair.state.observation
        operator = scan.operator(grid)
        measured, precision = weighted_data(scan, image.device)
        disturbance = weighted_data(pair.disturbed, image.device)[0] - measured
        predicted = operator.forward(image)
        response = operator.forward(disturbed) - predicted
        terms = precision * ((measured - predicted) ** 2 + 2 * disturbance * response)
        tissue = torch.as_tensor(pair.tissue, device=image.device)
        total += float(terms[tissue].double().sum())
        count += int(tissue.sum())
    return total / max(count, 1) - 1
