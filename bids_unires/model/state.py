"""What a fit knows of one contrast: its scans, its detail and the weight of its prior."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..config import Modality
from ..space.grid import Grid
from .detail.learning import DEFAULTS, learn_details
from .detail.parameters import LearningParameters
from .detail.term import DetailStatement, LearnedDetail, move_detail
from .intensity.scan_state import ScanState, observations_of
from .scanner.interpolation_error import with_interpolation_error
from .scanner.observation import Observation

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True, eq=False)
class ContrastState:
    """One contrast on its way through a fit.

    Parameters
    ----------
    modality
        MR or CT.
    scans
        Its scans (repeats).
    learning
        How detail within its slices is to be learned; None for not at all.
    detail
        What was learned of what lies within its slices; None where nothing was.
    weight
        Weight of the prior in mm / intensity, lambda; NaN until it is chosen.
    is_searched
        Whether ``weight`` is only where the search for it begins.
    """

    modality: Modality
    scans: tuple[ScanState, ...]
    learning: LearningParameters | None = None
    detail: LearnedDetail | None = None
    weight: float = math.nan
    is_searched: bool = False

    @property
    def observations(self) -> list[Observation]:
        """Its scans alone."""
        return observations_of(self.scans)

    @property
    def has_repeats(self) -> bool:
        """Whether more than one scan shows it."""
        return len(self.scans) > 1

    @property
    def detail_statement(self) -> DetailStatement | None:
        """How good its detail is; None where nothing was learned."""
        return None if self.detail is None else self.detail.statement

    @property
    def is_apart(self) -> bool:
        """Whether the slices of any of its scans moved."""
        return any(scan.motion is not None for scan in self.scans)

    def terms(self, grid: Grid) -> list[Observation]:
        """What an image on ``grid`` has to explain: the scans, and the detail as one more.

        Beside detail, scans count less where the image's interpolation fails them.
        """
        if self.detail is None:
            return self.observations
        scans = [with_interpolation_error(scan, grid) for scan in self.observations]
        return [*scans, self.detail.scan]

    def of(self, observations: Sequence[Observation]) -> ContrastState:
        """The same contrast with other observations of its scans, in their order."""
        pairs = zip(self.scans, observations, strict=True)
        return replace(self, scans=tuple(scan.of(observation) for scan, observation in pairs))

    def placed_as(self, fitted: ContrastState) -> ContrastState:
        """The contrast with the poses that a fit has found, and nothing else of it."""
        pairs = zip(self.scans, fitted.scans, strict=True)
        placed = tuple(scan.at(found.observation.world_pose) for scan, found in pairs)
        return replace(self, scans=placed, detail=self._detail_beside(placed))

    def moved_as(self, fitted: ContrastState) -> ContrastState:
        """The contrast, of whose slices it is known now how they moved in a fit."""
        pairs = zip(self.scans, fitted.scans, strict=True)
        scans = (replace(a, slices=b.motion, motion=b.motion) for a, b in pairs)
        return replace(self, scans=tuple(scans))

    def apart(self) -> ContrastState:
        """The contrast with every group of slices that moved as a scan of its own.

        Its detail was learned as if the slices lay in a row: it is left out where they do not.
        """
        if not self.is_apart:
            return self
        parts = tuple(
            replace(scan, observation=part, motion=None)
            for scan in self.scans
            for part in scan.parts
        )
        return replace(self, scans=parts, detail=None)

    def _detail_beside(self, placed: Sequence[ScanState]) -> LearnedDetail | None:
        """Its detail, which moves with its only scan."""
        if self.detail is None or self.has_repeats:
            return self.detail
        return move_detail(self.detail, self.scans[0].observation, placed[0].observation)


def with_learned_detail(
    contrasts: Sequence[ContrastState], voxel_size: float, device: torch.device
) -> tuple[ContrastState, ...]:
    """The contrasts, those that learn and have a single scan with its detail.

    Repeats are left as they are: they show each other what lies within their slices.

    Parameters
    ----------
    contrasts
        All contrasts of a head; each may show what lies within the slices of the others.
    voxel_size
        Of the wanted images in mm.
    device
        Where to learn.
    """
    everything = [scan for contrast in contrasts for scan in contrast.scans]
    learners = [c for c in contrasts if c.learning is not None and not c.has_repeats]
    parameters = next((c.learning for c in learners if c.learning is not None), DEFAULTS)
    scans = [contrast.scans[0] for contrast in learners]
    found = iter(learn_details(scans, everything, voxel_size, device, parameters))
    learned = []
    for number, contrast in enumerate(contrasts, start=1):
        detail = next(found) if contrast in learners else None
        if detail is not None and detail.statement is not None:
            logger.info(
                "contrast %d: within its planes%s, %.0f %% of the detail that slices as thick as "
                "its own take away could be found again",
                number,
                " and with another contrast" if detail.statement.shown else "",
                100 * detail.statement.explained,
            )
        learned.append(replace(contrast, detail=detail))
    return tuple(learned)
