"""Align a participant to the space of the study, and find its brain and head."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...config import CT_SUFFIX, Alignment, FieldOfView, RunConfig
from ...dataset.derivatives import ResultImage
from ...dataset.metadata import SidecarError
from ...dataset.naming import (
    STUDY_SPACE,
    aligned_space,
    mask_path,
    sidecar_path,
    template_transform_path,
)
from ...dataset.reading import load_volume
from ...dataset.sidecar import derivative_uri
from ...dataset.transforms import write_transform
from ...dataset.writing import write_json, write_mask
from ...errors import BadDataError, MissingInputError
from ...records.study import Extent, StudyPlacementRecord
from ...records.template import TemplateRecord
from ...registration import (
    Template,
    TemplateAlignment,
    align_rigid,
    align_to_template,
    brain_mask_from_template,
    head_mask,
    load_template,
    without_scale,
)
from ...registration.masks import nonempty_voxels
from ...space.affines import Affine
from ...space.boxes import mask_extent
from ...space.volume import Volume
from ...work.allotment import Allotment
from ...work.progress import listener
from .cohort import Member, head_share

logger = logging.getLogger("bids_unires")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Placing:
    """A unit of work: align one participant to the space of the study.

    Parameters
    ----------
    member
        The participant.
    align
        Kind of alignment: ``none``, ``rigid`` or ``similarity``.
    template
        Name of the template to align to, or ``none``.
    mean
        Image to align to if there is no template.
    fov
        Region that the grid has to contain, and that has to be found: ``brain`` or ``head``.
    first_visit
        Another visit of the same participant in the same space, whose image is aligned in place of
        the member's own, so that visits stay aligned to each other; None if there is none.
    """

    member: Member
    align: Alignment
    template: str
    mean: Path | None
    fov: FieldOfView
    first_visit: Member | None = None

    @property
    def aligned(self) -> ResultImage:
        """The image that is aligned."""
        return (self.first_visit or self.member).aligned

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return self.member.label

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return "group-alignment"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that its files are written to, relative to the output folder."""
        return self.member.folders

    @property
    def inputs(self) -> tuple[tuple[str, Path], ...]:
        """Inputs of the alignment: the image to align, and the mean image if it is used."""
        images = {each.path.name: each.path for each in (self.member.aligned, self.aligned)}
        mean = ((self.mean.name, self.mean),) if self.mean is not None else ()
        return (*images.items(), *mean)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Empty: the results depend on no other data."""
        return {}

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """Settings of the alignment."""
        return {"align": self.align, "template": self.template, "fov": self.fov}


@dataclass(frozen=True)
class PlacingOutcome:
    """Result of a `Placing`; see `ParticipantOutcome` for its fields."""

    label: str
    outputs: tuple[Path, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    missing: tuple[Path, ...] = ()


# Share of the head above which the part outside the field of view is negligible. The head is the
# region that any image of the participant shows.
_WHOLE_HEAD = 0.98
# Voxels without signal in holes up to about this size (voxels) count as measured.
_HOLE_VOXELS = 2
# Usual ratios of the size of the template's head to heads of adults and of children from about two
# years of age. The least share of the brain allows for a field of view that cuts its top or bottom.
_SMALLEST_USUAL_SCALE, _LARGEST_USUAL_SCALE = 0.9, 1.22
_LEAST_BRAIN = 0.6


@dataclass(frozen=True, eq=False)
class _Pose:
    """The pose of one image.

    Parameters
    ----------
    study_from_image
        ``(4, 4)``, world mm of the image -> world mm of the study.
    template_from_image
        ``(4, 4)``, world mm of the image -> world mm of the template. It includes the scale
        between head and template, which ``study_from_image`` may lack. None without a template.
    """

    study_from_image: Affine
    template_from_image: Affine | None

    @property
    def scale(self) -> float:
        """Size of the head of the template divided by that of the image; 1 without a template."""
        if self.template_from_image is None:
            return 1.0
        return float(np.cbrt(np.linalg.det(self.template_from_image[:3, :3])))


def place_in_study(unit: Placing, config: RunConfig, allotment: Allotment) -> PlacingOutcome:
    """Align one participant, find brain and head, and write transform and masks.

    Raises
    ------
    UniResError
        If the image cannot be read, cannot be aligned, or shows no head.
    """
    began = time.perf_counter()
    tell = listener()
    tell.phase(unit.label, "alignment to the study")
    aligned = unit.member.aligned
    image = load_volume(aligned.path)
    if aligned != unit.member.known[0]:
        logger.info(
            "%s is aligned by its %s, which shows more of the head than %s",
            unit.label,
            aligned.contrast,
            unit.member.known[0].contrast,
        )
    shared = unit.first_visit is not None
    pose = _pose(load_volume(unit.aligned.path) if shared else image, unit, allotment.threads)
    tell.phase(unit.label, "masks")
    masks = _masks(image, pose, unit)
    warnings = tuple(_oddities(image, pose, masks, unit))
    for warning in warnings:
        logger.warning("%s: %s", unit.label, warning)
    written = [
        path
        for name, mask in masks.items()
        for path in _write_mask(unit.member, name, mask, image.affine, config.output_dir)
    ]
    written += _write_transform(unit, pose, masks, image.affine, config.output_dir)
    return PlacingOutcome(unit.label, tuple(written), time.perf_counter() - began, warnings)


def study_transform_path(output_dir: Path, member: Member) -> Path:
    """Path of the transform of the images of a participant to the space of the study."""
    return template_transform_path(output_dir, member, STUDY_SPACE, space=member.result.space)


def member_mask_path(output_dir: Path, member: Member, name: str) -> Path:
    """Path of a mask (``brain``, ``head``) in the space of the images of a participant."""
    path = mask_path(output_dir, member, desc=name, voxel_size=(1, 1, 1), space=member.result.space)
    return path.with_name(path.name.replace("_res-1mm_", f"_res-{member.result.res}_"))


def extent_in_study(output_dir: Path, member: Member, fov: str) -> Extent:
    """Bounding box of the brain or head of a participant in the space of the study.

    Returns
    -------
    low, high
        Lower and upper corner in world mm, ``(3,)`` each.

    Raises
    ------
    MissingInputError
        If there is no alignment, or its sidecar does not record the box.
    """
    path = sidecar_path(study_transform_path(output_dir, member))
    with suppress(SidecarError):
        extents = StudyPlacementRecord.read(path).extent or {}
        if fov in extents:
            return extents[fov]
    raise MissingInputError(
        f"{path} does not say how far the {fov} reaches: run the group level with --no-resume"
    )


def _pose(image: Volume, unit: Placing, threads: int) -> _Pose:
    if unit.align == "none":
        return _Pose(np.eye(4), np.eye(4) if unit.fov == "brain" else None)
    stays = unit.member.result.space == aligned_space(unit.template, unit.align)
    if stays and unit.align == "similarity":
        return _Pose(np.eye(4), np.eye(4))
    measured = measured_in(unit.aligned, image)
    if unit.mean is not None:
        reference = load_volume(unit.mean)
        found = align_rigid(reference, image, threads=threads, measured=measured)
        return _Pose(found.pose, None)
    template = _template(unit.template)
    similar = align_to_template(
        image, template, kind="similarity", threads=threads, measured=measured
    )
    if stays:
        # The image is already in this space. The masks still need the scale of the head.
        return _Pose(np.eye(4), similar.matrix)
    matrix = similar.matrix
    if unit.align == "rigid":
        matrix = without_scale(similar.matrix, similar.scale, template)
    return _Pose(matrix, similar.matrix)


def measured_in(image: ResultImage, volume: Volume) -> Mask | None:
    """Mask of the voxels that the scans of an image measured, ``(X, Y, Z)``.

    None if the scans measured the whole head.
    """
    if head_share(image) >= _WHOLE_HEAD:
        return None
    shows = nonempty_voxels(volume.data, "CT" if image.entities["suffix"] == CT_SUFFIX else "MR")
    margin = [(_HOLE_VOXELS, _HOLE_VOXELS)] * 3
    closed = ndimage.binary_closing(np.pad(shows, margin, mode="edge"), iterations=_HOLE_VOXELS)
    inner = slice(_HOLE_VOXELS, -_HOLE_VOXELS)
    return np.asarray(closed[inner, inner, inner])


def _oddities(
    image: Volume, pose: _Pose, masks: Mapping[FieldOfView, Mask], unit: Placing
) -> Iterator[str]:
    """Warnings about an alignment that may be wrong."""
    advice = "look at it on the page of the group, and leave the participant out if it is wrong"
    if not _SMALLEST_USUAL_SCALE <= pose.scale <= _LARGEST_USUAL_SCALE:
        yield (
            f"the template fits {unit.member.aligned.path.name} best at {1 / pose.scale:.2f} of "
            f"its size, which is rare: {advice}"
        )
    if "brain" not in masks or pose.template_from_image is None:
        return
    template = _template(unit.template).brain
    brain = masks["brain"].sum() * abs(np.linalg.det(image.affine[:3, :3])) * pose.scale**3
    share = brain / ((template.data > 0).sum() * abs(np.linalg.det(template.affine[:3, :3])))
    if share < _LEAST_BRAIN:
        yield (
            f"only {100 * share:.0f} % of the brain lies in the head that "
            f"{unit.member.aligned.path.name} shows: {advice}"
        )


@lru_cache(maxsize=1)
def _template(name: str) -> Template:
    return load_template(name)


def _masks(image: Volume, pose: _Pose, unit: Placing) -> dict[FieldOfView, Mask]:
    head = head_mask(image.data, image.affine)
    if not head.any():
        raise BadDataError(f"{image.path}: no head was found; is it an image of one?")
    masks: dict[FieldOfView, Mask] = {"head": head}
    if pose.template_from_image is not None:
        alignment = TemplateAlignment(pose.template_from_image, "similarity", 1.0, 0.0)
        brain = brain_mask_from_template(image.grid, alignment, _template(unit.template)) & head
        if not brain.any():
            raise BadDataError(
                f"{image.path} shows no brain where the template {unit.template} has it: "
                "is the image aligned to it?"
            )
        masks["brain"] = brain
    return masks


def _write_mask(
    member: Member, name: FieldOfView, mask: Mask, affine: Affine, output_dir: Path
) -> list[Path]:
    path = member_mask_path(output_dir, member, name)
    source = member.aligned
    content = {
        "Type": "Brain" if name == "brain" else "ROI",
        "Description": (
            "The template's brain, mapped back and cut to the head"
            if name == "brain"
            else "Largest bright region above Otsu's threshold, smoothed and filled"
        ),
        "Sources": [derivative_uri(output_dir, source.path)],
        "SpatialReference": source.metadata.get(
            "SpatialReference", derivative_uri(output_dir, source.path)
        ),
        "Resolution": source.metadata.get("Resolution", member.result.res),
    }
    return [write_json(sidecar_path(path), content), write_mask(path, mask, affine)]


def _write_transform(
    unit: Placing,
    pose: _Pose,
    masks: Mapping[FieldOfView, Mask],
    affine: Affine,
    output_dir: Path,
) -> list[Path]:
    path = study_transform_path(output_dir, unit.member)
    record = StudyPlacementRecord(
        align=unit.align,
        template=unit.template,
        template_source=(
            None
            if pose.template_from_image is None
            else TemplateRecord.of_template(_template(unit.template))
        ),
        matrix=pose.study_from_image,
        extent={
            name: mask_extent(mask, pose.study_from_image @ affine) for name, mask in masks.items()
        },
    )
    content = {
        "Description": f"Transform of the images of {unit.label} into the space of the study",
        "Sources": [derivative_uri(output_dir, unit.member.aligned.path)],
    }
    return [
        write_json(sidecar_path(path), record.in_sidecar(content)),
        write_transform(path, pose.study_from_image),
    ]
