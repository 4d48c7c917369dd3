"""What the prior took from small spots is given back, and noise is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.model import NoiseEstimate, Observation, SliceProfile
from bids_unires.model.detail.term import DetailStatement, LearnedDetail
from bids_unires.model.solve.repeats import Fitted
from bids_unires.model.solve.residual_feedback import FeedbackParameters, with_residuals
from bids_unires.model.solve.solver import Solution
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from tests.model.states import contrast_of, problem_of

SIDE, RATIO = 40, 4
NOISE = NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture")
ERROR_SD = 10.0
GRID = Grid((SIDE,) * 3, np.eye(4))
# Away from the outermost slices.
INNER = (slice(RATIO, -RATIO),) * 3


def head() -> NDArray[np.float32]:
    """Tissue with a bright spot in the middle."""
    truth = np.full((SIDE,) * 3, 100, dtype=np.float32)
    truth[20:23, 20:23, 20:23] += 40
    return truth


def flat() -> NDArray[np.float32]:
    return np.full((SIDE,) * 3, 100, dtype=np.float32)


def affine_of(axis: int) -> Affine:
    steps = np.where(np.arange(3) == axis, RATIO, 1)
    return translation((steps - 1) / 2) @ scaling(steps)


def scan_of(truth: NDArray[np.float32], axis: int = 2, noise_sd: float = 0.0) -> Observation:
    """Slices of a head along an axis, as the model scans it."""
    shape = [SIDE] * 3
    shape[axis] = SIDE // RATIO
    empty = Observation(
        np.ones(shape, np.float32), affine_of(axis), 1.0, SliceProfile("point", "rect", axis=axis)
    )
    noise = np.random.default_rng(1).normal(scale=noise_sd, size=shape)
    clean = empty.operator(GRID).forward(torch.as_tensor(truth)).numpy()
    return replace(empty, data=(clean + noise).astype(np.float32))


def given_back(
    scans: list[Observation],
    image: NDArray[np.float32],
    noise: NoiseEstimate = NOISE,
    error_sd: float | None = ERROR_SD,
    guided: bool = False,
    explained: float = 0.5,
    **known: Any,
) -> NDArray[np.float32]:
    """What is added to an image that was fitted to scans."""
    if error_sd is not None:
        detail = replace(scan_of(flat()), data=flat(), affine=np.eye(4))
        known["detail"] = LearnedDetail(detail, DetailStatement(error_sd, explained, guided))
    problem = problem_of(contrast_of(scans, 0.01, noise, **known), grid=GRID)
    images = torch.as_tensor(image)[None]
    before = images.clone()
    added = with_residuals(Fitted(problem, Solution(images, (), True, 1e-4))) - before
    # The fit itself does not change.
    assert torch.equal(images, before)
    return np.asarray(added[0].numpy())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_spot_that_was_lost_comes_back_as_the_scan_shows_it(axis: int) -> None:
    scan = scan_of(head(), axis)
    image = flat() + given_back([scan], flat())
    operator = scan.operator(GRID)
    lost = scan.data - operator.forward(torch.as_tensor(flat())).numpy()
    left = scan.data - operator.forward(torch.as_tensor(image)).numpy()
    assert np.abs(left).max() < 0.3 * np.abs(lost).max()
    # Three of the four thin voxels of the slice are in the spot: all get about its mean of 30.
    assert image[21, 21, 21] == pytest.approx(130, abs=3)


def test_it_is_the_same_whichever_way_the_head_lies() -> None:
    rng = np.random.default_rng(2)
    truth = ndimage.gaussian_filter(rng.normal(100, 60, (SIDE,) * 3), 1).astype(np.float32)
    straight = given_back([scan_of(truth)], flat())
    for axis in range(3):
        flipped = given_back([scan_of(np.flip(truth, axis).copy())], flat())
        np.testing.assert_allclose(np.flip(flipped, axis), straight, atol=1e-3)


def test_noise_is_held_below_its_limit() -> None:
    sizes = []
    for noise_sd in (0.5, 2.0, 4.0, 8.0):
        added = given_back([scan_of(flat(), noise_sd=noise_sd)], flat())[INNER]
        sizes.append(float(np.mean(added**2)))
    limit = FeedbackParameters().largest_share * ERROR_SD**2
    assert 0.15 < sizes[0] < 0.25
    assert max(sizes) <= 1.05 * limit
    # Far too much noise is not smoothed into blotches.
    assert not given_back([scan_of(flat(), noise_sd=300.0)], flat()).any()


def test_less_is_added_where_another_contrast_showed_the_detail() -> None:
    scan = scan_of(flat(), noise_sd=2.0)
    alone, guided = (given_back([scan], flat(), guided=guided)[INNER] for guided in (False, True))
    assert float(np.mean(guided**2)) == pytest.approx(0.5 * float(np.mean(alone**2)), rel=0.1)


def test_errors_that_are_no_detail_permit_no_noise() -> None:
    # Random values in the air of a map make errors large, whatever is known of the tissue.
    scan = scan_of(flat(), noise_sd=2.0)
    assert not given_back([scan], flat(), error_sd=1000.0, explained=0.06).any()
    assert given_back([scan], flat(), error_sd=1000.0, explained=0.4).any()


def test_a_spot_outlasts_noise_that_is_smoothed_away() -> None:
    noisy = given_back([scan_of(head(), noise_sd=3.0)], flat())
    noise = given_back([scan_of(flat(), noise_sd=3.0)], flat())
    spot = (noisy - noise)[21, 21, 21]
    assert spot > 5 * noise[INNER].std()


def test_what_was_not_measured_gives_nothing_back() -> None:
    truth = flat() + 1
    weights = np.ones(SIDE // RATIO)
    weights[3] = 0
    rejected = given_back([replace(scan_of(truth), slice_weights=weights)], flat(), error_sd=100.0)
    assert not rejected[:, :, 3 * RATIO + 1 : 4 * RATIO - 1].any()
    assert rejected[20, 20, 5 * RATIO] == pytest.approx(1, abs=0.01)
    doubted = given_back(
        [replace(scan_of(truth), slice_weights=0.5 + 0.5 * weights)], flat(), error_sd=100.0
    )
    assert doubted[20, 20, 3 * RATIO + 2] == pytest.approx(0.5, abs=0.01)
    scan = scan_of(truth)
    scan.data[10:20, :, 5] = np.nan
    missing = given_back([scan], flat(), error_sd=100.0)
    assert not missing[12:18, :, 5 * RATIO + 1 : 6 * RATIO - 1].any()
    assert np.isfinite(missing).all()


def test_units_do_not_matter() -> None:
    scan = scan_of(head(), noise_sd=2.0)
    small = replace(scan, data=scan.data / 1000, tau=1e6)
    noise = NoiseEstimate(1e-3, 0.0, 0.1, "rice-mixture")
    found = given_back([small], flat() / 1000, noise, ERROR_SD / 1000)
    np.testing.assert_allclose(1000 * found, given_back([scan], flat()), atol=1e-2)


def test_a_slice_of_another_brightness_is_no_residual() -> None:
    scan = scan_of(flat())
    factors = np.where(np.arange(SIDE // RATIO) % 2, np.exp(-0.1), np.exp(0.1)).astype(np.float32)
    added = given_back([replace(scan, data=scan.data * factors, interleave=0.1)], flat())
    np.testing.assert_allclose(added, 0, atol=1e-3)


@pytest.mark.parametrize("scans", [1, 3])
def test_without_learned_detail_nothing_changes(scans: int) -> None:
    stacks = [scan_of(head(), axis) for axis in range(scans)]
    assert not given_back(stacks, flat(), error_sd=None).any()
