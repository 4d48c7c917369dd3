"""Repeats that disagree by more than noise: how much to believe each voxel of each scan.

Real repeats differ by what no rigid pose explains: gradient non-linearity, fat shifted
against water, flow, swallowing, a neck that bends. Weighed by their noise alone, such
voxels would be explained at any price, with oscillations between the slices. Their
residuals are taken to follow a Student-t distribution instead, whose scale and weights
are found by expectation-maximisation (Lange, Little & Taylor 1989, "Robust statistical
modeling using the t distribution", section 3).
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

# Degrees of freedom: few enough for heavy tails.
DEGREES_OF_FREEDOM = 4.0
_SCALE_STEPS = 20
# Residuals this close to the noise are noise: then plain least squares is the better estimate,
# for all voxels but the few that are further off than noise ever is.
_AGREEMENT = 1.1
_OUTLIER = 6.0


@dataclass(frozen=True, eq=False)
class Disagreement:
    """How the residuals of one contrast's scans are distributed.

    Attributes
    ----------
    scales
        Scale of the t distribution for each scan, in intensity; never below its noise.
    precisions
        Precision to give each voxel of each scan, ``(X, Y, Z)`` float32, in
        1 / intensity^2.
    """

    scales: tuple[float, ...]
    precisions: tuple[NDArray[np.float32], ...]


def weigh(
    residuals: Sequence[NDArray[np.float32]],
    inside: Sequence[NDArray[np.bool_]],
    noise_sds: Sequence[float],
) -> Disagreement:
    """Scale and weights of the repeats of a contrast from their residuals.

    All repeats share one scale. With a scale of its own, the scan that the images happen
    to follow most closely would be believed ever more, and the others ever less.

    Parameters
    ----------
    residuals
        Prediction minus scan, one array for each scan.
    inside
        Voxels of the head, which set the scale; air would make any fit look good.
    noise_sds
        Standard deviation of the noise of each scan, the lower bound of its scale.
    """
    heads = [r[i].astype(np.float64) for r, i in zip(residuals, inside, strict=True)]
    values = np.concatenate(heads)
    least = min(noise_sds)
    scale = least
    if values.size > 0:
        scale = max(MAD_TO_SD * float(np.median(np.abs(values))), least)
        for _ in range(_SCALE_STEPS):
            weights = _weights(values, scale)
            scale = max(float(np.sqrt(np.mean(weights * values**2))), least)
    scales = tuple(max(scale, noise_sd) for noise_sd in noise_sds)
    precisions = tuple(
        _precision(residual, own, noise_sd)
        for residual, own, noise_sd in zip(residuals, scales, noise_sds, strict=True)
    )
    return Disagreement(scales, precisions)


def _precision(residual: NDArray[np.float32], scale: float, noise_sd: float) -> NDArray[np.float32]:
    weights = _weights(residual, scale)
    if scale <= _AGREEMENT * noise_sd:
        weights = np.where(np.abs(residual) < _OUTLIER * scale, 1.0, weights)
    return np.asarray(weights / scale**2, dtype=np.float32)


def _weights(residual: NDArray[np.floating], scale: float) -> NDArray[np.floating]:
    return (DEGREES_OF_FREEDOM + 1) / (DEGREES_OF_FREEDOM + (residual / scale) ** 2)


def reweight_repeats(
    scans: Sequence[ScanState], grid: Grid, image: Tensor
) -> tuple[ScanState, ...]:
    """Give each repeat of a contrast the precisions its residuals call for.

    Parameters
    ----------
    scans
        Repeats of one contrast.
    grid, image
        Their image ``(X, Y, Z)`` float32, and where it lies.

    Returns
    -------
    tuple of ScanState
        The scans, with one precision for every voxel and the scale of their residuals.
    """
    residuals, heads = [], []
    for scan in scans:
        observation = scan.observation
        prediction = observation.operator(grid).forward(image).cpu().numpy()
        residuals.append(prediction - np.nan_to_num(observation.data))
        # Signal that only one of the two shows is disagreement too.
        threshold = scan.noise.halfway
        heads.append(
            ((observation.data > threshold) | (prediction > threshold))
            & ~without_interpolated_slices(observation).missing
        )
    found = weigh(residuals, heads, [scan.noise.noise_sd for scan in scans])
    return tuple(
        replace(scan, observation=replace(scan.observation, tau=tau), residual_scale=scale)
        for scan, tau, scale in zip(scans, found.precisions, found.scales, strict=True)
    )
