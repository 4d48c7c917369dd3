"""The weight of the prior: what it is in proportion to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.model.intensity.noise import NoiseEstimate
from bids_unires.model.prior.weight import is_searched, prior_weight, weight_by_noise

FAINT = [NoiseEstimate(1.0, 0.0, mean, "rice-mixture") for mean in (100.0, 300.0)]
DARK = [NoiseEstimate(1.0, 0.0, 50.0, "rice-mixture")]
FIXED = ModelSettings(reg_scale=4.0)
AUTO = ModelSettings(reg_scale="auto")


def test_the_weight_is_in_proportion_to_the_contrast_of_the_head() -> None:
    assert prior_weight(FAINT, FIXED, "MR", 1) == pytest.approx(4 / 200)
    assert prior_weight(DARK, FIXED, "MR", 1) == pytest.approx(4 / 50)


def test_contrasts_that_are_solved_for_together_share_a_root() -> None:
    alone, together = (prior_weight(DARK, FIXED, "MR", count) for count in (1, 3))
    assert together == pytest.approx(np.sqrt(3) * alone)


def test_soft_tissue_counts_in_ct_and_not_bone() -> None:
    mr = prior_weight(DARK, FIXED, "MR", 1)
    assert prior_weight(DARK, FIXED, "CT", 1) == pytest.approx(4 * mr)
    assert prior_weight(DARK, replace(FIXED, method="denoise"), "CT", 1) == pytest.approx(mr)


def test_the_search_begins_at_the_weight_by_noise_and_leaves_ct_alone() -> None:
    assert prior_weight(DARK, AUTO, "MR", 1) == weight_by_noise(DARK)
    assert prior_weight(DARK, AUTO, "CT", 1) == prior_weight(DARK, FIXED, "CT", 1)
    assert is_searched(AUTO, "MR")
    assert not is_searched(AUTO, "CT")
    assert not is_searched(FIXED, "MR")
