"""What happens at the group level, from the participants' images to one grid for all."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib

from ..config import NO_TEMPLATE, RunConfig
from ..dataset.derivatives import MAX_RESULT_SIDECAR_BYTES
from ..dataset.metadata import SidecarError, load_object
from ..dataset.naming import (
    STUDY_SPACE,
    in_space,
    lookup_path,
    resolution_text,
    sidecar_path,
)
from ..errors import MissingInputError
from ..geometry import Grid
from ..workers import Failure, Process, WorkDone
from .cohort import Cohort, Member
from .cohort_mean import cohort_mean
from .group_reporting import has_shared_grid, write_group_page
from .group_table import first_pose, image_columns, read_reasons, unit_row, write_table
from .study_grid import StudyGrid, find_grid, write_grid
from .study_images import Regridding, bring_to_grid
from .study_means import StudyImage, write_mean
from .study_placing import Extent, Placing, extent_in_study, place_in_study, study_transform_path

logger = logging.getLogger("bids_unires")

Work = Callable[[Process, Sequence[Any]], WorkDone]


@dataclass(frozen=True)
class GroupOutcome:
    """What became of a group level.

    Parameters
    ----------
    done
        Labels of the participants, and sessions, on the shared grid.
    failures
        Those that failed.
    """

    done: tuple[str, ...]
    failures: tuple[Failure, ...]


def run_group(cohort: Cohort, config: RunConfig, work: Work) -> GroupOutcome:
    """Bring all participants to one grid, and say how they are.

    Parameters
    ----------
    cohort
        Who takes part.
    config
        The run's configuration.
    work
        Does units of work, as many at once as the run allows.

    Raises
    ------
    UniResError
        If there is no grid for all, or an output cannot be written.
    """
    if config.reports_only:
        return _report_again(cohort, config)
    placed, failures = _place(cohort, config, work)
    finished: list[Member] = []
    if placed:
        study = _find_study(placed, config)
        finished, failed = _regrid(placed, study, config, work)
        failures += failed
        _remove_stale_images(cohort, study, config)
        _write_means(finished, study, config)
    reasons = {failure.label: failure.message for failure in failures}
    _write_reports(cohort, reasons, config)
    return GroupOutcome(tuple(member.label for member in finished), failures)


def _report_again(cohort: Cohort, config: RunConfig) -> GroupOutcome:
    """Write table and page from what an earlier run left, which knew why others failed."""
    if not has_shared_grid(config):
        size = resolution_text(config.model.voxel_size)
        raise MissingInputError(
            f"{config.output_dir} holds no shared grid of {size} to report on: name the voxel "
            "size of one by --voxel-size, or run the group level without --reports-only"
        )
    there = _write_reports(cohort, read_reasons(config.output_dir), config)
    return GroupOutcome(there, ())


def _place(
    cohort: Cohort, config: RunConfig, work: Work
) -> tuple[tuple[Member, ...], tuple[Failure, ...]]:
    """Align everybody; give those that were, and why the others were not."""
    space = config.space
    mean = None
    if space.align != "none" and space.template == NO_TEMPLATE:
        mean = cohort_mean(cohort, config)
    units = [
        Placing(member, space.align, space.template, mean, space.fov) for member in cohort.members
    ]
    result = work(place_in_study, units)
    placed = tuple(member for member in cohort.members if member.label in result.done)
    return placed, result.failures


def _find_study(members: Sequence[Member], config: RunConfig) -> StudyGrid:
    extents: dict[str, Extent] = {
        member.label: extent_in_study(config.output_dir, member, config.space.fov)
        for member in members
    }
    study = find_grid(extents, config)
    transforms = [study_transform_path(config.output_dir, member) for member in members]
    write_grid(study, transforms, config)
    return study


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


def _remove_stale_images(cohort: Cohort, study: StudyGrid, config: RunConfig) -> None:
    """Remove images that an earlier run left on a grid that is no longer the shared one."""
    resolution = re.search("_res-[^_]+_", study.path.name)
    stale = [
        path
        for path in sorted(config.output_dir.glob(f"sub-*/**/*_space-{STUDY_SPACE}_*.nii.gz"))
        if resolution is not None and resolution[0] in path.name and not _lies_on(path, study.grid)
    ]
    for path in stale:
        for companion in (path, sidecar_path(path), lookup_path(path)):
            companion.unlink(missing_ok=True)
    if stale:
        logger.warning(
            "%d images of an earlier run were removed, they lie on another grid: %s",
            len(stale),
            ", ".join(dict.fromkeys(path.name.split("_")[0] for path in stale)),
        )


def _lies_on(path: Path, grid: Grid) -> bool:
    try:
        image = nib.Nifti1Image.from_filename(path)
        x, y, z = image.shape
        return Grid((x, y, z), image.affine) == grid
    except (OSError, ValueError, nib.filebasedimages.ImageFileError):
        return False


def _write_means(members: Sequence[Member], study: StudyGrid, config: RunConfig) -> None:
    contrasts: dict[str, list[StudyImage]] = defaultdict(list)
    for member in members:
        for image in _study_images(member, config):
            contrasts[image.contrast].append(image)
    for images in contrasts.values():
        write_mean(images, study.grid, study.path, config)


def _study_images(member: Member, config: RunConfig) -> Iterator[StudyImage]:
    """Images of a participant on the shared grid, as far as they are there."""
    for image in member.images:
        path = in_space(image.path, space=STUDY_SPACE, voxel_size=config.model.voxel_size)
        try:
            metadata = load_object(sidecar_path(path), MAX_RESULT_SIDECAR_BYTES)
        except SidecarError:
            continue
        if path.is_file():
            yield StudyImage(image.contrast, image.entities, path, metadata)


def _write_reports(
    cohort: Cohort, reasons: Mapping[str, str], config: RunConfig
) -> tuple[str, ...]:
    """Write the table, then the page; give the labels of who has images on the grid."""
    images = {
        member.label: () if member.label in reasons else tuple(_study_images(member, config))
        for member in cohort.members
    }
    rows: list[Mapping[str, Any]] = []
    for member in cohort.members:
        reason = reasons.get(member.label) or "not started"
        rows += _rows_of(member, images[member.label], cohort.contrasts, reason, config)
    for absentee in cohort.absentees:
        rows.append(
            {
                **unit_row(absentee.participant, absentee.session, None),
                "status": "missing",
                "reason": absentee.reason,
            }
        )
    rows.sort(key=lambda row: (row["participant_id"], row["session_id"] or ""))
    write_table(config.output_dir, rows)
    write_group_page(cohort, images, rows, config)
    return tuple(label for label, found in images.items() if found)


def _rows_of(
    member: Member,
    images: Sequence[StudyImage],
    contrasts: Sequence[str],
    reason: str,
    config: RunConfig,
) -> Iterator[dict[str, Any]]:
    """A row for each contrast that anybody has; ``reason`` is why others are not on the grid."""
    there = {image.contrast for image in member.images}
    done = {image.contrast: image for image in images}
    first = next((first_pose(image.metadata) for image in images), None)
    for contrast in contrasts:
        row = unit_row(member.participant, member.session, contrast)
        if contrast in done:
            image = done[contrast]
            row |= {"status": "done", **image_columns(image.metadata, first)}
            row["image"] = image.path.relative_to(config.output_dir).as_posix()
        elif contrast in there:
            row |= {"status": "failed", "reason": reason}
        else:
            row |= {"status": "missing", "reason": "the participant has no scan of this contrast"}
            logger.info("%s has no %s", member.label, contrast)
        yield row
