"""What is read off scans before the fit: noise, brightness, and the scans on a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...config import Modality
from ...space.affines import Affine
from ...space.grid import Grid
from ...space.volume import Volume
from ..scanner.coverage import within
from ..scanner.interleave import interleave_scale
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from .noise import NoiseEstimate
from .relative_fields import relative_fields


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
