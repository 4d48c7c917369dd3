"""Mixture of two Rice distributions: air and tissue of magnitude images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .histogram import Histogram

_MOST_STEPS = 300
_TOLERANCE = 1e-7
_SMALLEST_CLASS = 0.01
# Largest distance between the distribution functions of air and of the mixture. Air of one noise
# level stays below; ghosts, signed values and normalised receive fields exceed it.
_LARGEST_MISFIT = 0.11


@dataclass(frozen=True, eq=False)
class RiceMixture:
    """Two Rice distributions, background (the smaller scale) first; tensors ``(2,)``."""

    location: Tensor
    scale: Tensor
    weight: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean of each distribution, ``(2,)``: ``scale sqrt(pi/2) L_{1/2}(-nu^2/2 scale^2)``."""
        half = (self.location / self.scale) ** 2 / 4
        laguerre = (1 + 2 * half) * torch.special.i0e(half) + 2 * half * torch.special.i1e(half)
        mean: Tensor = self.scale * math.sqrt(math.pi / 2) * laguerre
        return mean

    @property
    def background_sd(self) -> float:
        """Standard deviation of the noise in the background.

        A location below the scale hardly changes the form of the distribution. Both are poorly
        determined then, but their second moment is not, and it gives the scale of a Rayleigh
        distribution, that of noise alone.
        """
        location, scale = float(self.location[0]), float(self.scale[0])
        return scale if location > scale else math.sqrt(scale**2 + location**2 / 2)

    @property
    def has_air(self) -> bool:
        """Whether the darker class may be air rather than dark tissue."""
        background, foreground = self.mean.tolist()
        sd = self.background_sd
        if not math.isfinite(sd) or background + sd >= foreground:
            return False
        # Noise of several coils adds up to a small location. A larger one is signal.
        return float(self.location[0]) < 3 * sd and float(self.weight.min()) > _SMALLEST_CLASS

    def fits_air(self, histogram: Histogram) -> bool:
        """Whether all of the air has the distribution of the darker class.

        The largest distance between the two distribution functions decides
        (Kolmogorov and Smirnov), as a share of the air.

        Parameters
        ----------
        histogram
            The histogram that the mixture was fitted to.
        """
        limit = float(self.mean[0]) + self.background_sd
        edges = torch.linspace(0, limit, 257, dtype=torch.float64)
        middles = (edges[1:] + edges[:-1]) / 2
        density = torch.exp(_log_rice(middles, self.location[:, None], self.scale[:, None]))
        steps = (density * self.weight[:, None]).sum(0) * (edges[1] - edges[0])
        expected = np.r_[0.0, steps.cumsum(0).numpy()]
        # Half of the voxels of a grey level count as below it.
        observed = (histogram.counts.cumsum() - histogram.counts / 2) / histogram.counts.sum()
        dark = histogram.centres < limit
        if not dark.any():
            return False
        fitted = np.interp(histogram.centres[dark], edges.numpy(), expected)
        misfit = float(np.abs(fitted - observed[dark]).max() / float(self.weight[0]))
        return misfit < _LARGEST_MISFIT


def fit_rice_mixture(histogram: Histogram) -> RiceMixture:
    """Fit a mixture to a histogram by expectation-maximisation, from a dark and a bright class."""
    centres, counts = torch.from_numpy(histogram.centres), torch.from_numpy(histogram.counts)
    total = counts.sum()
    mean = (centres * counts).sum() / total
    location = mean * torch.tensor([[0.1], [1.5]], dtype=torch.float64)
    scale = mean * torch.tensor([[0.3], [0.6]], dtype=torch.float64)
    weight = torch.full((2, 1), 0.5, dtype=torch.float64)
    likelihood = -math.inf
    for _ in range(_MOST_STEPS):
        joint = _log_rice(centres, location, scale) + torch.log(weight)
        evidence = torch.logsumexp(joint, dim=0)
        previous, likelihood = likelihood, float((evidence * counts).sum() / total)
        if likelihood - previous < _TOLERANCE:
            break
        share = torch.exp(joint - evidence) * counts
        members = share.sum(1, keepdim=True).clamp_min(1e-12 * float(total))
        argument = centres * location / scale**2
        aligned = centres * torch.special.i1e(argument) / torch.special.i0e(argument)
        location = (share * aligned).sum(1, keepdim=True) / members
        residual = centres**2 - 2 * location * aligned + location**2
        variance = (share * residual).sum(1, keepdim=True) / (2 * members)
        scale = variance.clamp_min((1e-5 * float(mean)) ** 2).sqrt()
        weight = members / total
    order = torch.argsort(scale.ravel())
    return RiceMixture(location.ravel()[order], scale.ravel()[order], weight.ravel()[order])


def _log_rice(values: Tensor, location: Tensor, scale: Tensor) -> Tensor:
    """Logarithm of the Rice density, finite by use of the scaled Bessel function."""
    bessel = torch.special.i0e(values * location / scale**2)
    spread = (values - location) ** 2 / (2 * scale**2)
    return torch.log(values / scale**2) - spread + torch.log(bessel)
