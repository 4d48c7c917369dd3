"""Joint total variation: the reference's inner differences, an exact transpose, a tight bound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.model.prior.total_variation import (
    JointTotalVariation,
    differences,
    differences_adjoint,
    edge_squares,
)
from bids_unires.space.grid import Grid
from tests.paths import DATA

ARRAYS = np.load(DATA / "operators.npz")
CPU = torch.device("cpu")
SIZES = (1.5, 2.0, 0.7)
GRID = Grid((7, 8, 9), np.diag([*SIZES, 1.0]))

shapes = st.tuples(*[st.integers(1, 7)] * 3)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("number", "sizes"), [(0, (1, 1, 1)), (1, SIZES)])
def test_differences_are_the_reference_s_but_for_those_to_0_beyond_an_image(
    number: int, sizes: tuple[float, ...]
) -> None:
    image, field = (torch.as_tensor(ARRAYS[f"grad{number}_{name}"]) for name in "up")
    expected, adjoint = (ARRAYS[f"grad{number}_{name}"].copy() for name in ("Du", "Dtp"))
    for axis, size in enumerate(sizes):
        expected[axis].swapaxes(0, axis)[-1] = 0
        adjoint.swapaxes(0, axis)[-1] += field[axis].numpy().swapaxes(0, axis)[-1] / size
    np.testing.assert_allclose(differences(image, sizes), expected, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(differences_adjoint(field, sizes), adjoint, atol=1e-6, rtol=1e-5)


@given(shapes, st.floats(-5, 5))
def test_a_constant_costs_nothing(shape: tuple[int, int, int], value: float) -> None:
    assert not differences(torch.full(shape, value), SIZES).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_image_that_changes_along_one_axis_costs_the_same_flipped(axis: int) -> None:
    steps = noise(GRID.shape[axis]).reshape([-1 if axis == other else 1 for other in range(3)])
    image = steps.expand(GRID.shape).contiguous()[None]
    prior = JointTotalVariation(GRID, [0.5], CPU)
    assert prior.value(image.flip(axis + 1)) == pytest.approx(prior.value(image), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(shapes, st.tuples(*[st.floats(0.3, 5)] * 3))
def test_the_transpose_of_differences_is_exact(
    shape: tuple[int, int, int], sizes: tuple[float, float, float]
) -> None:
    image, field = noise(*shape).double(), noise(3, *shape, seed=1).double()
    there = float((differences(image, sizes) * field).sum())
    back = float((image * differences_adjoint(field, sizes)).sum())
    assert there == pytest.approx(back, rel=1e-10, abs=1e-10)


def exact(images: torch.Tensor, lam: tuple[float, ...], smoothing: float = 0.0) -> float:
    """The prior from its definition, in double precision."""
    squares = sum(
        (weight * differences(image.double(), SIZES)).square().sum(dim=0)
        for weight, image in zip(lam, images, strict=True)
    )
    return float(torch.sqrt(squares + smoothing**2).sum())


def test_the_value_is_the_definition() -> None:
    images = noise(2, *GRID.shape)
    prior = JointTotalVariation(GRID, (0.3, 2.0), CPU)
    assert prior.value(images) == pytest.approx(exact(images, (0.3, 2.0)), rel=1e-6)


def test_weights_bound_the_smoothed_prior_from_above_and_touch_it() -> None:
    lam, smoothing = (0.3, 2.0), 0.1
    here = noise(2, *GRID.shape)
    weights = torch.empty(GRID.shape)
    prior = JointTotalVariation(GRID, lam, CPU)
    assert prior.majorise(here, smoothing, weights) == pytest.approx(exact(here, lam), rel=1e-6)

    def form(images: torch.Tensor) -> float:
        squares = sum(
            (weight * differences(image.double(), SIZES)).square().sum(dim=0)
            for weight, image in zip(lam, images, strict=True)
        )
        return 0.5 * float((weights * squares).sum())

    def bound(images: torch.Tensor) -> float:
        return exact(here, lam, smoothing) + form(images) - form(here)

    assert bound(here) == pytest.approx(exact(here, lam, smoothing), rel=1e-12)
    for seed, distance in enumerate((1e-3, 0.1, 1.0, 30.0), start=1):
        there = here + distance * noise(2, *GRID.shape, seed=seed)
        assert bound(there) >= exact(there, lam, smoothing)
    # Touching in slope as well: the bound leaves the prior with the square of the distance.
    near, nearer = (here + h * noise(2, *GRID.shape, seed=9) for h in (2e-3, 1e-3))
    above, closer = (bound(there) - exact(there, lam, smoothing) for there in (near, nearer))
    assert closer == pytest.approx(above / 4, rel=0.05)


def test_flat_images_have_finite_weights() -> None:
    weights = torch.empty(GRID.shape)
    prior = JointTotalVariation(GRID, [1.0], CPU)
    assert prior.majorise(torch.zeros(1, *GRID.shape), 0.01, weights) == 0.0
    torch.testing.assert_close(weights, torch.full(GRID.shape, 100.0))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100))
def test_intensity_and_regularisation_trade_off(factor: float) -> None:
    images = noise(2, *GRID.shape)
    value = JointTotalVariation(GRID, (0.5, 1.5), CPU).value(images)
    scaled = JointTotalVariation(GRID, (0.5 / factor, 1.5 / factor), CPU).value(images * factor)
    assert scaled == pytest.approx(value, rel=1e-5)
    assert JointTotalVariation(GRID, (0.5, 1.5), CPU).value(images * factor) == pytest.approx(
        value * factor, rel=1e-5
    )


def test_an_edge_is_cheaper_where_another_contrast_has_one() -> None:
    images = torch.zeros(2, *GRID.shape)
    images[:, :3] = 1.0
    apart = images.clone()
    apart[1] = apart[1].flip(0)
    prior = JointTotalVariation(GRID, (1.0, 1.0), CPU)
    interior = exact(images[:1], (1.0,))
    assert prior.value(images) == pytest.approx(2**0.5 * interior, rel=1e-5)
    assert prior.value(apart) > 1.2 * prior.value(images)


@pytest.mark.parametrize("lam", [[0.0], [-1.0], [np.nan], [np.inf], [1.0, 0.0]])
def test_a_regularisation_that_is_none_is_refused(lam: list[float]) -> None:
    with pytest.raises(ValueError, match="lam must be above 0"):
        JointTotalVariation(GRID, lam, CPU)


def test_a_guide_stands_for_contrasts_that_are_given() -> None:
    images, lam = noise(3, *GRID.shape), (0.3, 2.0, 0.7)
    guide = edge_squares(images[:2], GRID, lam[:2])
    guided = JointTotalVariation(GRID, lam[2:], CPU, guide)
    together = JointTotalVariation(GRID, lam, CPU)
    weights, expected = torch.empty(GRID.shape), torch.empty(GRID.shape)
    value = guided.majorise(images[2:], 0.1, weights)
    assert value == pytest.approx(together.majorise(images, 0.1, expected), rel=1e-6)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=0)
    assert guided.value(images[2:]) == pytest.approx(exact(images, lam), rel=1e-6)


def test_an_edge_is_cheaper_where_the_guide_has_one() -> None:
    edge = torch.zeros(1, *GRID.shape)
    edge[:, :3] = 1.0
    guide = edge_squares(edge, GRID, [1.0])
    prior = JointTotalVariation(GRID, [1.0], CPU, guide)
    nothing = prior.value(torch.zeros_like(edge))
    along, elsewhere = (prior.value(image) - nothing for image in (edge, edge.flip(1)))
    assert along < 0.7 * elsewhere


def test_a_guide_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="guide must have shape"):
        JointTotalVariation(GRID, [1.0], CPU, torch.zeros(2, 2, 2))
