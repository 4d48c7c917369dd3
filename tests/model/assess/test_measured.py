"""How much of the detail of an image its scans measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_unires.model import NoiseEstimate, Observation
from bids_unires.model.assess.measured import measured_shares
from bids_unires.model.solve.problem import Problem
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from tests.model.states import contrast_of, problem_of

SIDE = 24
THICKNESS = 6
GRID = Grid((SIDE,) * 3, np.eye(4))
INNER = (slice(8, -8),) * 3


def scanned(axes: tuple[int, ...], noise_sd: float = 0.01, thickness: int = THICKNESS) -> Problem:
    """Stacks of thick slices across these axes; what they show has no influence."""
    scans = []
    for axis in axes:
        steps = np.where(np.arange(3) == axis, thickness, 1)
        affine = translation((steps - 1) / 2) @ scaling(steps)
        scans.append(Observation(np.ones(np.array(GRID.shape) // steps), affine, 1 / noise_sd**2))
    noise = NoiseEstimate(noise_sd, 0.0, 100.0, "rice-mixture")
    return problem_of(contrast_of(scans, 1.0, noise), grid=GRID)


def stripes(axis: int) -> torch.Tensor:
    """A head with stripes along an axis, two in each slice of it."""
    values = 100 + 10 * np.sin(2 * np.pi * np.arange(SIDE) / (THICKNESS / 2))
    sides = np.where(np.arange(3) == axis, SIDE, 1)
    return torch.from_numpy(np.broadcast_to(values.reshape(sides), GRID.shape).copy()).float()


def share(problem: Problem, image: torch.Tensor) -> float:
    found = measured_shares(problem, image[None])
    assert found.shape == (1, *GRID.shape)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    return float(found[0][INNER].mean())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_detail_within_slices_is_inferred_and_that_across_them_measured(axis: int) -> None:
    problem = scanned((axis,))
    for other in range(3):
        expected = 0.0 if other == axis else 1.0
        assert share(problem, stripes(other)) == pytest.approx(expected, abs=0.05)


def test_another_stack_measures_what_the_first_did_not() -> None:
    assert share(scanned((0, 2)), stripes(2)) > 0.95


def test_small_voxels_measure_everything_above_their_noise() -> None:
    assert share(scanned((2,), thickness=1), stripes(2)) > 0.95
    assert share(scanned((2,), thickness=1, noise_sd=100.0), stripes(2)) < 0.05


def test_shares_do_not_depend_on_the_unit_of_intensity() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(100 + 10 * rng.normal(size=GRID.shape)).float()
    one, other = scanned((2,), noise_sd=2.0), scanned((2,), noise_sd=32.0)
    noise = NoiseEstimate(32.0, 0.0, 1600.0, "rice-mixture")
    scans = other.contrasts[0].observations
    scaled = problem_of(contrast_of(scans, 1.0, noise), grid=GRID)
    first = measured_shares(one, image[None])
    second = measured_shares(scaled, 16 * image[None])
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)


def test_nothing_is_measured_of_an_image_of_air() -> None:
    assert not measured_shares(scanned((2,)), torch.zeros((1, *GRID.shape))).any()
