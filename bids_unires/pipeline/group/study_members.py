"""Find the participants whose images are on the grid of the study, and outdated images."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ...config import GroupSettings, ModelSettings, RunConfig, SpaceSettings
from ...dataset.derivatives import MAX_RESULT_SIDECAR_BYTES
from ...dataset.entities import listing, natural_key
from ...dataset.metadata import SidecarError, load_object
from ...dataset.naming import (
    STUDY_SPACE,
    fov_mask_path,
    in_space,
    lookup_path,
    resolution_label,
    sidecar_path,
)
from ...dataset.reading import grid_of
from ...dataset.sidecar import derivative_uri
from ...dataset.transforms import read_transform
from ...records.image import ImageRecord
from ...records.poses import is_one_place
from ...records.study import Extent, StudyPlacementRecord
from .cohort import Member
from .study_alignment import study_transform_path
from .study_grid import Frame, union
from .study_means import StudyImage

logger = logging.getLogger("bids_unires")

_UNIT = re.compile(r"sub-[^_]+(?:_ses-[^_]+)?(?=_)")


def labels_in_study(config: RunConfig) -> frozenset[str]:
    """Labels of all units with images, masks or segmentations of the study, on any grid."""
    return frozenset(_label(path) for path in _study_files(config))


def earlier_extents(
    labels: Iterable[str], align: str, template: str, config: RunConfig
) -> dict[str, Extent]:
    """Bounding boxes of brain or head of the participants that earlier runs aligned to a space.

    Parameters
    ----------
    labels
        Labels of participants and sessions.
    align, template
        Kind of alignment and name of the template that define the space. Participants with another
        alignment are left out.
    config
        The configuration of the run.

    Returns
    -------
    dict
        Lower and upper corner in world mm, ``(3,)`` each, by label.
    """
    extents = {}
    for label in sorted(labels, key=natural_key):
        found = [
            record.extent[config.space.fov]
            for record in _placings(config.output_dir, label, align, template)
            if record.extent is not None and config.space.fov in record.extent
        ]
        if found:
            extents[label] = union(found)
    return extents


def images_on_grid(
    members: Iterable[Member], frame: Frame | None, config: RunConfig
) -> dict[str, tuple[StudyImage, ...]]:
    """Images of participants on the shared grid, also those of earlier runs, by label."""
    return {
        member.label: tuple(_on_grid(member, frame, config)) if frame is not None else ()
        for member in members
    }


def outdated_contrasts(
    member: Member, on_grid: Sequence[StudyImage], config: RunConfig
) -> frozenset[str]:
    """Contrasts with images in the space of the study that are not on its present grid."""
    there = {image.contrast for image in member.known if _study_path(image.path, config).is_file()}
    return frozenset(there - {image.contrast for image in on_grid})


def outdated_labels(frame: Frame, config: RunConfig) -> tuple[str, ...]:
    """Labels of units with files of the study that are on an earlier grid or in another space."""
    labels = {_label(path) for path in _study_files(config) if grid_of(path) != frame.grid}
    for label in labels_in_study(config) - labels:
        if not any(_placings(config.output_dir, label, frame.align, frame.template)):
            labels.add(label)
    return tuple(sorted(labels, key=natural_key))


def remove_leftovers_of(members: Sequence[Member], frame: Frame, config: RunConfig) -> None:
    """Remove files on an earlier grid of participants that were brought to the new grid.

    An image is kept if the participant level still has the image from which it was made, as it has
    for contrasts that this run did not select.
    """
    kept = {_study_path(image.path, config) for member in members for image in member.known}
    labels = {member.label for member in members}
    leftovers = [
        path
        for path in _study_files(config)
        if _label(path) in labels and path not in kept and grid_of(path) != frame.grid
    ]
    for path in leftovers:
        for companion in (path, sidecar_path(path), lookup_path(path)):
            companion.unlink(missing_ok=True)
    if leftovers:
        logger.warning(
            "%d images of an earlier run were removed, they lie on another grid and nothing they "
            "could be made of again is there: %s",
            len(leftovers),
            ", ".join(path.name for path in leftovers),
        )


def name_realigned(members: Iterable[Member], config: RunConfig) -> None:
    """Warn about images with another voxel size that do not agree with the present transforms.

    The names of transforms to the space of the study have no resolution. The transforms of this
    run have therefore replaced those of earlier runs, whose images are still there.
    """
    elsewhere = [path for member in members for path in _realigned(member, config)]
    if elsewhere:
        logger.warning(
            "%s of an earlier run with other voxels lie elsewhere than the transforms into the "
            "space of the study say now: remove them, or run the group level with their "
            "--voxel-size and the --align and --template of this run",
            listing(path.name for path in elsewhere),
        )


def _realigned(member: Member, config: RunConfig) -> Iterator[Path]:
    transform = study_transform_path(config.output_dir, member)
    uri = derivative_uri(config.output_dir, transform)
    own = f"_res-{resolution_label(config.model.voxel_size)}_"
    for folder in member.folders:
        pattern = f"{member.label}_*space-{STUDY_SPACE}_*_desc-*.nii.gz"
        for path in sorted((config.output_dir / folder).glob(pattern)):
            try:
                stated = ImageRecord.read(sidecar_path(path)).regridding
            except SidecarError:
                continue
            if own in path.name or stated is None or stated.transform != uri:
                continue
            pose, grid = stated.study_from_image, grid_of(path)
            if pose is None or grid is None:
                continue
            if not is_one_place(pose, read_transform(transform), grid):
                yield path


def redo_command(labels: Iterable[str], config: RunConfig) -> str:
    """The command that brings participants to the grid of this run."""
    participants = dict.fromkeys(label.split("_")[0].removeprefix("sub-") for label in labels)
    words = ["bids_unires", str(config.bids_dir), str(config.output_dir), "group"]
    words += ["--participant-label", *participants, *_grid_options(config)]
    return shlex.join(words)


def _grid_options(config: RunConfig) -> Iterator[str]:
    """The options that the grid depends on, if they differ from the defaults."""
    if config.model.voxel_size != ModelSettings().voxel_size:
        sizes = config.model.voxel_size
        yield "--voxel-size"
        yield from (f"{size:g}" for size in (sizes[:1] if len(set(sizes)) == 1 else sizes))
    space, usual = asdict(config.space), asdict(SpaceSettings(align="rigid"))
    group, usual_group = asdict(config.group), asdict(GroupSettings())
    for name, value in {**space, **group}.items():
        decides = name in ("fov", "template", "align") or name.startswith("grid_")
        if decides and value != {**usual, **usual_group}[name]:
            yield "--" + name.replace("_", "-")
            yield f"{value:g}" if isinstance(value, float) else str(value)


def _on_grid(member: Member, frame: Frame, config: RunConfig) -> Iterator[StudyImage]:
    if not any(_placings(config.output_dir, member.label, frame.align, frame.template)):
        return
    for image in member.known:
        path = _study_path(image.path, config)
        try:
            metadata = load_object(sidecar_path(path), MAX_RESULT_SIDECAR_BYTES)
        except SidecarError:
            continue
        if path.is_file() and grid_of(path) == frame.grid:
            fov = fov_mask_path(
                config.output_dir, member, voxel_size=config.model.voxel_size, space=STUDY_SPACE
            )
            yield StudyImage(
                image.contrast,
                image.entities,
                path,
                ImageRecord.of_sidecar(metadata),
                metadata.get("SkullStripped") is True,
                fov if fov.is_file() else None,
            )


def _placings(
    output_dir: Path, label: str, align: str, template: str
) -> Iterator[StudyPlacementRecord]:
    """Records of the alignments of a participant to the study, of this kind and template."""
    folder = output_dir.joinpath(*label.split("_"))
    for path in sorted(folder.glob(f"*/{label}_from-*_to-{STUDY_SPACE}_mode-image_xfm.json")):
        with suppress(SidecarError):
            record = StudyPlacementRecord.read(path)
            if (record.align, record.template) == (align, template):
                yield record


def _study_path(path: Path, config: RunConfig) -> Path:
    return in_space(path, space=STUDY_SPACE, voxel_size=config.model.voxel_size)


def _study_files(config: RunConfig) -> Iterator[Path]:
    """Images, masks and segmentations of all participants in the study space and voxel size."""
    resolution = f"_res-{resolution_label(config.model.voxel_size)}_"
    for path in sorted(config.output_dir.glob(f"sub-*/**/*_space-{STUDY_SPACE}_*.nii.gz")):
        if resolution in path.name and _UNIT.match(path.name):
            yield path


def _label(path: Path) -> str:
    match = _UNIT.match(path.name)
    return match[0] if match else ""
