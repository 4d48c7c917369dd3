"""Solving for images, poses and weights where the head moved between the slices of a scan.

A stack is first placed as a whole, then taken apart from coarse to fine: packages of slices
that were acquired one after the other, halves of these, quarters. Each time poses of the
groups, weights and images take turns as in `solve.repeats`. A stack is divided (further) only
where its slices say that parts of it lie elsewhere; one that held still is fitted as if
nobody had asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...config import Modality
from ...space.affines import Affine
from ...space.grid import Grid
from ..detail.term import LearnedDetail
from ..intensity.scan_state import ScanState, SlicePlan, observations_of
from ..scanner.observation import Observation
from ..scanner.profile import POINTS, SliceProfile
from ..scanner.slice_groups import (
    SliceGroup,
    SliceMotion,
    SliceOrder,
    correct_interleave,
    merge_slices,
    slice_factors,
    split,
    usual_order,
)
from ..solve.pose import displacement, mean_pose, remove_common_motion
from ..solve.problem import Problem, Stop
from ..solve.repeat_weights import reweight_repeats
from ..solve.repeats import Fitted, solve_with_repeats
from ..solve.solver import Listener, Solution, continue_solving
from . import division, single_scan
from .pose import motion_parameters, refine_group_poses, slice_evidence
from .single_scan import limit_precision, predict_from_other_contrasts, split_is_more_probable

logger = logging.getLogger("bids_unires")

LARGEST_MOTION_MM = 8.0
"""Slices of a scan may move as far beyond its box and still be predicted in full."""

THICK = 2.0
"""Slices this many times as far apart as voxels in their plane were acquired one by one."""

_MOST_ROUNDS = 8
_ITERATIONS_PER_ROUND = 6
_SETTLED_POSES_MM = 0.1
_SETTLED_SCALES = 0.05
# Into how many parts in time each package of slices is divided, level by level.
_PARTS = (1, 2, 4)


def usual_plan(profile: SliceProfile, grid: Grid, modality: Modality) -> SlicePlan:
    """Thick slices of MR in the order that is usual; every other scan is kept whole.

    Parameters
    ----------
    profile
        Slice profile of the scan.
    grid
        Its voxels.
    modality
        MR or CT.
    """
    axis = profile.slice_axis(grid)
    if modality != "MR" or profile.through_plane in POINTS:
        return None
    sizes = grid.voxel_size
    is_thick = bool(sizes[axis] >= THICK * np.delete(sizes, axis).max())
    return usual_order(grid.shape[axis]) if is_thick else None


def solve_with_slice_motion(
    problem: Problem,
    stop: Stop,
    start: Tensor | None = None,
    on_progress: Listener | None = None,
) -> Fitted:
    """Solve for the images and for the poses of scans and of groups of their slices.

    Parameters
    ----------
    problem
        Its scans say what is known of their slices. Where it does not refine poses, only those
        scans are taken apart of which it is known how their slices moved. Details have a say once
        slices have found their places, where scans stay whole.
    stop, start, on_progress
        As for `solve_with_repeats`.
    """
    if problem.refines_poses:
        brief = stop.after(_ITERATIONS_PER_ROUND)
        whole = solve_with_repeats(problem.without_detail(), brief, start, on_progress)
        fit = _Fit(problem, stop, whole, on_progress)
        fit.find_motion()
    else:
        solution = Solution(problem.start(start), (), False)
        fit = _Fit(problem, stop, Fitted(problem.contrasts, solution), on_progress)
        fit.weigh()
    return fit.finished()


@dataclass(frozen=True, eq=False)
class _Stack:
    """A scan, taken apart into groups of slices or not.

    Nothing makes even and odd slices of ``scan`` differ. Its pose is the mean of the groups'.
    ``given`` is the scan as it came in, and the scale of its residuals as it was found.
    """

    given: ScanState
    scan: Observation
    order: SliceOrder | None
    groups: tuple[SliceGroup, ...] = ()
    poses: tuple[Affine, ...] = ()
    source: str = ""

    @property
    def parts(self) -> list[Observation]:
        return split(self.scan, self.groups, self.poses) if self.groups else [self.scan]

    @property
    def part_states(self) -> list[ScanState]:
        return [self.given.of(part) for part in self.parts]

    @property
    def motion(self) -> SliceMotion | None:
        if not self.groups:
            return None
        back = np.linalg.inv(self.scan.world_pose)
        return SliceMotion(self.groups, tuple(back @ pose for pose in self.poses), self.source)

    def moved(self, poses: Sequence[Affine]) -> _Stack:
        if not self.groups:
            return replace(self, scan=replace(self.scan, pose=poses[0]))
        scan = replace(self.scan, pose=mean_pose(poses))
        return replace(self, scan=scan, poses=tuple(poses))

    def weighed(self, parts: Sequence[ScanState]) -> _Stack:
        """With the precisions that its parts have, and the largest scale of their residuals."""
        scans = observations_of(parts)
        taus = [np.full(part.data.shape, part.tau, dtype=np.float32) for part in scans]
        axis = self.scan.profile.slice_axis(self.scan.grid)
        tau = merge_slices(taus, self.groups, self.scan.grid, axis) if self.groups else taus[0]
        scale = max(part.residual_scale for part in parts)
        given = replace(self.given, residual_scale=scale)
        return replace(self, given=given, scan=replace(self.scan, tau=tau))

    def found(self) -> ScanState:
        """The scan as it came in, with the pose, the precision and the motion found."""
        tau = self.scan.tau
        given = self.given.observation
        if given.interleave:
            tau = np.asarray(tau / slice_factors(given) ** 2, dtype=np.float32)
        observation = replace(given, pose=self.scan.pose, tau=tau)
        return replace(self.given, observation=observation, motion=self.motion)

    def refined(self, grid: Grid, image: Tensor, sd: float) -> list[Affine]:
        """Poses of its parts at which an image with an error of its own predicts them best."""
        parts = [limit_precision(part, sd) for part in self.parts]
        return refine_group_poses(parts, self.scan.world_pose, grid, image)

    def divided(self, parts: int, grid: Grid, image: Tensor, sd: float) -> _Stack:
        """Taken apart (further) where that is worth it, its slices where they were."""
        if self.order is None:
            return self
        groups = self.groups or (tuple(range(self.order.count)),)
        poses = self.poses or (self.scan.world_pose,)
        group_of = {index: place for place, group in enumerate(groups) for index in group}
        places = [group_of[index] for index in range(self.order.count)]
        found = division.divide_stack(
            self.order,
            parts,
            slice_evidence(limit_precision(self.scan, sd), groups, poses, grid, image),
            motion_parameters(poses, self.scan.world_pose, grid)[places],
            single_scan.WORTHWHILE_MM if sd > 0 else division.WORTHWHILE_MM,
        )
        if found is None:
            return self
        order, finer = found
        return replace(
            self,
            order=replace(order, certain=True),
            groups=finer,
            poses=tuple(poses[group_of[group[0]]] for group in finer),
            source=order.source,
        )


class _Fit:
    """Images, and stacks that are taken apart, on their way to each other.

    Parameters
    ----------
    problem
        As it was given.
    stop
        Of the last turn.
    begun
        Contrasts and images to begin with.
    on_progress
        Called after every iteration.
    """

    def __init__(
        self, problem: Problem, stop: Stop, begun: Fitted, on_progress: Listener | None
    ) -> None:
        self._problem = problem
        self._stop = stop
        self._grid = problem.grid
        self._on_progress = on_progress
        self._stacks = [[_stack(scan) for scan in own.scans] for own in begun.contrasts]
        self._solution = begun.solution

    def find_motion(self) -> None:
        """Take stacks apart, from coarse to fine, for as long as that is worth it."""
        for parts in _PARTS:
            before = self._stacks
            self._stacks = [
                self._divided(index, parts) for index in range(len(self._solution.images))
            ]
            if _same(before, self._stacks):
                # Runs of slices may have moved where packages as a whole have not.
                continue
            for _ in range(_MOST_ROUNDS):
                moved = self._move()
                self._reweigh()
                logger.info("groups of slices moved by up to %.3f mm", moved)
                self._sharpen()
                if moved < _SETTLED_POSES_MM:
                    break
        self._put_together()

    def weigh(self) -> None:
        """Let images and weights settle, the poses given."""
        if all(len(own) == 1 for own in self._stacks):
            return
        for _ in range(_MOST_ROUNDS):
            self._sharpen()
            before = self._residual_scales()
            self._reweigh()
            if np.abs(np.log(self._residual_scales() / before)).max() < _SETTLED_SCALES:
                break

    def finished(self) -> Fitted:
        """Let the solver have the last word, beside the details of scans that stay whole."""
        contrasts = []
        for contrast, stacks in zip(self._problem.contrasts, self._stacks, strict=True):
            found = replace(contrast, scans=tuple(stack.found() for stack in stacks))
            whole = all(stack.motion is None for stack in stacks)
            detail = contrast.placed_as(found).detail if whole else None
            contrasts.append(replace(found, detail=detail))
        details = [contrast.detail for contrast in contrasts]
        solution = continue_solving(
            self._apart(details), self._stop, self._solution, self._on_progress
        )
        return Fitted(tuple(contrasts), solution)

    def _apart(self, details: Sequence[LearnedDetail | None] = ()) -> Problem:
        """The problem with every group of slices as a scan of its own."""
        contrasts = tuple(
            replace(contrast, scans=tuple(part for stack in stacks for part in stack.part_states))
            for contrast, stacks in zip(self._problem.contrasts, self._stacks, strict=True)
        )
        problem = self._problem.of(contrasts)
        return problem.without_detail() if not details else problem.detailed(details)

    def _sharpen(self) -> None:
        """Let the solver go on for a few iterations, everything else given."""
        brief = self._stop.after(_ITERATIONS_PER_ROUND)
        self._solution = continue_solving(self._apart(), brief, self._solution, self._on_progress)

    def _residual_scales(self) -> NDArray[np.float64]:
        return np.array([stack.given.residual_scale for own in self._stacks for stack in own])

    def _divided(self, index: int, parts: int) -> list[_Stack]:
        own = self._stacks[index]
        if not self._moves(index):
            return own
        image, sd = self._reference(index)
        return [stack.divided(parts, self._grid, image, sd) for stack in own]

    def _moves(self, index: int) -> bool:
        """Whether anything says where the scans of a contrast, or parts of them, lie."""
        own = self._stacks[index]
        if len(own) > 1:
            return True
        return own[0].order is not None and len(self._stacks) > 1

    def _reference(self, index: int) -> tuple[Tensor, float]:
        """Image to move the scans of a contrast to, and its own error in intensity."""
        images, own = self._solution.images, self._stacks[index]
        if len(own) > 1:
            return images[index], 0.0
        others = [image for other, image in enumerate(images) if other != index]
        return predict_from_other_contrasts(own[0].parts, others, self._grid)

    def _move(self) -> float:
        """Refine the poses of all parts; return how far (mm) any of them moved."""
        furthest = 0.0
        for index, own in enumerate(self._stacks):
            if not self._moves(index) or not (len(own) > 1 or own[0].groups):
                continue
            image, sd = self._reference(index)
            before = [part.world_pose for stack in own for part in stack.parts]
            refined = [pose for stack in own for pose in stack.refined(self._grid, image, sd)]
            after = remove_common_motion(before, refined)
            for old, new in zip(before, after, strict=True):
                furthest = max(furthest, displacement(old, new, self._grid))
            poses = iter(after)
            self._stacks[index] = [stack.moved([next(poses) for _ in stack.parts]) for stack in own]
        return furthest

    def _put_together(self) -> None:
        """Leave single scans whole where that is the better explanation after all."""
        images = self._solution.images
        for index, own in enumerate(self._stacks):
            motion = own[0].motion
            if len(own) > 1 or motion is None:
                continue
            moved = replace(own[0].given, observation=own[0].scan, motion=motion)
            if not split_is_more_probable(self._problem, index, moved, images):
                logger.info("contrast %d: slices of its only scan stay together", index + 1)
                whole = replace(own[0], groups=(), poses=())
                image, sd = self._reference(index)
                self._stacks[index] = [whole.moved(whole.refined(self._grid, image, sd))]

    def _reweigh(self) -> None:
        """Give all parts of repeats the precisions that their residuals call for."""
        for index, image in enumerate(self._solution.images):
            stacks = self._stacks[index]
            if len(stacks) == 1:
                continue
            counts = [len(stack.parts) for stack in stacks]
            parts = [part for stack in stacks for part in stack.part_states]
            weighed = iter(reweight_repeats(parts, self._grid, image))
            self._stacks[index] = [
                stack.weighed([next(weighed) for _ in range(count)])
                for stack, count in zip(stacks, counts, strict=True)
            ]


def _stack(scan: ScanState) -> _Stack:
    even = correct_interleave(scan.observation)
    plan = scan.slices
    if isinstance(plan, SliceMotion):
        return _Stack(scan, even, None, plan.groups, plan.poses(even.world_pose), plan.source)
    return _Stack(scan, even, plan)


def _same(before: list[list[_Stack]], after: list[list[_Stack]]) -> bool:
    pairs = zip(before, after, strict=True)
    return all(old is new for own, new_own in pairs for old, new in zip(own, new_own, strict=True))
