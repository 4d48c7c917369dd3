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
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...space.affines import translation
from ...space.grid import Grid
from ..detail.learning import learned_details
from ..detail.term import with_details
from ..guided import solve_in_tiers
from ..intensity.noise import NoiseEstimate
from ..scanner.coverage import coverage, footprint_margin, within, without_empty_border
from ..scanner.forward import ForwardOperator
from ..scanner.observation import Observation
from .uncertainty import SEED, smoothed, standard_deviations

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


def calibrated_scales(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    images: Tensor,
    *,
    samples: int,
    learned: Sequence[bool] = (),
    tolerance: float,
    max_iter: int,
    seed: int = SEED,
) -> tuple[float, ...]:
    """Factor on the standard deviations of each contrast.

    Parameters
    ----------
    contrasts
        For each contrast its scans, at the poses and with the precisions of the fit.
    noise
        What tells head from air, for each of them.
    grid, lam, images, samples
        As for `standard_deviations`.
    learned
        Of which contrasts detail was learned, and so is that of their simulated scans.
    tolerance, max_iter
        Of the fit, which the fits to simulated scans share.
    seed
        Of the noise of simulated scans.

    Returns
    -------
    tuple of float
        With it, 95.45 % of the errors inside simulated heads lie within two standard
        deviations. 1 where there is too little head to tell, which is logged as a warning.
    """
    found: list[list[NDArray[np.float64]]] = [[] for _ in contrasts]
    for number, turn in enumerate(_TURNS):
        head, place = _small_head(images, grid, turn)
        scans = _simulated(contrasts, head, place, np.random.default_rng([seed, number]))
        if any(scan.missing.all() for own in scans for scan in own):
            continue
        details = (
            learned_details(scans, noise, float(min(place.voxel_size)), learned, images.device)
            if any(learned)
            else ()
        )
        fitted = solve_in_tiers(
            scans,
            noise,
            place,
            lam,
            [False] * len(lam),
            move=False,
            tolerance=tolerance,
            max_iter=max_iter,
            device=images.device,
            details=details,
        )
        sds = standard_deviations(
            with_details(scans, details, place),
            place,
            lam,
            fitted.solution.images,
            samples=samples,
            seed=seed + number,
        )
        errors = (fitted.solution.images - head).abs_().div_(sds)
        margin = footprint_margin(place, scans)
        for c, (own, estimates) in enumerate(zip(scans, noise, strict=True)):
            inside = _inside(head[c], own, estimates, place, margin)
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
    soft = torch.stack([smoothed(image, sd) for image in images])
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


def _simulated(
    contrasts: Sequence[Sequence[Observation]],
    head: Tensor,
    grid: Grid,
    rng: np.random.Generator,
) -> list[list[Observation]]:
    """Scans of another head, with the geometry and noise of the given ones."""
    return [
        [_scanned(without_empty_border(within(scan, grid)), image, grid, rng) for scan in scans]
        for scans, image in zip(contrasts, head, strict=True)
    ]


def _scanned(scan: Observation, image: Tensor, grid: Grid, rng: np.random.Generator) -> Observation:
    operator = ForwardOperator(
        grid, scan.grid, pose=scan.pose, profile=scan.profile, interleave=scan.interleave
    )
    clean = operator.forward(image).cpu().numpy()
    tau = np.broadcast_to(np.asarray(scan.tau, dtype=np.float32), clean.shape)
    sd = np.divide(1, np.sqrt(tau), out=np.zeros(clean.shape, np.float32), where=tau > 0)
    noisy = clean + sd * rng.standard_normal(clean.shape, dtype=np.float32)
    data = np.where(np.isfinite(scan.data), noisy, np.float32(np.nan))
    # What the real scan holds where it is 0 is not known here to be missing.
    return replace(scan, data=data, zero_is_missing=False)


def _inside(
    head: Tensor,
    scans: Sequence[Observation],
    noise: Sequence[NoiseEstimate],
    grid: Grid,
    margin: int,
) -> NDArray[np.bool_]:
    """Voxels of the head that were measured, away from the rim."""
    threshold = np.mean([own.halfway for own in noise])
    inside = (head.cpu().numpy() > threshold) & coverage(scans, grid)
    core = np.zeros(inside.shape, dtype=bool)
    x, y, z = (slice(margin, max(side - margin, 0)) for side in inside.shape)
    core[x, y, z] = True
    return np.asarray(inside & core)
