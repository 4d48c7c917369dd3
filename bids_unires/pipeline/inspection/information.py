"""How much each scan tells of the image that is wanted, from its voxels and its noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Finest detail that is wanted, in mm, and number of frequencies along each axis.
_FINEST_MM = 1.0
_FREQUENCIES = 25
# Mean length in mm over which a line through the head stays in one tissue.
_TISSUE_MM = 5.0
# Affines are rounded; a frequency at the limit of a scan is seen.
_NYQUIST_ROUNDING = 1 + 1e-6


@dataclass(frozen=True, eq=False)
class Sampling:
    """How a scan samples the head.

    Parameters
    ----------
    directions
        ``(3, 3)``, unit vectors of the voxel axes in the world, as columns.
    spacing
        ``(3,)``, distance of the voxels along these axes in mm.
    extent
        ``(3,)``, width of the sensitivity of a voxel along these axes in mm: the thickness of the
        slices, the voxel size in their plane.
    signal_to_noise
        Difference between head and air over the standard deviation of the noise.
    coverage
        Share of the head that the scan measured, 0 to 1.
    """

    directions: NDArray[np.float64]
    spacing: NDArray[np.float64]
    extent: NDArray[np.float64]
    signal_to_noise: float
    coverage: float


@dataclass(frozen=True)
class Told:
    """What one scan tells of the image, as shares of what all scans of its contrast tell.

    Parameters
    ----------
    alone
        What it would tell without the others, 0 to 1.
    adds
        What only this one tells: 0 for a scan without which nothing is lost, 1 for the only scan.
    """

    alone: float
    adds: float


def information(scans: Sequence[Sampling]) -> list[Told]:
    """What each scan of a contrast tells of the image, alone and in addition to the others.

    The image is taken for a Gaussian field whose correlation falls with distance as that of
    tissues with borders at random places does, the scans for blurred and noisy samples of it. What
    they tell is the mutual information with the image, up to details of 1 mm (Shannon 1948). Two
    scans in the same plane tell much the same; a second plane tells what the first blurs.

    Parameters
    ----------
    scans
        The scans of one contrast, where their headers place them.

    Returns
    -------
    list of Told
        One for each scan.

    Examples
    --------
    >>> axial = Sampling(np.eye(3), np.array([1, 1, 5.0]), np.array([1, 1, 5.0]), 50.0, 1.0)
    >>> information([axial])
    [Told(alone=1.0, adds=1.0)]
    """
    densities = [_signal_to_noise_density(scan) for scan in scans]
    total = np.sum(densities, axis=0)
    everything = _information(total)
    if everything == 0:
        return [Told(0.0, 0.0)] * len(densities)
    return [
        Told(_information(own) / everything, 1 - _information(total - own) / everything)
        for own in densities
    ]


def _frequencies() -> NDArray[np.float64]:
    """Frequencies ``(N, 3)`` in 1/mm."""
    highest = 1 / (2 * _FINEST_MM)
    axis = np.linspace(-highest, highest, _FREQUENCIES)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return grid.reshape(-1, 3)


def _signal_to_noise_density(scan: Sampling) -> NDArray[np.float64]:
    """Power of the image in a scan over that of its noise, ``(N,)``, at each frequency."""
    frequencies = _frequencies()
    along = frequencies @ scan.directions
    blur = np.prod(np.sinc(along * scan.extent), axis=-1)
    seen = np.all(np.abs(along) <= _NYQUIST_ROUNDING / (2 * scan.spacing), axis=-1)
    distance = 2 * np.pi * _TISSUE_MM * np.linalg.norm(frequencies, axis=-1)
    spectrum = 8 * np.pi * _TISSUE_MM**3 / (1 + distance**2) ** 2
    noise = float(np.prod(scan.spacing)) / scan.signal_to_noise**2
    return np.asarray(scan.coverage * np.where(seen, blur**2, 0) * spectrum / noise)


def _information(density: NDArray[np.float64]) -> float:
    return float(np.log2(1 + np.maximum(density, 0)).sum())
