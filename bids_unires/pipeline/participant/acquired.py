"""Read the scans of a participant, and find how each was acquired."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...config import Modality, ModelSettings
from ...dataset.acquisition import Acquisition, acquisition_from_sidecar
from ...dataset.reading import load_labels, load_volume
from ...dataset.scans import Contrast, LabelImage, ParticipantPlan, Scan
from ...model.scanner.profile import SliceProfile, profile_for_voxels
from ...space.affines import Affine, apply_affine, shear_angle
from ...space.grid import corners
from ...space.volume import LabelVolume, Volume, reset_origin

logger = logging.getLogger("bids_unires")

_TILT_WORTH_A_WORD = 0.5


@dataclass(frozen=True, eq=False)
class AcquiredLabel:
    """A segmentation in memory.

    Parameters
    ----------
    label
        Its file and metadata.
    volume
        Its labels, with the affine of the file.
    """

    label: LabelImage
    volume: LabelVolume


@dataclass(frozen=True, eq=False)
class AcquiredScan:
    """A scan in memory, with how it was acquired.

    Parameters
    ----------
    scan
        Its file and metadata.
    volume
        Its intensities and affine.
    shift
        ``(4, 4)`` translation, world mm of the file -> world mm of ``volume``; the identity
        unless the origin was reset.
    acquisition
        Slice axis, slice profile and slice gap from its sidecar and affine.
    profile
        The slice profile for the model.
    labels
        Segmentations that were drawn on it, in the order of ``scan.labels``.
    """

    scan: Scan
    volume: Volume
    shift: Affine
    acquisition: Acquisition
    profile: SliceProfile
    labels: tuple[AcquiredLabel, ...]

    @property
    def slice_count(self) -> int:
        """Number of slices."""
        return self.volume.grid.shape[self.acquisition.slice_axis]


@dataclass(frozen=True, eq=False)
class AcquiredContrast:
    """A contrast with its scans in memory."""

    contrast: Contrast
    scans: tuple[AcquiredScan, ...]


def acquire(
    plan: ParticipantPlan, settings: ModelSettings, memory: int, *, reset_origin: bool
) -> list[AcquiredContrast]:
    """Read all scans of a participant, and find how each was acquired.

    Parameters
    ----------
    plan
        The scans.
    settings
        Settings of the model, which the slice profiles depend on.
    memory
        Memory in bytes that reading an image may need.
    reset_origin
        Whether to move the origin of CT to the centre of the image.

    Raises
    ------
    UniResError
        If a scan cannot be used.
    """
    return [
        AcquiredContrast(
            contrast,
            tuple(
                _acquire_scan(
                    scan,
                    contrast.modality,
                    settings,
                    memory,
                    recentred=reset_origin and contrast.modality == "CT",
                )
                for scan in contrast.scans
            ),
        )
        for contrast in plan.contrasts
    ]


def volumes_of(contrasts: Sequence[AcquiredContrast]) -> list[list[Volume]]:
    """The volumes of all scans, (contrast, repeat)."""
    return [[scan.volume for scan in contrast.scans] for contrast in contrasts]


def _acquire_scan(
    scan: Scan, modality: Modality, settings: ModelSettings, memory: int, *, recentred: bool
) -> AcquiredScan:
    as_placed = load_volume(scan.path, memory)
    volume, shift = as_placed, np.eye(4)
    if recentred:
        volume, shift = reset_origin(volume)
    acquisition = acquisition_from_sidecar(scan.metadata, volume.affine, scan.path.name, modality)
    tilt = shear_angle(volume.affine)
    logger.info(
        "%s: %s voxels of %s mm, slice gap %.0f %% (%s)%s",
        scan.path.name,
        " x ".join(map(str, volume.grid.shape)),
        " x ".join(f"{size:.3g}" for size in volume.grid.voxel_size),
        100 * acquisition.gap,
        acquisition.gap_source,
        f", axes {tilt:.1f} degrees off right angles" if tilt > _TILT_WORTH_A_WORD else "",
    )
    profile = _profile(volume, acquisition, settings)
    # Read before the fit, so that an error in a segmentation is found before the long computation.
    labels = tuple(AcquiredLabel(label, load_labels(label.path, memory)) for label in scan.labels)
    for label in labels:
        _warn_if_elsewhere(label.volume, as_placed)
    return AcquiredScan(scan, volume, shift, acquisition, profile, labels)


def _warn_if_elsewhere(labels: LabelVolume, scan: Volume) -> None:
    """Warn about labels that have the shape of their scan but another position.

    Such files are written by programs that copy only the sform or only the qform, or neither.
    """
    if sorted(labels.grid.shape) != sorted(scan.grid.shape):
        return
    of_labels, of_scan = (
        apply_affine(grid.affine, corners(grid.shape)) for grid in (labels.grid, scan.grid)
    )
    # Sets of corners are compared, because the axes may be stored in another order.
    apart = np.linalg.norm(of_labels[:, None] - of_scan, axis=-1).min(axis=1).max()
    if apart > scan.grid.voxel_size.max():
        logger.warning(
            "%s: its header places it up to %.0f mm from %s, which has as many voxels: compare the "
            "headers of both, for its labels are carried to where its own header says",
            labels.path,
            apart,
            scan.path.name if scan.path else "its scan",
        )


def _profile(volume: Volume, acquisition: Acquisition, settings: ModelSettings) -> SliceProfile:
    if settings.method == "denoise":
        return SliceProfile("point", "point")
    return profile_for_voxels(
        volume.grid,
        settings.voxel_size,
        gap=acquisition.gap,
        axis=acquisition.slice_axis,
        through_plane=acquisition.through_plane,
    )
