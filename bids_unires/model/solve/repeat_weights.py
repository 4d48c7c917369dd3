"""Precisions of repeats that disagree by more than noise.

Real repeats differ by effects that no rigid pose explains: gradient non-linearity, chemical shift
of fat, flow, swallowing, bending of the neck. With precisions from the noise alone, the fit would
explain such voxels by oscillations between the slices. Residuals are therefore modelled by a
Student-t distribution, whose scale and weights are estimated by expectation-maximisation (Lange,
Little & Taylor 1989, "Robust statistical modeling using the t distribution", section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..intensity.smooth_blocks import MAD_TO_SD
from ..scanner.rejected_slices import without_interpolated_slices

# Degrees of freedom: low, for heavy tails.
DEGREES_OF_FREEDOM = 4.0
_SCALE_STEPS = 20
# If the scale is this close to the noise, residuals are noise, and least squares is the better
# estimate. Only voxels whose residual is larger than noise ever is keep their lower weight.
_AGREEMENT = 1.1
_OUTLIER = 6.0


@dataclass(frozen=True, eq=False)
class RepeatResidual:
    """What an image leaves unexplained of one repeat.

    Attributes
    ----------
    scan
        The repeat; the standard deviation of its noise is the lower bound of its scale.
    residual
        Prediction minus scan, ``(X, Y, Z)`` float32.
    head
        Bool ``(X, Y, Z)``: voxels of the head. They determine the scale, since air would make any
        fit look good.
    """

    scan: ScanState
    residual: NDArray[np.float32]
    head: NDArray[np.bool_]

    @property
    def noise_sd(self) -> float:
        """Standard deviation of the noise, in intensity."""
        return self.scan.noise.noise_sd

    def reweighted(self, scale: float) -> ScanState:
        """The repeat with one precision for every voxel, and the scale of its residuals.

        Parameters
        ----------
        scale
            `common_scale` of all repeats, in intensity.
        """
        scale = max(scale, self.noise_sd)
        weights = _student_weights(self.residual, scale)
        if scale <= _AGREEMENT * self.noise_sd:
            weights = np.where(np.abs(self.residual) < _OUTLIER * scale, 1.0, weights)
        tau = np.asarray(weights / scale**2, dtype=np.float32)
        observation = replace(self.scan.observation, tau=tau)
        return replace(self.scan, observation=observation, residual_scale=scale)


def common_scale(residuals: Sequence[RepeatResidual]) -> float:
    """Scale, in intensity, of the t distribution of the residuals of all repeats of a contrast.

    All repeats share one scale. If each had its own, the repeat that the image happens to follow
    most closely would get ever more weight, and the others ever less.

    Parameters
    ----------
    residuals
        Of all repeats. The scale is not below the least noise of any of them.
    """
    values = np.concatenate(
        [repeat.residual[repeat.head].astype(np.float64) for repeat in residuals]
    )
    scale = least = min(repeat.noise_sd for repeat in residuals)
    if values.size > 0:
        scale = max(MAD_TO_SD * float(np.median(np.abs(values))), least)
        for _ in range(_SCALE_STEPS):
            weights = _student_weights(values, scale)
            scale = max(float(np.sqrt(np.mean(weights * values**2))), least)
    return scale


def reweight_repeats(
    scans: Sequence[ScanState], grid: Grid, image: Tensor
) -> tuple[ScanState, ...]:
    """Give the voxels of each repeat of a contrast the precisions that follow from its residuals.

    Parameters
    ----------
    scans
        Repeats of one contrast.
    grid, image
        Their image ``(X, Y, Z)`` float32, and its grid.

    Returns
    -------
    tuple of ScanState
        The scans, with one precision for every voxel and the scale of their residuals.
    """
    residuals = [_residual(scan, grid, image) for scan in scans]
    scale = common_scale(residuals)
    return tuple(repeat.reweighted(scale) for repeat in residuals)


def _residual(scan: ScanState, grid: Grid, image: Tensor) -> RepeatResidual:
    observation, threshold = scan.observation, scan.noise.halfway
    prediction = observation.operator(grid).forward(image).cpu().numpy()
    residual = prediction - np.nan_to_num(observation.data)
    # Where only one of the two shows signal, they disagree.
    head = (observation.data > threshold) | (prediction > threshold)
    return RepeatResidual(scan, residual, head & ~without_interpolated_slices(observation).missing)


def _student_weights(residual: NDArray[np.floating], scale: float) -> NDArray[np.floating]:
    return (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + (residual / scale) ** 2)
