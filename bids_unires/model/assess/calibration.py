"""Calibration of standard deviations, by simulated scans of the reconstructed head.

The images serve as a head whose truth is known. They are scanned as the head was, with the same
noise, and reconstructed again. The errors of these reconstructions give the weights of the two
parts of standard deviations (a parametric bootstrap; Efron & Tibshirani 1993, chapter 6).

Images from thick slices are smooth across the slices, and would lose nothing if scanned with the
same slices again. To have as much detail as real heads, the images are modified in two ways. Their
axes are exchanged, so that the new slices cross detail that was in the plane. They are shrunk, so
that smooth regions cover fewer voxels. The slices and the wanted voxels stay the same. A smaller
head also takes less time.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from ...space.affines import translation
from ...space.grid import Grid
from ..detail.learning import DEFAULTS
from ..guided import solve_guided
from ..intensity.scan_state import ScanState
from ..scanner.coverage import crop_empty_border, field_of_view, footprint_margin, mask_outside
from ..scanner.observation import Observation
from ..solve.problem import Problem, Stop
from ..solve.residual_feedback import with_residuals
from ..state import ContrastState, with_learned_detail
from .uncertainty import SEED, Scales, between_extremes, smooth, standard_deviations

logger = logging.getLogger("bids_unires")

# The head is shrunk by this factor. In simulated heads with one and three stacks of 3 to 6 mm and
# noise of 1 to 5 %, 92 to 97 % of the errors lie within two standard deviations; with 1.75, 93 to
# 98 %.
SHRINKAGE = 1.5
# The two cyclic permutations of the axes.
_TURNS = ((1, 2, 0), (2, 0, 1))
# Share of a normal distribution within two standard deviations.
_SHARE = 0.9545
# Even shrunk, images have less fine detail than heads: errors in real heads are larger than in
# simulated ones. With this factor, 90 % of those of a FLAIR and 93 % of those of a T1w, both in
# slices of 5 mm, lie within two standard deviations; without it, 87 and 91 %.
_DETAIL_OF_HEADS = 1.1
_LEAST_VOXELS = 1000
# Least weight of samples, over that of the distance from extremes, both times their means.
_LEAST_SAMPLED = 0.1


def calibrate_scales(
    problem: Problem, stop: Stop, images: Tensor, *, samples: int, seed: int = SEED
) -> tuple[Scales, ...]:
    """Weights of the parts of the standard deviations of each contrast.

    Parameters
    ----------
    problem
        Contrasts with the poses, precisions and weights of the fit. Where detail was learned, it is
        also learned from the simulated scans.
    stop
        When the fits to simulated scans stop.
    images
        ``(C, X, Y, Z)``, the solution of ``problem``, on its grid.
    samples
        As for `standard_deviations`.
    seed
        Seed of the noise of simulated scans.

    Returns
    -------
    tuple of Scales
        In proportion, they explain the size of the errors inside simulated heads best, none of them
        negative. With weights smaller by a tenth, 95.45 % of these errors would lie within two
        standard deviations. The samples alone count, with a warning, if the scans hold too little
        of the head.
    """
    found: list[list[NDArray[np.float64]]] = [[] for _ in problem.contrasts]
    for number, turn in enumerate(_TURNS):
        head, grid = _small_head(images, problem.grid, turn)
        rng = np.random.default_rng([seed, number])
        simulated = _simulated(problem, head, grid, rng)
        scans = [scan for contrast in simulated.contrasts for scan in contrast.observations]
        if any(scan.missing.all() for scan in scans):
            continue
        voxel_size = float(min(grid.voxel_size))
        learned = with_learned_detail(simulated.contrasts, voxel_size, images.device)
        simulated = simulated.with_contrasts(learned)
        reconstructed = with_residuals(solve_guided(simulated, stop))
        sds = standard_deviations(simulated, reconstructed, samples=samples, seed=seed + number)
        margin = footprint_margin(grid, scans)
        for c, contrast in enumerate(simulated.contrasts):
            inside = _inside(head[c], contrast, grid, margin)
            between = between_extremes(reconstructed[c], grid.voxel_size.tolist())
            errors = (reconstructed[c] - head[c]).abs_()
            columns = [part.cpu().numpy()[inside] for part in (errors, sds[c], between)]
            found[c].append(np.stack(columns).astype(np.float64))
    nothing = np.zeros((3, 0))
    return tuple(
        _scales(contrast.name, np.hstack([nothing, *parts]))
        for contrast, parts in zip(problem.contrasts, found, strict=True)
    )


def _scales(name: str, found: NDArray[np.float64]) -> Scales:
    """Weights from sizes of errors and both parts of standard deviations, ``(3, N)``."""
    errors, *parts = found
    if errors.size < _LEAST_VOXELS:
        logger.warning(
            "%s: the standard deviations are not calibrated, since the scans hold too "
            "little of the head",
            name,
        )
        return Scales(1.0, 0.0)
    units = np.maximum([part.mean() for part in parts], np.finfo(np.float64).tiny)
    regressors = np.stack(parts, axis=1) / units
    weights, _ = nnls(regressors, errors)
    # Extremes around a voxel say nothing of noise: samples keep some influence.
    weights[0] = max(weights[0], _LEAST_SAMPLED * weights[1], np.finfo(np.float64).tiny)
    relative = errors / (regressors @ weights)
    factor = _DETAIL_OF_HEADS * float(np.quantile(relative, _SHARE)) / 2
    sampled, between = (factor * weights / units).tolist()
    logger.info(
        "%s: standard deviations are %.2f times those of samples and %.2f times the "
        "distance from extremes",
        name,
        sampled,
        between,
    )
    return Scales(sampled, between)


def _small_head(images: Tensor, grid: Grid, turn: tuple[int, int, int]) -> tuple[Tensor, Grid]:
    """Images shrunk and with exchanged axes, ``(C, X, Y, Z)``, and their grid within ``grid``."""
    sd = 0.42 * float(np.sqrt(SHRINKAGE**2 - 1))
    soft = torch.stack([smooth(image, sd) for image in images])
    sides = [max(1, round(side / SHRINKAGE)) for side in images.shape[1:]]
    small = torch.nn.functional.interpolate(soft[None], sides, mode="trilinear")[0]
    small = small.permute(0, *(1 + axis for axis in turn))
    for axis, room in enumerate(grid.shape, start=1):
        surplus = small.shape[axis] - room
        if surplus > 0:
            small = small.narrow(axis, surplus // 2, room)
    x, y, z = small.shape[1:]
    corner = (np.array(grid.shape) - (x, y, z)) // 2
    return small.contiguous(), Grid((x, y, z), grid.affine @ translation(corner))


def _simulated(problem: Problem, head: Tensor, grid: Grid, rng: np.random.Generator) -> Problem:
    """Scans of another head ``(C, X, Y, Z)``, with the geometry and noise of the given ones."""

    def simulate(contrast: ContrastState, image: Tensor) -> ContrastState:
        return replace(
            contrast,
            scans=tuple(_simulated_scan(scan, image, grid, rng) for scan in contrast.scans),
            learning=None if contrast.detail is None else contrast.learning or DEFAULTS,
            detail=None,
            is_searched=False,
        )

    contrasts = problem.changed(simulate, head).contrasts
    return Problem(contrasts, grid, problem.device)


def _simulated_scan(
    scan: ScanState, image: Tensor, grid: Grid, rng: np.random.Generator
) -> ScanState:
    """A scan of another head, ``image`` ``(X, Y, Z)``, with the noise of the given scan."""
    within = crop_empty_border(mask_outside(scan.observation, grid))
    return ScanState.as_acquired(_scanned(within, image, grid, rng), scan.noise)


def _scanned(scan: Observation, image: Tensor, grid: Grid, rng: np.random.Generator) -> Observation:
    """A scan of ``image`` ``(X, Y, Z)`` with the geometry, noise and missing voxels of ``scan``."""
    operator = scan.operator(grid)
    clean = operator.forward(image).cpu().numpy()
    tau = np.broadcast_to(np.asarray(scan.tau, dtype=np.float32), clean.shape)
    sd = np.divide(1, np.sqrt(tau), out=np.zeros(clean.shape, np.float32), where=tau > 0)
    noisy = clean + sd * rng.standard_normal(clean.shape, dtype=np.float32)
    data = np.where(np.isfinite(scan.data), noisy, np.float32(np.nan))
    # In a simulated scan 0 is a value, not a mask.
    return replace(scan, data=data, zero_is_missing=False)


def _inside(head: Tensor, contrast: ContrastState, grid: Grid, margin: int) -> NDArray[np.bool_]:
    """Voxels of the head within the field of view, away from the rim, bool ``(X, Y, Z)``."""
    threshold = np.mean([scan.noise.halfway for scan in contrast.scans])
    inside = (head.cpu().numpy() > threshold) & field_of_view(contrast.observations, grid)
    core = np.zeros(inside.shape, dtype=bool)
    x, y, z = (slice(margin, max(side - margin, 0)) for side in inside.shape)
    core[x, y, z] = True
    return np.asarray(inside & core)
