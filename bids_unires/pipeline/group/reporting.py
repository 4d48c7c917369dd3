"""Write the report page of the group level."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

from ...config import ModelSettings, RunConfig
from ...dataset.metadata import SidecarError
from ...dataset.naming import (
    STUDY_SPACE,
    mask_path,
    sidecar_path,
    study_grid_path,
    study_image_path,
)
from ...errors import MissingInputError
from ...records.image import ImageRecord
from ...records.study import Extent, StudyMeanRecord
from ...report import (
    GroupReport,
    MeanPicture,
    MemberPicture,
    Outlier,
    Reach,
    SharedGrid,
    find_outliers,
    group_methods_text,
    label_of,
    write_citation,
    write_group_report,
)
from ...space.affines import apply_affine
from ...space.grid import Grid, corners
from ..participant.reporting import dataset_name, may_fail
from .cohort import Cohort, Member, in_order
from .study_alignment import extent_in_study
from .study_grid import read_grid_record
from .study_means import StudyImage
from .table import QUALITY_COLUMNS, data_dictionary

logger = logging.getLogger("bids_unires")

# Faces of the grid: the axis, and 0 for its lower or 1 for its upper end.
_FACES = {
    "left": (0, 0),
    "right": (0, 1),
    "back": (1, 0),
    "front": (1, 1),
    "bottom": (2, 0),
    "top": (2, 1),
}
# Largest number of outliers named in the log; the page shows all.
_NAMED = 8


def write_group_page(
    cohort: Cohort,
    images: Mapping[str, Sequence[StudyImage]],
    rows: Sequence[Mapping[str, Any]],
    config: RunConfig,
) -> None:
    """Write the report of the group level; if it fails, the run continues without it.

    Parameters
    ----------
    cohort
        The participants.
    images
        Images of all participants on the shared grid, by label.
    rows
        Rows of the table.
    config
        The configuration of the run.
    """
    with may_fail("the group"):
        logger.info("writing the report of the group")
        outliers = find_outliers(rows, QUALITY_COLUMNS)
        _name_outliers(outliers, rows)
        content = _group_report(cohort, images, rows, outliers, config)
        text = group_methods_text(content.model, content.shared, content.methods)
        write_citation(config.output_dir, text)
        page = write_group_report(content, config.output_dir)
        logger.info("report of the group: %s", page)


def has_shared_grid(config: RunConfig) -> bool:
    """Whether an earlier run of the group level left a grid of the requested voxel size."""
    return study_grid_path(config.output_dir, voxel_size=config.model.voxel_size).is_file()


def _group_report(
    cohort: Cohort,
    images: Mapping[str, Sequence[StudyImage]],
    rows: Sequence[Mapping[str, Any]],
    outliers: tuple[Outlier, ...],
    config: RunConfig,
) -> GroupReport:
    everything = [image for found in images.values() for image in found]
    records = [image.record for image in everything]
    ways = [record.regridding for record in records if record.regridding is not None]
    return GroupReport(
        dataset=dataset_name(config.bids_dir),
        shared=_shared_grid(cohort, config),
        means=tuple(_means(cohort, everything, config)),
        members=tuple(_pictures(cohort, images, config)),
        columns=data_dictionary(),
        rows=rows,
        outliers=outliers,
        settings=_settings(records),
        devices=_counted(record.device for record in records),
        versions=_counted(record.version for record in records),
        model=cohort.members[0].model,
        methods=_counted(way.mode for way in ways),
    )


def _name_outliers(outliers: Sequence[Outlier], rows: Sequence[Mapping[str, Any]]) -> None:
    if not outliers:
        return
    named = [
        f"{label_of(rows[each.row])} {rows[each.row]['contrast']} {each.column} {each.value:.3g} "
        f"(median {each.median:.3g})"
        for each in sorted(outliers, key=lambda each: -abs(each.score))[:_NAMED]
    ]
    more = len(outliers) - len(named)
    logger.warning(
        "far from the others, worth a look: %s%s",
        "; ".join(named),
        f"; and {more} more, see the report" if more else "",
    )


def _shared_grid(cohort: Cohort, config: RunConfig) -> SharedGrid | None:
    """The shared grid as its sidecar records it, regardless of the options of this run."""
    path = study_grid_path(config.output_dir, voxel_size=config.model.voxel_size)
    record = read_grid_record(config)
    grid, members, settings = record.grid, record.participants, record.settings
    if grid is None or members is None or record.divisible_by is None:
        return None
    if settings is None or settings.fov is None or not settings.is_complete:
        return None
    there = [member for member in cohort.members if member.label in members]
    extents = _extents(there, settings.fov, config)
    reaches = _reaches(grid, extents)
    return SharedGrid(path, grid, record.divisible_by, settings, members, reaches)


def _extents(members: Iterable[Member], fov: str, config: RunConfig) -> dict[str, Extent]:
    extents = {}
    for member in members:
        try:
            extents[member.label] = extent_in_study(config.output_dir, member, fov)
        except MissingInputError as error:
            logger.debug("%s", error)
    return extents


def _reaches(grid: Grid, extents: Mapping[str, Extent]) -> tuple[Reach, ...]:
    """Participant that extends furthest to each face: left, right, back, front, bottom, top."""
    if not extents:
        return ()
    edges = apply_affine(grid.affine, corners(grid.shape, 0.5))
    ends = edges.min(axis=0), edges.max(axis=0)
    reaches = []
    for direction, (axis, end) in _FACES.items():
        outward = 1 if end else -1
        order = sorted(
            ((outward * float(extent[end][axis]), label) for label, extent in extents.items()),
            key=lambda pair: -pair[0],
        )
        furthest, label = order[0]
        gain = furthest - order[1][0] if len(order) > 1 else None
        reaches.append(Reach(direction, outward * furthest, float(ends[end][axis]), label, gain))
    return tuple(reaches)


def _means(
    cohort: Cohort, images: Sequence[StudyImage], config: RunConfig
) -> Iterator[MeanPicture]:
    contrasts = {image.contrast: image.entities for image in images}
    for contrast in in_order(i for member in cohort.members for i in member.known):
        if contrast not in contrasts:
            continue
        path = study_image_path(
            config.output_dir,
            contrasts[contrast],
            voxel_size=config.model.voxel_size,
        )
        with suppress(SidecarError):
            count = StudyMeanRecord.read(sidecar_path(path)).participants
            if count is not None:
                yield MeanPicture(contrast, path, count)


def _pictures(
    cohort: Cohort, images: Mapping[str, Sequence[StudyImage]], config: RunConfig
) -> Iterator[MemberPicture]:
    for member in cohort.members:
        if found := images.get(member.label):
            masks = {
                name: mask_path(
                    config.output_dir,
                    member,
                    desc=name,
                    voxel_size=config.model.voxel_size,
                    space=STUDY_SPACE,
                )
                for name in ("brain", "head")
            }
            there = {name: path for name, path in masks.items() if path.is_file()}
            name, mask = next(iter(there.items()), ("", None))
            yield MemberPicture(member.label, found[0].contrast, found[0].path, mask, name)


def _settings(records: Sequence[ImageRecord]) -> dict[str, tuple[Any, ...]]:
    """Settings of the model with which the images were made, as their sidecars record them."""
    values: dict[str, list[Any]] = {}
    for record in records:
        stated = record.settings or {}
        for name in (field.name for field in fields(ModelSettings)):
            if name in stated and stated[name] not in values.setdefault(name, []):
                values[name].append(stated[name])
    return {name: tuple(found) for name, found in values.items()}


def _counted(names: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(name for name in names if name).most_common())
