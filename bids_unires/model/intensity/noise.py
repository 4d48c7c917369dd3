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
from scipy import fft

from ...config import Modality
from ...errors import BadDataError
from ...space.arrays import Numbers, image_of
from .histogram import grey_level_step, sample_voxels, square_root_histogram
from .hounsfield import head_densities
from .rice_mixture import fit_rice_mixture
from .smooth_blocks import coloured_noise, high_pass_noise

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
# Values that are no Hounsfield units: noise of what is smoothest, over that of tissue, below which
# tissue has no smooth parts.
_LEAST_OF_TISSUE = 0.5
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
    kernel
        Standard deviation in voxels along each axis of the Gaussian kernel that colours the noise;
        0 where noise is white. In CT, the reconstruction kernel colours noise within slices.
    """

    noise_sd: float
    background_mean: float
    foreground_mean: float
    method: NoiseMethod
    kernel: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def tau(self) -> float:
        """Noise precision, ``1 / noise_sd^2``, shared by the voxels that show the same noise."""
        return 1 / (self.noise_sd**2 * self.voxels_alike)

    @property
    def voxels_alike(self) -> float:
        """Number of voxels that show the same noise: its power at low frequencies over the mean."""
        return math.prod(max(1.0, math.sqrt(4 * math.pi) * width) for width in self.kernel)

    @property
    def autocorrelation(self) -> tuple[float, float, float]:
        """Correlation of the noise of neighbours along each axis; 0 where it is white."""
        x, y, z = (math.exp(-1 / (4 * width**2)) if width else 0.0 for width in self.kernel)
        return x, y, z

    @property
    def contrast(self) -> float:
        """Distance between mean foreground and mean background."""
        return abs(self.foreground_mean - self.background_mean)

    @property
    def halfway(self) -> float:
        """Intensity halfway between air and head, above which a voxel belongs to the head."""
        return (self.background_mean + self.foreground_mean) / 2


def estimate_noise(
    data: Numbers, modality: Modality = "MR", slice_axis: int | None = None
) -> NoiseEstimate:
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
    slice_axis
        Axis across the slices; None if it is not known. In CT the noise of slices is independent.
        Within them it is coloured, which is found out only if this axis is known.

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
    return _estimate_ct(image, slice_axis) if modality == "CT" else _estimate_mr(image)


def coloured(white: NDArray[np.float32], kernel: tuple[float, float, float]) -> NDArray[np.float32]:
    """White noise ``(X, Y, Z)`` filtered so that it has the correlations of a Gaussian kernel.

    Parameters
    ----------
    white
        Independent values; returned as they are if the kernel has no width.
    kernel
        Its standard deviation in voxels along each axis.

    Returns
    -------
    ndarray
        Float32 with the same variance. Voxels at a distance d have the correlation
        ``exp(-d^2 / (4 s^2))``, also where a sampled kernel would not give that.
    """
    if not any(kernel):
        return white
    noise = white.astype(np.float32)
    for axis, width in enumerate(kernel):
        if width:
            side = noise.shape[axis]
            distance = np.minimum(np.arange(side), side - np.arange(side))
            power = fft.rfft(np.exp(-(distance**2) / (4 * width**2))).real
            sides = [1, 1, 1]
            sides[axis] = -1
            gain = np.sqrt(np.maximum(power, 0)).astype(np.float32).reshape(sides)
            noise = fft.irfft(gain * fft.rfft(noise, axis=axis), side, axis=axis)
    return np.asarray(noise, dtype=np.float32)


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


def _estimate_ct(data: NDArray[np.float32], slice_axis: int | None) -> NoiseEstimate:
    values = sample_voxels(data)
    densities = head_densities(values) if values.size > 0 else None
    if densities is None:
        raise _no_contrast()
    reach = _CLASS_REACH * densities.tissue_sd
    mean = densities.tissue_mean
    bounds = (mean - reach, mean + reach)
    tissue = high_pass_noise(data, *bounds, densities.padding, _CT_WHITENESS)
    noise_sd = densities.tissue_sd
    method: NoiseMethod = "gaussian-mixture"
    # The spread of the class includes differences between tissues. It is the noise only if smooth
    # tissue has the same.
    if tissue is not None and not _agree(noise_sd, tissue.sd):
        noise_sd, method = tissue.sd, "high-pass-mad"
    if not densities.is_hounsfield:
        # Where a window has clipped air, or vessels alone are left, "tissue" may lack smooth parts.
        anywhere = high_pass_noise(data, -math.inf, math.inf, densities.padding, _CT_WHITENESS)
        if anywhere is not None and anywhere.sd < _LEAST_OF_TISSUE * noise_sd:
            noise_sd, method, bounds = anywhere.sd, "high-pass-mad", (-math.inf, math.inf)
    kernel = (0.0, 0.0, 0.0)
    if slice_axis is not None:
        coloured = coloured_noise(data, slice_axis, bounds, densities.padding)
        if coloured is not None and any(coloured.kernel):
            kernel = coloured.kernel
            # High frequencies, in which noise is measured elsewhere, lack most of coloured noise.
            noise_sd, method = coloured.sd, "high-pass-mad"
    noise_sd = max(noise_sd, _rounding_sd(values))
    return NoiseEstimate(noise_sd, densities.air_mean, densities.head_mean, method, kernel)


def _agree(first: float, second: float) -> bool:
    return max(first, second) <= _MOST_ABOVE_TISSUE * min(first, second)


def _no_contrast() -> BadDataError:
    return BadDataError(
        "no contrast between head and background: the image is empty, constant or two-valued"
    )


def _rounding_sd(values: NDArray[np.float32]) -> float:
    """Standard deviation of rounding to grey levels: the least noise of any scan."""
    return grey_level_step(values) / math.sqrt(12)
