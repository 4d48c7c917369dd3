"""Solving for images, poses and weights where the head moved between the slices of a scan.

A stack is first placed as a whole, then taken apart from coarse to fine: packages of slices
that were acquired one after the other, halves of these, quarters. Each time poses of the
groups, weights and images take turns as in `alternation`. A stack is divided (further) only
where its slices say that parts of it lie elsewhere; one that held still is fitted as if
nobody had asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...config import Modality
from ...space.affines import Affine
from ...space.grid import Grid
from ..detail.learning import placed_beside
from ..detail.term import Details, of_whole_scans, with_details
from ..intensity.noise import NoiseEstimate
from ..scanner.observation import Observation
from ..scanner.profile import POINTS
from ..scanner.resampling import linear_images
from ..scanner.slice_groups import (
    Group,
    SliceMotion,
    SliceOrder,
    evened,
    joined,
    slice_factors,
    split,
    usual_order,
)
from ..solve.pose import displacement, mean_corrected, mean_pose
from ..solve.repeat_weights import reweighed
from ..solve.repeats import UnifiedSolution, continued, solve_unified
from ..solve.solver import Listener, Solution
from . import division as slice_division
from . import single_scan as slice_alone
from .pose import motions_of, refined_groups, slice_evidence
from .single_scan import apart_is_better, believed, imitation

logger = logging.getLogger("bids_unires")

SlicePlans: TypeAlias = Sequence[Sequence[SliceOrder | SliceMotion | None]]
"""For each scan the order of its slices, how they moved where that is known, or None."""

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


def plans_for(
    contrasts: Sequence[Sequence[Observation]], modalities: Sequence[Modality]
) -> SlicePlans:
    """Thick slices of MR in the order that is usual; everything else is kept whole."""
    return [
        [
            usual_order(scan.grid.shape[scan.profile.slice_axis(scan.grid)])
            if modality == "MR" and _is_thick(scan)
            else None
            for scan in scans
        ]
        for scans, modality in zip(contrasts, modalities, strict=True)
    ]


def solve_with_slice_motion(
    contrasts: Sequence[Sequence[Observation]],
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    lam: Sequence[float],
    *,
    slices: SlicePlans,
    move: bool,
    tolerance: float,
    max_iter: int,
    device: torch.device,
    start: Tensor | None = None,
    guide: Tensor | None = None,
    details: Details = (),
    on_progress: Listener | None = None,
) -> UnifiedSolution:
    """Solve for the images and for the poses of scans and of groups of their slices.

    Parameters
    ----------
    contrasts, noise, grid, lam, tolerance, max_iter, device, start, guide, on_progress
        As for `solve_unified`.
    slices
        What is known of the slices of each scan.
    move
        Whether poses are refined; else only those scans are taken apart of which it is known
        how their slices moved.
    details
        As for `solve_unified`. They have a say once slices have found their places, where scans
        stay whole.
    """
    fit = _Fit(noise, grid, lam, tolerance, guide, on_progress)
    if move:
        whole = solve_unified(
            contrasts,
            noise,
            grid,
            lam,
            move=True,
            tolerance=tolerance,
            max_iter=_ITERATIONS_PER_ROUND,
            device=device,
            start=start,
            guide=guide,
            on_progress=on_progress,
        )
        fit.begin(_stacks(whole.contrasts, slices), whole.solution, whole.scales)
        fit.find_motion()
    else:
        images = linear_images(contrasts, grid, device) if start is None else start.to(device)
        scales = [[estimate.noise_sd for estimate in own] for own in noise]
        fit.begin(_stacks(contrasts, slices), Solution(images, (), False), scales)
        fit.weigh()
    fit.finish(max_iter, contrasts, details)
    return fit.result(contrasts)


@dataclass(frozen=True, eq=False)
class _Stack:
    """A scan, taken apart into groups of slices or not.

    Nothing makes even and odd slices of ``scan`` differ. Its pose is the mean of the groups'.
    """

    scan: Observation
    order: SliceOrder | None
    groups: tuple[Group, ...] = ()
    poses: tuple[Affine, ...] = ()
    source: str = ""

    @property
    def parts(self) -> list[Observation]:
        return split(self.scan, self.groups, self.poses) if self.groups else [self.scan]

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

    def weighed(self, parts: Sequence[Observation]) -> _Stack:
        """With the precisions that its parts have."""
        taus = [np.full(part.data.shape, part.tau, dtype=np.float32) for part in parts]
        axis = self.scan.profile.slice_axis(self.scan.grid)
        tau = joined(taus, self.groups, self.scan.grid, axis) if self.groups else taus[0]
        return replace(self, scan=replace(self.scan, tau=tau))

    def refined(self, grid: Grid, image: Tensor, sd: float) -> list[Affine]:
        """Poses of its parts at which an image with an error of its own predicts them best."""
        parts = [believed(part, sd) for part in self.parts]
        return refined_groups(parts, self.scan.world_pose, grid, image)

    def divided(self, parts: int, grid: Grid, image: Tensor, sd: float) -> _Stack:
        """Taken apart (further) where that is worth it, its slices where they were."""
        if self.order is None:
            return self
        groups = self.groups or (tuple(range(self.order.count)),)
        poses = self.poses or (self.scan.world_pose,)
        group_of = {index: place for place, group in enumerate(groups) for index in group}
        places = [group_of[index] for index in range(self.order.count)]
        found = slice_division.division(
            self.order,
            parts,
            slice_evidence(believed(self.scan, sd), groups, poses, grid, image),
            motions_of(poses, self.scan.world_pose, grid)[places],
            slice_alone.WORTHWHILE_MM if sd > 0 else slice_division.WORTHWHILE_MM,
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
    """Images, and stacks that are taken apart, on their way to each other."""

    def __init__(
        self,
        noise: Sequence[Sequence[NoiseEstimate]],
        grid: Grid,
        lam: Sequence[float],
        tolerance: float,
        guide: Tensor | None,
        on_progress: Listener | None,
    ) -> None:
        self._noise = noise
        self._grid = grid
        self._lam = lam
        self._tolerance = tolerance
        self._guide = guide
        self._on_progress = on_progress
        self._details: Details = ()

    def begin(
        self,
        stacks: list[list[_Stack]],
        solution: Solution,
        scales: Sequence[Sequence[float]],
    ) -> None:
        self._stacks = stacks
        self._solution = solution
        self._scales = [list(own) for own in scales]

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
                self.sharpen(_ITERATIONS_PER_ROUND)
                if moved < _SETTLED_POSES_MM:
                    break
        self._put_together()

    def weigh(self) -> None:
        """Let images and weights settle, the poses given."""
        if all(len(own) == 1 for own in self._stacks):
            return
        for _ in range(_MOST_ROUNDS):
            self.sharpen(_ITERATIONS_PER_ROUND)
            before = self._scales
            self._reweigh()
            change = np.abs(np.log(np.concatenate(self._scales) / np.concatenate(before)))
            if change.max() < _SETTLED_SCALES:
                break

    def sharpen(self, iterations: int) -> None:
        """Let the solver go on, everything else given."""
        parts = [[part for stack in own for part in stack.parts] for own in self._stacks]
        self._solution = continued(
            self._solution.history,
            self._on_progress,
            with_details(parts, self._details, self._grid),
            self._grid,
            self._lam,
            self._tolerance,
            iterations,
            self._solution.images,
            self._guide,
        )

    def finish(
        self, iterations: int, contrasts: Sequence[Sequence[Observation]], details: Details
    ) -> None:
        """Let the solver have the last word, beside the details of scans that stay whole."""
        now = [[stack.scan for stack in own] for own in self._stacks]
        whole = of_whole_scans(details, self._motions())
        self._details = placed_beside(whole, contrasts, now)
        self.sharpen(iterations)

    def result(self, contrasts: Sequence[Sequence[Observation]]) -> UnifiedSolution:
        """What was found, about the scans as they were given."""
        fitted = tuple(
            tuple(_as_given(scan, stack.scan) for scan, stack in zip(scans, own, strict=True))
            for scans, own in zip(contrasts, self._stacks, strict=True)
        )
        scales = tuple(tuple(own) for own in self._scales)
        return UnifiedSolution(
            self._solution, fitted, scales, tuple(self._lam), self._motions(), self._details
        )

    def _motions(self) -> tuple[tuple[SliceMotion | None, ...], ...]:
        return tuple(tuple(stack.motion for stack in own) for own in self._stacks)

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
        return imitation(own[0].parts, others, self._grid)

    def _move(self) -> float:
        """Refine the poses of all parts; return how far (mm) any of them moved."""
        furthest = 0.0
        for index, own in enumerate(self._stacks):
            if not self._moves(index) or not (len(own) > 1 or own[0].groups):
                continue
            image, sd = self._reference(index)
            before = [part.world_pose for stack in own for part in stack.parts]
            refined = [pose for stack in own for pose in stack.refined(self._grid, image, sd)]
            after = mean_corrected(before, refined)
            for old, new in zip(before, after, strict=True):
                furthest = max(furthest, displacement(old, new, self._grid))
            poses = iter(after)
            self._stacks[index] = [stack.moved([next(poses) for _ in stack.parts]) for stack in own]
        return furthest

    def _put_together(self) -> None:
        """Leave single scans whole where that is the better explanation after all."""
        for index, own in enumerate(self._stacks):
            motion = own[0].motion
            if len(own) > 1 or motion is None:
                continue
            better = apart_is_better(
                own[0].scan,
                motion,
                self._grid,
                self._solution.images,
                index,
                self._lam,
                self._guide,
            )
            if not better:
                logger.info("contrast %d: slices of its only scan stay together", index + 1)
                whole = replace(own[0], groups=(), poses=())
                image, sd = self._reference(index)
                self._stacks[index] = [whole.moved(whole.refined(self._grid, image, sd))]

    def _reweigh(self) -> None:
        """Give all parts of repeats the precisions that their residuals call for."""
        for index, image in self._repeated():
            parts = [stack.parts for stack in self._stacks[index]]
            estimates = [
                estimate
                for own, estimate in zip(parts, self._noise[index], strict=True)
                for _ in own
            ]
            flat = [part for own in parts for part in own]
            (weighed,), (scales,) = reweighed([flat], [estimates], self._grid, image[None])
            given, widths = iter(weighed), iter(scales)
            self._stacks[index] = [
                stack.weighed([next(given) for _ in own])
                for stack, own in zip(self._stacks[index], parts, strict=True)
            ]
            self._scales[index] = [max(next(widths) for _ in own) for own in parts]

    def _repeated(self) -> Iterator[tuple[int, Tensor]]:
        """Contrasts with repeats, and their images."""
        for index, image in enumerate(self._solution.images):
            if len(self._stacks[index]) > 1:
                yield index, image


def _stacks(contrasts: Sequence[Sequence[Observation]], slices: SlicePlans) -> list[list[_Stack]]:
    return [
        [_stack(evened(scan), plan) for scan, plan in zip(scans, plans, strict=True)]
        for scans, plans in zip(contrasts, slices, strict=True)
    ]


def _stack(scan: Observation, plan: SliceOrder | SliceMotion | None) -> _Stack:
    if isinstance(plan, SliceMotion):
        return _Stack(scan, None, plan.groups, plan.poses(scan.world_pose), plan.source)
    return _Stack(scan, plan)


def _as_given(scan: Observation, evened_out: Observation) -> Observation:
    """A scan at the pose and with the precision found once its slices were evened out."""
    tau = evened_out.tau
    if scan.interleave:
        tau = np.asarray(tau / slice_factors(scan) ** 2, dtype=np.float32)
    return replace(scan, pose=evened_out.pose, tau=tau)


def _same(before: list[list[_Stack]], after: list[list[_Stack]]) -> bool:
    pairs = zip(before, after, strict=True)
    return all(old is new for own, new_own in pairs for old, new in zip(own, new_own, strict=True))


def _is_thick(scan: Observation) -> bool:
    if scan.profile.through_plane in POINTS:
        return False
    sizes = scan.grid.voxel_size
    axis = scan.profile.slice_axis(scan.grid)
    return bool(sizes[axis] >= THICK * np.delete(sizes, axis).max())
