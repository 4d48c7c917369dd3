"""Compiled kernels: as the reference, exact transposes, the same bits every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from bids_unires.kernels.sampling import RIM, Sampling
from bids_unires.kernels.warp_backend import SlabInterpolation, VoxelBackend, WarpBackend
from bids_unires.model.scanner.forward import ForwardOperator
from bids_unires.model.scanner.profile import SliceProfile
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

OperatorMaker = Callable[..., ForwardOperator]
OperatorStrategy = st.SearchStrategy[OperatorMaker]

COMPILED = [
    pytest.param("warp", "cpu", id="slabs"),
    pytest.param("warp-voxels", "cpu", id="voxels"),
    pytest.param("warp", "cuda:0", id="cuda", marks=pytest.mark.gpu),
]
EVERY_BACKEND = [pytest.param("reference", "cpu", id="reference"), *COMPILED]

GUARDED = [
    pytest.param(WarpBackend, "cpu", id="slabs"),
    pytest.param(VoxelBackend, "cpu", id="voxels"),
    pytest.param(WarpBackend, "cuda:0", id="cuda", marks=pytest.mark.gpu),
]

thorough = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def guarded(shape: tuple[int, int, int], device: str) -> tuple[Tensor, Tensor]:
    """An image, and the larger piece of memory in the middle of which it lies."""
    size = shape[0] * shape[1] * shape[2]
    beyond = 4 * shape[1] * shape[2] + 64
    memory = torch.zeros(size + 2 * beyond, device=device)
    return memory, memory[beyond : beyond + size].view(shape)


def distance_from_rim(sampling: Sampling) -> float:
    """How close a sample comes to where it stops counting, in voxels of the image."""
    at = np.moveaxis(np.indices(sampling.intermediate_shape), 0, -1)
    at = at @ sampling.matrix[:, :3].T + sampling.matrix[:, 3]
    low = np.abs(at + RIM).min()
    high = np.abs(at - (np.array(sampling.target_shape) - 1 + RIM)).min()
    return float(min(low, high))


def dot(a: Tensor, b: Tensor) -> float:
    return float(torch.sum(a.double() * b.double()))


def assert_close(found: Tensor, expected: Tensor, largest_input: Tensor) -> None:
    # Where a scan barely touches the image its values are small by cancellation.
    scale = max(float(expected.abs().max()), float(largest_input.abs().max()))
    assert float((found.cpu().double() - expected).abs().max()) <= 2e-5 * scale


@pytest.mark.parametrize(("backend", "device"), COMPILED)
@thorough
@given(data=st.data())
def test_compiled_kernels_do_what_the_reference_does(
    operators: OperatorStrategy, backend: str, device: str, data: st.DataObject
) -> None:
    make = data.draw(operators)
    reference, compiled = make(backend="reference"), make(backend=backend)
    # Rounding decides about samples that lie on the rim.
    assume(distance_from_rim(reference.sampling) > 3e-5)
    image, scan = noise(reference.target.shape, 0), noise(reference.source.shape, 1)
    assert_close(compiled.forward(image.to(device)), reference.forward(image.double()), image)
    assert_close(compiled.adjoint(scan.to(device)), reference.adjoint(scan.double()), scan)


@pytest.mark.parametrize(("backend", "device"), GUARDED)
@thorough
@given(data=st.data())
def test_nothing_beyond_the_image_is_read_or_written(
    operators: OperatorStrategy, backend: type[WarpBackend], device: str, data: st.DataObject
) -> None:
    operator = data.draw(operators)()
    kernels = backend(operator.sampling, torch.device(device))
    shape = operator.target.shape
    memory, image = guarded(shape, device)
    memory.fill_(torch.nan)
    image.fill_(1.0)
    assert kernels.forward(image).isfinite().all()
    memory.zero_()
    kernels.add_adjoint(torch.ones(operator.source.shape, device=device), image)
    image.zero_()
    assert not memory.any()


@pytest.mark.parametrize(("backend", "device"), EVERY_BACKEND)
@thorough
@given(data=st.data())
def test_the_adjoint_is_the_exact_transpose(
    operators: OperatorStrategy, backend: str, device: str, data: st.DataObject
) -> None:
    operator = data.draw(operators)(backend=backend)
    # A positive image, so that no prediction is small by cancellation.
    image = noise(operator.target.shape, 0).abs().to(device)
    scan = noise(operator.source.shape, 1).to(device)
    predicted, back = operator.forward(image), operator.adjoint(scan)
    scale = max(dot(predicted, predicted) * dot(scan, scan), 1e-60) ** 0.5
    assert abs(dot(predicted, scan) - dot(image, back)) <= 1e-5 * scale


def oblique_operator(backend: str, profile: SliceProfile) -> ForwardOperator:
    """A scan large enough for many slabs."""
    target = Grid((50, 61, 47), np.eye(4))
    source = Grid((55, 12, 49), np.diag([-1.0, 5.2, 1.0, 1.0]))
    pose = rigid_matrix([52, -3, 1.5, 0.2, -0.3, 0.15])
    return ForwardOperator(target, source, pose=pose, profile=profile, backend=backend)


@pytest.mark.parametrize(("backend", "device"), COMPILED)
@pytest.mark.parametrize("in_plane", ["dirac", "gauss"])
def test_results_have_the_same_bits_for_any_number_of_threads(
    backend: str, device: str, in_plane: str, thread_count: Callable[[int], None]
) -> None:
    operator = oblique_operator(backend, SliceProfile(in_plane))
    image = noise(operator.target.shape, 0).to(device)
    scan = noise(operator.source.shape, 1).to(device)
    found = []
    for threads in (1, 2, 2, 3):
        thread_count(threads)
        found.append((operator.forward(image), operator.adjoint(scan)))
    assert float(found[0][0].abs().max()) > 0.1
    for predicted, back in found[1:]:
        assert torch.equal(predicted, found[0][0])
        assert torch.equal(back, found[0][1])


@pytest.mark.parametrize("spacing", [(0.4, 2.5, 1.0), (1.0, 0.4, 2.5), (2.5, 1.0, 0.4)])
def test_slabs_that_threads_handle_at_once_share_no_voxel(
    spacing: tuple[float, float, float],
) -> None:
    """Else two threads would add to it at the same time, and what one adds would be lost."""
    matrix = rigid_matrix([3.0, 2.0, 1.0, 0.2, 0.1, 0.3])[:3] @ np.diag([*spacing, 1.0])
    side = 60
    slabs = SlabInterpolation((40, 40, 40), (side, 8, 8), matrix)
    assert slabs.slab_count > 2
    thickness = side // slabs.slab_count
    last, next_but_one = (
        np.moveaxis(np.indices((1, 8, 8)), 0, -1).reshape(-1, 3) + np.array([first, 0, 0])
        for first in (0, thickness + 1)
    )
    here, there = (at @ matrix[:, :3].T for at in (last, next_but_one))
    assert np.abs(here[:, None] - there[None]).max(axis=-1).min() >= 2


@pytest.mark.parametrize(("backend", "device"), COMPILED)
def test_many_slabs_do_what_the_reference_does(backend: str, device: str) -> None:
    profile = SliceProfile("dirac", gap=0.2)
    reference, compiled = (oblique_operator(b, profile) for b in ("reference", backend))
    # Among so many samples some lie on the rim: only the voxels inside are compared.
    inside = (slice(1, -1),) * 3
    image, scan = torch.zeros(reference.target.shape), noise(reference.source.shape, 1)
    image[inside] = noise(image[inside].shape, 0)
    assert_close(compiled.forward(image.to(device)), reference.forward(image.double()), image)
    back, expected = compiled.adjoint(scan.to(device)), reference.adjoint(scan.double())
    assert_close(back[inside], expected[inside], scan)


@pytest.mark.parametrize(("backend", "device"), EVERY_BACKEND)
def test_how_an_array_lies_in_memory_does_not_matter(backend: str, device: str) -> None:
    operator = oblique_operator(backend, SliceProfile("dirac"))
    image = noise(operator.target.shape, 0).to(device)
    scan = noise(operator.source.shape, 1).to(device)
    strided_image = image.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    strided_scan = scan.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not strided_image.is_contiguous()
    assert torch.equal(operator.forward(image), operator.forward(strided_image))
    assert torch.equal(operator.adjoint(scan), operator.adjoint(strided_scan))


@pytest.mark.parametrize(("backend", "device"), EVERY_BACKEND)
def test_a_scan_of_another_place_sees_nothing(backend: str, device: str) -> None:
    target = Grid((6, 7, 8), np.eye(4))
    source = Grid((6, 7, 2), np.diag([1.0, 1.0, 4.0, 1.0]))
    operator = ForwardOperator(
        target, source, pose=rigid_matrix([500, -500, 500, 0.3, 0, 0]), backend=backend
    )
    assert not operator.forward(torch.ones(target.shape, device=device)).any()
    assert not operator.adjoint(torch.ones(source.shape, device=device)).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("backend", "device"), EVERY_BACKEND)
def test_a_slightly_tilted_image_of_one_slice_has_no_neighbours(
    backend: str, device: str, axis: int
) -> None:
    shape = [40, 40, 40]
    shape[axis] = 1
    grid = Grid((shape[0], shape[1], shape[2]), np.eye(4))
    pose = rigid_matrix([0, 0, 0, 1e-5, 1e-5, 1e-5])
    operator = ForwardOperator(grid, grid, pose=pose, backend=backend)
    scan = operator.forward(torch.ones(shape, device=device))
    assert operator.adjoint(torch.ones_like(scan)).isfinite().all()
    # Almost nothing is lost but on the two sides where the tilt leaves the image.
    assert float(scan.min()) > 0.999
