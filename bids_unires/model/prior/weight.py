"""How strong the prior is: its weight for each contrast, from settings, contrast and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...config import Modality, ModelSettings
from ..intensity.noise import NoiseEstimate

# The contrast between air and head spans far more in CT than that between soft tissues.
_CT_CONTRAST_SHARE = 0.25
# Where strengths are chosen from the scans, that of CT, which is not.
_STRENGTH = 4.0
# Strength (as of `ModelSettings.reg_scale`) at a noise as large as the contrast of the head, and
# the power of their ratio by which it grows for less: a line through the best strengths of
# simulated heads, scans of one or several stacks and contrasts, and noise of 1 to 5 %.
_STRENGTH_IN_NOISE = 0.046
_POWER = -1.4


def prior_weight(
    noise: Sequence[NoiseEstimate], settings: ModelSettings, modality: Modality, together: int
) -> float:
    """Weight of the prior for one contrast, lambda, in mm / intensity.

    ``reg_scale * sqrt(G) / mean_n(mu_n)``: dividing by the contrast between head and
    background makes edges of all contrasts comparable (Brudfors et al. 2018, section
    2.3). Super-resolving CT takes a quarter of that contrast.

    G contrasts are solved for together. The squares of their differences add up below one
    root, those of noise included: where the head is flat the root is ``sqrt(G)`` times as
    large as for one contrast, and smooths each of them so much less. The article's
    ``sqrt(1 / G)`` in place of ``sqrt(G)`` leaves every contrast noisier than a fit alone.

    Where the weight is to be found from the scans, `weight_by_noise` takes the place of
    ``reg_scale / mean_n(mu_n)`` as a beginning.

    Parameters
    ----------
    noise
        Noise and contrast of every scan of the contrast.
    settings
        Of which ``reg_scale`` and ``method`` count here.
    modality
        MR or CT.
    together
        G, how many contrasts are solved for together; see `tiers`.

    Examples
    --------
    >>> estimate = NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture")
    >>> prior_weight([estimate], ModelSettings(reg_scale=4.0), "MR", 1)
    0.04
    """
    gain = math.sqrt(together)
    if is_searched(settings, modality):
        return gain * weight_by_noise(noise)
    mean = sum(scan.contrast for scan in noise) / len(noise)
    if modality == "CT" and settings.method == "super-resolution":
        mean *= _CT_CONTRAST_SHARE
    scale = _STRENGTH if settings.reg_scale == "auto" else settings.reg_scale
    return gain * (scale / mean)


def is_searched(settings: ModelSettings, modality: Modality) -> bool:
    """Whether the weight is to be found; noise of CT is too coloured for that."""
    return settings.reg_scale == "auto" and modality == "MR"


def weight_by_noise(noise: Sequence[NoiseEstimate]) -> float:
    """Weight of the prior for one contrast in mm / intensity, from the noise of its scans.

    Denoising at a noise sd of s thresholds at a multiple of s; measured against a data term
    of precision 1 / s^2 that is a weight in inverse proportion to s. The best weights fall
    somewhat faster.
    """
    noise_sd = float(np.sqrt(np.mean([scan.noise_sd**2 for scan in noise])))
    contrast = float(np.mean([scan.contrast for scan in noise]))
    return float(_STRENGTH_IN_NOISE * (noise_sd / contrast) ** _POWER / contrast)
