"""What the other slices say about a slice: predictions of every slice by a fit without it.

A fit explains the very slices it is made from, the damaged ones too, so its residuals hide them
where few stacks overlap. Here a third of the slices of every scan is left out in turn
(cross-validation), and predicted from all that is left: its neighbours, other stacks, and
other contrasts by way of the joint prior. Coarse voxels do for that, and cost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ...space.affines import scaling, translation
from ...space.grid import Grid
from ..scanner.filling import stood_in
from ..scanner.forward import ForwardOperator
from ..scanner.observation import Observation
from ..scanner.profile import POINTS, SliceProfile, profile_for_voxels
from ..solve.solver import solve

FOLDS = 3
"""A slice that is left out keeps its neighbours on either side, and two of three beyond."""

# Damage that matters shows at this voxel size, at an eighth of the cost of 1 mm.
_COARSE_MM = 2.0
_ITERATIONS = 6
_TOLERANCE = 1e-3
# Beyond the coarse grid the images are air; its rim must not reach into the scans.
_RIM = 2
_LEAST_MEASURED = 0.5

Stack = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """One scan with coarse voxels in its planes, and what is predicted of it without it.

    Parameters
    ----------
    measured
        ``(K, U, V)``, slices first; NaN where too little was measured.
    predicted
        ``(K, U, V)``, every slice by a fit that did not see it.
    detail
        ``(K, U, V)``, variance within each coarse voxel of what was measured, intensity squared;
        0 where voxels were coarse as acquired.
    spacing
        mm between neighbours along the three axes.
    """

    measured: Stack
    predicted: Stack
    detail: Stack
    spacing: tuple[float, float, float]


def left_out(
    contrasts: Sequence[Sequence[Observation]],
    grid: Grid,
    lam: Sequence[float],
    thresholds: Sequence[Sequence[float]],
    device: torch.device,
) -> list[list[LeftOut]]:
    """Predict every slice of every scan by images fitted without it.

    Parameters
    ----------
    contrasts
        For each contrast its scans. Slices whose weight is 0 are left out of every fit, and
        predicted like all others.
    grid
        Grid of the wanted images; the fits take coarser voxels.
    lam
        Regularisation of each contrast in mm / intensity.
    thresholds
        Of each scan, the intensity above which a voxel belongs to the head.
    device
        Where to work.
    """
    coarse = coarse_grid(grid)
    # Prior and data term add up fewer voxels, in the same proportion to each other.
    volume = float(np.prod(coarse.voxel_size / grid.voxel_size))
    coarsely = [[binned(scan, coarse) for scan in scans] for scans in contrasts]
    predicted = [[np.zeros(scan.data.shape, np.float32) for scan, _ in own] for own in coarsely]
    for fold in range(FOLDS):
        images = solve(
            [
                stood_in([_without(scan, fold) for scan, _ in scans], own)
                for scans, own in zip(coarsely, thresholds, strict=True)
            ],
            coarse,
            [volume * own for own in lam],
            tolerance=_TOLERANCE,
            max_iter=_ITERATIONS,
            device=str(device),
        ).images
        for scans, image, own in zip(coarsely, images, predicted, strict=True):
            for (scan, _), prediction in zip(scans, own, strict=True):
                found = _operator(scan, coarse).forward(image).cpu().numpy()
                _slices(scan, prediction)[fold::FOLDS] = _slices(scan, found)[fold::FOLDS]
    return [
        [_described(*parts, found) for parts, found in zip(scans, own, strict=True)]
        for scans, own in zip(coarsely, predicted, strict=True)
    ]


def measured_anew(parts: LeftOut, scan: Observation, coarse: Grid) -> LeftOut:
    """The same predictions beside what a scan shows now that some of its slices were mended.

    Parameters
    ----------
    parts
        The scan as it was, and its predictions.
    scan
        As it is.
    coarse
        The grid of the fits, `coarse_grid`.
    """
    means, variance = binned(scan, coarse)
    return replace(parts, measured=_slices(scan, means.data), detail=_slices(scan, variance))


def coarse_grid(grid: Grid) -> Grid:
    """The box of a grid with a rim around it, in voxels of about 2 mm, or larger ones of its own.

    Examples
    --------
    >>> coarse_grid(Grid((10, 10, 10), np.diag([1.0, 1.0, 4.0, 1.0]))).shape
    (9, 9, 14)
    """
    steps = np.maximum(1, np.round(_COARSE_MM / grid.voxel_size)).astype(int)
    first = translation((steps - 1) / 2 - _RIM * steps)
    x, y, z = (-(-n // step) + 2 * _RIM for n, step in zip(grid.shape, steps.tolist(), strict=True))
    return Grid((x, y, z), grid.affine @ first @ scaling(steps))


def _without(scan: Observation, fold: int) -> Observation:
    """A scan with every third slice weighing nothing."""
    weights = scan.weight_of_slices.copy()
    weights[fold::FOLDS] = 0
    return replace(scan, slice_weights=weights)


def binned(scan: Observation, grid: Grid) -> tuple[Observation, Stack]:
    """A scan with voxels averaged in the plane until they are about as large as those of a grid.

    Parameters
    ----------
    scan
        The scan.
    grid
        The grid of the fits, `coarse_grid`.

    Returns
    -------
    tuple of Observation and ndarray
        The means, and the variances within each of them. Slices of weight 0 have them too.
    """
    steps = np.maximum(1, np.round(grid.voxel_size.min() / scan.grid.voxel_size)).astype(int)
    steps[scan.slice_axis] = 1
    known = ~replace(scan, slice_weights=None).missing
    values = np.where(known, scan.data, np.float32(0))
    count = _sums(known.astype(np.float32), steps)
    enough = count >= _LEAST_MEASURED * np.prod(steps)
    count = np.maximum(count, 1)
    mean = _sums(values, steps) / count
    variance = np.where(enough, np.maximum(_sums(values**2, steps) / count - mean**2, 0), 0)
    means = replace(
        scan,
        data=np.where(enough, mean, np.float32(np.nan)),
        affine=scan.affine @ translation((steps - 1) / 2) @ scaling(steps),
        tau=scan.tau * float(np.prod(steps)),
    )
    return replace(means, profile=_profile(means, grid)), variance


def _sums(values: Stack, steps: NDArray[np.int_]) -> Stack:
    """Sums over blocks of ``steps`` voxels; the last ones may be cut."""
    for axis, step in enumerate(steps.tolist()):
        if step > 1:
            values = np.add.reduceat(values, np.arange(0, values.shape[axis], step), axis=axis)
    return values


def _profile(scan: Observation, grid: Grid) -> SliceProfile:
    """The profile of a binned scan; one that samples points across its slices keeps doing so."""
    if scan.profile.through_plane in POINTS:
        return replace(scan.profile, in_plane="point", axis=scan.slice_axis)
    return profile_for_voxels(
        scan.grid,
        grid.voxel_size,
        gap=scan.profile.gap,
        axis=scan.slice_axis,
        through_plane=scan.profile.through_plane,
    )


def _operator(scan: Observation, grid: Grid) -> ForwardOperator:
    return ForwardOperator(
        grid, scan.grid, pose=scan.pose, profile=scan.profile, interleave=scan.interleave
    )


def _described(scan: Observation, detail: Stack, predicted: Stack) -> LeftOut:
    sizes = scan.grid.voxel_size.tolist()
    axis = scan.slice_axis
    first, second = (size for other, size in enumerate(sizes) if other != axis)
    measured, predicted, detail = (
        _slices(scan, values) for values in (scan.data, predicted, detail)
    )
    return LeftOut(measured, predicted, detail, (sizes[axis], first, second))


def _slices(scan: Observation, values: Stack) -> Stack:
    """View of values on the grid of a scan with the slices first."""
    return np.moveaxis(values, scan.slice_axis, 0)
