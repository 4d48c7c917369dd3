"""Images, poses and weights that settle together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_unires.model import ForwardOperator, NoiseEstimate, Observation, SliceProfile, solve
from bids_unires.model.solve.pose import displacement
from bids_unires.model.solve.problem import Stop
from bids_unires.model.solve.repeats import Fitted, solve_with_repeats
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from tests.model.states import contrast_of, problem_of

SHAPE = (24, 20, 16)
NOISE_SD = 2.0
NOISE = NoiseEstimate(NOISE_SD, 0.0, 100.0, "rice-mixture")


def normal(sd: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=sd, size=SHAPE).astype(np.float32)


def repeats(count: int, corrupted: bool) -> list[Observation]:
    """Scans of a block, the last one with a quarter of its slices spoiled if asked for."""
    block = np.full(SHAPE, 40.0, dtype=np.float32)
    block[6:18, 5:15, 4:12] = 120.0
    scans = [block + normal(NOISE_SD, seed) for seed in range(count)]
    if corrupted:
        scans[-1][::4] *= 0.3
    points = SliceProfile("dirac", "dirac")
    return [Observation(scan, np.eye(4), NOISE_SD**-2, points) for scan in scans]


def error(images: torch.Tensor) -> float:
    """Root mean square distance to the block, away from the box's faces."""
    clean = repeats(1, False)[0].data - normal(NOISE_SD, 0)
    inner = (slice(1, -1),) * 3
    return float(np.sqrt(np.mean((images[0].numpy() - clean)[inner] ** 2)))


def weighted_error(count: int, corrupted: bool) -> float:
    contrast = contrast_of(repeats(count, corrupted), 0.02, NOISE)
    problem = problem_of(contrast, grid=Grid(SHAPE, np.eye(4)))
    found = solve_with_repeats(problem, Stop(1e-4, 60))
    return error(found.solution.images)


def plain_error(count: int, corrupted: bool) -> float:
    grid = Grid(SHAPE, np.eye(4))
    return error(solve([repeats(count, corrupted)], grid, [0.02], device="cpu").images)


def test_spoiled_slices_are_not_believed() -> None:
    assert weighted_error(4, True) < 0.5 * plain_error(4, True)


def test_repeats_count_whatever_the_other_contrasts_have() -> None:
    repeated, single = (contrast_of(repeats(n, n > 1), 0.02, NOISE) for n in (4, 1))
    problem = problem_of(repeated, single, grid=Grid(SHAPE, np.eye(4)))
    found = solve_with_repeats(problem, Stop(1e-4, 60))
    assert error(found.solution.images) < 0.5 * plain_error(4, True)


def test_repeats_that_agree_are_averaged_as_before() -> None:
    assert weighted_error(3, False) == pytest.approx(plain_error(3, False), rel=0.02)


def test_a_single_scan_is_left_alone() -> None:
    assert weighted_error(1, True) == pytest.approx(plain_error(1, True), rel=1e-6)


HEAD = Grid((56, 60, 52), translation([-27.5, -29.5, -25.5]))
TRUE = (
    np.eye(4),
    rigid_matrix([-1.0, 0.8, -0.6, 0.02, -0.03, 0.01]),
    rigid_matrix([0.7, -0.6, 0.5, -0.03, 0.03, 0.0]),
)


def head_stacks() -> list[Observation]:
    """Three orthogonal stacks of a textured head that moved in between."""
    at = np.stack(np.meshgrid(*map(np.arange, HEAD.shape), indexing="ij"), axis=-1)
    half = (np.array(HEAD.shape) - 1) / 2
    radius = np.linalg.norm((at - half) / (half - 7), axis=-1)
    texture = 1 + 0.4 * np.sin(at @ [0.5, 0.2, 0.3]) * np.cos(at @ [0.1, 0.4, -0.3])
    head = torch.as_tensor(100 * texture / (1 + np.exp(12 * (radius - 1))), dtype=torch.float32)
    scans, profile = [], SliceProfile("dirac", "rect")
    for axis, pose in enumerate(TRUE):
        sizes, shape = np.ones(3), np.array([48, 52, 44])
        sizes[axis], shape[axis] = 4.0, shape[axis] // 4
        affine = scaling(sizes) @ translation(-(shape - 1) / 2)
        grid = Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)
        clean = ForwardOperator(HEAD, grid, pose=pose, profile=profile).forward(head).numpy()
        noise = np.random.default_rng(axis).normal(scale=NOISE_SD, size=grid.shape)
        data = (clean + noise).astype(np.float32)
        scans.append(Observation(data, affine, NOISE_SD**-2, profile, pose))
    return scans


def misplaced(scans: list[Observation]) -> list[Observation]:
    motions = ([0.4, -0.3, 0.2, 0.01, 0.0, 0.01], [-0.5, 0.2, 0.4, 0.0, 0.01, -0.01])
    moved = [
        replace(scan, pose=rigid_matrix(motion) @ scan.world_pose)
        for scan, motion in zip(scans[1:], motions, strict=True)
    ]
    return [scans[0], *moved]


def fitted(scans: list[Observation], move: bool) -> Fitted:
    problem = problem_of(contrast_of(scans, 0.02, NOISE), grid=HEAD, refines_poses=move)
    return solve_with_repeats(problem, Stop(1e-3, 30))


def furthest_off(poses: list[Affine]) -> float:
    return max(
        displacement(truth, np.linalg.inv(poses[0]) @ pose, HEAD)
        for pose, truth in zip(poses[1:], TRUE[1:], strict=True)
    )


def test_poses_are_found_with_the_images() -> None:
    scans = misplaced(head_stacks())
    assert furthest_off([scan.world_pose for scan in scans]) > 0.5
    moved, fixed, known = (fitted(scans, True), fitted(scans, False), fitted(head_stacks(), False))
    assert furthest_off([scan.world_pose for scan in moved.contrasts[0].observations]) < 0.1
    end, worse, best = (f.solution.history[-1].objective for f in (moved, fixed, known))
    assert end - best < 0.1 * (worse - best)
    for scan, given in zip(fixed.contrasts[0].observations, scans, strict=True):
        np.testing.assert_array_equal(scan.pose, given.pose)


def test_point_samples_that_end_within_the_grid_leave_no_wild_voxels() -> None:
    profile = SliceProfile("point", "rect")
    scans = [[replace(scan, profile=profile)] for scan in head_stacks()]
    found = [
        solve(scans, HEAD, [0.05] * 3, tolerance=1e-5, max_iter=150, device="cpu", start=start)
        for start in (None, torch.zeros(3, *HEAD.shape))
    ]
    first, second = (solution.history[-1].objective for solution in found)
    assert first == pytest.approx(second, rel=2e-3)
    for solution in found:
        assert float(solution.images.abs().max()) < 250
