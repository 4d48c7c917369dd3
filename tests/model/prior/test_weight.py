"""The weight of the prior: what it is in proportion to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.model.intensity.noise import NoiseEstimate
from bids_unires.model.prior.weight import is_searched, regularisation, weight_by_noise


def test_regularisation_is_shared_between_contrasts() -> None:
    estimates = [NoiseEstimate(1.0, 0.0, mean, "rice-mixture") for mean in (100.0, 300.0, 50.0)]
    contrasts = [estimates[:2], estimates[2:]]
    settings = ModelSettings(reg_scale=4.0)
    first, second = regularisation(contrasts, settings, ["MR", "MR"], [[1], [0]])
    assert first == pytest.approx(4 / 200)
    assert second == pytest.approx(4 / 50)
    shared = regularisation(contrasts, settings, ["MR", "MR"], [[0, 1]])
    assert shared == pytest.approx([np.sqrt(2) * first, np.sqrt(2) * second])
    # Between air and bone lies far more than between soft tissues, which matter in CT.
    assert regularisation(contrasts, settings, ["MR", "CT"], [[0], [1]])[1] == pytest.approx(
        4 * second
    )
    denoising = replace(settings, method="denoise")
    assert regularisation(contrasts, denoising, ["MR", "CT"], [[0], [1]])[1] == pytest.approx(
        second
    )


def test_the_search_begins_at_the_weight_by_noise_and_leaves_ct_alone() -> None:
    contrasts = [[NoiseEstimate(2.0, 0.0, 100.0, "rice-mixture")] for _ in range(2)]
    auto = ModelSettings(reg_scale="auto")
    fixed = replace(auto, reg_scale=4.0)
    mr, ct = regularisation(contrasts, auto, ["MR", "CT"], [[0], [1]])
    assert mr == weight_by_noise(contrasts[0])
    assert ct == regularisation(contrasts, fixed, ["MR", "CT"], [[0], [1]])[1]
    assert is_searched(auto, "MR")
    assert not is_searched(auto, "CT")
    assert not is_searched(fixed, "MR")
