"""Whether standard deviations are as large as the errors: simulated scans of the same head.

The images themselves serve as a head whose truth is known: scanned the same way, with the
same noise, and reconstructed anew, they show how far reconstructions are off, and so by which
factor the standard deviations have to be larger or smaller (a parametric bootstrap; Efron &
Tibshirani 1993, chapter 6).

Thick slices leave an image smooth across them, though, and a head that is smooth there would
lose nothing to the same slices again. Two things give it back the detail that real heads have:
its axes are exchanged, so that slices cross what was in their plane, and it is shrunk, so that
what remains smooth is so over fewer voxels. The scanner and the wanted voxels stay as they
are. As a small head it takes a fraction of the time.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import translation
from ...space.grid import Grid
from ..detail.learning import DEFAULTS
from ..guided import solve_guided
from ..intensity.scan_state import ScanState
from ..scanner.coverage import crop_empty_border, field_of_view, footprint_margin, mask_outside
from ..scanner.observation import Observation
from ..solve.problem import Problem, Stop
from ..state import ContrastState, with_learned_detail
from .uncertainty import SEED, smooth, standard_deviations

logger = logging.getLogger("bids_unires")

# The head is smaller by this factor. On simulated heads in one and three stacks of 3 to 6 mm with
# noise of 1 to 5 %, 92 to 97 % of the errors lie within two standard deviations. With 1.75 it is
# one percent more of each.
SHRINKAGE = 1.5
# Both ways to exchange all three axes, so that each axis stands in for each other one.
_TURNS = ((1, 2, 0), (2, 0, 1))
# Of the errors lie within two standard deviations, as of a normal distribution.
_SHARE = 0.9545
_LEAST_VOXELS = 1000


def calibrate_scales(
    problem: Problem, stop: Stop, images: Tensor, *, samples: int, seed: int = SEED
) -> tuple[float, ...]:
    """Factor on the standard deviations of each contrast.

    Parameters
    ----------
    problem
        Contrasts with the poses, precisions and weights of the fit. Where detail was learned it
        is learned of their simulated scans, too.
    stop
        Of the fit, which the fits to simulated scans share.
    images, samples
        As for `standard_deviations`.
    seed
        Of the noise of simulated scans.

    Returns
    -------
    tuple of float
        With it, 95.45 % of the errors inside simulated heads lie within two standard
        deviations. 1 where there is too little head to tell, which is logged as a warning.
    """
    found: list[list[NDArray[np.float64]]] = [[] for _ in problem.contrasts]
    for number, turn in enumerate(_TURNS):
        head, place = _small_head(images, problem.grid, turn)
        rng = np.random.default_rng([seed, number])
        simulated = _simulated(problem, head, place, rng)
        scans = [scan for own in simulated.contrasts for scan in own.observations]
        if any(scan.missing.all() for scan in scans):
            continue
        voxel_size = float(min(place.voxel_size))
        learned = with_learned_detail(simulated.contrasts, voxel_size, images.device)
        simulated = simulated.of(learned)
        found_images = solve_guided(simulated, stop).solution.images
        sds = standard_deviations(simulated, found_images, samples=samples, seed=seed + number)
        errors = (found_images - head).abs_().div_(sds)
        margin = footprint_margin(place, scans)
        for c, contrast in enumerate(simulated.contrasts):
            inside = _inside(head[c], contrast, place, margin)
            found[c].append(errors[c].cpu().numpy()[inside].astype(np.float64))
    return tuple(_scale(c, np.concatenate([*own, []])) for c, own in enumerate(found))


def _scale(contrast: int, errors: NDArray[np.float64]) -> float:
    if errors.size < _LEAST_VOXELS:
        logger.warning(
            "contrast %d: the standard deviations are not calibrated, since the scans hold too "
            "little of the head",
            contrast + 1,
        )
        return 1.0
    scale = float(np.quantile(errors, _SHARE)) / 2
    logger.info("contrast %d: standard deviations scaled by %.2f", contrast + 1, scale)
    return scale


def _small_head(images: Tensor, grid: Grid, turn: tuple[int, int, int]) -> tuple[Tensor, Grid]:
    """Images shrunk, with their axes exchanged, in the middle of ``grid``; and where they lie."""
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
    corner = [(room - side) // 2 for room, side in zip(grid.shape, (x, y, z), strict=True)]
    return small.contiguous(), Grid((x, y, z), grid.affine @ translation(corner))


def _simulated(problem: Problem, head: Tensor, grid: Grid, rng: np.random.Generator) -> Problem:
    """Scans of another head, with the geometry and noise of the given ones."""
    contrasts = []
    for contrast, image in zip(problem.contrasts, head, strict=True):
        scans = [
            _scanned(crop_empty_border(mask_outside(scan, grid)), image, grid, rng)
            for scan in contrast.observations
        ]
        states = tuple(
            ScanState.as_acquired(scan, before.noise)
            for scan, before in zip(scans, contrast.scans, strict=True)
        )
        contrasts.append(
            replace(
                contrast,
                scans=states,
                learning=None if contrast.detail is None else contrast.learning or DEFAULTS,
                detail=None,
                is_searched=False,
            )
        )
    return Problem(tuple(contrasts), grid, problem.device)


def _scanned(scan: Observation, image: Tensor, grid: Grid, rng: np.random.Generator) -> Observation:
    operator = scan.operator(grid)
    clean = operator.forward(image).cpu().numpy()
    tau = np.broadcast_to(np.asarray(scan.tau, dtype=np.float32), clean.shape)
    sd = np.divide(1, np.sqrt(tau), out=np.zeros(clean.shape, np.float32), where=tau > 0)
    noisy = clean + sd * rng.standard_normal(clean.shape, dtype=np.float32)
    data = np.where(np.isfinite(scan.data), noisy, np.float32(np.nan))
    # What the real scan holds where it is 0 is not known here to be missing.
    return replace(scan, data=data, zero_is_missing=False)


def _inside(head: Tensor, contrast: ContrastState, grid: Grid, margin: int) -> NDArray[np.bool_]:
    """Voxels of the head that were measured, away from the rim."""
    threshold = np.mean([scan.noise.halfway for scan in contrast.scans])
    inside = (head.cpu().numpy() > threshold) & field_of_view(contrast.observations, grid)
    core = np.zeros(inside.shape, dtype=bool)
    x, y, z = (slice(margin, max(side - margin, 0)) for side in inside.shape)
    core[x, y, z] = True
    return np.asarray(inside & core)
