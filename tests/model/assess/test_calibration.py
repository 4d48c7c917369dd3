"""Whether errors are as large as the standard deviations say, on a head of known truth."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from bids_unires.model import ModelSettings, NoiseEstimate, Observation, super_resolve
from bids_unires.model.assess import calibration
from bids_unires.model.assess.calibration import calibrate_scales
from bids_unires.model.assess.uncertainty import Scales
from bids_unires.model.solve.problem import Problem, Stop
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume
from tests.model.states import contrast_of, problem_of

pytestmark = pytest.mark.learns

SIDE = 56
STEP = 4
NOISE_SD = 3.0


def truth(seed: int = 0) -> np.ndarray:
    """A head of many ellipsoids of all sizes, with air around it."""
    rng = np.random.default_rng(seed)
    at = np.moveaxis(np.indices((SIDE,) * 3), 0, -1) - (SIDE - 1) / 2
    image = np.where(np.linalg.norm(at, axis=-1) < 0.42 * SIDE, 100.0, 0.0)
    for _ in range(400):
        centre = rng.normal(size=3)
        centre *= 0.36 * SIDE * rng.uniform() ** (1 / 3) / np.linalg.norm(centre)
        radii = rng.uniform(1.5, 6, size=3)
        radius = np.linalg.norm((at - centre) / radii, axis=-1)
        share = 1 / (1 + np.exp(np.clip((radius - 1) * radii.min() / 0.35, -50, 50)))
        image += share * (rng.uniform(50, 200) - image)
    return image


def scan(image: np.ndarray, axis: int) -> Volume:
    thick = np.moveaxis(image, axis, 0).reshape(SIDE // STEP, STEP, SIDE, SIDE).mean(axis=1)
    noise = np.random.default_rng(axis).normal(scale=NOISE_SD, size=(2, *thick.shape))
    data = np.moveaxis(np.hypot(thick + noise[0], noise[1]), 0, axis).astype(np.float32)
    sizes, start = np.ones(3), np.zeros(3)
    sizes[axis], start[axis] = STEP, (STEP - 1) / 2
    return Volume(data, translation(start) @ scaling(sizes))


@pytest.mark.slow
@pytest.mark.parametrize("stacks", [1, 3])
def test_truth_lies_within_two_standard_deviations(stacks: int) -> None:
    image = truth()
    settings = ModelSettings(unified_rigid=False, uncertainty=8)
    grid = Grid((SIDE,) * 3, np.eye(4))
    scans = [scan(image, axis) for axis in range(stacks)]
    result = super_resolve([scans], settings, "cpu", poses=[[np.eye(4)] * stacks], grid=grid)
    assert result.fit.uncertainty is not None
    sds = result.fit.uncertainty.sds[0]
    assert sds.shape == image.shape
    assert sds.dtype == np.float32
    assert np.all(sds > 0)
    inside = image > 30
    errors = np.abs(result.images[0] - image)[inside]
    share = np.mean(errors < 2 * sds[inside])
    print(f"{stacks} stacks: {share:.3f} within 2 sd, {result.fit.uncertainty.scales[0]}")
    assert 0.90 <= share <= 0.97
    # Where it says so, the image is off by more.
    unsure = sds[inside] > np.median(sds[inside])
    assert errors[unsure].mean() > 1.3 * errors[~unsure].mean()


def test_too_little_of_a_head_is_said(caplog: pytest.LogCaptureFixture) -> None:
    grid = Grid((8, 8, 8), np.eye(4))
    data = np.ones(grid.shape, np.float32)
    noise = NoiseEstimate(1.0, 0.0, 10.0, "rice-mixture")
    with caplog.at_level(logging.WARNING, logger="bids_unires"):
        contrast = contrast_of([Observation(data, grid.affine)], 0.4, noise)
        problem = problem_of(contrast, grid=grid)
        scales = calibrate_scales(problem, Stop(1e-2, 2), torch.ones(1, 8, 8, 8), samples=2)
    assert scales == (Scales(1.0, 0.0),)
    assert "not calibrated" in caplog.text


def test_errors_are_those_of_heads_that_lie_in_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of each plane then cut the simulated heads where they did not cut the real one."""
    simulated: list[Problem] = []

    def solve(problem: Problem, _: Stop) -> Problem:
        simulated.append(problem)
        return problem

    monkeypatch.setattr(calibration, "solve_guided", solve)
    monkeypatch.setattr(
        calibration, "with_residuals", lambda problem: torch.zeros(1, *problem.grid.shape)
    )
    monkeypatch.setattr(
        calibration, "standard_deviations", lambda problem, images, **_: torch.ones_like(images)
    )
    bar = np.zeros((32, 32, 32), np.float32)
    bar[4:28, 12:20, 12:20] = 100
    noise = NoiseEstimate(1.0, 0.0, 100.0, "rice-mixture")
    problem = problem_of(
        contrast_of([Observation(bar, np.eye(4))], 0.4, noise), grid=Grid(bar.shape, np.eye(4))
    )
    calibrate_scales(problem, Stop(1e-2, 2), torch.as_tensor(bar)[None], samples=2)
    longest = []
    for each in simulated:
        (contrast,) = each.contrasts
        bright = np.argwhere(contrast.scans[0].observation.data > 50)
        longest.append(int(np.ptp(bright, axis=0).argmax()))
    assert sorted(longest) == [1, 2]
