"""The weight of the prior (lambda) of a contrast, from settings, contrast and noise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...config import Modality, ModelSettings
from ..intensity.noise import NoiseEstimate

# In CT, the contrast between air and head is far larger than that between soft tissues.
_CT_CONTRAST_SHARE = 0.25
# Strength = factor * (noise / contrast)^power: a line, in logarithms, through the best strengths of
# simulated heads with one or several stacks and contrasts and noise of 1 to 5 %.
_STRENGTH_IN_NOISE = 0.046
_POWER = -1.4


def prior_weight(
    noise: Sequence[NoiseEstimate], settings: ModelSettings, modality: Modality, together: int
) -> float:
    """Weight of the prior for one contrast, lambda, in mm / intensity.

    It is ``reg_scale * sqrt(G) / mean_n(mu_n)``, with mu_n the contrast between head and
    background of scan n. Dividing by it makes the edges of all contrasts comparable (Brudfors et
    al. 2018, section 2.3). Super-resolution of CT uses a quarter of mu_n.

    G contrasts are solved for together. The squares of their differences are added below one
    root, including those due to noise. Where the head is flat, the root is ``sqrt(G)`` times as
    large as with one contrast, and each contrast is smoothed less by this factor; the weight makes
    up for it. With ``sqrt(1 / G)``, as in the article, every contrast is noisier than if it were
    fitted alone.

    Where the weight is searched, the search starts from `weight_by_noise` in place of
    ``reg_scale / mean_n(mu_n)``.

    Parameters
    ----------
    noise
        Noise and contrast of every scan of the contrast.
    settings
        Settings of the model; ``reg_scale`` and ``method`` are used.
    modality
        MR or CT.
    together
        G, the number of contrasts that are solved for together; see `group_by_sharpness`.

    Examples
    --------
    >>> estimate = NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture")
    >>> prior_weight([estimate], ModelSettings(reg_scale=4.0), "MR", 1)
    0.04
    """
    gain = math.sqrt(together)
    if settings.reg_scale == "auto":
        return gain * weight_by_noise(noise)
    mean = sum(scan.contrast for scan in noise) / len(noise)
    if modality == "CT" and settings.method == "super-resolution":
        mean *= _CT_CONTRAST_SHARE
    return gain * (settings.reg_scale / mean)


def is_searched(settings: ModelSettings) -> bool:
    """Whether the weight is searched."""
    return settings.reg_scale == "auto"


def weight_by_noise(noise: Sequence[NoiseEstimate]) -> float:
    """Weight of the prior for one contrast in mm / intensity, from the noise of its scans.

    Denoising with a noise sd of s thresholds at a multiple of s. With a data term of precision
    1 / s^2, this corresponds to a weight proportional to 1 / s. The best weights decrease somewhat
    faster with s.
    """
    noise_sd = float(np.sqrt(np.mean([scan.noise_sd**2 for scan in noise])))
    contrast = float(np.mean([scan.contrast for scan in noise]))
    return float(_STRENGTH_IN_NOISE * (noise_sd / contrast) ** _POWER / contrast)
