"""Residuals of the scans, and whether they look like noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..intensity.smooth_blocks import MAD_TO_SD
from ..scanner.slice_groups import predict_scan

# In standard deviations of the noise; 6 in 100,000 voxels of white noise lie beyond.
FAR = 4.0
# Beyond these, residuals differ from noise.
LARGEST_SD = 1.5
SMALLEST_SD = 0.5
LARGEST_MEAN = 0.25
LARGEST_AUTOCORRELATION = 0.5
LARGEST_FAR_SHARE = 0.01


@dataclass(frozen=True)
class ResidualStatement:
    """The standardised residual ``(x - A y) / noise sd`` of one scan, within the head.

    Parameters
    ----------
    mean, sd
        Over all voxels; 0 and 1 if residuals are noise.
    robust_sd
        Standard deviation from the median of the absolute values, hardly changed by outliers.
    autocorrelation
        Between neighbours along each voxel axis of the scan; 0 for white noise.
    far_share
        Share of voxels beyond four standard deviations of the noise.
    voxels
        Number of voxels.
    """

    mean: float
    sd: float
    robust_sd: float
    autocorrelation: tuple[float, float, float]
    far_share: float
    voxels: int

    @property
    def deviations(self) -> tuple[str, ...]:
        """Differences from noise, in words; empty without any."""
        found = []
        if self.sd > LARGEST_SD:
            found.append(f"residuals are {self.sd:.1f} times the noise")
        elif self.sd < SMALLEST_SD:
            found.append(f"residuals are only {self.sd:.2f} times the noise")
        if abs(self.mean) > LARGEST_MEAN * max(self.sd, 1.0):
            found.append(f"their mean is {self.mean:+.2f} sd")
        strongest = max(self.autocorrelation, key=abs)
        if abs(strongest) > LARGEST_AUTOCORRELATION:
            axis = "ijk"[self.autocorrelation.index(strongest)]
            found.append(f"neighbours along {axis} are correlated ({strongest:+.2f})")
        if self.far_share > LARGEST_FAR_SHARE:
            found.append(f"{100 * self.far_share:.1f} % lie beyond {FAR:g} sd")
        return tuple(found)


def residual_statement(scan: ScanState, grid: Grid, image: Tensor) -> ResidualStatement:
    """Compare a scan with its prediction by the image of its contrast.

    Parameters
    ----------
    scan
        The scan at its final pose.
    grid, image
        The image ``(X, Y, Z)`` float32 and its grid.
    """
    observation, noise = scan.observation, scan.noise
    prediction = predict_scan(observation, scan.motion, grid, image)
    threshold = noise.halfway
    head = (observation.data > threshold) | (prediction > threshold)
    head &= ~observation.missing
    # The intensity correction changes the noise by a few percent, which is neglected here.
    standardised = (np.nan_to_num(observation.data) - prediction) / np.float32(noise.noise_sd)
    return describe_residuals(standardised, head)


def describe_residuals(
    standardised: NDArray[np.float32], inside: NDArray[np.bool_]
) -> ResidualStatement:
    """Statistics of a standardised residual over some voxels.

    Parameters
    ----------
    standardised
        Residual over the sd of the noise, ``(X, Y, Z)``.
    inside
        Bool ``(X, Y, Z)``, the voxels to use.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(40, 40, 40)).astype(np.float32)
    >>> describe_residuals(noise, np.ones(noise.shape, dtype=bool)).deviations
    ()
    """
    values = standardised[inside].astype(np.float64)
    if values.size == 0:
        return ResidualStatement(0.0, 0.0, 0.0, (0.0, 0.0, 0.0), 0.0, 0)
    mean, sd = float(values.mean()), float(values.std())
    centred = standardised - np.float32(mean)
    autocorrelation = [_neighbour_correlation(centred, inside, axis, sd) for axis in range(3)]
    return ResidualStatement(
        mean,
        sd,
        MAD_TO_SD * float(np.median(np.abs(values))),
        (autocorrelation[0], autocorrelation[1], autocorrelation[2]),
        float(np.mean(np.abs(values) > FAR)),
        int(values.size),
    )


def _neighbour_correlation(
    centred: NDArray[np.float32], inside: NDArray[np.bool_], axis: int, sd: float
) -> float:
    """Correlation of neighbouring voxels along an axis; 0 without any such pair."""
    values, both = np.moveaxis(centred, axis, 0), np.moveaxis(inside, axis, 0)
    pairs = both[1:] & both[:-1]
    if sd == 0 or not pairs.any():
        return 0.0
    return float(np.mean(values[1:][pairs].astype(np.float64) * values[:-1][pairs]) / sd**2)
