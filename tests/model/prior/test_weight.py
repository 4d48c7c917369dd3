"""How much images are smoothed: alike in every unit, in every group, and in CT as in MR."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_unires.config import Modality, ModelSettings
from bids_unires.model.intensity.noise import NoiseEstimate
from bids_unires.model.prior.total_variation import JointTotalVariation
from bids_unires.model.prior.weight import is_searched, prior_weight, weight_by_noise
from bids_unires.space.grid import Grid

SCANS = [NoiseEstimate(sd, 0.0, mean, "rice-mixture") for sd, mean in ((1.0, 100.0), (3.0, 300.0))]
FIXED = ModelSettings(reg_scale=4.0)
AUTO = ModelSettings(reg_scale="auto")


def in_other_units(factor: float) -> list[NoiseEstimate]:
    return [
        replace(
            scan,
            noise_sd=factor * scan.noise_sd,
            foreground_mean=factor * scan.foreground_mean,
        )
        for scan in SCANS
    ]


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("settings", [FIXED, AUTO], ids=["fixed", "auto"])
@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_a_scan_in_other_units_is_smoothed_as_much(
    settings: ModelSettings, modality: Modality, factor: float
) -> None:
    here = prior_weight(SCANS, settings, modality, 1)
    # The prior is of the weight times the images.
    there = prior_weight(in_other_units(factor), settings, modality, 1)
    assert there == pytest.approx(here / factor)


@pytest.mark.parametrize("settings", [FIXED, AUTO], ids=["fixed", "auto"])
def test_contrasts_that_are_solved_for_together_are_smoothed_as_when_alone(
    settings: ModelSettings,
) -> None:
    image = torch.randn(1, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    grid, curvatures = Grid((6, 7, 8), np.eye(4)), []
    for together in (1, 3):
        lam = prior_weight(SCANS, settings, "MR", together)
        prior = JointTotalVariation(grid, [lam] * together, torch.device("cpu"))
        weights = torch.empty(grid.shape)
        prior.majorise(image.expand(together, -1, -1, -1).contiguous(), 1e-6, weights)
        # The last voxel has no edge, and its weight is that of the smoothing.
        curvatures.append(lam**2 * weights.flatten()[:-1])
    torch.testing.assert_close(*curvatures)


def test_twice_the_strength_is_twice_the_weight() -> None:
    twice = replace(FIXED, reg_scale=8.0)
    assert prior_weight(SCANS, twice, "MR", 1) == 2 * prior_weight(SCANS, FIXED, "MR", 1)


def test_noise_that_bone_and_air_dwarf_is_smoothed_in_ct() -> None:
    mr = prior_weight(SCANS, FIXED, "MR", 1)
    assert prior_weight(SCANS, FIXED, "CT", 1) > 2 * mr
    assert prior_weight(SCANS, replace(FIXED, method="denoise"), "CT", 1) == mr


def test_the_noisier_the_scans_the_smoother_the_images() -> None:
    noisy = [replace(scan, noise_sd=2 * scan.noise_sd) for scan in SCANS]
    # The precision of the scans falls to a quarter, the weight of the prior by less.
    assert weight_by_noise(noisy) > weight_by_noise(SCANS) / 4


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_only_without_a_stated_strength_is_one_searched(modality: Modality) -> None:
    assert is_searched(AUTO)
    assert prior_weight(SCANS, AUTO, modality, 1) == weight_by_noise(SCANS)
    assert not is_searched(FIXED)
