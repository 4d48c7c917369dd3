"""Align the scans of a participant to each other and, if requested, to a template."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import RunConfig
from ...dataset.metadata import SidecarError
from ...dataset.naming import SPACE, aligned_space, sidecar_path
from ...dataset.scans import ParticipantPlan, Scan
from ...errors import BadDataError
from ...model.fit.placement import StartingPose, starting_poses
from ...records.image import ImageRecord
from ...records.outdated_results import Results
from ...records.template import TemplateRecord
from ...records.visits import VisitsRecord
from ...records.work_record import placed_alike
from ...space.affines import Affine
from ...space.grid import Grid
from .acquired import AcquiredContrast

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True, eq=False)
class Placement:
    """Poses of the scans, and space and grid of the images, before the fit.

    Parameters
    ----------
    space
        Label of the space of the images.
    scans
        Pose of each scan in that space, (contrast, repeat).
    grid
        Grid of the images if the space defines it; None if it follows from the scans.
    template
        The head that the space was aligned to; None if it was aligned to none.
    """

    space: str
    scans: tuple[tuple[StartingPose, ...], ...]
    grid: Grid | None
    template: TemplateRecord | None = None

    @property
    def poses(self) -> tuple[tuple[Affine, ...], ...]:
        """``(4, 4)`` matrices, world mm of the scan -> world mm of the space."""
        return matrices(self.scans)


@dataclass(frozen=True, eq=False)
class ImageSpace:
    """The space of the images, and how scans that lie in the world of the first one come there.

    Parameters
    ----------
    label
        Label of the space.
    motion
        ``(4, 4)``, world mm of the first scan -> world mm of the space; the identity without a
        template.
    grid
        Grid of the images if a template defines it; None if it follows from the scans.
    template
        The head of the template; None without one.
    """

    label: str
    motion: Affine
    grid: Grid | None = None
    template: TemplateRecord | None = None


def place(contrasts: Sequence[AcquiredContrast], config: RunConfig, threads: int) -> Placement:
    """Align the scans to each other and, if requested, to a template.

    Parameters
    ----------
    contrasts
        The scans.
    config
        The configuration of the run.
    threads
        Number of threads for the alignment to a template.

    Raises
    ------
    UniResError
        If scans do not overlap, or the template is missing or cannot be aligned.
    """
    within = poses_within(contrasts, config)
    space = onto_template(contrasts, matrices(within), config, threads)
    scans = tuple(tuple(at.moved(space.motion) for at in own) for own in within)
    return Placement(space.label, scans, space.grid, space.template)


def matrices(scans: Sequence[Sequence[StartingPose]]) -> tuple[tuple[Affine, ...], ...]:
    """The matrices ``(4, 4)`` of poses, (contrast, repeat)."""
    return tuple(tuple(at.matrix for at in own) for own in scans)


def poses_within(
    contrasts: Sequence[AcquiredContrast], config: RunConfig
) -> tuple[tuple[StartingPose, ...], ...]:
    """Align the scans of a participant (and session) to each other.

    Returns
    -------
    tuple
        Pose of each scan in the world of the first one, (contrast, repeat).

    Raises
    ------
    BadDataError
        If scans do not overlap.
    """
    scans = [scan for contrast in contrasts for scan in contrast.scans]
    volumes = [scan.volume for scan in scans]
    series = [_series(scan.scan) for scan in scans]
    named = [
        each.contrast.name if each.contrast.modality == "MR" else None
        for each in contrasts
        for _ in each.scans
    ]
    at = iter(starting_poses(volumes, config.model, series, named))
    return tuple(tuple(next(at) for _ in contrast.scans) for contrast in contrasts)


def onto_template(
    contrasts: Sequence[AcquiredContrast],
    poses: Sequence[Sequence[Affine]],
    config: RunConfig,
    threads: int,
) -> ImageSpace:
    """Find the space of the images, and the motion of the scans into it.

    Parameters
    ----------
    contrasts, poses
        The scans and their poses in one space, (contrast, repeat).
    config, threads
        As for `place`.

    Raises
    ------
    UniResError
        If the template is missing or cannot be aligned.
    """
    wanted = config.space
    if wanted.align == "none":
        return ImageSpace(SPACE, np.eye(4))
    volumes = [scan.volume for contrast in contrasts for scan in contrast.scans]
    # These load slowly, and only the alignment to a template needs them.
    from ...registration import (
        align_to_template,
        fullest_scan,
        load_template,
        template_grid,
    )

    template = load_template(wanted.template)
    logger.info("aligning to %s", template.name)
    fullest = fullest_scan(volumes, threads=threads)
    alignment = align_to_template(volumes[fullest], template, kind=wanted.align, threads=threads)
    flat = [pose for own in poses for pose in own]
    from_first = alignment.matrix @ np.linalg.inv(flat[fullest])
    logger.info(
        "aligned to %s (%s)%s",
        template.name,
        template.source,
        f", {100 * (alignment.scale - 1):+.1f} % in size" if wanted.align == "similarity" else "",
    )
    grid = (
        template_grid(template, wanted.fov, config.model.voxel_size)
        if wanted.common_output
        else None
    )
    return ImageSpace(
        aligned_space(template.name, wanted.align),
        from_first,
        grid,
        TemplateRecord.of_template(template),
    )


def _series(scan: Scan) -> Hashable:
    """Key that all parts of a scan (``chunk-1``, ``chunk-2``, ...) share; None for a whole scan."""
    if "chunk" not in scan.entities:
        return None
    return tuple(sorted((key, label) for key, label in scan.entities.items() if key != "chunk"))


def placed_with_visits(
    plan: ParticipantPlan, contrasts: Sequence[AcquiredContrast]
) -> Placement | None:
    """Poses and grid that the scans share with those of other visits; see `visits`.

    None if this session has a space of its own.

    Raises
    ------
    BadDataError
        If the record of the visits does not hold them.
    """
    if plan.shared_placement is None:
        return None
    record = VisitsRecord.read(plan.shared_placement)
    poses, grid, told = record.poses, record.grid, record.uncertainties
    if record.space is None or grid is None or not all(scan.uri in poses for scan in plan.scans):
        raise BadDataError(
            f"{plan.shared_placement} does not place the scans of {plan.label}: remove it, and run "
            "the participant level again"
        )
    own = (
        tuple(StartingPose(poses[uri], told.get(uri)) for uri in (s.scan.uri for s in each.scans))
        for each in contrasts
    )
    return Placement(record.space, tuple(own), grid, record.template)


def placed_before(
    plan: ParticipantPlan, contrasts: Sequence[AcquiredContrast], config: RunConfig
) -> Placement | None:
    """Poses and grid of existing super-resolved images of the same scans, for interpolation.

    Interpolated images are put on the same grid, so that they can be compared voxel by voxel. Both
    share the mask of the field of view and the transforms of the scans. None if there are no such
    images, or if the method is not interpolation.
    """
    if config.model.method != "linear":
        return None
    wanted = list(config.model.voxel_size)
    for results in placed_alike(plan, config):
        is_beside = results.kinds == {"sr"} and results.settings.get("voxel_size") == wanted
        if not is_beside or len(results.grids) != 1:
            continue
        ((space, _),) = results.grids
        grid = results.grid(config.output_dir)
        poses = results.poses(config.output_dir)
        if grid is not None and all(scan.uri in poses for scan in plan.scans):
            logger.info("scans and grid are placed as those of %s", ", ".join(results.images))
            own = (
                (StartingPose(poses[scan.scan.uri]) for scan in each.scans) for each in contrasts
            )
            template = _template_of(results, config.output_dir)
            return Placement(space, tuple(map(tuple, own)), grid, template)
    return None


def _template_of(results: Results, output_dir: Path) -> TemplateRecord | None:
    """The template that earlier images were aligned to; None if their sidecars name none."""
    for image in results.images:
        with suppress(SidecarError):
            return ImageRecord.read(sidecar_path(output_dir / image)).template
    return None
