"""Solving for images, poses and weights where the head moved between the slices of a scan.

A stack is first placed as a whole. Then it is split from coarse to fine: into packages of slices
that were acquired one after the other, halves of packages, and quarters. After each division poses
of the groups, weights and images take turns, as in `solve.repeats`. A stack is split (further) only
if its slices show that parts of it lie elsewhere. One that held still is fitted as if slice motion
had not been asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...config import Modality
from ...space.affines import Affine
from ...space.grid import Grid
from ...space.rigid import mean_pose
from ..intensity.scan_state import ScanState, SlicePlan
from ..scanner.observation import Observation
from ..scanner.profile import POINTS, SliceProfile
from ..scanner.slice_groups import (
    MovedGroup,
    SliceMotion,
    SliceOrder,
    correct_interleave,
    merge_slices,
    select_slices,
    slice_factors,
    usual_order,
)
from ..solve.pose import PoseUpdate, remove_common_motion
from ..solve.problem import Problem, Stop
from ..solve.repeat_weights import reweight_repeats
from ..solve.repeats import Fitted, solve_with_repeats
from ..solve.solver import Listener, Solution, continue_solving
from ..state import ContrastState
from . import division, single_scan
from .pose import PosedGroup, motion_parameters, refine_group_poses, slice_derivatives
from .single_scan import limit_precision, predict_from_other_contrasts, split_is_more_probable

logger = logging.getLogger("bids_unires")

LARGEST_MOTION_MM = 8.0
"""Slices may move this far beyond the box of their scan and still be predicted in full."""

THICK = 2.0
"""Slices whose spacing is at least this many in-plane voxel sizes were acquired one by one."""

_MOST_ROUNDS = 8
_ITERATIONS_PER_ROUND = 6
_SETTLED_POSES_MM = 0.1
_SETTLED_SCALES = 0.05
# Number of parts in time that each package of slices is divided into, level by level.
_PARTS = (1, 2, 4)


def usual_plan(profile: SliceProfile, grid: Grid, modality: Modality) -> SlicePlan:
    """The usual order for thick slices of MR; None, no slice motion, for every other scan.

    Parameters
    ----------
    profile
        Slice profile of the scan.
    grid
        Its grid.
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
    """Solve for the images, and for the poses of scans and of groups of their slices.

    Parameters
    ----------
    problem
        Its scans hold the order of their slices, or how they moved. If the problem does not refine
        poses, only scans are split of which it is known how their slices moved. Learned detail is
        used in the last turn, of scans that are not split.
    start
        Images to start from, ``(C, X, Y, Z)``; `starting_images` if None.
    stop, on_progress
        As for `solve_with_repeats`.
    """
    if problem.refines_poses:
        brief = stop.after(_ITERATIONS_PER_ROUND)
        whole = solve_with_repeats(problem.without_detail(), brief, start, on_progress)
        fit = _Fit(problem, stop, whole, on_progress)
        fit.find_motion()
    else:
        solution = Solution(problem.start(start), (), False, stop.tolerance)
        fit = _Fit(problem, stop, Fitted(problem, solution), on_progress)
        fit.settle_weights()
    return fit.finished()


