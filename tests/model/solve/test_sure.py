"""The strength of the prior is chosen from the scans, and close to the best there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bids_unires.model import ForwardOperator, ModelSettings, Observation, super_resolve
from bids_unires.model.detail.term import LearnedDetail
from bids_unires.model.intensity.noise import NoiseEstimate
from bids_unires.model.prior.weight import weight_by_noise
from bids_unires.model.scanner.profile import profile_for_voxels
from bids_unires.model.solve.solver import solve
from bids_unires.model.solve.sure import (
    FitPair,
    estimate_risks,
    fitted_pair,
    middle_block,
    minimise_risk,
)
from bids_unires.model.state import ContrastState
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid, padded
from bids_unires.space.volume import Volume
from tests.model.states import contrast_of, problem_of

SIDE = 48
GRID = Grid((SIDE, SIDE, SIDE), translation([-(SIDE - 1) / 2] * 3))
THICK = Grid((SIDE, SIDE, SIDE // 4), translation([0, 0, 1.5]) @ GRID.affine @ scaling([1, 1, 4]))
STRENGTHS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


def head(seed: int = 1) -> torch.Tensor:
    """A ball of soft tissue with sharp blobs and some texture in it, in air."""
    rng = np.random.default_rng(seed)
    at = np.moveaxis(np.indices(GRID.shape), 0, -1) - (SIDE - 1) / 2
    image = np.where(np.linalg.norm(at, axis=-1) < 0.45 * SIDE, 100.0, 0.0)
    for _ in range(25):
        centre, radii = rng.uniform(-13, 13, 3), rng.uniform(2, 7, 3)
        inside = np.linalg.norm((at - centre) / radii, axis=-1) < 1
        image[inside & (image > 0)] = rng.uniform(60, 160)
    texture = 4 * np.sin(at[..., 0]) * np.cos(0.8 * at[..., 1]) * np.sin(0.5 * at[..., 2])
    return torch.as_tensor(image + np.where(image > 0, texture, 0), dtype=torch.float32)


def measured(
    truth: torch.Tensor, noise_sd: float, grid: Grid = THICK, seed: int = 0
) -> Observation:
    profile = profile_for_voxels(grid, 1.0)
    clean = ForwardOperator(GRID, grid, profile=profile).forward(truth).numpy()
    noisy = clean + np.random.default_rng(seed).normal(scale=noise_sd, size=clean.shape)
    return Observation(noisy.astype(np.float32), grid.affine, 1 / noise_sd**2, profile)


def known(noise_sd: float) -> NoiseEstimate:
    return NoiseEstimate(noise_sd, 0.0, 100.0, "rice-mixture")


def searched(scan: Observation, noise: NoiseEstimate, **known: Any) -> ContrastState:
    """A contrast whose weight is to be found."""
    return contrast_of([scan], weight_by_noise([noise]), noise, is_searched=True, **known)


def found_weight(contrast: ContrastState) -> float:
    return minimise_risk(problem_of(contrast, grid=GRID)).weights[0]


def chosen(scan: Observation, noise_sd: float) -> float:
    return found_weight(searched(scan, known(noise_sd)))


def test_a_disturbance_has_the_colour_of_the_noise() -> None:
    scan = measured(head(), 2.0)
    noise = NoiseEstimate(2.0, 0.0, 100.0, "high-pass-mad", (0.8, 0.6, 0.0))
    (contrast,) = middle_block(problem_of(searched(scan, noise), grid=GRID)).contrasts
    (pair,) = contrast.scans
    change = (pair.disturbed.data - pair.state.observation.data) / np.float32(2)
    inside = change[np.isfinite(change).any(axis=(1, 2))][..., 2:-2]
    assert np.nanstd(inside) == pytest.approx(1, abs=0.1)
    for axis, known_of_axis in enumerate(noise.autocorrelation):
        near, far = (np.moveaxis(inside, axis, 0)[part] for part in (slice(1, None), slice(-1)))
        assert np.nanmean(near * far) == pytest.approx(known_of_axis, abs=0.1)


def error(truth: torch.Tensor, scan: Observation, lam: float) -> float:
    """Root mean square over the head of what the fit gets wrong."""
    image = solve([[scan]], GRID, [lam], tolerance=1e-4, device="cpu").images[0]
    return float((image - truth)[truth > 0].square().mean().sqrt())


@pytest.mark.parametrize("noise_sd", [2.0, 12.0])
def test_the_chosen_strength_is_close_to_the_best(noise_sd: float) -> None:
    truth = head()
    scan = measured(truth, noise_sd)
    errors = [error(truth, scan, strength * 4 / 100) for strength in STRENGTHS]
    found = error(truth, scan, chosen(scan, noise_sd))
    assert 20 * np.log10(found / min(errors)) < 0.3
    assert 20 * np.log10(max(errors) / found) > 0.3


def test_the_more_noise_the_less_weight() -> None:
    truth = head()
    assert chosen(measured(truth, 2.0), 2.0) > 3 * chosen(measured(truth, 12.0), 12.0)


def test_a_fit_that_goes_on_from_half_the_weight_is_as_near_to_its_end() -> None:
    block = middle_block(problem_of(searched(measured(head(), 6.0), known(6.0)), grid=GRID))
    near = fitted_pair(block, (0.02,))
    end = fitted_pair(block, (0.04,))
    for _ in range(4):
        end = fitted_pair(block, (0.04,), end)

    def off(fits: FitPair) -> float:
        return abs(float(estimate_risks(block, fits)[0] - estimate_risks(block, end)[0]))

    assert off(fitted_pair(block, (0.04,), near)) < off(fitted_pair(block, (0.04,))) + 0.01
    assert off(near) > 0.05


def test_the_risk_is_what_the_truth_tells() -> None:
    truth, noise_sd = head(), 6.0
    scan = measured(truth, noise_sd)
    block = middle_block(problem_of(searched(scan, known(noise_sd)), grid=GRID))
    (pair,), grid = block.contrasts[0].scans, block.problem.grid
    part = pair.state.observation
    operator = ForwardOperator(grid, part.grid, profile=scan.profile)
    whole = ForwardOperator(GRID, part.grid, profile=scan.profile).forward(truth)
    risks, truths = [], []
    for strength in (0.01, 0.04, 0.16):
        (risk,) = estimate_risks(block, fitted_pair(block, (strength,)))
        image = solve(
            [[part]], grid, [strength], tolerance=1e-12, max_iter=25, device="cpu"
        ).images[0]
        wrong = (operator.forward(image) - whole)[torch.as_tensor(pair.tissue)] / noise_sd
        risks.append(float(risk))
        truths.append(float(wrong.square().mean()))
    # The response is taken over a finite disturbance, which counts a little too much.
    np.testing.assert_allclose(risks, truths, atol=0.15)
    assert np.argsort(risks).tolist() == np.argsort(truths).tolist()


def test_units_and_order_of_voxels_do_not_count() -> None:
    truth, noise_sd = head(), 6.0
    scan = measured(truth, noise_sd)
    lam = chosen(scan, noise_sd)
    scaled = replace(scan, data=scan.data * 50, tau=scan.tau / 2500)
    noise = NoiseEstimate(50 * noise_sd, 0.0, 5000.0, "rice-mixture")
    other = found_weight(searched(scaled, noise))
    assert 50 * other == pytest.approx(lam, rel=1e-2)
    flip = translation([0, 0, THICK.shape[2] - 1]) @ np.diag([1.0, 1, -1, 1])
    flipped = replace(
        scan, data=np.ascontiguousarray(scan.data[:, :, ::-1]), affine=scan.affine @ flip
    )
    # The disturbance falls on other voxels.
    assert chosen(flipped, noise_sd) == pytest.approx(lam, rel=0.1)


def test_only_what_is_searched_changes_and_always_in_the_same_way() -> None:
    truth = head()
    across = Grid(
        (SIDE // 4, SIDE, SIDE), translation([1.5, 0, 0]) @ GRID.affine @ scaling([4, 1, 1])
    )
    contrasts = [
        searched(measured(truth, 6.0), known(6.0)),
        searched(measured(truth, 3.0, across, seed=1), known(3.0)),
    ]
    lam = [contrast.weight for contrast in contrasts]

    def found(free: Sequence[bool]) -> tuple[float, ...]:
        pairs = zip(contrasts, free, strict=True)
        some = [replace(contrast, is_searched=is_free) for contrast, is_free in pairs]
        return minimise_risk(problem_of(*some, grid=GRID)).weights

    assert found([False, False]) == tuple(lam)
    first = found([True, False])
    assert first[0] != lam[0]
    assert first[1] == lam[1]
    assert found([True, False]) == first


def test_where_it_is_known_what_lies_within_slices_the_least_risk_counts_in_full() -> None:
    scan = measured(head(), 6.0)
    guess = weight_by_noise([known(6.0)])
    learned = LearnedDetail(scan, None)
    half, full = (
        found_weight(searched(scan, known(6.0), detail=detail)) for detail in (None, learned)
    )
    assert half != guess
    assert full / guess == pytest.approx((half / guess) ** 2)


def test_the_block_lies_in_the_head_and_in_the_grid() -> None:
    truth = head()
    wide = padded(GRID, 3)
    contrast = searched(measured(truth, 2.0), known(2.0))
    grid = middle_block(problem_of(contrast, grid=wide)).problem.grid
    assert max(grid.shape) < SIDE
    corner = np.linalg.inv(wide.affine) @ grid.affine
    np.testing.assert_allclose(corner[:3, :3], np.eye(3), atol=1e-9)
    middle = corner[:3, 3] + np.array(grid.shape) / 2
    np.testing.assert_allclose(middle, np.array(wide.shape) / 2, atol=3)


@pytest.mark.parametrize("degrees", [-40.0, 40.0])
def test_the_block_of_a_turned_scan_is_no_smaller(degrees: float) -> None:
    scan = measured(head(), 2.0)
    middle, radians = np.full(3, (SIDE - 1) / 2), np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]]
    turned = replace(scan, pose=translation(middle) @ turn @ translation(-middle))
    straight, other = (
        middle_block(problem_of(searched(placed, known(2.0)), grid=GRID)).problem.grid
        for placed in (scan, turned)
    )
    assert other.shape == straight.shape


@pytest.mark.slow
def test_a_fit_says_which_strength_it_chose_and_can_repeat_it() -> None:
    truth = head()
    scan = measured(truth, 6.0)
    volume = Volume(np.abs(scan.data), scan.affine)
    settings = ModelSettings(max_iter=5, learning_effort="brief")
    result = super_resolve([[volume]], settings, "cpu", grid=GRID)
    again = super_resolve([[volume]], settings, "cpu", grid=GRID, lam=result.fit.lam)
    assert again.fit.lam == result.fit.lam
    np.testing.assert_array_equal(again.images, result.images)
    fixed = super_resolve([[volume]], replace(settings, reg_scale=4.0), "cpu", grid=GRID)
    assert fixed.fit.lam[0] == pytest.approx(4 / fixed.fit.noise[0][0].contrast)
    assert fixed.fit.lam[0] != pytest.approx(result.fit.lam[0], rel=0.05)
