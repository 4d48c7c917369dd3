"""Standard deviations against what can be computed in full on a tiny problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bids_unires.model import ForwardOperator, Observation
from bids_unires.model.assess.uncertainty import (
    Sampler,
    Scales,
    between_extremes,
    smooth,
    standard_deviations,
)
from bids_unires.model.prior.total_variation import differences
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from tests.model.states import contrast_of, problem_of

CPU = torch.device("cpu")
GRID = Grid((5, 4, 6), scaling((1.0, 1.0, 2.0)))
LAM = 0.7


def thick_scan(axis: int = 2, seed: int = 0) -> Observation:
    """Slices of four voxels, half of one scan voxel missing, no two precisions alike."""
    rng = np.random.default_rng(seed)
    shape, sizes = np.array(GRID.shape), np.array([1.0, 1.0, 2.0])
    shape[axis], sizes[axis] = 2, 4 * sizes[axis]
    affine = scaling(sizes) @ translation(0.1 * rng.normal(size=3))
    data = rng.uniform(1, 9, size=shape).astype(np.float32)
    data[1, 1, 1] = 0
    tau = rng.uniform(0.5, 2, size=shape).astype(np.float32)
    return Observation(data, affine, tau)


def precision_matrix(scan: Observation, weights: torch.Tensor) -> np.ndarray:
    """``A'TA + lambda^2 D'WD``, column by column."""
    operator = ForwardOperator(GRID, scan.grid, profile=scan.profile)
    tau = torch.as_tensor(np.where(scan.missing, 0, scan.tau))
    rows_a, rows_d = [], []
    for unit in torch.eye(weights.numel()).reshape(-1, *GRID.shape):
        rows_a.append((operator.forward(unit) * tau.sqrt()).flatten())
        rows_d.append((LAM * differences(unit, (1, 1, 2)) * weights.sqrt()).flatten())
    a, d = (torch.stack(rows).double().numpy() for rows in (rows_a, rows_d))
    return a @ a.T + d @ d.T


def test_samples_have_the_covariance_of_the_posterior() -> None:
    scan = thick_scan()
    weights = torch.from_numpy(np.random.default_rng(1).uniform(0.1, 3, GRID.shape)).float()
    precision = precision_matrix(scan, weights)
    covariance = np.linalg.inv(precision)
    count, voxels = 80, precision.shape[0]
    sampler = Sampler([scan], GRID, LAM, CPU, (3,))
    drawn = np.stack(
        [sampler.sample(weights, k, iterations=20).flatten().double() for k in range(count)]
    )
    # d'Hd of a sample is chi-squared with as many degrees of freedom as voxels.
    energy = np.einsum("ki,ij,kj->k", drawn, precision, drawn)
    assert energy.mean() / voxels == pytest.approx(1, abs=5 * np.sqrt(2 / (count * voxels)))
    assert energy.std() == pytest.approx(np.sqrt(2 * voxels), rel=0.3)
    variances = (drawn**2).mean(axis=0) / np.diag(covariance)
    assert np.abs(variances - 1).max() < 5 * np.sqrt(2 / count)
    # Each mean covariance has a standard error of its own.
    sampled = drawn.T @ drawn / count
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    errors = (sampled - covariance) / np.sqrt((scale**2 + covariance**2) / count)
    assert np.abs(errors).max() < 6
    assert errors.std() == pytest.approx(1, abs=0.1)


def test_a_few_steps_are_nearly_there() -> None:
    scan = thick_scan()
    weights = torch.ones(GRID.shape)
    variances = np.diag(np.linalg.inv(precision_matrix(scan, weights)))
    sampler = Sampler([scan], GRID, LAM, CPU, (3,))
    drawn = np.stack([sampler.sample(weights, k).flatten().double() for k in range(100)])
    assert (drawn**2).mean() == pytest.approx(variances.mean(), rel=0.15)


def test_a_sample_starts_where_that_of_other_weights_ended() -> None:
    sampler = Sampler([thick_scan()], GRID, LAM, CPU, (3,))
    weights = torch.ones(GRID.shape)
    exact = sampler.sample(1.1 * weights, 0, iterations=40)
    before = sampler.sample(weights, 0, iterations=40)
    cold = sampler.sample(1.1 * weights, 0, iterations=2) - exact
    warm = sampler.sample(1.1 * weights, 0, before, iterations=2) - exact
    assert warm.norm() < 0.2 * cold.norm()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).uniform(0, 4, (2, *GRID.shape))).float()


def sds(images: torch.Tensor, unit: float = 1.0, seed: int = 0, samples: int = 4) -> torch.Tensor:
    scans = [
        [Observation(unit * s.data, s.affine, s.tau / unit**2)]
        for s in (thick_scan(2), thick_scan(0, seed=1))
    ]
    problem = problem_of(*(contrast_of(repeats, LAM / unit) for repeats in scans), grid=GRID)
    return standard_deviations(problem, unit * images, samples=samples, seed=seed)


def test_they_are_in_the_units_of_the_images(images: torch.Tensor) -> None:
    torch.testing.assert_close(sds(images, 50.0), 50 * sds(images), rtol=1e-3, atol=0)


def test_they_are_the_same_every_time_and_others_with_another_seed(images: torch.Tensor) -> None:
    first = sds(images)
    assert torch.equal(first, sds(images))
    assert not torch.equal(first, sds(images, seed=1))
    # Samples of the contrasts are not the same ones.
    assert not torch.allclose(first[0], first[1])


def test_more_noise_and_thicker_slices_are_less_certain(images: torch.Tensor) -> None:
    def mean_sd(scan: Observation, tau: float) -> float:
        contrast = contrast_of([Observation(scan.data, scan.affine, tau)], LAM)
        found = standard_deviations(problem_of(contrast, grid=GRID), images[:1], samples=8)
        return float(found.mean())

    point = Observation(np.ones(GRID.shape, np.float32), GRID.affine)
    assert mean_sd(thick_scan(), 4.0) < 0.9 * mean_sd(thick_scan(), 0.25)
    assert mean_sd(point, 4.0) < 0.9 * mean_sd(thick_scan(), 4.0)


def test_smoothing_keeps_the_mean_and_is_gaussian() -> None:
    field = torch.zeros(21, 21, 21)
    field[10, 10, 10] = 1
    spread = smooth(field, 1.0)
    assert float(spread.sum()) == pytest.approx(1, rel=1e-5)
    along = spread.sum(dim=(1, 2)).double()
    offsets = torch.arange(21.0).double() - 10
    assert float((along * offsets**2).sum()) == pytest.approx(1, rel=0.01)


def test_more_samples_say_more_exactly_the_same(images: torch.Tensor) -> None:
    few, many = sds(images, samples=2), sds(images, samples=18)
    assert float(few.mean()) == pytest.approx(float(many.mean()), rel=0.15)


def step(axis: int) -> torch.Tensor:
    """Two tissues, with one voxel in between them."""
    line = torch.tensor([0.0] * 6 + [4.0] + [10.0] * 6)
    sides = [13 if side == axis else 1 for side in range(3)]
    return line.reshape(sides).expand(13, 13, 13).contiguous()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_voxels_between_two_tissues_are_less_sure_than_those_of_either(axis: int) -> None:
    found = between_extremes(step(axis), (1.0, 1.0, 1.0)).movedim(axis, 0)[:, 6, 6]
    assert int(found.argmax()) == 6
    assert 1.5 < float(found[6]) < 4.0
    assert float(found[[0, 1, 11, 12]].abs().max()) < 0.05


def test_distances_from_extremes_have_the_unit_of_the_image() -> None:
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 9, 9))).float()
    one = between_extremes(image, (1.0, 1.0, 1.0))
    assert float(one.min()) >= 0
    for other in (
        between_extremes(8 * image + 3, (1.0, 1.0, 1.0)),
        between_extremes(-8 * image, (1.0, 1.0, 1.0)),
    ):
        torch.testing.assert_close(other, 8 * one, atol=1e-4, rtol=1e-4)
    flipped = between_extremes(image.flip(1), (1.0, 1.0, 1.0)).flip(1)
    torch.testing.assert_close(flipped, one)


def test_both_parts_of_standard_deviations_are_added() -> None:
    sds, between = (np.full((2, 2, 2), value, dtype=np.float32) for value in (3.0, 5.0))
    combined = Scales(2.0, 0.5).combined(sds, between)
    assert combined.dtype == np.float32
    np.testing.assert_allclose(combined, 8.5)
