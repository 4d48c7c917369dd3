"""One contrast, and all that is known of it during a fit: scans, learned detail, prior weight."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..config import Modality
from ..space.affines import Affine
from ..space.grid import Grid
from .detail.learning import DEFAULTS, ShareListener, learn_details
from .detail.parameters import LearningParameters
from .detail.term import DetailStatement, LearnedDetail, move_detail
from .intensity.scan_state import ScanState, observations_of
from .scanner.interpolation_error import with_interpolation_error
from .scanner.observation import Observation

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True, eq=False)
class ContrastState:
    """One contrast during a fit.

    Parameters
    ----------
    modality
        MR or CT.
    scans
        Its scans (repeats).
    learning
        How detail within its slices is to be learned; None if it is not.
    detail
        Learned detail within its slices; None without any.
    weight
        Weight of the prior in mm / intensity, lambda; NaN until it is chosen.
    is_searched
        Whether the search for the weight starts from ``weight``; else it is final.
    name
        Its name in messages: the file of its first scan.
    """

    modality: Modality
    scans: tuple[ScanState, ...]
    learning: LearningParameters | None = None
    detail: LearnedDetail | None = None
    weight: float = math.nan
    is_searched: bool = False
    name: str = "contrast"

    @property
    def observations(self) -> list[Observation]:
        """Its scans as the solver sees them."""
        return observations_of(self.scans)

    @property
    def has_repeats(self) -> bool:
        """Whether it has more than one scan."""
        return len(self.scans) > 1

    @property
    def detail_statement(self) -> DetailStatement | None:
        """How accurate its learned detail is; None where nothing was learned."""
        return None if self.detail is None else self.detail.statement

    @property
    def has_slice_motion(self) -> bool:
        """Whether the slices of any of its scans moved."""
        return any(scan.motion is not None for scan in self.scans)

    def terms(self, grid: Grid) -> list[Observation]:
        """The scans that an image on ``grid`` has to explain; learned detail is one of them.

        With learned detail, the scans have less precision where interpolation adds an error.
        """
        if self.detail is None:
            return self.observations
        scans = [with_interpolation_error(scan, grid) for scan in self.observations]
        return [*scans, self.detail.scan]

    def at_poses(self, poses: Sequence[Affine]) -> ContrastState:
        """The contrast with its scans at these poses, ``(4, 4)`` each."""
        pairs = zip(self.scans, poses, strict=True)
        return replace(self, scans=tuple(scan.at_pose(pose) for scan, pose in pairs))

    def with_poses_of(self, fitted: ContrastState) -> ContrastState:
        """The contrast with the poses that a fit of it has found, and nothing else of that fit."""
        placed = self.at_poses([scan.observation.world_pose for scan in fitted.scans])
        return replace(placed, detail=self._detail_at(placed.scans))

    def with_motion_of(self, fitted: ContrastState) -> ContrastState:
        """The contrast with the motion of slices that a fit of it has found, taken as given."""
        pairs = zip(self.scans, fitted.scans, strict=True)
        scans = (replace(scan, slices=found.motion, motion=found.motion) for scan, found in pairs)
        return replace(self, scans=tuple(scans))

    def split_by_motion(self) -> ContrastState:
        """The contrast with every group of slices that moved as a scan of its own.

        Learned detail is dropped then: it was learned as if no slice had moved.
        """
        if not self.has_slice_motion:
            return self
        parts = tuple(
            replace(scan, observation=part, motion=None)
            for scan in self.scans
            for part in scan.parts
        )
        return replace(self, scans=parts, detail=None)

    def _detail_at(self, scans: Sequence[ScanState]) -> LearnedDetail | None:
        """Its detail with the scans at other poses: the detail of a single scan moves with it."""
        if self.detail is None or self.has_repeats:
            return self.detail
        return move_detail(self.detail, self.scans[0].observation, scans[0].observation)


def with_learned_detail(
    contrasts: Sequence[ContrastState],
    voxel_size: float,
    device: torch.device,
    on_progress: ShareListener | None = None,
) -> tuple[ContrastState, ...]:
    """Learn detail within the slices of contrasts that have a single scan.

    Repeats do not need it: they show each other what lies within their slices.

    Parameters
    ----------
    contrasts
        All contrasts of a head; each may show detail within the slices of the others.
    voxel_size
        Voxel size of the wanted images in mm.
    device
        Device to learn on.
    on_progress
        Called with the share of the work that is done.
    """
    everything = [scan for contrast in contrasts for scan in contrast.scans]
    learners = [c for c in contrasts if c.learning is not None and not c.has_repeats]
    parameters = next((c.learning for c in learners if c.learning is not None), DEFAULTS)
    scans = [contrast.scans[0] for contrast in learners]
    details = iter(learn_details(scans, everything, voxel_size, device, parameters, on_progress))
    learned = []
    for contrast in contrasts:
        detail = next(details) if contrast in learners else None
        if detail is not None and detail.statement is not None:
            logger.info(
                "%s: of the detail that thick slices take away, %.0f %% was recovered "
                "where it is known (in its own planes%s)",
                contrast.name,
                100 * detail.statement.explained,
                ", with another contrast" if detail.statement.used_other_contrast else "",
            )
        learned.append(replace(contrast, detail=detail))
    return tuple(learned)
