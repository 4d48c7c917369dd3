"""What the images leave unexplained of each scan, and whether that looks like noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..intensity.smooth_blocks import MAD_TO_SD
from ..scanner.slice_groups import predict_scan

# Of white noise 6 voxels in 100,000 lie beyond.
FAR = 4.0
# Beyond these the fit says more, or less, about the scan than its noise allows.
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
        Of all voxels; 0 and 1 for an image that explains the scan, no more and no less.
    robust_sd
        From the median of the absolute values; a few outliers do not change it.
    autocorrelation
        Between neighbours along each voxel axis of the scan; 0 for white noise.
    far_share
        Share of voxels beyond four standard deviations of the noise.
    voxels
        How many voxels this is based on.
    """

    mean: float
    sd: float
    robust_sd: float
    autocorrelation: tuple[float, float, float]
    far_share: float
    voxels: int

    @property
    def deviations(self) -> tuple[str, ...]:
        """In words, what does not look like noise; empty if everything does."""
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
    """Compare a scan with what the image of its contrast predicts.

    Parameters
    ----------
    scan
        The scan as fitted, with its final pose.
    grid, image
        The image ``(X, Y, Z)`` float32 and where it lies.
    """
    observation, noise = scan.observation, scan.noise
    prediction = predict_scan(observation, scan.motion, grid, image)
    threshold = noise.halfway
    seen = (observation.data > threshold) | (prediction > threshold)
    head = seen & ~observation.missing
    # What the intensity correction divided by, the noise was divided by too: a few percent.
    standardised = (np.nan_to_num(observation.data) - prediction) / np.float32(noise.noise_sd)
    return describe_residuals(standardised, head)


def describe_residuals(
    standardised: NDArray[np.float32], inside: NDArray[np.bool_]
) -> ResidualStatement:
    """Statistics of a standardised residual over some voxels, ``(X, Y, Z)`` each.

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
    along = [_neighbour_correlation(centred, inside, axis, sd) for axis in range(3)]
    return ResidualStatement(
        mean,
        sd,
        MAD_TO_SD * float(np.median(np.abs(values))),
        (along[0], along[1], along[2]),
        float(np.mean(np.abs(values) > FAR)),
        int(values.size),
    )


def _neighbour_correlation(
    centred: NDArray[np.float32], inside: NDArray[np.bool_], axis: int, sd: float
) -> float:
    """Correlation of voxels with the next ones along an axis; 0 without any such pair."""
    values, both = np.moveaxis(centred, axis, 0), np.moveaxis(inside, axis, 0)
    pairs = both[1:] & both[:-1]
    if sd == 0 or not pairs.any():
        return 0.0
    return float(np.mean(values[1:][pairs].astype(np.float64) * values[:-1][pairs]) / sd**2)
