"""Noise level and contrast of a scan, from its own values.

Magnitude images are Rice distributed: air around the head shows noise alone, tissue shows a
signal above it. A mixture of two Rice distributions separates them. The noise is that of air if
all of the air has one noise level that agrees with tissue. Air that was masked, filtered or
scaled, or that holds ghosts, says little about the noise of the head: then the noise is measured
in the head, where anatomy is smooth. In CT the noise is that of soft tissue, found by a mixture of
Gaussians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...errors import BadDataError
from ...space.arrays import Numbers, image_of
from .histogram import grey_level_step, sample_voxels, square_root_histogram
from .hounsfield import head_densities
from .rice_mixture import fit_rice_mixture
from .smooth_blocks import high_pass_noise

NoiseMethod = Literal["rice-mixture", "gaussian-mixture", "high-pass-mad"]

# Air noisier than smooth tissue by more than the first factor holds signal. Air quieter than the
# second factor times the floor is no measure of noise: anatomy raises the noise of smooth tissue,
# but not its floor.
_MOST_ABOVE_TISSUE = 1.1
_LEAST_OF_FLOOR = 0.85
# In a head with fewer voxels, even the smoothest tissue holds anatomy.
_COARSE_HEAD = 50_000
_LEAST_OF_COARSE_FLOOR = 0.5
# Means of blocks of soft tissue lie within so many standard deviations of its class.
_CLASS_REACH = 2.0
# Noise of CT is correlated between neighbours, by the reconstruction kernel, and soft tissue is
# nearly uniform: skipping more voxels removes correlation and adds little anatomy.
_CT_WHITENESS = 0.7


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise and contrast of a scan, in units of intensity.

    Parameters
    ----------
    noise_sd
        Standard deviation of the noise of voxels in tissue, above 0. Interpolating a scan by
        zero-filling its k-space does not change it.
    background_mean, foreground_mean
        Mean intensity of air and of the head.
    method
        ``"rice-mixture"`` (MR) or ``"gaussian-mixture"`` (CT), or ``"high-pass-mad"`` if smooth
        tissue contradicts the mixture.
    """

    noise_sd: float
    background_mean: float
    foreground_mean: float
    method: NoiseMethod

    @property
    def tau(self) -> float:
        """Noise precision, ``1 / noise_sd^2``."""
        return 1 / self.noise_sd**2

    @property
    def contrast(self) -> float:
        """Distance between mean foreground and mean background."""
        return abs(self.foreground_mean - self.background_mean)

    @property
    def halfway(self) -> float:
        """Intensity halfway between air and head, above which a voxel belongs to the head."""
        return (self.background_mean + self.foreground_mean) / 2


def estimate_noise(data: Numbers, modality: Modality = "MR") -> NoiseEstimate:
    """Noise level and contrast of a scan.

    Parameters
    ----------
    data
        Intensities ``(X, Y, Z)``. Values that are not finite are missing, and so are zeros in MR
        and constant regions in CT. Negative values in MR, which are due to interpolation, do not
        enter the mixture.
    modality
        ``"MR"`` for magnitude images, ``"CT"`` for Hounsfield units or a linear map
        of them.

    Returns
    -------
    NoiseEstimate
        Proportional to the intensities in MR.

    Raises
    ------
    BadDataError
        If the image is empty or constant, or if no neighbouring voxels hold signal.

    References
    ----------
    Ashburner and Ridgway, *Symmetric diffeomorphic modeling of longitudinal structural
    MRI*, 2013 (noise from a mixture of Rice distributions).
    """
    image = image_of(data, np.float32)
    return _estimate_ct(image) if modality == "CT" else _estimate_mr(image)


def _estimate_mr(data: NDArray[np.float32]) -> NoiseEstimate:
    values = sample_voxels(data)
    positive = values[values > 0]
    if positive.size == 0 or positive.min() == positive.max():
        raise _no_contrast()
    histogram = square_root_histogram(positive)
    # Air that was set to 0 does not enter the mixture, but is still the dark part of the image.
    whole = histogram.with_level(0.0, int(np.count_nonzero(values == 0)))
    threshold = whole.otsu_threshold
    tissue = high_pass_noise(data, threshold, math.inf, missing=(0.0,))
    mixture = fit_rice_mixture(histogram)
    limit = math.inf if tissue is None else _MOST_ABOVE_TISSUE * tissue.sd
    coarse = np.count_nonzero(data > threshold) < _COARSE_HEAD
    least = _LEAST_OF_COARSE_FLOOR if coarse else _LEAST_OF_FLOOR
    floor = 0.0 if tissue is None else least * tissue.floor
    # A dark class too bright to be noise is dark tissue. Any other dark class gives the contrast,
    # even if its spread is not the noise of tissue.
    found_air = mixture.has_air and mixture.background_sd <= limit
    background, foreground = mixture.mean.tolist() if found_air else whole.means_around(threshold)
    if found_air and mixture.background_sd >= floor and mixture.fits_air(histogram):
        return NoiseEstimate(mixture.background_sd, background, foreground, "rice-mixture")
    if tissue is None:
        raise BadDataError("image is too small or too sparse to estimate its noise")
    noise_sd = max(tissue.sd, _rounding_sd(positive))
    return NoiseEstimate(noise_sd, background, foreground, "high-pass-mad")


def _estimate_ct(data: NDArray[np.float32]) -> NoiseEstimate:
    values = sample_voxels(data)
    densities = head_densities(values) if values.size > 0 else None
    if densities is None:
        raise _no_contrast()
    reach = _CLASS_REACH * densities.tissue_sd
    mean = densities.tissue_mean
    tissue = high_pass_noise(data, mean - reach, mean + reach, densities.padding, _CT_WHITENESS)
    noise_sd = densities.tissue_sd
    method: NoiseMethod = "gaussian-mixture"
    # The spread of the class includes differences between tissues. It is the noise only if smooth
    # tissue has the same.
    if tissue is not None and not _agree(noise_sd, tissue.sd):
        noise_sd, method = tissue.sd, "high-pass-mad"
    noise_sd = max(noise_sd, _rounding_sd(values))
    return NoiseEstimate(noise_sd, densities.air_mean, densities.head_mean, method)


def _agree(first: float, second: float) -> bool:
    return max(first, second) <= _MOST_ABOVE_TISSUE * min(first, second)


def _no_contrast() -> BadDataError:
    return BadDataError(
        "no contrast between head and background: the image is empty, constant or two-valued"
    )


def _rounding_sd(values: NDArray[np.float32]) -> float:
    """Standard deviation of rounding to grey levels: the least noise of any scan."""
    return grey_level_step(values) / math.sqrt(12)
