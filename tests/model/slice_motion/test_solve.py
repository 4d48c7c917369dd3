"""Stacks whose slices moved: what placing their groups is worth, and that it costs nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from bids_unires.config import ModelSettings
from bids_unires.demo.phantom import Anatomy, build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, Plane, add_rician_noise, scan_grid, thick_slices
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.errors import UsageError
from bids_unires.model import Observation, Reconstruction, SliceProfile, super_resolve
from bids_unires.model.intensity.noise import NoiseEstimate
from bids_unires.model.intensity.scan_state import ScanState
from bids_unires.model.scanner.profile import profile_for_voxels
from bids_unires.model.scanner.slice_groups import SliceGroup, interleaved_order
from bids_unires.model.slice_motion.solve import solve_with_slice_motion
from bids_unires.model.solve.pose import refine_poses
from bids_unires.model.solve.problem import Stop
from bids_unires.model.state import ContrastState
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import mean_pose
from bids_unires.space.volume import Volume
from tests.model.slice_motion.test_pose import GRID as MOVED_GRID
from tests.model.slice_motion.test_pose import moved_stack
from tests.model.states import UNIT_NOISE, contrast_of, motion_of, problem_of

SETTINGS = ModelSettings(voxel_size=(2, 2, 2), tolerance=1e-4, max_iter=30, learning_effort="brief")
MOVING = replace(SETTINGS, slice_motion=True)
PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "transverse")
BASES = (
    Motion(),
    Motion((1.8, -1.1, 2.0), (2.5, -2.0, 1.2)),
    Motion((-1.6, 2.0, -1.4), (-1.1, 1.8, -2.0)),
)
LARGEST = 3.0


@dataclass(frozen=True)
class Stacks:
    """Scans of the middle of a head, and where each slice of them lay."""

    truths: list[Volume]
    scans: list[Volume]
    groups: list[tuple[SliceGroup, ...]]
    known: list[list[Affine]]

    def quality(self, result: Reconstruction, contrast: int, numbers: Sequence[int]) -> float:
        """PSNR (dB) after the rigid motion that the scans leave open is taken out."""
        gauge = mean_pose(
            [
                true @ np.linalg.inv(pose)
                for number in numbers
                for true, pose in zip(
                    self.known[number], self._poses(result, contrast, number, numbers), strict=True
                )
            ]
        )
        truth = self.truths[contrast]
        image = result.images[contrast]
        seen = Observation(image, result.grid.affine, 1.0, SliceProfile("dirac", "dirac"), gauge)
        # Refined poses are mean-corrected: a scan that sees nothing tells by how much.
        gauge = refined(seen, truth)
        inside = resample(
            Volume(np.ones_like(truth.data), truth.affine), result.grid, gauge, 1, "constant"
        )
        margin = np.zeros(result.grid.shape, dtype=bool)
        margin[5:-5, 5:-5, 5:-5] = True
        return psnr(image, resample(truth, result.grid, gauge, 3), margin & (inside > 0.99))

    def _poses(
        self, result: Reconstruction, contrast: int, number: int, numbers: Sequence[int]
    ) -> list[Affine]:
        repeat = numbers.index(number)
        pose = result.poses[contrast][repeat]
        motion = result.fit.slice_motions[contrast][repeat] if result.fit.slice_motions else None
        if motion is None:
            return [pose] * len(self.groups[number])
        found = {index: pose @ moved.motion for moved in motion.groups for index in moved.slices}
        return [mean_pose([found[index] for index in group]) for group in self.groups[number]]


@functools.cache
def head() -> Anatomy:
    return build_anatomy(load_icbm152(), PARTICIPANTS[0])


def refined(image: Observation, truth: Volume) -> Affine:
    """Pose at which an image agrees best with the truth, near where it lies."""
    still = replace(image, data=np.full_like(image.data, np.nan))
    first, second = refine_poses([image, still], truth.grid, torch.as_tensor(truth.data))
    return np.asarray(image.world_pose @ np.linalg.inv(second.after) @ first.after)


def middle(truth: Grid) -> Grid:
    """A box in the middle of a head that keeps a test short."""
    sides = (72, 80, 72)
    corner = (np.array(truth.shape) - sides) // 2
    return Grid(sides, truth.affine @ translation(corner))


def moved_stacks(
    contrasts: Sequence[int], packages: int, largest: float, seed: int, *, runs: bool = False
) -> Stacks:
    """Stacks of 4 mm in orthogonal planes, 2 mm in plane, noise 1.5 % of the maximum.

    Packages of slices (or runs of neighbours) moved by up to ``largest`` mm and degrees.
    """
    anatomy = head()
    rng = np.random.default_rng(seed)
    truths = {
        contrast: Volume(
            anatomy.image(PROTOCOLS[contrast].intensities, PROTOCOLS[contrast].texture_gain),
            anatomy.grid.affine,
        )
        for contrast in set(contrasts)
    }
    scans, all_groups, all_known = [], [], []
    for contrast, plane, base in zip(contrasts, PLANES, BASES, strict=True):
        full = scan_grid(middle(anatomy.grid), plane, 4.0)
        grid = Grid(
            (full.shape[0] // 2, full.shape[1] // 2, full.shape[2]),
            full.affine @ scaling([2.0, 2.0, 1.0]),
        )
        order = interleaved_order(grid.shape[2], 1 if runs else packages, "truth")
        groups = order.groups(packages if runs else 1)
        data, known = np.zeros(grid.shape, np.float32), []
        for group in groups:
            shift, turn = rng.uniform(-largest, largest, (2, 3)).tolist()
            pose = base.scanner_to_head @ Motion(tuple(shift), tuple(turn)).scanner_to_head
            step = group[1] - group[0]
            part = Grid(
                (*grid.shape[:2], len(group)),
                grid.affine @ translation([0, 0, group[0]]) @ scaling([1, 1, step]),
            )
            data[:, :, group] = thick_slices(truths[contrast], part, 4.0, pose)
            known.append(pose)
        sd = 0.015 * float(truths[contrast].data.max())
        scans.append(Volume(add_rician_noise(data, sd, rng), grid.affine))
        all_groups.append(groups)
        all_known.append(known)
    return Stacks([truths[c] for c in sorted(truths)], scans, all_groups, all_known)


def start() -> list[Affine]:
    return [base.scanner_to_head for base in BASES]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "runs", "seeds"), [(2, False, (7,)), (4, False, (7, 8)), (2, True, (7,))]
)
def test_groups_of_slices_that_moved_gain_two_decibels(
    packages: int, runs: bool, seeds: Sequence[int]
) -> None:
    gains = []
    for seed in seeds:
        stacks = moved_stacks([0, 0, 0], packages, LARGEST, seed=seed, runs=runs)
        moving = super_resolve([stacks.scans], MOVING, "cpu", poses=[start()])
        plain, alike = (
            super_resolve([stacks.scans], SETTINGS, "cpu", poses=[start()], lam=lam)
            for lam in (None, moving.fit.lam)
        )
        numbers = range(3)
        still = max(stacks.quality(other, 0, numbers) for other in (plain, alike))
        gains.append(stacks.quality(moving, 0, numbers) - still)
        for motion, number in zip(moving.fit.slice_motions[0], numbers, strict=True):
            assert motion is not None
            count = stacks.scans[number].data.shape[2]
            assert sorted(i for group in motion.groups for i in group.slices) == list(range(count))
        for before, after in zip(alike.fit.residuals[0], moving.fit.residuals[0], strict=True):
            assert after.robust_sd < before.robust_sd
    assert np.mean(gains) > 2


def test_a_scan_lies_where_its_slices_lie_on_average() -> None:
    order = interleaved_order(12, 2, "test")
    scans = tuple(ScanState.as_acquired(moved_stack(axis), UNIT_NOISE, order) for axis in (2, 0))
    repeats = ContrastState("MR", scans, weight=0.01)
    problem = problem_of(repeats, grid=MOVED_GRID, refines_poses=True)
    (found,) = solve_with_slice_motion(problem, Stop(1e-2, 4)).contrasts
    for scan in found.scans:
        assert scan.motion is not None
        away = mean_pose([group.motion for group in scan.motion.groups])
        np.testing.assert_allclose(away, np.eye(4), atol=1e-6)


@pytest.mark.slow
def test_heads_that_held_still_are_fitted_as_before() -> None:
    stacks = moved_stacks([0, 0, 0], 2, 0.0, seed=8)
    plain, moving = (
        super_resolve([stacks.scans], settings, "cpu", poses=[start()])
        for settings in (SETTINGS, MOVING)
    )
    assert moving.fit.slice_motions == ((None, None, None),)
    assert stacks.quality(moving, 0, range(3)) > stacks.quality(plain, 0, range(3)) - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("largest", [0.0, LARGEST])
def test_single_scans_of_contrasts_are_placed_by_the_others(largest: float) -> None:
    stacks = moved_stacks([0, 1, 2], 2, largest, seed=9)
    results = [
        super_resolve(
            [[scan] for scan in stacks.scans], settings, "cpu", poses=[[pose] for pose in start()]
        )
        # Slices that moved have no learned detail, which is not the question here.
        for settings in (replace(one, learned_detail=largest == 0) for one in (SETTINGS, MOVING))
    ]
    gains = []
    for contrast in range(3):
        plain, moving = (stacks.quality(result, contrast, [contrast]) for result in results)
        gains.append(moving - plain)
    assert min(gains) > -0.1
    if largest:
        assert np.mean(gains) > 1
    else:
        assert results[1].fit.slice_motions == ((None,),) * 3


@pytest.mark.slow
def test_a_known_motion_is_taken_as_it_is() -> None:
    stacks = moved_stacks([0, 0, 0], 2, LARGEST, seed=7)
    plans = [
        [
            motion_of(groups, [np.linalg.inv(pose) @ true for true in known])
            for groups, pose, known in zip(stacks.groups, start(), stacks.known, strict=True)
        ]
    ]
    fixed = replace(SETTINGS, unified_rigid=False)
    given = super_resolve([stacks.scans], fixed, "cpu", poses=[start()], slices=plans)
    whole = super_resolve([stacks.scans], fixed, "cpu", poses=[start()])
    for motion, plan in zip(given.fit.slice_motions[0], plans[0], strict=True):
        assert motion is not None
        for found, given_group in zip(motion.groups, plan.groups, strict=True):
            assert found.slices == given_group.slices
            np.testing.assert_allclose(found.motion, given_group.motion, atol=1e-9)
    assert stacks.quality(given, 0, range(3)) > stacks.quality(whole, 0, range(3)) + 2


@pytest.mark.slow
def test_precisions_are_those_of_the_scans_as_given() -> None:
    stacks = moved_stacks([0, 0, 0], 2, 0.0, seed=8)
    grid = Grid((36, 40, 36), middle(head().grid).affine @ scaling([2, 2, 2]))
    scans = [
        Observation(
            scan.data, scan.affine, 0.01, profile_for_voxels(scan.grid, (2, 2, 2)), pose, sign * 0.1
        )
        for scan, pose, sign in zip(stacks.scans[:2], start(), (1, -1), strict=False)
    ]
    noise = NoiseEstimate(10.0, 0.0, 500.0, "rice-mixture")
    problem = problem_of(*(contrast_of([scan], 0.01, noise) for scan in scans), grid=grid)
    fitted = solve_with_slice_motion(problem, Stop(1e-4, 1))
    for scan, contrast in zip(scans, fitted.contrasts, strict=True):
        (found,) = contrast.observations
        assert found.interleave == scan.interleave
        np.testing.assert_allclose(found.tau, 0.01, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"method": "denoise"}, {"unified_rigid": False}, {"robust": True}]
)
def test_settings_that_contradict_each_other(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--slice-motion"):
        ModelSettings(slice_motion=True, **wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_scans_that_stay_whole_keep_their_detail() -> None:
    stacks = moved_stacks([0, 1, 2], 2, LARGEST, seed=7)
    plan = motion_of(stacks.groups[0], stacks.known[0])
    scans = [[scan] for scan in stacks.scans]
    poses = [[pose] for pose in start()]
    still = replace(SETTINGS, unified_rigid=False)
    plans = [[plan], [None], [None]]
    with_detail, without = (
        super_resolve(scans, settings, "cpu", poses=poses, slices=plans)
        for settings in (still, replace(still, learned_detail=False))
    )
    taken_apart, *whole = with_detail.fit.details
    assert taken_apart is None
    assert None not in whole
    assert np.abs(with_detail.images[1] - without.images[1]).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("reg_scale", [4.0, "auto"])
def test_a_single_scan_that_nothing_places_has_its_detail(reg_scale: float | str) -> None:
    stack = moved_stacks([0, 1, 2], 2, 0.0, seed=8)
    whole, moving = (
        super_resolve([stack.scans[:1]], replace(settings, reg_scale=reg_scale), "cpu")
        for settings in (SETTINGS, MOVING)
    )
    assert moving.fit.slice_motions == ((None,),)
    assert moving.fit.details == whole.fit.details
    assert moving.fit.details[0] is not None
    # Beyond the scan, images depend on how much room there is for motion.
    inner = np.zeros(whole.grid.shape, dtype=bool)
    inner[5:-5, 5:-5, 5:-5] = True
    assert psnr(moving.images[0], whole.images[0], inner) > 40
