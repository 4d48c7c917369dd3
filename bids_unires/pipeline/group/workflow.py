"""The steps of the group level, which bring the images of all participants to one grid."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ...config import NO_TEMPLATE, RunConfig
from ...dataset.entities import natural_key
from ...dataset.naming import resolution_text
from ...errors import MissingInputError
from ...records.former_names import adopt_template_names
from ...records.study import Extent
from ...work.outcome import Failure, Process, WorkDone
from .cohort import Cohort, Member, first_visit_of, in_order
from .cohort_mean import cohort_mean
from .reporting import has_shared_grid, write_group_page
from .study_alignment import Placing, extent_in_study, place_in_study, study_transform_path
from .study_grid import Frame, StudyGrid, find_grid, read_frame, write_grid
from .study_images import Regridding, bring_to_grid
from .study_means import StudyImage, write_mean
from .study_members import (
    earlier_extents,
    images_on_grid,
    labels_in_study,
    name_realigned,
    outdated_contrasts,
    outdated_labels,
    redo_command,
    remove_leftovers_of,
)
from .table import first_pose, image_columns, read_reasons, read_rows, unit_row, write_table

logger = logging.getLogger("bids_unires")

Work = Callable[[Process, Sequence[Any]], WorkDone]


@dataclass(frozen=True)
class GroupOutcome:
    """The result of the group level.

    Parameters
    ----------
    done
        Labels of the participants and sessions on the shared grid.
    failures
        The participants and sessions that failed.
    """

    done: tuple[str, ...]
    failures: tuple[Failure, ...]


def run_group(cohort: Cohort, config: RunConfig, work: Work) -> GroupOutcome:
    """Bring all participants to one grid, and write means, table and report.

    Participants that are not part of this run, and that earlier runs brought to the grid, keep
    their images. The grid contains them too, and means, table and report include them.

    Parameters
    ----------
    cohort
        The participants.
    config
        The configuration of the run.
    work
        Function that does units of work, as many at the same time as the run allows.

    Raises
    ------
    UniResError
        If no grid can contain all participants, or an output cannot be written.
    """
    adopt_template_names(config.output_dir)
    if config.reports_only:
        return _report_again(cohort, config)
    others = _extents_of_others(cohort, config)
    placed, failures = _place(cohort, config, work, anybody_else=bool(others))
    finished: list[Member] = []
    if placed:
        study = _find_study(placed, others, config)
        frame = Frame(study.grid, config.space.align, config.space.template)
        _write_grid(study, [*placed, *_already_there(cohort, frame, config)], config)
        finished, failed = _regrid(placed, study, config, work)
        failures += failed
        remove_leftovers_of(finished, frame, config)
    roll = _call_roll(cohort, {each.label: each.message for each in failures}, config)
    if placed:
        _write_grid(study, [each for each in roll.members if roll.images[each.label]], config)
        _write_means(roll, study, config)
    _write_reports(roll, cohort, config)
    _name_outdated(config)
    name_realigned(placed, config)
    return GroupOutcome(tuple(member.label for member in finished), failures)


def _report_again(cohort: Cohort, config: RunConfig) -> GroupOutcome:
    """Write table and page from the results of an earlier run, with its reasons of failures."""
    if not has_shared_grid(config):
        size = resolution_text(config.model.voxel_size)
        raise MissingInputError(
            f"{config.output_dir} holds no shared grid of {size} to report on: name the voxel "
            "size of one by --voxel-size, or run the group level without --reports-only"
        )
    roll = _call_roll(cohort, read_reasons(config.output_dir), config)
    _write_reports(roll, cohort, config)
    there = tuple(member.label for member in cohort.members if roll.images[member.label])
    return GroupOutcome(there, ())


def _extents_of_others(cohort: Cohort, config: RunConfig) -> dict[str, Extent]:
    """Bounding boxes of the participants that only earlier runs brought to the grid, by label."""
    labels = labels_in_study(config) - {member.label for member in cohort.members}
    return earlier_extents(labels, config.space.align, config.space.template, config)


def _place(
    cohort: Cohort, config: RunConfig, work: Work, *, anybody_else: bool
) -> tuple[tuple[Member, ...], tuple[Failure, ...]]:
    """Align all participants; return those that were aligned, and the failures of the others."""
    space = config.space
    mean = None
    if space.align != "none" and space.template == NO_TEMPLATE:
        mean = cohort_mean(cohort, config, stays=config.resume or anybody_else)
    everybody = [*cohort.members, *cohort.others]
    units = [
        Placing(
            member,
            space.align,
            space.template,
            mean,
            space.fov,
            first_visit_of(member, everybody),
        )
        for member in cohort.members
    ]
    result = work(place_in_study, units)
    placed = tuple(member for member in cohort.members if member.label in result.done)
    return placed, result.failures


def _find_study(
    members: Sequence[Member], others: Mapping[str, Extent], config: RunConfig
) -> StudyGrid:
    extents: dict[str, Extent] = {
        member.label: extent_in_study(config.output_dir, member, config.space.fov)
        for member in members
    }
    return find_grid(extents, config, others)


def _already_there(cohort: Cohort, frame: Frame, config: RunConfig) -> list[Member]:
    """Participants that are not part of this run and whose images are on the grid."""
    images = images_on_grid(cohort.others, frame, config)
    return [member for member in cohort.others if images[member.label]]


def _write_grid(study: StudyGrid, members: Sequence[Member], config: RunConfig) -> None:
    members = sorted(members, key=lambda member: natural_key(member.label))
    transforms = [study_transform_path(config.output_dir, member) for member in members]
    labels = tuple(member.label for member in members)
    write_grid(replace(study, members=labels), transforms, config)


def _regrid(
    members: Sequence[Member], study: StudyGrid, config: RunConfig, work: Work
) -> tuple[list[Member], tuple[Failure, ...]]:
    units = [
        Regridding(
            member,
            study.grid,
            study.path,
            study_transform_path(config.output_dir, member),
            config.group.mode,
        )
        for member in members
    ]
    result = work(bring_to_grid, units)
    return [member for member in members if member.label in result.done], result.failures


@dataclass(frozen=True)
class _Roll:
    """All participants of the study, of this run and of earlier ones.

    Parameters
    ----------
    members
        The participants and sessions, in natural order.
    images
        Their images on the shared grid, by label; empty for those that failed.
    reasons
        Reasons of failures, by label.
    present
        Labels of the participants and sessions of this run.
    """

    members: tuple[Member, ...]
    images: Mapping[str, tuple[StudyImage, ...]]
    reasons: Mapping[str, str]
    present: frozenset[str]

    @cached_property
    def contrasts(self) -> tuple[str, ...]:
        """Names of the contrasts that this run used or refused, or that are on the grid."""
        done = {image.contrast for found in self.images.values() for image in found}
        taking_part = [
            image
            for member in self.members
            for image in member.known
            if image.contrast in done or (member.label in self.present and image in member.images)
        ]
        refused = [
            contrast
            for member in self.members
            if member.label in self.present
            for contrast in member.refused
        ]
        return tuple(dict.fromkeys([*in_order(taking_part), *refused]))


def _call_roll(cohort: Cohort, reasons: Mapping[str, str], config: RunConfig) -> _Roll:
    """Find all participants of the study; ``reasons`` are those of the failures of this run."""
    present = frozenset(member.label for member in cohort.members)
    before = {
        label: reason
        for label, reason in read_reasons(config.output_dir).items()
        if label not in present
    }
    known = labels_in_study(config) | before.keys()
    outside = [member for member in cohort.others if member.label in known]
    members = sorted([*cohort.members, *outside], key=lambda member: natural_key(member.label))
    images = images_on_grid(members, read_frame(config), config)
    reasons = {**before, **reasons}
    images |= {label: () for label in images if label in reasons}
    return _Roll(tuple(members), images, reasons, present)


def _write_means(roll: _Roll, study: StudyGrid, config: RunConfig) -> None:
    contrasts: dict[str, list[StudyImage]] = defaultdict(list)
    for found in roll.images.values():
        for image in found:
            contrasts[image.contrast].append(image)
    for images in contrasts.values():
        write_mean(images, study.grid, study.path, config)


def _write_reports(roll: _Roll, cohort: Cohort, config: RunConfig) -> None:
    """Write the table, then the page."""
    rows: list[Mapping[str, Any]] = []
    for member in roll.members:
        rows += _rows_of(member, roll, config)
    told = {member.label for member in roll.members}
    for absentee in cohort.absentees:
        if absentee.label not in told:
            rows.append(
                {
                    **unit_row(absentee.participant, absentee.session, None),
                    "status": "missing",
                    "reason": absentee.reason,
                }
            )
    if config.participant_label or config.session_label:
        # Participants without images that were not selected are only in the existing table.
        told |= {absentee.label for absentee in cohort.absentees}
        told |= {member.label for member in cohort.others}
        rows += [
            row
            for label, row in read_rows(config.output_dir)
            if label not in told and row["status"] == "missing"
        ]
    rows.sort(key=lambda row: (row["participant_id"], row["session_id"] or ""))
    write_table(config.output_dir, rows)
    everybody = replace(cohort, members=roll.members)
    write_group_page(everybody, roll.images, rows, config)


def _rows_of(member: Member, roll: _Roll, config: RunConfig) -> Iterator[dict[str, Any]]:
    """Rows of one participant: one for each contrast that any participant has."""
    images = roll.images[member.label]
    done = {image.contrast: image for image in images}
    first = next((first_pose(image.record) for image in images), None)
    for contrast in roll.contrasts:
        row = unit_row(member.participant, member.session, contrast)
        if contrast in done:
            image = done[contrast]
            row |= {"status": "done", **image_columns(image.record, first)}
            row["image"] = image.path.relative_to(config.output_dir).as_posix()
        else:
            status, reason = _absence(member, contrast, roll, config)
            row |= {"status": status, "reason": reason}
        yield row


def _absence(member: Member, contrast: str, roll: _Roll, config: RunConfig) -> tuple[str, str]:
    """Status and reason of a participant that has no image of a contrast on the grid."""
    if contrast in member.refused:
        return "failed", member.refused[contrast]
    if contrast not in {image.contrast for image in member.known}:
        logger.info("%s has no %s", member.label, contrast)
        return "missing", "the participant level left no image of this contrast"
    if member.label in roll.reasons:
        return "failed", roll.reasons[member.label]
    if contrast in outdated_contrasts(member, roll.images[member.label], config):
        return "outdated", "it lies on a former grid, or in another space: redo the participant"
    if member.label in roll.present and contrast in {image.contrast for image in member.images}:
        return "failed", "not started"
    return "missing", "no run has brought it to the grid yet"


def _name_outdated(config: RunConfig) -> None:
    """Warn about kept images that are not on the present grid, and say what to do."""
    frame = read_frame(config)
    labels = outdated_labels(frame, config) if frame is not None else ()
    if labels:
        logger.warning(
            "images of %s lie on a former grid, or in another space; they are kept, and left out "
            "of the means, until they are processed again by: %s",
            ", ".join(labels),
            redo_command(labels, config),
        )
