"""Derivatives by a rigid motion: those of the plain operator in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_unires.kernels import runtime
from bids_unires.kernels.motion import MotionDerivatives, motion_derivatives
from bids_unires.model import ForwardOperator, SliceProfile
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

GRID = Grid((26, 24, 22), rigid_matrix([1, -2, 3, 0.1, 0.2, -0.1]) @ scaling([1.0, 1.1, 0.9]))
CENTRE = np.array([10.0, 12.0, 8.0])
POSE = rigid_matrix([0.4, -0.7, 0.2, 0.05, -0.04, 0.08])
PROFILES = (
    SliceProfile("dirac", "rect", gap=0.2, axis=2),
    SliceProfile("gauss", "rect", axis=0),
    SliceProfile("dirac", "dirac"),
)


def blob() -> Tensor:
    """A smooth image that is 0 well before its border, where samples begin to count."""
    at = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
    half = (np.array(GRID.shape) - 1) / 2
    radius = np.linalg.norm((at - half) / (half - 6), axis=-1)
    texture = 1 + 0.5 * np.sin(at @ [0.5, 0.3, 0.4])
    return torch.as_tensor(100 * texture * np.clip(1 - radius**2, 0, None) ** 2)


def source(axis: int) -> Grid:
    sizes, shape = np.array([1.0, 1.0, 1.0]), np.array([20, 18, 16])
    sizes[axis], shape[axis] = 3.0, 6
    return Grid(tuple(shape.tolist()), translation([4, 4, 2]) @ scaling(sizes))


def motion(step: NDArray[np.float64]) -> Affine:
    """Rigid motion by a rotation vector about the centre and a translation, both small."""
    angle = float(np.linalg.norm(step[3:]))
    rotation = np.eye(4)
    if angle > 0:
        x, y, z = step[3:] / angle
        skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        rotation[:3, :3] += np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
    return translation(CENTRE + step[:3]) @ rotation @ translation(-CENTRE)


def predicted(profile: SliceProfile, axis: int, step: NDArray[np.float64]) -> Tensor:
    operator = ForwardOperator(
        GRID, source(axis), pose=motion(step) @ POSE, profile=profile, backend="reference"
    )
    return operator.forward(blob())


def compiled(
    profile: SliceProfile, axis: int, scan: Tensor, precision: Tensor, voxels: int | None = None
) -> MotionDerivatives:
    operator = ForwardOperator(GRID, source(axis), pose=POSE, profile=profile)
    to_world = translation(-CENTRE) @ POSE @ operator.intermediate.grid.affine
    return motion_derivatives(
        operator.sampling,
        to_world[:3],
        GRID.affine[:3, :3],
        blob().float(),
        scan.float(),
        precision.float(),
        voxels=voxels,
    )


def case(axis: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(axis)
    shape = source(axis).shape
    precision = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (
        torch.randn(shape, generator=generator, dtype=torch.float64) * 5 + 30,
        torch.where(precision > 0.3, precision, 0.0),
    )


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("profile", PROFILES, ids=["rect with gap", "gauss in plane", "points"])
def test_derivatives_are_those_of_the_plain_operator(profile: SliceProfile, axis: int) -> None:
    scan, precision = case(axis)
    steps = 1e-4 * np.diag([1, 1, 1, 0.01, 0.01, 0.01])
    slopes = torch.stack(
        [
            (predicted(profile, axis, step) - predicted(profile, axis, -step))
            / (2 * np.linalg.norm(step))
            for step in steps
        ]
    ).reshape(6, -1)
    residual = (predicted(profile, axis, np.zeros(6)) - scan).reshape(-1)
    weights = precision.reshape(-1)
    found = compiled(profile, axis, scan, precision)
    assert found.cost == pytest.approx(float(0.5 * (weights * residual**2).sum()), rel=1e-5)
    gradient = (slopes @ (weights * residual)).numpy()
    np.testing.assert_allclose(found.gradient, gradient, rtol=0, atol=2e-3 * abs(gradient).max())
    hessian = (slopes @ (weights * slopes).T).numpy()
    sizes = np.sqrt(np.diag(hessian))
    np.testing.assert_allclose(
        found.hessian / np.outer(sizes, sizes), hessian / np.outer(sizes, sizes), atol=2e-3
    )


def test_some_rows_stand_for_all() -> None:
    scan, precision = case(2)
    every = compiled(PROFILES[0], 2, scan, precision)
    some = compiled(PROFILES[0], 2, scan, precision, voxels=scan.numel() // 3)
    # Of the rows less than a third are looked at; sums are on the scale of all of them.
    assert some.cost == pytest.approx(every.cost, rel=0.35)
    assert some.cost != every.cost
    np.testing.assert_allclose(np.diag(some.hessian), np.diag(every.hessian), rtol=0.35)


def test_the_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, precision = case(1)
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(runtime, "thread_count", lambda threads=threads: threads)
        results.append(compiled(PROFILES[1], 1, scan, precision))
    for other in results[1:]:
        assert other.cost == results[0].cost
        np.testing.assert_array_equal(other.hessian, results[0].hessian)


@pytest.mark.gpu
def test_the_gpu_finds_the_same_derivatives() -> None:
    scan, precision = case(0)
    cpu = compiled(PROFILES[1], 0, scan, precision)
    operator = ForwardOperator(GRID, source(0), pose=POSE, profile=PROFILES[1])
    to_world = translation(-CENTRE) @ POSE @ operator.intermediate.grid.affine
    gpu = motion_derivatives(
        operator.sampling,
        to_world[:3],
        GRID.affine[:3, :3],
        *(values.float().cuda() for values in (blob(), scan, precision)),
    )
    np.testing.assert_allclose(gpu.hessian, cpu.hessian, rtol=1e-4)
