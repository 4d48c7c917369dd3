"""Residuals of the scans, and whether they look like noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...space.grid import Grid
from ..intensity.scan_state import ScanState
from ..intensity.smooth_blocks import MAD_TO_SD
from ..scanner.interpolation_error import with_interpolation_error
from ..scanner.slice_groups import predict_scan

# In standard deviations of the noise; 6 in 100,000 voxels of white noise lie beyond.
FAR = 4.0
# Beyond these, residuals differ from noise.
LARGEST_SD = 1.5
SMALLEST_SD = 0.5
LARGEST_MEAN = 0.25
LARGEST_AUTOCORRELATION = 0.5
LARGEST_FAR_SHARE = 0.01
# Residuals of most voxels are larger than this only where a scan does not fit its image. Clinical
# scans have up to 1.4; stacks that lie 2 mm off, 2.1.
LARGEST_USUAL_SD = 2.0


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
    of_noise
        Autocorrelation of the noise; 0 if it is white.
    """

    mean: float
    sd: float
    robust_sd: float
    autocorrelation: tuple[float, float, float]
    far_share: float
    voxels: int
    of_noise: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def deviations(self) -> tuple[str, ...]:
        """Differences from noise, in words; empty without any.

        They describe the residual, and are no faults: see `shows_structure`.
        """
        found = []
        if self.sd > LARGEST_SD:
            found.append(f"residuals are {self.sd:.1f} times the noise")
        elif self.sd < SMALLEST_SD:
            found.append(f"residuals are only {self.sd:.2f} times the noise")
        if abs(self.mean) > LARGEST_MEAN * max(self.sd, 1.0):
            found.append(f"their mean is {self.mean:+.2f} sd")
        # What is left of coloured noise is between as correlated as the noise, and white.
        beyond = [
            max(above, -value)
            for above, value in zip(self._above_noise, self.autocorrelation, strict=True)
        ]
        if max(beyond) > LARGEST_AUTOCORRELATION:
            at = beyond.index(max(beyond))
            axis, strongest = "ijk"[at], self.autocorrelation[at]
            found.append(f"neighbours along {axis} are correlated ({strongest:+.2f})")
        if self.far_share > LARGEST_FAR_SHARE:
            found.append(f"{100 * self.far_share:.1f} % lie beyond {FAR:g} sd")
        return tuple(found)

    @property
    def shows_structure(self) -> bool:
        """Whether the residual shows parts of the head, so that the scan does not fit its image.

        Clinical scans leave residuals of 2 to 4 times the noise at vessels, fat and the skull,
        which hardly correlate, and little elsewhere. Where a scan does not lie on its repeats,
        or slices are damaged, neighbours are alike.
        """
        correlated = max(self._above_noise) > LARGEST_AUTOCORRELATION
        return self.robust_sd > LARGEST_USUAL_SD or (self.sd > LARGEST_SD and correlated)

    @property
    def _above_noise(self) -> tuple[float, ...]:
        """Autocorrelation beyond that of the noise."""
        pairs = zip(self.autocorrelation, self.of_noise, strict=True)
        return tuple(value - max(noise, 0.0) for value, noise in pairs)


def expected_sd(scan: ScanState, grid: Grid) -> NDArray[np.float32]:
    """Standard deviation that the residual of each voxel is expected to have at most.

    It is that of the noise, and where the image is interpolated between its voxels, as at the rim
    of bone in CT, that of the error of this, too.

    Parameters
    ----------
    scan
        The scan at its final pose, no repeat of another.
    grid
        Grid of the image.

    Returns
    -------
    ndarray
        ``(X, Y, Z)`` of the scan, in the units of its intensities.
    """
    observation, noise = scan.observation, scan.noise
    allowed = with_interpolation_error(observation, grid).tau
    precision = np.broadcast_to(np.asarray(allowed, dtype=np.float32), observation.data.shape)
    tiny = np.float32(np.finfo(np.float32).tiny)
    # Relative to that of the scan, since voxels with the same noise share its precision.
    error = np.maximum(1 / np.maximum(precision, tiny) - 1 / noise.tau, 0)
    return np.asarray(np.sqrt(noise.noise_sd**2 + error), dtype=np.float32)


def residual_statement(
    scan: ScanState, grid: Grid, image: Tensor, sd: NDArray[np.float32] | None = None
) -> ResidualStatement:
    """Compare a scan with its prediction by the image of its contrast.

    Parameters
    ----------
    scan
        The scan at its final pose.
    grid, image
        The image ``(X, Y, Z)`` float32 and its grid.
    sd
        Standard deviation that residuals are expected to have, ``(X, Y, Z)`` as the scan; that of
        the noise if None.
    """
    observation, noise = scan.observation, scan.noise
    prediction = predict_scan(observation, scan.motion, grid, image)
    threshold = noise.halfway
    head = (observation.data > threshold) | (prediction > threshold)
    head &= ~observation.missing
    # The intensity correction changes the noise by a few percent, which is neglected here.
    residual = np.nan_to_num(observation.data) - prediction
    standardised = residual / (np.float32(noise.noise_sd) if sd is None else sd)
    return replace(describe_residuals(standardised, head), of_noise=noise.autocorrelation)


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
