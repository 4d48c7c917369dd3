"""The objective: the reference's values, missing voxels, and gradients that belong to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bids_unires.model import Objective, Observation, SliceProfile
from bids_unires.model.prior.total_variation import JointTotalVariation
from bids_unires.space.grid import Grid

CPU = torch.device("cpu")
GRID = Grid((10, 9, 12), np.eye(4))


@pytest.fixture(scope="module")
def reference_objective(reference_problem: Any) -> Objective:
    problem = reference_problem
    return Objective(problem.contrasts, problem.grid, problem.lam, CPU)


def assert_like_reference(
    problem: Any, objective: Objective, images: torch.Tensor, expected: dict[str, float]
) -> None:
    value = objective.value(images)
    assert value.likelihood == pytest.approx(expected["likelihood"], rel=1e-3)
    # The reference counts edges to 0 beyond the last voxels: those of an image with more zeros.
    x, y, z = (side + 1 for side in problem.grid.shape)
    larger = torch.nn.functional.pad(images, (0, 1, 0, 1, 0, 1))
    prior = JointTotalVariation(Grid((x, y, z), problem.grid.affine), problem.lam, CPU)
    assert prior.value(larger) == pytest.approx(expected["prior"], rel=1e-3)
    assert value.prior <= prior.value(larger)
    assert value.total == value.likelihood + value.prior


def test_the_reference_s_value_at_the_trilinear_start(
    reference_problem: Any, reference_objective: Objective, trilinear_start: torch.Tensor
) -> None:
    expected = reference_problem.expected["objective_at_trilinear_start"]
    assert_like_reference(reference_problem, reference_objective, trilinear_start, expected)


def test_the_reference_s_value_at_a_sine_field(
    reference_problem: Any, reference_objective: Objective, sine_field: torch.Tensor
) -> None:
    expected = reference_problem.expected["objective_at_sine_field"]
    assert_like_reference(reference_problem, reference_objective, sine_field, expected)


def scan(seed: int, **options: Any) -> Observation:
    data = np.random.default_rng(seed).uniform(1, 2, (10, 9, 3)).astype(np.float32)
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    affine[2, 3] = 1.5
    return Observation(data, affine, tau=3.0, profile=SliceProfile("dirac"), **options)


def images(contrasts: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((contrasts, *GRID.shape), generator=generator) + 1


@pytest.mark.parametrize("missing", [0.0, np.nan, np.inf, -np.inf])
def test_missing_voxels_do_not_count(missing: float) -> None:
    complete = scan(0)
    holes = np.random.default_rng(1).random(complete.data.shape) < 0.3
    # Leaving a voxel out and giving it no precision are the same.
    unweighted = replace(complete, tau=np.where(holes, 0.0, 3.0).astype(np.float32))
    pierced = replace(complete, data=np.where(holes, np.float32(missing), complete.data))
    values, gradients = [], []
    for observation in (pierced, unweighted, complete):
        objective = Objective([[observation]], GRID, [0.1], CPU)
        gradients.append(torch.zeros(GRID.shape))
        values.append(objective.add_data_gradient(0, images(1)[0], gradients[-1]))
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1])
    assert values[0] < 0.9 * values[2]


def test_scans_of_zeros_alone_say_nothing() -> None:
    empty = replace(scan(0), data=np.zeros((10, 9, 3), np.float32))
    objective = Objective([[empty]], GRID, [0.1], CPU)
    assert objective.value(images(1)).likelihood == 0.0


def test_repeats_and_contrasts_add_up() -> None:
    contrasts = [[scan(0), scan(1, interleave=0.1)], [scan(2)]]
    objective = Objective(contrasts, GRID, [0.1, 0.2], CPU)
    y = images(2)
    alone = sum(
        Objective([[observation]], GRID, [1.0], CPU).value(y[c : c + 1]).likelihood
        for c, scans in enumerate(contrasts)
        for observation in scans
    )
    value = objective.value(y)
    assert value.likelihood == pytest.approx(alone, rel=1e-6)
    assert value.total == value.likelihood + value.prior
    assert objective.contrast_count == 2
    assert objective.shape == (2, *GRID.shape)


def test_gradient_and_curvature_predict_the_likelihood() -> None:
    objective = Objective([[scan(0), scan(1)]], GRID, [0.1], CPU)
    here, step = images(1)[0], images(1, seed=5)[0] - 1.5
    gradient, product = torch.zeros(GRID.shape), torch.zeros(GRID.shape)
    value = objective.add_data_gradient(0, here, gradient)
    form = objective.add_normal(0, step, product)
    assert form == pytest.approx(float((product * step).sum()), rel=1e-5)
    expected = value + float((gradient * step).sum()) + form / 2
    there = objective.add_data_gradient(0, here + step, torch.zeros(GRID.shape))
    assert there == pytest.approx(expected, rel=1e-5)


def test_the_value_does_not_depend_on_what_was_computed_before() -> None:
    objective = Objective([[scan(0)]], GRID, [0.1], CPU)
    first = objective.value(images(1))
    objective.value(images(1, seed=1))
    assert objective.value(images(1)) == first


@pytest.mark.parametrize("contrasts", [[], [[]], [[scan(0)], []]])
def test_contrasts_without_scans_are_refused(contrasts: list[list[Observation]]) -> None:
    with pytest.raises(ValueError, match="at least one scan"):
        Objective(contrasts, GRID, [0.1] * len(contrasts), CPU)


@pytest.mark.parametrize(("lam", "contrasts"), [([0.1, 0.2], 1), (0.1, 2), ([], 1)])
def test_every_contrast_needs_a_regularisation(lam: Any, contrasts: int) -> None:
    with pytest.raises(ValueError, match=f"{contrasts} contrasts need as many values of lam"):
        Objective([[scan(0)]] * contrasts, GRID, lam, CPU)
