"""What is read off scans before the fit: noise, brightness, and how far slices are believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..config import Modality
from ..errors import BadDataError
from ..geometry import Affine, Grid
from ..volume import Volume
from .intensity import relative_fields
from .interleave import interleave_scale
from .noise import NoiseEstimate, estimate_noise
from .observation import Observation
from .placement import within
from .profile import SliceProfile
from .slice_mending import mended
from .slice_verdict import SliceVerdict, Verdicts

ScanLike: TypeAlias = Volume | tuple[ArrayLike, ArrayLike] | Path | str


@dataclass(frozen=True, eq=False)
class Readings:
    """Scans, and all that is read off them, as the slices that are believed have it.

    A bad slice left in would tell on the noise, on the brightness of its scan relative to others,
    and on the range of intensities that the images may take. Nesting is (contrast, repeat).

    Parameters
    ----------
    volumes
        The scans, slices that were rejected missing (NaN).
    observations
        The scans as the solver sees them, with the weights of their slices.
    noise
        Noise of each scan.
    above_air
        The same, intensities counted from that of air.
    """

    volumes: Sequence[Sequence[Volume]]
    observations: Sequence[Sequence[Observation]]
    noise: Sequence[Sequence[NoiseEstimate]]
    above_air: Sequence[Sequence[NoiseEstimate]]

    def inside(self, grid: Grid | None) -> Readings:
        """Without what was measured beyond a grid; all of it where that is None."""
        if grid is None:
            return self
        cut = [[within(scan, grid) for scan in scans] for scans in self.observations]
        return replace(self, observations=cut)


@dataclass(frozen=True, eq=False)
class Scans:
    """Scans as they were given, (contrast, repeat).

    Parameters
    ----------
    volumes
        Their voxels.
    modalities
        Of each contrast.
    profiles, poses
        Of each scan.
    noise
        Of each scan, every slice of it believed.
    interleaved
        Whether even and odd slices may differ in brightness.
    """

    volumes: Sequence[Sequence[Volume]]
    modalities: Sequence[Modality]
    profiles: Sequence[Sequence[SliceProfile]]
    poses: Sequence[Sequence[Affine]]
    noise: Sequence[Sequence[NoiseEstimate]]
    interleaved: bool

    def read(self, verdicts: Verdicts | None = None) -> Readings:
        """Read everything off the slices that are believed, mended; off all without verdicts."""
        volumes = trusted = self.volumes
        noise = self.noise
        if verdicts is not None:
            volumes = _all_mended(self.volumes, verdicts)
            trusted = _all_believed(volumes, verdicts)
            noise = _noise_anew(self.noise, self.volumes, trusted, self.modalities)
        observations = [
            _observations(*parts, interleaved=self.interleaved)
            for parts in zip(
                *(volumes, trusted, self.modalities, noise, self.profiles, self.poses),
                strict=True,
            )
        ]
        if verdicts is not None:
            observations = [
                [replace(scan, slice_weights=own.factors) for scan, own in zip(*each, strict=True)]
                for each in zip(observations, verdicts, strict=True)
            ]
        return Readings(trusted, observations, noise, _all_above_air(noise, self.modalities))


def volumes_of(contrasts: Sequence[Sequence[ScanLike]]) -> list[list[Volume]]:
    """Scans in memory, read from files where paths are given.

    Raises
    ------
    ValueError
        If there is no contrast, or one without a scan.
    """
    volumes = [[_as_volume(scan) for scan in scans] for scans in contrasts]
    if not volumes or not all(volumes):
        raise ValueError("every contrast needs at least one scan, and there must be one")
    return volumes


def _as_volume(scan: ScanLike) -> Volume:
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, Path | str):
        # Files are read only where paths are given, so that the model runs without nibabel.
        from ..loading import load_volume

        return load_volume(scan)
    data, affine = scan
    return Volume(np.asarray(data, dtype=np.float32), np.asarray(affine, dtype=np.float64))


def noise_of(
    volumes: Sequence[Sequence[Volume]], modalities: Sequence[Modality]
) -> list[list[NoiseEstimate]]:
    """Noise of every scan.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or is too small; it names the file.
    """
    return [
        [_noise_of(volume, modality) for volume in scans]
        for scans, modality in zip(volumes, modalities, strict=True)
    ]


def _all_mended(volumes: Sequence[Sequence[Volume]], verdicts: Verdicts) -> list[list[Volume]]:
    return [
        [mended(scan, own.axis, own.repairs) for scan, own in zip(*each, strict=True)]
        for each in zip(volumes, verdicts, strict=True)
    ]


def _all_believed(volumes: Sequence[Sequence[Volume]], verdicts: Verdicts) -> list[list[Volume]]:
    """Scans without the slices that were rejected, which become missing (NaN)."""
    return [
        [_without_rejected(scan, own) for scan, own in zip(*each, strict=True)]
        for each in zip(volumes, verdicts, strict=True)
    ]


def _without_rejected(volume: Volume, verdict: SliceVerdict) -> Volume:
    if not verdict.rejected:
        return volume
    data = volume.data.copy()
    np.moveaxis(data, verdict.axis, 0)[list(verdict.rejected)] = np.nan
    return replace(volume, data=data)


def _noise_of(volume: Volume, modality: Modality) -> NoiseEstimate:
    try:
        return estimate_noise(volume.data, modality)
    except BadDataError as error:
        raise BadDataError(f"{volume.path}: {error}" if volume.path else str(error)) from error


def _noise_anew(
    noise: Sequence[Sequence[NoiseEstimate]],
    volumes: Sequence[Sequence[Volume]],
    trusted: Sequence[Sequence[Volume]],
    modalities: Sequence[Modality],
) -> list[list[NoiseEstimate]]:
    """Noise of scans, that of those which lost slices estimated from what they kept."""
    return [
        [
            before if kept is volume else _noise_of(kept, modality)
            for before, volume, kept in zip(*each, strict=True)
        ]
        for *each, modality in zip(noise, volumes, trusted, modalities, strict=True)
    ]


def _observations(
    scans: Sequence[Volume],
    trusted: Sequence[Volume],
    modality: Modality,
    noise: Sequence[NoiseEstimate],
    profiles: Sequence[SliceProfile],
    poses: Sequence[Affine],
    *,
    interleaved: bool,
) -> list[Observation]:
    """Scans of one contrast, brought to common intensities, as the trusted slices have them."""
    if modality == "CT":
        # Hounsfield units are the same in every scan, and in every slice.
        air = np.float32(intensity_of_air(noise, modality))
        return [
            Observation(scan.data - air, scan.affine, own.tau, profile, pose, zero_is_missing=False)
            for scan, own, profile, pose in zip(scans, noise, profiles, poses, strict=True)
        ]
    fields = relative_fields(trusted, poses, noise)
    observations = [
        Observation(scan.data / field, scan.affine, own.tau, profile, pose)
        for scan, field, own, profile, pose in zip(
            scans, fields, noise, profiles, poses, strict=True
        )
    ]
    if not interleaved:
        return observations
    return [
        replace(scan, interleave=_interleave(replace(scan, data=slices.data / field), own))
        for scan, slices, field, own in zip(observations, trusted, fields, noise, strict=True)
    ]


def _interleave(scan: Observation, noise: NoiseEstimate) -> float:
    threshold = noise.halfway
    return interleave_scale(scan.data, scan.profile.slice_axis(scan.grid), threshold)


def intensity_of_air(noise: Sequence[NoiseEstimate], modality: Modality) -> float:
    """What stands for air in a contrast: the prior takes what lies beyond the grid to be 0."""
    return min(own.background_mean for own in noise) if modality == "CT" else 0.0


def _above_air(noise: Sequence[NoiseEstimate], modality: Modality) -> list[NoiseEstimate]:
    air = intensity_of_air(noise, modality)
    return [
        replace(
            own,
            background_mean=own.background_mean - air,
            foreground_mean=own.foreground_mean - air,
        )
        for own in noise
    ]


def _all_above_air(
    noise: Sequence[Sequence[NoiseEstimate]], modalities: Sequence[Modality]
) -> list[list[NoiseEstimate]]:
    return [_above_air(own, modality) for own, modality in zip(noise, modalities, strict=True)]
