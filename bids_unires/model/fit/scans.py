"""Scans as they were given, and what the solver is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ...config import Modality
from ...errors import BadDataError
from ...space.affines import Affine
from ...space.volume import Volume
from ..intensity.noise import NoiseEstimate, estimate_noise
from ..intensity.preprocessing import Readings, _all_above_air, _observations
from ..robust.repair import mended
from ..robust.verdict import SliceVerdict, Verdicts
from ..scanner.profile import SliceProfile

ScanLike: TypeAlias = Volume | tuple[ArrayLike, ArrayLike] | Path | str


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
        from ...dataset.reading import load_volume

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
