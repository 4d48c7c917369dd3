"""The visits (sessions) of a participant that share one space and one grid."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config import RunConfig
from .entities import natural_key
from .naming import SPACE, aligned_space, fov_mask_path, sidecar_path
from .query import plan_participants
from .scans import Datatype, ParticipantPlan

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True)
class Visits:
    """A unit of work: place the scans of all visits of a participant in one space.

    Parameters
    ----------
    participant
        Label, without ``sub-``.
    plans
        The scans of each visit, in natural order of their sessions. At least two.
    """

    participant: str
    plans: tuple[ParticipantPlan, ...]

    @property
    def session(self) -> None:
        """None: the files of this unit belong to no single session."""
        return

    @property
    def label(self) -> str:
        """``sub-01``."""
        return f"sub-{self.participant}"

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return "visits"

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of files that belong to no single contrast: ``ct`` for visits without MR."""
        return "anat" if any(plan.shared_datatype == "anat" for plan in self.plans) else "ct"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folder that results are written to, relative to the output folder."""
        return (Path(self.label) / self.shared_datatype,)

    @property
    def inputs(self) -> Iterator[tuple[str, Path]]:
        """Names and paths of all scans."""
        for plan in self.plans:
            for scan in plan.scans:
                yield scan.uri, scan.path

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of all scans, by their URIs."""
        return {scan.uri: dict(scan.metadata) for plan in self.plans for scan in plan.scans}

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The settings that the poses and the grid depend on."""
        model = config.model
        return asdict(config.space) | {
            "subject_anatomical_reference": config.subject_anatomical_reference,
            "voxel_size": model.voxel_size,
            "coregister": model.coregister,
            "reset_origin": config.reset_origin,
        }

    def grid_path(self, config: RunConfig) -> Path:
        """Path of the mask of what every visit shows, which defines the grid of all visits."""
        space = config.space
        label = SPACE if space.align == "none" else aligned_space(space.template, space.align)
        voxel_size = config.model.voxel_size
        return fov_mask_path(config.output_dir, self, voxel_size=voxel_size, space=label)

    def placed(self, plan: ParticipantPlan, config: RunConfig) -> ParticipantPlan:
        """One of the visits as a unit of work that takes its poses and grid from this one."""
        return replace(plan, shared_placement=sidecar_path(self.grid_path(config)))


@dataclass(frozen=True)
class RunPlan:
    """The units of work of a run of the participant level.

    Parameters
    ----------
    units
        The participants and sessions to reconstruct.
    visits
        For each participant of these whose visits share a space, all of its visits, also those
        that this run does not reconstruct. Empty if every session has a space of its own.
    """

    units: tuple[ParticipantPlan, ...]
    visits: tuple[Visits, ...] = ()

    def without(self, unplaced: Collection[str]) -> tuple[ParticipantPlan, ...]:
        """The units, without those of participants (``sub-01``) whose visits were not placed."""
        return tuple(unit for unit in self.units if f"sub-{unit.participant}" not in unplaced)


def describe_visits(plan: RunPlan, config: RunConfig) -> list[str]:
    """Lines of text that list the visits that share a space."""
    where = {"first-lex": "the space of the first", "unbiased": "the space of their mean position"}
    return [
        f"{each.label}: {len(each.plans)} visits on one grid, in "
        f"{where[config.subject_anatomical_reference]}: "
        + ", ".join(str(visit.session) for visit in each.plans)
        for each in plan.visits
    ]


def plan_run(config: RunConfig) -> RunPlan:
    """Find the scans of a run, and the visits that share a space.

    A shared space is that of all visits in the dataset, whichever of them are selected by
    ``--session-label``, so that visits that are processed by several runs are on one grid.

    Raises
    ------
    UniResError
        As `plan_participants`.
    """
    if not config.has_shared_visits:
        return RunPlan(plan_participants(config))
    everything = plan_participants(replace(config, session_label=()))
    visits = tuple(_shared_visits(everything))
    of_participant = {each.participant: each for each in visits}
    units = [
        of_participant[plan.participant].placed(plan, config)
        if plan.participant in of_participant
        else plan
        for plan in everything
        if not config.session_label or plan.session in config.session_label
    ]
    if not units:
        # It says what the labels do not fit.
        return RunPlan(plan_participants(config))
    shown = {unit.participant for unit in units}
    return RunPlan(tuple(units), tuple(each for each in visits if each.participant in shown))


def _shared_visits(plans: Sequence[ParticipantPlan]) -> Iterator[Visits]:
    """The visits of every participant with several sessions."""
    of_participant: dict[str, list[ParticipantPlan]] = defaultdict(list)
    for plan in plans:
        of_participant[plan.participant].append(plan)
    for participant, own in of_participant.items():
        if len(own) < 2:
            continue
        if any(plan.session is None for plan in own):
            logger.warning(
                "sub-%s has scans in sessions and outside of them: each has a space of its own; "
                "move all scans into sessions to compare them",
                participant,
            )
            continue
        yield Visits(participant, tuple(sorted(own, key=lambda plan: natural_key(plan.label))))
