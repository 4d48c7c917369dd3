"""Noise level and contrast of a scan, from its histogram.

Magnitude images are Rice distributed: air around the head shows the noise alone, tissue
shows a signal above it. Both are told apart by a mixture of two Rice distributions, and
where the scan has no air with noise in it (masked, defaced, stored in few grey levels)
the noise is read off the differences of neighbouring tissue voxels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import BadDataError

NoiseMethod = Literal["rice-mixture", "high-pass-mad"]

FINE_BINS = 65_536
COARSE_BINS = 1024
# A few bright voxels (vessels, spikes) must not decide the width of the bins.
KEPT_FRACTION = 0.999
MAX_EM_STEPS = 500
EM_TOLERANCE = 1e-8
# The mixture's noise may differ from that between neighbouring tissue voxels by these
# factors: parallel imaging and structure make tissue noisier than air; a "background"
# noisier than tissue is dark tissue.
LARGEST_RATIO = 2.0
SMALLEST_RATIO = 0.1
SMALLEST_CLASS = 0.01
HIGH_PASS_VOXELS = 1_000_000
MAD_TO_SD = 1.482602218505602


@dataclass(frozen=True)
class NoiseEstimate:
    """What a scan's histogram says about noise and contrast, in units of intensity.

    Parameters
    ----------
    noise_sd
        Standard deviation of the noise, above 0.
    background_mean, foreground_mean
        Mean intensity of air and of the head.
    method
        ``"rice-mixture"``, or ``"high-pass-mad"`` where the mixture was not believable.
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


@dataclass(frozen=True)
class RiceMixture:
    """Two Rice distributions, background (the smaller scale) first; tensors ``(2,)``."""

    location: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor

    @property
    def mean(self) -> torch.Tensor:
        """Mean of each distribution, ``(2,)``: ``scale sqrt(pi/2) L_{1/2}(-nu^2/2 scale^2)``."""
        half = (self.location / self.scale) ** 2 / 4
        laguerre = (1 + 2 * half) * torch.special.i0e(half) + 2 * half * torch.special.i1e(half)
        mean: torch.Tensor = self.scale * math.sqrt(math.pi / 2) * laguerre
        return mean

    @property
    def background_sd(self) -> float:
        """Noise in the background.

        A location below the scale hardly changes the distribution's form, so it is
        badly determined and the scale with it; their second moment is not. It then
        gives the scale of pure noise, a Rayleigh distribution.
        """
        location, scale = float(self.location[0]), float(self.scale[0])
        return scale if location > scale else math.sqrt(scale**2 + location**2 / 2)


def estimate_noise(data: NDArray[np.float32]) -> NoiseEstimate:
    """Noise level and contrast of a magnitude image.

    Parameters
    ----------
    data
        Intensities ``(X, Y, Z)``. Zeros and values that are not finite are missing;
        negative values, which interpolation leaves behind, are not used.

    Returns
    -------
    NoiseEstimate
        Multiplying the data by a factor multiplies it by the same factor.

    Raises
    ------
    BadDataError
        If the image is empty, constant, or too small to hold any neighbouring voxels
        with signal.

    References
    ----------
    Ashburner and Ridgway, *Symmetric diffeomorphic modeling of longitudinal structural
    MRI*, 2013 (noise from a mixture of Rice distributions).
    """
    values = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32)).ravel()
    values = torch.where(torch.isfinite(values), values, torch.nan)
    brightest, darkest = _range_of_positive(values)
    if brightest <= darkest:
        raise BadDataError(
            "no contrast between head and background: the image is empty, constant or two-valued"
        )
    centres, counts = _histogram(values, brightest)
    # Air that was set to zero is missing to the mixture, but still the dark part of the image.
    intensities = torch.cat([torch.zeros(1, dtype=torch.float64), centres])
    weights = torch.cat([(values == 0).sum().double().reshape(1), counts])
    threshold = _otsu_threshold(intensities, weights)
    tissue_sd = _high_pass_sd(np.asarray(data, dtype=np.float32), threshold)
    mixture = _fit_rice_mixture(centres, counts)
    if _is_plausible(mixture, tissue_sd):
        background, foreground = mixture.mean.tolist()
        return NoiseEstimate(mixture.background_sd, background, foreground, "rice-mixture")
    if math.isnan(tissue_sd):
        raise BadDataError("image is too small or too sparse to estimate its noise")
    background, foreground = _means_around(threshold, intensities, weights)
    # Rounding to grey levels is noise too, and all that is left where neighbours are equal.
    rounding_sd = _grey_level_step(values) / math.sqrt(12)
    return NoiseEstimate(max(tissue_sd, rounding_sd), background, foreground, "high-pass-mad")


def _range_of_positive(values: torch.Tensor) -> tuple[float, float]:
    """Largest and smallest positive value; ``(0, 0)`` without any."""
    positive = values > 0
    if not bool(positive.any()):
        return 0.0, 0.0
    return (
        float(torch.where(positive, values, 0).max()),
        float(torch.where(positive, values, torch.inf).min()),
    )


