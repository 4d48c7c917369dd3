"""Bring one participant to the grid of the study, by reconstruction or by interpolation."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...config import GroupMode, ModelSettings, RunConfig
from ...dataset.metadata import SidecarError, load_object
from ...dataset.naming import (
    STUDY_SPACE,
    in_space,
    lookup_path,
    mask_path,
    resolution_text,
    sidecar_path,
    transform_path,
)
from ...dataset.reading import load_labels, load_volume
from ...dataset.sidecar import derivative_uri, image_sidecar
from ...dataset.transforms import read_transform
from ...dataset.writing import copy_text, write_image, write_json, write_labels, write_mask
from ...errors import BadDataError
from ...model import Progress, resample_labels, super_resolve
from ...model.robust.verdict import Verdicts
from ...model.scanner.slice_groups import SliceMotion
from ...records.image import ImageRecord, RegriddingRecord, ScanRecord, stated_settings
from ...space.affines import Affine
from ...space.grid import Grid
from ...space.volume import Volume
from ...work.allotment import Allotment
from ...work.progress import listener
from ..participant.acquired import AcquiredContrast, AcquiredScan, acquire, volumes_of
from ..participant.provenance import image_record, run_record
from ..participant.reconstructed import ReconstructedParticipant, reconstructed
from ..participant.workflow import say_which_slices
from .cohort import Member
from .quality import quality_of
from .study_alignment import member_mask_path

logger = logging.getLogger("bids_unires")

# Factor on the tolerance. The fit starts from a converged image. With this tolerance, its result is
# better than the interpolated image, in about two thirds of the time of the full tolerance.
WARM_TOLERANCE = 5.0

RECALLING_ORDER = 5
"""Order of the spline that gives the start of a reconstruction; this order hardly blurs."""

Mask = NDArray[np.bool_]
Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Regridding:
    """A unit of work: bring one participant to the grid of the study.

    Parameters
    ----------
    member
        The participant.
    grid
        The grid of the study.
    grid_path
        The image that defines it.
    transform
        Path of the transform of the images of the participant to the space of the study.
    mode
        ``refit`` to reconstruct, ``reslice`` to interpolate, ``auto`` to reconstruct if possible.
    """

    member: Member
    grid: Grid
    grid_path: Path
    transform: Path
    mode: GroupMode

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return self.member.label

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return "group"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that its files are written to, relative to the output folder."""
        return self.member.folders

    @property
    def refit(self) -> bool:
        """Whether the images are reconstructed from the scans."""
        return self.mode == "refit" or (self.mode == "auto" and self.member.plan is not None)

    @property
    def inputs(self) -> tuple[tuple[str, Path], ...]:
        """Images, labels and transforms of the participant level, and the scans in use."""
        result = self.member.result
        to_study = f"_to-{STUDY_SPACE}_"
        own = (
            *(image.path for image in self.member.images),
            *result.labels,
            *(path for path in result.transforms if to_study not in path.name),
            self.transform,
        )
        scans = self.member.plan.inputs if self.refit and self.member.plan is not None else ()
        return (*((path.name, path) for path in own), *scans)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of the scans in use."""
        plan = self.member.plan
        return plan.metadata if self.refit and plan is not None else {}

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The grid, and the settings with which images are brought to it."""
        return {
            "mode": "refit" if self.refit else "reslice",
            "shape": list(self.grid.shape),
            "affine": np.round(self.grid.affine, 6).tolist(),
        }


