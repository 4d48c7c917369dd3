"""Scans and contrasts as they are given to a fit, and once they are placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...errors import BadDataError
from ...space.affines import Affine, slice_axis
from ...space.arrays import Numbers, array_of
from ...space.volume import Volume
from ..assess.small_lesions import LesionLook
from ..detail.term import DetailStatement
from ..intensity.noise import NoiseEstimate, estimate_noise
from ..intensity.preprocessing import PreparedContrast, prepare_contrast
from ..intensity.repaired_scan import RepairedScan
from ..intensity.scan_state import SlicePlan
from ..robust.repair import repair_slices
from ..robust.verdict import SliceVerdict, Verdicts
from ..scanner.profile import SliceProfile

if TYPE_CHECKING:
    from ...dataset.acquisition import Acquisition

ScanLike: TypeAlias = Volume | tuple[Numbers, Numbers] | Path | str


@dataclass(frozen=True, eq=False)
class GivenScan:
    """A scan, and what the caller knows of it.

    Parameters
    ----------
    volume
        Its voxels and affine.
    profile
        Slice profile; None chooses it by voxel size, without a gap (when denoising, point samples).
    pose
        ``(4, 4)``, scan world mm -> world mm of the images; None to align the scans.
    slices
        The order of its slices, or how they moved; None if they did not move; ``"usual"`` for the
        usual order, if its slices are thick and the settings ask for slice motion.
    verdict
        Weights and repairs of its slices from an earlier fit; None to judge them.
    acquisition
        Slice axis, slice profile and gap from its sidecar, which count where ``profile`` is None;
        None if no sidecar was read.
    """

    volume: Volume
    profile: SliceProfile | None = None
    pose: Affine | None = None
    slices: SlicePlan | Literal["usual"] = "usual"
    verdict: SliceVerdict | None = None
    acquisition: Acquisition | None = None


@dataclass(frozen=True, eq=False)
class GivenContrast:
    """A contrast, and what the caller knows of it.

    Parameters
    ----------
    scans
        Its scans (repeats).
    modality
        MR or CT.
    weight
        Weight of its prior in mm / intensity, from an earlier fit; None to choose it.
    detail
        How accurate the detail is that an earlier fit learned; None without any.
    lesions
        How small lesions look in it, to say what would become of them; None to say nothing.
    measured
        Whether to find how much of the detail of its image the scans measured.
    """

    scans: tuple[GivenScan, ...]
    modality: Modality = "MR"
    weight: float | None = None
    detail: DetailStatement | None = None
    lesions: LesionLook | None = None
    measured: bool = False


@dataclass(frozen=True, eq=False)
class StartImages:
    """Images that a fit starts from.

    Parameters
    ----------
    images
        ``(C, X, Y, Z)`` float32 on the grid of the fit, in the unit of the scans.
    stand_in_for_detail
        Whether they are the interpolated images of an earlier fit of the same scans. They are then
        used in place of learned detail, and nothing is learned.
    """

    images: NDArray[np.float32]
    stand_in_for_detail: bool = False


@dataclass(frozen=True, eq=False)
class PlacedScan:
    """A scan with all that is known of it before slices are judged.

    Parameters
    ----------
    volume
        Its voxels and affine.
    noise
        Its noise, every slice accepted.
    profile
        Slice profile.
    pose
        ``(4, 4)``, scan world mm -> world mm of the images.
    slices
        The order of its slices, or how they moved; None if they did not.
    """

    volume: Volume
    noise: NoiseEstimate
    profile: SliceProfile
    pose: Affine
    slices: SlicePlan = None

    def accepted(self) -> RepairedScan:
        """The scan with all of its slices accepted as they are."""
        return RepairedScan(
            self.volume, self.volume, self.noise, self.profile, self.pose, self.slices
        )

    def repaired(self, verdict: SliceVerdict, modality: Modality) -> RepairedScan:
        """The scan with the repairs and weights of a verdict, and the noise of accepted slices."""
        volume = repair_slices(self.volume, verdict.axis, verdict.repairs)
        accepted = _without_rejected(volume, verdict)
        noise = self.noise if accepted is self.volume else noise_of_scan(accepted, modality)
        return RepairedScan(
            volume, accepted, noise, self.profile, self.pose, self.slices, verdict.factors
        )


@dataclass(frozen=True, eq=False)
class PlacedContrast:
    """A contrast with placed scans; its other parameters are those of `GivenContrast`."""

    scans: tuple[PlacedScan, ...]
    modality: Modality = "MR"
    weight: float | None = None
    detail: DetailStatement | None = None
    lesions: LesionLook | None = None
    measured: bool = False

    def prepared(
        self, verdicts: Sequence[SliceVerdict] | None, *, interleaved: bool
    ) -> PreparedContrast:
        """The contrast with the repairs and weights of verdicts, for the solver.

        Parameters
        ----------
        verdicts
            One for each scan; None accepts all slices.
        interleaved
            Whether even and odd slices may differ in brightness.
        """
        if verdicts is None:
            scans = [scan.accepted() for scan in self.scans]
        else:
            pairs = zip(self.scans, verdicts, strict=True)
            scans = [scan.repaired(verdict, self.modality) for scan, verdict in pairs]
        return prepare_contrast(scans, self.modality, interleaved=interleaved)


def prepare(
    contrasts: Sequence[PlacedContrast], verdicts: Verdicts | None = None, *, interleaved: bool
) -> tuple[PreparedContrast, ...]:
    """All contrasts with the repairs and weights of verdicts; see `PlacedContrast.prepared`."""
    return tuple(
        contrast.prepared(None if verdicts is None else verdicts[c], interleaved=interleaved)
        for c, contrast in enumerate(contrasts)
    )


def as_volume(scan: ScanLike) -> Volume:
    """A scan in memory; it is read if a path is given."""
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, Path | str):
        # Imported only where a path is given, so that the model runs without nibabel.
        from ...dataset.reading import load_volume

        return load_volume(scan)
    data, affine = scan
    return Volume(array_of(data, np.float32), array_of(affine, np.float64))


def acquisition_of(scan: ScanLike, volume: Volume, modality: Modality) -> Acquisition | None:
    """How a scan was acquired, from the JSON file beside it; None unless a path is given.

    Parameters
    ----------
    scan
        The scan as the caller gave it.
    volume
        The scan in memory.
    modality
        MR or CT.
    """
    if not isinstance(scan, Path | str):
        return None
    # Imported only where a path is given, so that the model runs without nibabel.
    from ...dataset.acquisition import acquisition_from_sidecar
    from ...dataset.metadata import metadata_beside

    path = Path(scan)
    return acquisition_from_sidecar(metadata_beside(path), volume.affine, str(path), modality)


def poses_of(poses: Sequence[Sequence[Numbers]]) -> list[list[Affine]]:
    """Poses as arrays ``(4, 4)``, whatever they are given as."""
    return [[array_of(pose, np.float64) for pose in own] for own in poses]


def noise_of_scan(volume: Volume, modality: Modality) -> NoiseEstimate:
    """Noise of a scan.

    Raises
    ------
    BadDataError
        If the scan has no contrast or is too small. The message names its file.
    """
    try:
        return estimate_noise(volume.data, modality, slice_axis(volume.affine))
    except BadDataError as error:
        raise BadDataError(f"{volume.path}: {error}" if volume.path else str(error)) from error


def _without_rejected(volume: Volume, verdict: SliceVerdict) -> Volume:
    """A scan whose rejected slices are missing (NaN)."""
    if not verdict.rejected:
        return volume
    data = volume.data.copy()
    np.moveaxis(data, verdict.axis, 0)[list(verdict.rejected)] = np.nan
    return replace(volume, data=data)