def _histogram(values: torch.Tensor, brightest: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres and counts of about a thousand bins over nearly all positive voxels."""
    smallest_positive = float(np.finfo(np.float32).tiny)
    limit = brightest
    while True:
        fine = torch.histc(values, FINE_BINS, smallest_positive, limit).double()
        share = fine.cumsum(0) / fine.sum()
        kept = int((share < KEPT_FRACTION).sum()) + 1
        if kept >= COARSE_BINS:
            break
        # So few bins are left only where outliers stretched the range: look closer.
        limit *= kept / FINE_BINS
    group = -(-kept // COARSE_BINS)
    used = min(COARSE_BINS, FINE_BINS // group)
    counts = fine[: used * group].reshape(used, group).sum(1)
    width = limit * group / FINE_BINS
    return (torch.arange(used, dtype=torch.float64) + 0.5) * width, counts


def _log_rice(centres: torch.Tensor, location: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Logarithm of the Rice density; the scaled Bessel function keeps it finite."""
    bessel = torch.special.i0e(centres * location / scale**2)
    spread = (centres - location) ** 2 / (2 * scale**2)
    return torch.log(centres / scale**2) - spread + torch.log(bessel)


def _fit_rice_mixture(centres: torch.Tensor, counts: torch.Tensor) -> RiceMixture:
    """Expectation-maximisation on a histogram, from one dark and one bright class."""
    total = counts.sum()
    mean = (centres * counts).sum() / total
    floor = centres[0] * 1e-3
    location = mean * torch.tensor([[0.1], [1.5]], dtype=torch.float64)
    scale = mean * torch.tensor([[0.3], [0.6]], dtype=torch.float64)
    weight = torch.full((2, 1), 0.5, dtype=torch.float64)
    likelihood = -math.inf
    for _ in range(MAX_EM_STEPS):
        joint = _log_rice(centres, location, scale) + torch.log(weight)
        evidence = torch.logsumexp(joint, dim=0)
        previous, likelihood = likelihood, float((evidence * counts).sum() / total)
        if likelihood - previous < EM_TOLERANCE:
            break
        share = torch.exp(joint - evidence) * counts
        members = share.sum(1, keepdim=True).clamp_min(1e-12 * float(total))
        argument = centres * location / scale**2
        aligned = centres * torch.special.i1e(argument) / torch.special.i0e(argument)
        location = (share * aligned).sum(1, keepdim=True) / members
        residual = centres**2 - 2 * location * aligned + location**2
        variance = (share * residual).sum(1, keepdim=True) / (2 * members)
        scale = variance.clamp_min(float(floor) ** 2).sqrt()
        weight = members / total
    order = torch.argsort(scale.ravel())
    return RiceMixture(
        location=location.ravel()[order], scale=scale.ravel()[order], weight=weight.ravel()[order]
    )


def _is_plausible(mixture: RiceMixture, tissue_sd: float) -> bool:
    """Whether the darker class is air and its scale could be the noise of the scan."""
    background, foreground = mixture.mean.tolist()
    sd = mixture.background_sd
    separate = background + sd < foreground and float(mixture.weight.min()) > SMALLEST_CLASS
    if not (math.isfinite(sd) and separate):
        return False
    # In air there is no signal beyond what several coils add up to.
    signal_free = float(mixture.location[0]) < 3 * sd
    comparable = math.isnan(tissue_sd) or (
        SMALLEST_RATIO * tissue_sd <= sd <= LARGEST_RATIO * tissue_sd
    )
    return signal_free and comparable


def _otsu_threshold(intensities: torch.Tensor, weights: torch.Tensor) -> float:
    """Intensity that best splits a histogram in two (Otsu 1979)."""
    below = weights.cumsum(0)
    above = below[-1] - below
    moment = (weights * intensities).cumsum(0)
    gap = moment[-1] * below / below[-1] - moment
    between = gap**2 / (below * above).clamp_min(1e-12)
    return float(intensities[int(between[:-1].argmax())])


def _high_pass_sd(data: NDArray[np.float32], threshold: float) -> float:
    """Noise between neighbouring tissue voxels, median over the axes; NaN without any.

    Second differences remove what is linear. Where the first difference is small too
    (it is uncorrelated with the second one in white noise, so this selects nothing by
    its noise), what is left is noise. The median drops an axis with thick slices, where
    anatomy is left too, and one that was interpolated, where noise is gone.
    """
    stride = max(1, math.isqrt(data.size // HIGH_PASS_VOXELS))
    estimates = [
        _second_difference_sd(np.moveaxis(data, axis, 0)[:, ::stride, ::stride], threshold)
        for axis in range(3)
    ]
    known = [estimate for estimate in estimates if not math.isnan(estimate)]
    return float(np.median(known)) if known else math.nan


def _second_difference_sd(data: NDArray[np.float32], threshold: float) -> float:
    before, here, after = data[:-2], data[1:-1], data[2:]
    tissue = (before > threshold) & (here > threshold) & (after > threshold)
    tissue &= np.isfinite(before) & np.isfinite(here) & np.isfinite(after)
    before, here, after = before[tissue], here[tissue], after[tissue]
    if here.size < 30:
        return math.nan
    slope = np.abs(after - before)
    smooth = slope <= np.quantile(slope, 0.3)
    curvature = (before - 2 * here + after)[smooth]
    return MAD_TO_SD * float(np.median(np.abs(curvature))) / math.sqrt(6)


def _means_around(
    threshold: float, intensities: torch.Tensor, weights: torch.Tensor
) -> tuple[float, float]:
    """Mean intensity of a histogram up to a threshold, and above it."""
    bright = intensities > threshold
    means = [
        float((weights * intensities)[chosen].sum() / weights[chosen].sum().clamp_min(1))
        for chosen in (~bright, bright)
    ]
    return means[0], means[1]


def _grey_level_step(values: torch.Tensor) -> float:
    """Smallest distance between two values that occur, among a sample of the voxels."""
    sample = values[:: max(1, values.numel() // 100_000)]
    levels = torch.unique(sample[sample > 0])
    if levels.numel() < 2:
        levels = torch.unique(values[values > 0])
    return float(torch.diff(levels).min())