@dataclass(frozen=True, eq=False)
class _Stack:
    """A scan, split into groups of slices or not.

    Attributes
    ----------
    given
        The scan before it was placed, and the scale of its residuals as found so far.
    scan
        The scan with equally bright even and odd slices, at the mean pose of the groups.
    order
        The order of its slices; None if it is not to be split (further).
    groups
        Its groups in order of time; empty if it is not split.
    source
        Where the order comes from.
    """

    given: ScanState
    scan: Observation
    order: SliceOrder | None
    groups: tuple[PosedGroup, ...] = ()
    source: str = ""

    @classmethod
    def of(cls, scan: ScanState) -> _Stack:
        even, plan = correct_interleave(scan.observation), scan.slices
        if not isinstance(plan, SliceMotion):
            return cls(scan, even, plan)
        groups = (PosedGroup(group.slices, even.world_pose @ group.motion) for group in plan.groups)
        return cls(scan, even, None, tuple(groups), plan.source)

    @property
    def part_count(self) -> int:
        return len(self.groups) or 1

    @property
    def parts(self) -> list[Observation]:
        """The groups as scans at their poses; the scan itself if it is not split."""
        if not self.groups:
            return [self.scan]
        return [
            replace(select_slices(self.scan, group.slices), pose=group.pose)
            for group in self.groups
        ]

    @property
    def part_poses(self) -> list[Affine]:
        return [group.pose for group in self.groups] or [self.scan.world_pose]

    @property
    def part_states(self) -> list[ScanState]:
        return [self.given.with_observation(part) for part in self.parts]

    @property
    def motion(self) -> SliceMotion | None:
        if not self.groups:
            return None
        back = np.linalg.inv(self.scan.world_pose)
        groups = tuple(MovedGroup(group.slices, back @ group.pose) for group in self.groups)
        return SliceMotion(groups, self.source)

    def at_poses(self, poses: Sequence[Affine]) -> _Stack:
        """With its parts at these poses, ``(4, 4)`` each."""
        if not self.groups:
            return replace(self, scan=replace(self.scan, pose=poses[0]))
        groups = (replace(group, pose=poses[g]) for g, group in enumerate(self.groups))
        return replace(self, scan=replace(self.scan, pose=mean_pose(poses)), groups=tuple(groups))

    def reweighted(self, parts: Sequence[ScanState]) -> _Stack:
        """With the precisions of its parts, and the largest scale of their residuals."""
        taus = [
            np.full(part.observation.data.shape, part.observation.tau, dtype=np.float32)
            for part in parts
        ]
        tau = taus[0]
        if self.groups:
            groups = ((group.slices, taus[g]) for g, group in enumerate(self.groups))
            tau = merge_slices(groups, self.scan.grid, self.scan.slice_axis)
        scale = max(part.residual_scale for part in parts)
        given = replace(self.given, residual_scale=scale)
        return replace(self, given=given, scan=replace(self.scan, tau=tau))

    def found(self) -> ScanState:
        """The scan before it was placed, with the pose, precision and motion found."""
        tau = self.scan.tau
        given = self.given.observation
        if given.interleave:
            tau = np.asarray(tau / slice_factors(given) ** 2, dtype=np.float32)
        observation = replace(given, pose=self.scan.pose, tau=tau)
        return replace(self.given, observation=observation, motion=self.motion)

    def refined_poses(self, grid: Grid, image: Tensor, sd: float) -> list[Affine]:
        """Poses of its parts at which an image with an error of its own predicts them best."""
        parts = [limit_precision(part, sd) for part in self.parts]
        return refine_group_poses(parts, self.scan.world_pose, grid, image)

    def divided(self, parts: int, grid: Grid, image: Tensor, sd: float) -> _Stack:
        """Split (further) if that is worthwhile, with every slice at its present pose."""
        if self.order is None:
            return self
        whole = PosedGroup(tuple(range(self.order.count)), self.scan.world_pose)
        groups = self.groups or (whole,)
        pose_of = {index: group.pose for group in groups for index in group.slices}
        number_of = {index: g for g, group in enumerate(groups) for index in group.slices}
        numbers = [number_of[index] for index in range(self.order.count)]
        motions = motion_parameters([group.pose for group in groups], self.scan.world_pose, grid)
        finer = division.divide_stack(
            self.order,
            parts,
            slice_derivatives(limit_precision(self.scan, sd), groups, grid, image),
            motions[numbers],
            single_scan.WORTHWHILE_MM if sd > 0 else division.WORTHWHILE_MM,
        )
        if finer is None:
            return self
        order, slices = finer
        return replace(
            self,
            order=replace(order, certain=True),
            groups=tuple(PosedGroup(group, pose_of[group[0]]) for group in slices),
            source=order.source,
        )


