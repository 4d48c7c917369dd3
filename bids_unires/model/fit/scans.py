"""Scans as they are given to a fit, and as it takes them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...errors import BadDataError
from ...space.affines import Affine
from ...space.arrays import Numbers, array_of
from ...space.volume import Volume
from ..detail.term import DetailStatement
from ..intensity.noise import NoiseEstimate, estimate_noise
from ..intensity.preprocessing import PreparedContrast, RepairedScan, prepare_contrast
from ..intensity.scan_state import SlicePlan
from ..robust.repair import repair_slices
from ..robust.verdict import SliceVerdict, Verdicts
from ..scanner.profile import SliceProfile

ScanLike: TypeAlias = Volume | tuple[Numbers, Numbers] | Path | str


@dataclass(frozen=True, eq=False)
class GivenScan:
    """A scan, and what is known of it before the fit.

    Parameters
    ----------
    volume
        Its voxels, and where they lie.
    profile
        Slice profile; None chooses it by voxel size, without gap, and takes voxels for points
        when denoising.
    pose
        ``(4, 4)``, scan world mm -> world mm of the images; None to align the scans.
    slices
        The order of its slices, or how they moved; None to keep it whole; ``"usual"`` for the
        order that is usual, if its slices are thick and the settings ask for slice motion.
    verdict
        How far each slice is believed, as an earlier fit found it; None to judge them.
    """

    volume: Volume
    profile: SliceProfile | None = None
    pose: Affine | None = None
    slices: SlicePlan | Literal["usual"] = "usual"
    verdict: SliceVerdict | None = None


@dataclass(frozen=True, eq=False)
class GivenContrast:
    """A contrast, and what is known of it before the fit.

    Parameters
    ----------
    scans
        Its scans (repeats).
    modality
        MR or CT.
    weight
        Weight of its prior in mm / intensity, as an earlier fit found it; None to choose it.
    detail
        How good the detail is that an earlier fit learned.
    """

    scans: tuple[GivenScan, ...]
    modality: Modality = "MR"
    weight: float | None = None
    detail: DetailStatement | None = None


@dataclass(frozen=True, eq=False)
class StartImages:
    """Images that a fit starts from.

    Parameters
    ----------
    images
        ``(C, X, Y, Z)`` float32 on the grid of the fit, in the unit of the scans.
    stand_in_for_detail
        Whether they are those of an earlier fit of the same scans, interpolated: then they are
        believed in the place of detail, and nothing is learned.
    """

    images: NDArray[np.float32]
    stand_in_for_detail: bool = False


@dataclass(frozen=True, eq=False)
class PlacedScan:
    """A scan of which all is known that a fit begins with.

    Parameters
    ----------
    volume
        Its voxels, and where they lie.
    noise
        Its noise, every slice believed.
    profile
        Slice profile.
    pose
        ``(4, 4)``, scan world mm -> world mm of the images.
    slices
        The order of its slices, or how they moved; None to keep it whole.
    """

    volume: Volume
    noise: NoiseEstimate
    profile: SliceProfile
    pose: Affine
    slices: SlicePlan = None


@dataclass(frozen=True, eq=False)
class PlacedContrast:
    """A contrast with all that a fit begins with; parameters as of `GivenContrast`."""

    scans: tuple[PlacedScan, ...]
    modality: Modality = "MR"
    weight: float | None = None
    detail: DetailStatement | None = None

    def prepared(
        self, verdicts: Sequence[SliceVerdict] | None, *, interleaved: bool
    ) -> PreparedContrast:
        """The contrast as far as its slices are believed; all of them without verdicts.

        Parameters
        ----------
        verdicts
            On each scan; what they say went wrong is undone.
        interleaved
            Whether even and odd slices may differ in brightness.
        """
        if verdicts is None:
            scans = [_believed_whole(scan) for scan in self.scans]
        else:
            pairs = zip(self.scans, verdicts, strict=True)
            scans = [_believed(scan, verdict, self.modality) for scan, verdict in pairs]
        return prepare_contrast(scans, self.modality, interleaved=interleaved)


def prepare(
    contrasts: Sequence[PlacedContrast], verdicts: Verdicts | None = None, *, interleaved: bool
) -> tuple[PreparedContrast, ...]:
    """All contrasts as far as their slices are believed; see `PlacedContrast.prepared`."""
    if verdicts is None:
        return tuple(own.prepared(None, interleaved=interleaved) for own in contrasts)
    return tuple(
        own.prepared(on_scans, interleaved=interleaved)
        for own, on_scans in zip(contrasts, verdicts, strict=True)
    )


def as_volume(scan: ScanLike) -> Volume:
    """A scan in memory, read from a file where a path is given."""
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, Path | str):
        # Files are read only where paths are given, so that the model runs without nibabel.
        from ...dataset.reading import load_volume

        return load_volume(scan)
    data, affine = scan
    return Volume(array_of(data, np.float32), array_of(affine, np.float64))


def poses_of(poses: Sequence[Sequence[Numbers]]) -> list[list[Affine]]:
    """Poses as arrays, whatever they are given as."""
    return [[array_of(pose, np.float64) for pose in own] for own in poses]


def noise_of_scan(volume: Volume, modality: Modality) -> NoiseEstimate:
    """Noise of a scan.

    Raises
    ------
    BadDataError
        If the scan has no contrast, or is too small; it names the file.
    """
    try:
        return estimate_noise(volume.data, modality)
    except BadDataError as error:
        raise BadDataError(f"{volume.path}: {error}" if volume.path else str(error)) from error


def _believed_whole(scan: PlacedScan) -> RepairedScan:
    return RepairedScan(scan.volume, scan.volume, scan.noise, scan.profile, scan.pose, scan.slices)


def _believed(scan: PlacedScan, verdict: SliceVerdict, modality: Modality) -> RepairedScan:
    """A scan with the weights of its slices, and the noise of those that are believed."""
    volume = repair_slices(scan.volume, verdict.axis, verdict.repairs)
    believed = _without_rejected(volume, verdict)
    return RepairedScan(
        volume,
        believed,
        scan.noise if believed is scan.volume else noise_of_scan(believed, modality),
        scan.profile,
        scan.pose,
        scan.slices,
        verdict.factors,
    )


def _without_rejected(volume: Volume, verdict: SliceVerdict) -> Volume:
    """A scan whose rejected slices are missing (NaN)."""
    if not verdict.rejected:
        return volume
    data = volume.data.copy()
    np.moveaxis(data, verdict.axis, 0)[list(verdict.rejected)] = np.nan
    return replace(volume, data=data)
