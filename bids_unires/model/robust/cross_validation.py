"""Cross-validation of slices: every slice is predicted by a fit without it.

A fit explains the slices that it is made from, damaged ones included. Where few stacks overlap,
its residuals do not show the damage. Here, a third of the slices of every scan is left out at a
time and predicted from all others: from its neighbours, from other stacks, and from other
contrasts by the joint prior. Coarse voxels suffice for that, and take little time.
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
from ..intensity.preprocessing import PreparedContrast, PreparedScan
from ..scanner.observation import Observation
from ..scanner.profile import POINTS, SliceProfile, profile_for_voxels
from ..scanner.rejected_slices import interpolate_and_weight_rejected_slices
from ..solve.solver import solve

FOLDS = 3
"""The neighbours of a slice that is left out are kept, and two of three slices beyond them."""

# Relevant damage is visible at this voxel size, at an eighth of the cost of 1 mm.
_COARSE_MM = 2.0
_ITERATIONS = 6
_TOLERANCE = 1e-3
# Beyond the coarse grid the images are air; its rim must not reach into the scans.
_RIM = 2
_LEAST_MEASURED = 0.5

Stack = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """One scan with coarse voxels in its planes, and the predictions of its slices.

    Parameters
    ----------
    measured
        ``(K, U, V)`` intensities, slices first; NaN where too little was measured.
    predicted
        ``(K, U, V)`` intensities, every slice predicted by a fit without it.
    detail
        ``(K, U, V)``, variance of the measured intensities within each coarse voxel, in
        intensity^2; 0 where voxels were not averaged.
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
        All contrasts. Slices of weight 0 are left out of every fit, and predicted as all others.
    grid
        Grid of the wanted images; the fits use coarser voxels.
    weights
        Weight of the prior of each contrast in mm / intensity.
    device
        Device of the images.

    Returns
    -------
    tuple of tuple of CrossValidation
        For each contrast its scans.
    """
    coarse = coarse_grid(grid)
    # Prior and data term are sums over fewer voxels; the weight keeps them in proportion.
    volume = float(np.prod(coarse.voxel_size / grid.voxel_size))
    averaged = [
        [_CoarseScan.of(scan, coarse, is_alone=len(contrast.scans) == 1) for scan in contrast.scans]
        for contrast in contrasts
    ]
    folds = [
        solve(
            [[scan.without(fold) for scan in scans] for scans in averaged],
            coarse,
            [volume * weight for weight in weights],
            tolerance=_TOLERANCE,
            max_iter=_ITERATIONS,
            device=str(device),
        ).images
        for fold in range(FOLDS)
    ]
    return tuple(
        tuple(scan.validated(coarse, [images[c] for images in folds]) for scan in scans)
        for c, scans in enumerate(averaged)
    )


def with_repaired_slices(
    validation: CrossValidation, scan: Observation, coarse: Grid
) -> CrossValidation:
    """The same predictions, compared with a scan of which some slices were repaired.

    Parameters
    ----------
    validation
        The scan before the repairs, and its predictions.
    scan
        The scan after the repairs.
    coarse
        The grid of the fits, `coarse_grid`.
    """
    means, variance = average_in_plane(scan, coarse)
    return replace(validation, measured=_slices(scan, means.data), detail=_slices(scan, variance))


def coarse_grid(grid: Grid) -> Grid:
    """The box of a grid, with a rim, in voxels of about 2 mm; or in its own if they are larger.

    Examples
    --------
    >>> coarse_grid(Grid((10, 10, 10), np.diag([1.0, 1.0, 4.0, 1.0]))).shape
    (9, 9, 14)
    """
    steps = np.maximum(1, np.round(_COARSE_MM / grid.voxel_size)).astype(int)
    first = translation((steps - 1) / 2 - _RIM * steps)
    x, y, z = (-(-np.array(grid.shape) // steps) + 2 * _RIM).tolist()
    return Grid((x, y, z), grid.affine @ first @ scaling(steps))


def average_in_plane(scan: Observation, grid: Grid) -> tuple[Observation, Stack]:
    """Average the voxels of a scan in the plane until they are about as large as those of a grid.

    Parameters
    ----------
    scan
        The scan.
    grid
        The grid of the fits, `coarse_grid`.

    Returns
    -------
    tuple of Observation and ndarray
        The means, and the variances ``(X, Y, Z)`` within each of them, also of slices of weight 0.
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


@dataclass(frozen=True, eq=False)
class _CoarseScan:
    """A scan with coarse voxels in its planes.

    Attributes
    ----------
    scan
        The means.
    detail
        ``(X, Y, Z)``, the variances within them.
    threshold
        Intensity above which a voxel belongs to the head.
    is_alone
        Whether its contrast has no other scan.
    """

    scan: Observation
    detail: Stack
    threshold: float
    is_alone: bool

    @classmethod
    def of(cls, prepared: PreparedScan, coarse: Grid, *, is_alone: bool) -> _CoarseScan:
        scan, detail = average_in_plane(prepared.observation, coarse)
        return cls(scan, detail, prepared.state.noise.halfway, is_alone)

    def without(self, fold: int) -> Observation:
        """The scan without every third slice, which is interpolated if the scan is alone."""
        weights = self.scan.weight_of_slices.copy()
        weights[fold::FOLDS] = 0
        scan = replace(self.scan, slice_weights=weights)
        if not self.is_alone:
            return scan
        return interpolate_and_weight_rejected_slices(scan, self.threshold)

    def validated(self, coarse: Grid, images: Sequence[Tensor]) -> CrossValidation:
        """The scan, and its slices predicted by the images ``(X, Y, Z)`` of all folds."""
        operator = self.scan.operator(coarse)
        predicted = np.zeros(self.scan.data.shape, np.float32)
        for fold, image in enumerate(images):
            prediction = operator.forward(image).cpu().numpy()
            _slices(self.scan, predicted)[fold::FOLDS] = _slices(self.scan, prediction)[fold::FOLDS]
        sizes, axis = self.scan.grid.voxel_size.tolist(), self.scan.slice_axis
        first, second = (size for other, size in enumerate(sizes) if other != axis)
        return CrossValidation(
            _slices(self.scan, self.scan.data),
            _slices(self.scan, predicted),
            _slices(self.scan, self.detail),
            (sizes[axis], first, second),
        )


def _sums(values: Stack, steps: NDArray[np.int_]) -> Stack:
    """Sums over blocks of ``steps`` voxels along each axis; the last ones may be smaller."""
    for axis, step in enumerate(steps.tolist()):
        if step > 1:
            values = np.add.reduceat(values, np.arange(0, values.shape[axis], step), axis=axis)
    return values


def _profile(scan: Observation, grid: Grid) -> SliceProfile:
    """Profile of an averaged scan; point samples across its slices remain point samples."""
    if scan.profile.through_plane in POINTS:
        return replace(scan.profile, in_plane="point", axis=scan.slice_axis)
    return profile_for_voxels(
        scan.grid,
        grid.voxel_size,
        gap=scan.profile.gap,
        axis=scan.slice_axis,
        through_plane=scan.profile.through_plane,
    )


def _slices(scan: Observation, values: Stack) -> Stack:
    """View of values on the grid of a scan, slices first, ``(K, U, V)``."""
    return np.moveaxis(values, scan.slice_axis, 0)