@dataclass(frozen=True)
class RegriddingOutcome:
    """Result of a `Regridding`; see `ParticipantOutcome` for its fields."""

    label: str
    outputs: tuple[Path, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    missing: tuple[Path, ...] = ()


def bring_to_grid(unit: Regridding, config: RunConfig, allotment: Allotment) -> RegriddingOutcome:
    """Write images, labels and masks of one participant on the grid of the study.

    Raises
    ------
    UniResError
        If an image or a scan cannot be used, or an output cannot be written.
    """
    began = time.perf_counter()
    member = unit.member
    tell = listener()
    tell.phase(unit.label, "reading")
    study_pose = read_transform(unit.transform)
    volumes = [load_volume(image.path) for image in member.images]
    warnings = []
    if unit.mode == "auto" and not unit.refit:
        warnings.append(f"interpolated, not reconstructed: {member.obstacle}")
        logger.warning("%s is %s", unit.label, warnings[0])
    writer = _Writer(unit, config, study_pose)
    masks = writer.write_masks()
    if unit.refit:
        participant = _refit(unit, volumes, study_pose, config, allotment, began)
        written = writer.write_refitted(participant, masks)
    else:
        tell.phase(unit.label, "interpolation")
        images = _splines(volumes, unit.grid, study_pose, allotment.threads)
        tell.phase(unit.label, "writing")
        written = writer.write_resliced(images, masks, began)
    outputs = (*writer.written, *written, *writer.write_labels())
    return RegriddingOutcome(unit.label, outputs, time.perf_counter() - began, tuple(warnings))


def spline(volume: Volume, grid: Grid, pose: Affine, order: int = 3) -> Image:
    """Interpolate an image with a B-spline, within the range of the image.

    Parameters
    ----------
    volume
        The image. Beyond its outermost voxel centres, its value is taken as 0, or as its minimum
        if it has negative values, as CT has.
    grid
        The grid to interpolate to.
    pose
        ``(4, 4)``, world mm of the image -> world mm of the grid.
    order
        Order of the spline: 3 (cubic) to 5; a higher order keeps more of the finest detail.

    Returns
    -------
    ndarray
        Float32 image of the shape of ``grid``; overshoots of the spline are clipped.
    """
    low, high = float(volume.data.min()), float(volume.data.max())
    into_image = np.linalg.inv(pose @ volume.affine) @ grid.affine
    values = ndimage.affine_transform(
        volume.data,
        into_image,
        output_shape=grid.shape,
        output=np.float32,
        order=order,
        mode="constant",
        cval=min(low, 0.0),
    )
    return np.asarray(np.clip(values, low, high, out=values))


def _splines(
    volumes: Sequence[Volume], grid: Grid, pose: Affine, threads: int, order: int = 3
) -> list[Image]:
    """Interpolate several images in parallel threads; the interpolation releases Python's lock."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda volume: spline(volume, grid, pose, order), volumes))


def _refit(
    unit: Regridding,
    before: Sequence[Volume],
    study_pose: Affine,
    config: RunConfig,
    allotment: Allotment,
    began: float,
) -> ReconstructedParticipant:
    """Fit the model on the grid, starting from the images of the participant level."""
    member = unit.member
    plan = member.plan
    if plan is None:
        raise BadDataError(
            f"{unit.label} cannot be reconstructed again: {member.obstacle}; use --group-mode "
            "auto or reslice"
        )
    # The transforms on disk apply to the scans as stored, so the origin must not be reset.
    model = _model_on_grid(unit, config)
    contrasts = acquire(plan, model, allotment.memory, reset_origin=False)
    listener().phase(unit.label, "reconstruction")

    def report(progress: Progress) -> None:
        number = progress.products // len(contrasts)
        listener().iteration(unit.label, number, model.max_iter, progress.objective)

    result = super_resolve(
        volumes_of(contrasts),
        model,
        allotment.device,
        modalities=[acquired.contrast.modality for acquired in contrasts],
        profiles=[[scan.profile for scan in acquired.scans] for acquired in contrasts],
        poses=_poses_in_study(member, contrasts, study_pose, config.output_dir),
        grid=unit.grid,
        start=np.stack(_splines(before, unit.grid, study_pose, allotment.threads, RECALLING_ORDER)),
        lam=_weights(member),
        slices=_slice_motions(member, contrasts),
        verdicts=_slice_verdicts(member, contrasts),
        details=[record.detail for record in member.records],
        memory_limit=allotment.memory,
        on_progress=report,
    )
    images = reconstructed(contrasts, result)
    say_which_slices(images)
    return ReconstructedParticipant(plan, images, result, STUDY_SPACE, began)


def _model_on_grid(unit: Regridding, config: RunConfig) -> ModelSettings:
    """Settings of the participant level, changed for a fit that starts from its results."""
    before = unit.member.model
    return replace(
        before,
        voxel_size=config.model.voxel_size,
        tolerance=min(WARM_TOLERANCE * before.tolerance, 0.5),
        coregister=False,
        unified_rigid=False,
        uncertainty=None,
        # The motion of slices that the participant level found is used without change.
        slice_motion=False,
    )


def _poses_in_study(
    member: Member, contrasts: Sequence[AcquiredContrast], study_pose: Affine, output_dir: Path
) -> list[list[Affine]]:
    """Poses ``(4, 4)``, world mm of each scan -> world mm of the study, (contrast, repeat)."""

    def pose(scan: AcquiredScan) -> Affine:
        path = transform_path(output_dir, member, scan.scan, space=member.result.space)
        return np.asarray(study_pose @ read_transform(path))

    return [[pose(scan) for scan in acquired.scans] for acquired in contrasts]


def _weights(member: Member) -> list[float] | None:
    """Weights of the prior from the participant level; None if a sidecar lacks one."""
    usable = [record.weight for record in member.records if record.weight is not None]
    return usable if len(usable) == len(member.records) else None


def _scan_records(member: Member) -> dict[str, ScanRecord]:
    """Records of the scans in the sidecars of the participant level, by BIDS URI."""
    found: dict[str, ScanRecord] = {}
    for record in member.records:
        found |= record.scan_by_uri
    return found


def _slice_motions(
    member: Member, contrasts: Sequence[AcquiredContrast]
) -> list[list[SliceMotion | None]] | None:
    """Motion of slices from the participant level, (contrast, repeat); None if there was none."""
    records = _scan_records(member)

    def motion(scan: AcquiredScan) -> SliceMotion | None:
        stated = records.get(scan.scan.uri, ScanRecord()).slice_motion
        return None if stated is None else stated.motion(scan.slice_count)

    motions = [[motion(scan) for scan in acquired.scans] for acquired in contrasts]
    return motions if any(one for own in motions for one in own) else None


def _slice_verdicts(member: Member, contrasts: Sequence[AcquiredContrast]) -> Verdicts | None:
    """Verdicts on the slices from the participant level; None if its fit was not robust."""
    records = _scan_records(member)
    verdicts = []
    for acquired in contrasts:
        own = []
        for scan in acquired.scans:
            stated = records.get(scan.scan.uri, ScanRecord()).verdict
            axis = scan.acquisition.slice_axis
            found = None if stated is None else stated.verdict(axis, scan.slice_count)
            if found is None:
                return None
            own.append(found)
        verdicts.append(tuple(own))
    return tuple(verdicts)


class _Writer:
    """Writes the files of one participant on the grid of the study."""

    def __init__(self, unit: Regridding, config: RunConfig, study_pose: Affine) -> None:
        self.written: list[Path] = []
        self._unit = unit
        self._member = unit.member
        self._config = config
        self._pose = study_pose
        self._voxel_size = config.model.voxel_size
        self._output_dir = config.output_dir
        self._reference = derivative_uri(config.output_dir, unit.grid_path)

    def write_masks(self) -> dict[str, Mask]:
        """Resample the masks to the grid, including that of the field of view, and write them."""
        sources = {name: self._mask_source(name) for name in ("fov", "brain", "head")}
        masks = {}
        for name, source in sources.items():
            if source is None or not source.is_file():
                continue
            masks[name] = resample_labels(load_labels(source), self._unit.grid, self._pose) > 0
            path = mask_path(
                self._output_dir,
                self._member,
                desc=name,
                voxel_size=self._voxel_size,
                space=STUDY_SPACE,
            )
            content = {
                "Type": "Brain" if name == "brain" else "ROI",
                "Description": "Mask of the participant interpolated trilinearly; more than half",
                **self._common([source]),
            }
            self.written += [
                write_json(sidecar_path(path), content),
                write_mask(path, masks[name], self._unit.grid.affine),
            ]
        return masks

    def write_refitted(
        self, participant: ReconstructedParticipant, masks: Mapping[str, Mask]
    ) -> list[Path]:
        listener().phase(self._unit.label, "writing")
        model = _model_on_grid(self._unit, self._config)
        run = run_record(participant, stated_settings(model, self._config.space))
        written = []
        for image, own in zip(self._member.images, participant.contrasts, strict=True):
            content = image_sidecar(
                participant.plan,
                own.contrast,
                description=(
                    "Image reconstructed from all scans of the participant on the grid of the "
                    "study, with a joint total-variation prior (UniRes)"
                ),
                voxel_size=self._voxel_size,
                spatial_reference=self._reference,
            )
            record = replace(
                image_record(own, run),
                regridding=self._regridding(image.path, "refit"),
                quality=quality_of(own.image, self._unit.grid, masks),
            )
            written += self._write_image(image.path, record.in_sidecar(content), own.image)
        return written

    def write_resliced(
        self, images: Sequence[Image], masks: Mapping[str, Mask], began: float
    ) -> list[Path]:
        written = []
        for image, values in zip(self._member.images, images, strict=True):
            record = replace(
                ImageRecord.of_sidecar(image.metadata),
                runtime_seconds=round(time.perf_counter() - began, 2),
                regridding=self._regridding(image.path, "reslice"),
                quality=quality_of(values, self._unit.grid, masks),
            )
            content = {
                "SkullStripped": False,
                **image.metadata,
                "Description": (
                    "Image of the participant interpolated once, by a cubic B-spline, on the "
                    "grid of the study"
                ),
                **self._common([image.path]),
            }
            written += self._write_image(image.path, record.in_sidecar(content), values)
        return written

    def write_labels(self) -> list[Path]:
        written = []
        for source in self._member.result.labels:
            path = in_space(source, space=STUDY_SPACE, voxel_size=self._voxel_size)
            labels = resample_labels(load_labels(source), self._unit.grid, self._pose)
            try:
                stated = load_object(sidecar_path(source))
            except SidecarError:
                stated = {}
            content = {
                **stated,
                "Description": "Labels interpolated one by one; the largest share wins",
                **self._common([source]),
            }
            written.append(write_json(sidecar_path(path), content))
            if lookup_path(source).is_file():
                written.append(copy_text(lookup_path(source), lookup_path(path)))
            written.append(write_labels(path, labels, self._unit.grid.affine))
        return written

    def _mask_source(self, name: str) -> Path | None:
        if name == "fov":
            return self._member.result.fov_mask
        return member_mask_path(self._output_dir, self._member, name)

    def _common(self, sources: Sequence[Path]) -> dict[str, Any]:
        used = [*sources, self._unit.transform]
        return {
            "Sources": [derivative_uri(self._output_dir, path) for path in used],
            "SpatialReference": self._reference,
            "Resolution": resolution_text(self._voxel_size),
        }

    def _regridding(self, source: Path, mode: str) -> RegriddingRecord:
        return RegriddingRecord(
            mode,
            derivative_uri(self._output_dir, source),
            derivative_uri(self._output_dir, self._unit.transform),
            self._pose,
        )

    def _write_image(self, source: Path, content: Mapping[str, Any], values: Image) -> list[Path]:
        path = in_space(source, space=STUDY_SPACE, voxel_size=self._voxel_size)
        return [
            write_json(sidecar_path(path), content),
            write_image(path, values, self._unit.grid.affine),
        ]