@dataclass(frozen=True, eq=False)
class _StackedContrast:
    """A contrast as it was given, and its scans as stacks."""

    given: ContrastState
    stacks: tuple[_Stack, ...]

    @property
    def has_repeats(self) -> bool:
        return len(self.stacks) > 1

    @property
    def is_split(self) -> bool:
        return any(stack.groups for stack in self.stacks)

    @property
    def parts(self) -> list[Observation]:
        return [part for stack in self.stacks for part in stack.parts]

    @property
    def part_states(self) -> tuple[ScanState, ...]:
        return tuple(part for stack in self.stacks for part in stack.part_states)

    def split(self) -> ContrastState:
        """The contrast with every group of slices as a scan of its own, without detail."""
        return replace(self.given, scans=self.part_states, detail=None)

    def found(self) -> ContrastState:
        """The contrast with all that was found; with its detail if no scan is split."""
        found = replace(self.given, scans=tuple(stack.found() for stack in self.stacks))
        detail = None if self.is_split else self.given.with_poses_of(found).detail
        return replace(found, detail=detail)

    def divided(self, parts: int, grid: Grid, image: Tensor, sd: float) -> _StackedContrast:
        """With its stacks split (further) where that is worthwhile; itself if none is."""
        stacks = tuple(stack.divided(parts, grid, image, sd) for stack in self.stacks)
        return self if stacks == self.stacks else replace(self, stacks=stacks)

    def updates(self, grid: Grid, image: Tensor, sd: float) -> list[PoseUpdate]:
        """Refined poses of all parts, without the motion that they share."""
        return remove_common_motion(
            [
                PoseUpdate(stack.part_poses[p], pose)
                for stack in self.stacks
                for p, pose in enumerate(stack.refined_poses(grid, image, sd))
            ]
        )

    def at_poses(self, poses: Sequence[Affine]) -> _StackedContrast:
        """With its parts, stack by stack, at these poses."""
        left = iter(poses)
        return replace(
            self,
            stacks=tuple(stack.at_poses(_next(left, stack.part_count)) for stack in self.stacks),
        )

    def reweighted(self, grid: Grid, image: Tensor) -> _StackedContrast:
        """With the precisions of repeats that follow from the residuals of all parts."""
        if not self.has_repeats:
            return self
        left = iter(reweight_repeats(self.part_states, grid, image))
        return replace(
            self,
            stacks=tuple(stack.reweighted(_next(left, stack.part_count)) for stack in self.stacks),
        )


