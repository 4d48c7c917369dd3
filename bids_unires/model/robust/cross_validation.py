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
from torch import Tensor

from ...space.affines import scaling, translation
from ...space.grid import Grid
from ..intensity.preprocessing import PreparedContrast
from ..scanner.observation import Observation
from ..scanner.profile import POINTS, SliceProfile, profile_for_voxels
from ..scanner.rejected_slices import stood_in
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
class CrossValidation:
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


def cross_validate(
    contrasts: Sequence[PreparedContrast],
    grid: Grid,
    weights: Sequence[float],
    device: torch.device,
) -> tuple[tuple[CrossValidation, ...], ...]:
    """Predict every slice of every scan by images fitted without it.

    Parameters
    ----------
    contrasts
        Slices whose weight is 0 are left out of every fit, and predicted like all others.
    grid
        Grid of the wanted images; the fits take coarser voxels.
    weights
        Weight of the prior of each contrast in mm / intensity.
    device
        Where to work.

    Returns
    -------
    tuple of tuple of LeftOut
        For each contrast its scans.
    """
    coarse = coarse_grid(grid)
    # Prior and data term add up fewer voxels, in the same proportion to each other.
    volume = float(np.prod(coarse.voxel_size / grid.voxel_size))
    binned_contrasts = [_Binned.of(contrast, coarse) for contrast in contrasts]
    for fold in range(FOLDS):
        images = solve(
            [own.without(fold) for own in binned_contrasts],
            coarse,
            [volume * weight for weight in weights],
            tolerance=_TOLERANCE,
            max_iter=_ITERATIONS,
            device=str(device),
        ).images
        for own, image in zip(binned_contrasts, images, strict=True):
            own.predict(fold, coarse, image)
    return tuple(own.described() for own in binned_contrasts)


def with_repaired_slices(
    parts: CrossValidation, scan: Observation, coarse: Grid
) -> CrossValidation:
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
    means, variance = average_in_plane(scan, coarse)
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


@dataclass(frozen=True, eq=False)
class _BinnedScan:
    """A scan with coarse voxels in its planes, and what is predicted of it so far."""

    scan: Observation
    detail: Stack
    threshold: float
    predicted: Stack


@dataclass(frozen=True, eq=False)
class _Binned:
    """The scans of one contrast with coarse voxels in their planes."""

    scans: tuple[_BinnedScan, ...]

    @classmethod
    def of(cls, contrast: PreparedContrast, coarse: Grid) -> _Binned:
        found = []
        for prepared in contrast.scans:
            scan, detail = average_in_plane(prepared.observation, coarse)
            predicted = np.zeros(scan.data.shape, np.float32)
            found.append(_BinnedScan(scan, detail, prepared.state.noise.halfway, predicted))
        return cls(tuple(found))

    def without(self, fold: int) -> list[Observation]:
        """The scans without every third slice."""
        return stood_in(
            [_without(own.scan, fold) for own in self.scans],
            [own.threshold for own in self.scans],
        )

    def predict(self, fold: int, coarse: Grid, image: Tensor) -> None:
        """Take down what an image predicts of the slices that were left out."""
        for own in self.scans:
            found = own.scan.operator(coarse).forward(image).cpu().numpy()
            _slices(own.scan, own.predicted)[fold::FOLDS] = _slices(own.scan, found)[fold::FOLDS]

    def described(self) -> tuple[CrossValidation, ...]:
        return tuple(_described(own.scan, own.detail, own.predicted) for own in self.scans)


def _without(scan: Observation, fold: int) -> Observation:
    """A scan with every third slice weighing nothing."""
    weights = scan.weight_of_slices.copy()
    weights[fold::FOLDS] = 0
    return replace(scan, slice_weights=weights)


def average_in_plane(scan: Observation, grid: Grid) -> tuple[Observation, Stack]:
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


def _described(scan: Observation, detail: Stack, predicted: Stack) -> CrossValidation:
    sizes = scan.grid.voxel_size.tolist()
    axis = scan.slice_axis
    first, second = (size for other, size in enumerate(sizes) if other != axis)
    measured, predicted, detail = (
        _slices(scan, values) for values in (scan.data, predicted, detail)
    )
    return CrossValidation(measured, predicted, detail, (sizes[axis], first, second))


def _slices(scan: Observation, values: Stack) -> Stack:
    """View of values on the grid of a scan with the slices first."""
    return np.moveaxis(values, scan.slice_axis, 0)
