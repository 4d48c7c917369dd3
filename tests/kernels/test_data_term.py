"""The data term of a scan: in one pass on the CPU as when composed of A and its transpose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bids_unires.kernels.data_term import (
    ComposedDataTerm,
    DataTerm,
    SharpenedDataTerm,
    SlabDataTerm,
)
from bids_unires.kernels.reference import ReferenceBackend
from bids_unires.kernels.sampling import RIM, Sampling
from bids_unires.kernels.warp_backend import VoxelBackend
from bids_unires.model.scanner.forward import ForwardOperator
from bids_unires.model.scanner.profile import SliceProfile
from bids_unires.space.affines import translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

OperatorMaker = Callable[..., ForwardOperator]
OperatorStrategy = st.SearchStrategy[OperatorMaker]

thorough = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def precision_with_holes(shape: tuple[int, ...]) -> Tensor:
    """Positive weights, one voxel in four missing."""
    values = noise(shape, 3).abs() + 0.1
    return torch.where(noise(shape, 4) > 0.67, torch.zeros(()), values)


def in_double_precision(sampling: Sampling, scan: Tensor, precision: Tensor) -> DataTerm:
    return ComposedDataTerm(ReferenceBackend(sampling), scan.double(), precision.double())


def far_from_rim(sampling: Sampling) -> bool:
    """Whether rounding cannot decide which samples count."""
    at = np.moveaxis(np.indices(sampling.intermediate_shape), 0, -1)
    at = at @ sampling.matrix[:, :3].T + sampling.matrix[:, 3]
    high = np.array(sampling.target_shape) - 1 + RIM
    return bool(min(np.abs(at + RIM).min(), np.abs(at - high).min()) > 3e-5)


@thorough
@given(data=st.data())
def test_one_pass_gives_what_the_composition_gives(
    thick_slice_operators: OperatorStrategy, data: st.DataObject
) -> None:
    sampling = data.draw(thick_slice_operators)().sampling
    assume(far_from_rim(sampling))
    image, scan = noise(sampling.target_shape, 0), noise(sampling.source_shape, 1)
    precision = precision_with_holes(sampling.source_shape)
    fused = SlabDataTerm(sampling, scan, precision)
    composed = in_double_precision(sampling, scan, precision)
    start = noise(sampling.target_shape, 2)
    for name in ("add_gradient", "add_normal"):
        found, expected = start.clone(), start.double()
        value = getattr(fused, name)(image, found)
        # Half the sum of squares of values of a size of one, each rounded.
        assert value == pytest.approx(
            getattr(composed, name)(image.double(), expected), rel=1e-5, abs=1e-5
        )
        scale = float(expected.abs().max())
        assert float((found - expected).abs().max()) <= 3e-5 * scale


@thorough
@given(data=st.data())
def test_one_pass_touches_nothing_beyond_the_image(
    thick_slice_operators: OperatorStrategy, data: st.DataObject
) -> None:
    sampling = data.draw(thick_slice_operators)().sampling
    shape = sampling.target_shape
    size, beyond = int(np.prod(shape)), 4 * shape[1] * shape[2] + 64
    around_image = torch.full((size + 2 * beyond,), torch.nan)
    around_gradient = torch.zeros(size + 2 * beyond)
    image, gradient = (
        memory[beyond : beyond + size].view(shape) for memory in (around_image, around_gradient)
    )
    image.fill_(1.0)
    scan = torch.zeros(sampling.source_shape)
    value = SlabDataTerm(sampling, scan, torch.ones_like(scan)).add_gradient(image, gradient)
    assert np.isfinite(value)
    assert gradient.isfinite().all()
    gradient.zero_()
    assert not around_gradient.any()


@thorough
@given(data=st.data())
def test_the_gradient_is_that_of_the_value(
    operators: OperatorStrategy, data: st.DataObject
) -> None:
    sampling = data.draw(operators)().sampling
    image, step, scan = (
        noise(shape, seed).double()
        for seed, shape in enumerate(
            (sampling.target_shape, sampling.target_shape, sampling.source_shape)
        )
    )
    term = in_double_precision(sampling, scan, precision_with_holes(scan.shape))
    gradient, product = torch.zeros_like(image), torch.zeros_like(image)
    value = term.add_gradient(image, gradient)
    # The term is a quadratic: value, gradient and curvature predict it exactly.
    predicted = value + float((gradient * step).sum()) + term.add_normal(step, product)
    assert term.add_gradient(image + step, product) == pytest.approx(predicted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("hole", [0.0, 1e30])
def test_a_missing_voxel_does_not_count(hole: float) -> None:
    operator = ForwardOperator(Grid((8, 8, 8), np.eye(4)), Grid((8, 8, 2), np.diag([1, 1, 4, 1])))
    scan, precision = noise((8, 8, 2), 0), torch.ones(8, 8, 2)
    precision[2, 3, 1] = 0
    image, gradients, values = noise((8, 8, 8), 1), [], []
    for content in (5.0, hole):
        scan[2, 3, 1] = content
        gradients.append(torch.zeros(8, 8, 8))
        term = SlabDataTerm(operator.sampling, scan, precision)
        values.append(term.add_gradient(image, gradients[-1]))
    assert values[0] == values[1]
    assert torch.equal(*gradients)


def large_term(kind: str, slice_axis: int) -> tuple[Sampling, DataTerm]:
    """A scan large enough for many slabs, its slices across any axis of the image."""
    axes = [slice_axis, (slice_axis + 1) % 3, (slice_axis + 2) % 3]
    target = Grid((70, 61, 67), translation([-34.5, -30, -33]))
    affine = np.eye(4)[:, [*axes, 3]] @ np.diag([5.2, -1.0, 1.0, 1.0])
    source = Grid((12, 66, 63), affine @ translation([-5.5, -32.5, -31]))
    pose = rigid_matrix([2, -3, 1.5, 0.2, -0.3, 0.15])
    operator = ForwardOperator(target, source, pose=pose, profile=SliceProfile("dirac"))
    scan, precision = noise(source.shape, 1), precision_with_holes(source.shape)
    if kind == "slabs":
        return operator.sampling, SlabDataTerm(operator.sampling, scan, precision)
    voxels = VoxelBackend(operator.sampling, torch.device("cpu"))
    return operator.sampling, ComposedDataTerm(voxels, scan, precision)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("kind", ["slabs", "voxels"])
def test_terms_have_the_same_bits_for_any_number_of_threads(
    kind: str, slice_axis: int, thread_count: Callable[[int], None]
) -> None:
    sampling, term = large_term(kind, slice_axis)
    image, found = noise(sampling.target_shape, 0), []
    for threads in (1, 2, 2, 3):
        thread_count(threads)
        gradient = torch.zeros_like(image)
        found.append((term.add_gradient(image, gradient), gradient))
    for value, gradient in found[1:]:
        assert value == found[0][0]
        assert torch.equal(gradient, found[0][1])


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_many_slabs_give_what_the_composition_gives(slice_axis: int) -> None:
    (sampling, fused), (_, composed) = (large_term(k, slice_axis) for k in ("slabs", "voxels"))
    image = noise(sampling.target_shape, 0)
    gradients = [torch.zeros_like(image) for _ in range(2)]
    values = [
        term.add_gradient(image, gradient)
        for term, gradient in zip((fused, composed), gradients, strict=True)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    # Rounding decides about samples on the rim.
    inside = (slice(2, -2),) * 3
    difference = (gradients[0] - gradients[1])[inside].abs()
    assert float(difference.max()) < 1e-4 * float(gradients[1].abs().max())


@thorough
@given(data=st.data())
def test_row_sums_of_sharpened_terms_are_never_negative(
    thick_slice_operators: OperatorStrategy, data: st.DataObject
) -> None:
    sampling = data.draw(thick_slice_operators)().sampling
    scan = torch.zeros(sampling.source_shape)
    inner = SlabDataTerm(sampling, scan, precision_with_holes(sampling.source_shape))
    shape = sampling.target_shape
    plain, sums = torch.zeros(shape), torch.zeros(shape)
    inner.add_row_sums(plain)
    term = SharpenedDataTerm(inner, (0.08, 0.125, 0.0), torch.empty((2, *shape)))
    term.add_row_sums(sums)
    assert float(sums.min()) >= 0
    assert float(sums.sum()) == pytest.approx(float(plain.sum()), rel=1e-4, abs=1e-6)