class _Fit:
    """Images and the poses of groups of slices, which take turns.

    Parameters
    ----------
    problem
        The problem as it was given.
    stop
        When the last turn stops.
    begun
        Contrasts and images to start from.
    on_progress
        Called after every iteration of the solver.
    """

    def __init__(
        self, problem: Problem, stop: Stop, begun: Fitted, on_progress: Listener | None
    ) -> None:
        self._problem = problem
        self._stop = stop
        self._grid = problem.grid
        self._on_progress = on_progress
        self._contrasts = [
            _StackedContrast(given, tuple(_Stack.of(scan) for scan in begun.contrasts[c].scans))
            for c, given in enumerate(problem.contrasts)
        ]
        self._solution = begun.solution

    def find_motion(self) -> None:
        """Split stacks, from coarse to fine, where that is worthwhile, and place their groups."""
        for parts in _PARTS:
            before = self._contrasts
            self._contrasts = [self._divided(c, parts) for c in range(len(before))]
            if self._contrasts == before:
                # Parts of packages may have moved even if no package as a whole has.
                continue
            for _ in range(_MOST_ROUNDS):
                moved = self._refine_poses()
                self._reweight()
                logger.info("groups of slices moved by up to %.3f mm", moved)
                self._update_images()
                if moved < _SETTLED_POSES_MM:
                    break
        self._undo_improbable_splits()

    def settle_weights(self) -> None:
        """Update images and weights in turn, with the poses as given."""
        if not any(contrast.has_repeats for contrast in self._contrasts):
            return
        for _ in range(_MOST_ROUNDS):
            self._update_images()
            before = self._residual_scales()
            self._reweight()
            if np.abs(np.log(self._residual_scales() / before)).max() < _SETTLED_SCALES:
                break

    def finished(self) -> Fitted:
        """Solve until convergence with all poses and weights fixed."""
        found = self._problem.with_contrasts(contrast.found() for contrast in self._contrasts)
        split = self._split().changed(
            lambda parts, whole: replace(parts, detail=whole.detail), found.contrasts
        )
        solution = continue_solving(split, self._stop, self._solution, self._on_progress)
        return Fitted(found, solution)

    def _split(self) -> Problem:
        """The problem with every group of slices as a scan of its own, without detail."""
        return self._problem.with_contrasts(contrast.split() for contrast in self._contrasts)

    def _update_images(self) -> None:
        """A few iterations of the solver, with poses and weights fixed."""
        brief = self._stop.after(_ITERATIONS_PER_ROUND)
        self._solution = continue_solving(self._split(), brief, self._solution, self._on_progress)

    def _residual_scales(self) -> NDArray[np.float64]:
        return np.array([stack.given.residual_scale for c in self._contrasts for stack in c.stacks])

    def _divided(self, c: int, parts: int) -> _StackedContrast:
        contrast = self._contrasts[c]
        if not self._has_reference(c):
            return contrast
        image, sd = self._reference(c)
        return contrast.divided(parts, self._grid, image, sd)

    def _has_reference(self, c: int) -> bool:
        """Whether other scans show where those of a contrast, or parts of them, lie."""
        contrast = self._contrasts[c]
        if contrast.has_repeats:
            return True
        return contrast.stacks[0].order is not None and len(self._contrasts) > 1

    def _reference(self, c: int) -> tuple[Tensor, float]:
        """Image ``(X, Y, Z)`` that places the scans of a contrast, and the sd of its error."""
        images, contrast = self._solution.images, self._contrasts[c]
        if contrast.has_repeats:
            return images[c], 0.0
        others = [image for other, image in enumerate(images) if other != c]
        return predict_from_other_contrasts(contrast.stacks[0].parts, others, self._grid)

    def _refine_poses(self) -> float:
        """Refine the poses of all parts; return how far (mm) any of them moved."""
        furthest = 0.0
        for c, contrast in enumerate(self._contrasts):
            if not self._has_reference(c) or not (contrast.has_repeats or contrast.is_split):
                continue
            image, sd = self._reference(c)
            updates = contrast.updates(self._grid, image, sd)
            furthest = max(furthest, *(update.displacement(self._grid) for update in updates))
            self._contrasts[c] = contrast.at_poses([update.after for update in updates])
        return furthest

    def _undo_improbable_splits(self) -> None:
        """Leave single scans whole if that is the more probable explanation."""
        images = self._solution.images
        for c, contrast in enumerate(self._contrasts):
            stack = contrast.stacks[0]
            if contrast.has_repeats or not stack.groups:
                continue
            moved = replace(stack.given, observation=stack.scan, motion=stack.motion)
            if not split_is_more_probable(self._problem, c, moved, images):
                logger.info(
                    "%s: slices of its only scan stay together", self._problem.contrasts[c].name
                )
                whole = replace(stack, groups=())
                image, sd = self._reference(c)
                placed = whole.at_poses(whole.refined_poses(self._grid, image, sd))
                self._contrasts[c] = replace(contrast, stacks=(placed,))

    def _reweight(self) -> None:
        """Give all parts of repeats the precisions that follow from their residuals."""
        self._contrasts = [
            contrast.reweighted(self._grid, self._solution.images[c])
            for c, contrast in enumerate(self._contrasts)
        ]


Part = TypeVar("Part")


def _next(parts: Iterator[Part], count: int) -> list[Part]:
    """The next parts, as many as a stack has."""
    return list(islice(parts, count))
