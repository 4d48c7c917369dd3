"""Scans before the fit: their noise, and their intensities on a common scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...space.affines import Affine
from ...space.grid import Grid
from ...space.volume import Volume
from ..scanner.coverage import mask_outside
from ..scanner.interleave import estimate_interleave
from ..scanner.observation import Observation
from ..scanner.profile import SliceProfile
from .noise import NoiseEstimate
from .relative_fields import relative_fields
from .scan_state import ScanState, SlicePlan


@dataclass(frozen=True, eq=False)
class RepairedScan:
    """A scan as far as its slices are believed.

    Parameters
    ----------
    volume
        The scan, damaged slices repaired.
    believed
        The same, slices that were rejected missing (NaN).
    noise
        Noise of what is believed.
    profile
        Slice profile.
    pose
        ``(4, 4)``, scan world mm -> world mm of the images.
    slices
        What is known of its slices before the fit.
    slice_weights
        Factor on the precision of each slice, ``(K,)``; None for 1 throughout.
    """

    volume: Volume
    believed: Volume
    noise: NoiseEstimate
    profile: SliceProfile
    pose: Affine
    slices: SlicePlan = None
    slice_weights: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan, and what the solver begins with.

    Parameters
    ----------
    volume
        The scan, slices that were rejected missing (NaN).
    noise
        Its noise, in the unit of the scan.
    state
        The scan as the solver sees it: bright as its repeats are, counted from air.
    """

    volume: Volume
    noise: NoiseEstimate
    state: ScanState

    @property
    def observation(self) -> Observation:
        """The scan as the solver sees it."""
        return self.state.observation

    def of(self, observation: Observation) -> PreparedScan:
        """The same with another observation."""
        return replace(self, state=self.state.of(observation))


@dataclass(frozen=True, eq=False)
class PreparedContrast:
    """A contrast, and what the solver begins with.

    A bad slice left in would tell on the noise, on the brightness of its scan relative to others,
    and on the range of intensities that the image may take.

    Parameters
    ----------
    modality
        MR or CT.
    scans
        Its scans (repeats).
    """

    modality: Modality
    scans: tuple[PreparedScan, ...]

    @property
    def air(self) -> float:
        """Intensity of air in the unit of the scans."""
        return air_intensity([scan.noise for scan in self.scans], self.modality)

    @property
    def observations(self) -> list[Observation]:
        """The scans as the solver sees them."""
        return [scan.observation for scan in self.scans]

    @property
    def states(self) -> tuple[ScanState, ...]:
        """What the solver begins with, scan by scan."""
        return tuple(scan.state for scan in self.scans)

    def of(self, observations: Sequence[Observation]) -> PreparedContrast:
        """The same with other observations, in the order of the scans."""
        pairs = zip(self.scans, observations, strict=True)
        return replace(self, scans=tuple(scan.of(observation) for scan, observation in pairs))

    def inside(self, grid: Grid | None) -> PreparedContrast:
        """Without what was measured beyond a grid; all of it where that is None."""
        if grid is None:
            return self
        return self.of([mask_outside(scan, grid) for scan in self.observations])


def prepare_contrast(
    scans: Sequence[RepairedScan], modality: Modality, *, interleaved: bool
) -> PreparedContrast:
    """Bring the scans of one contrast to common intensities, as the believed slices have them.

    Parameters
    ----------
    scans
        Its scans (repeats).
    modality
        MR, whose unit is anything, or CT, in Hounsfield units.
    interleaved
        Whether even and odd slices may differ in brightness.
    """
    air = air_intensity([scan.noise for scan in scans], modality)
    if modality == "CT":
        # Hounsfield units are the same in every scan, and in every slice.
        observations = [
            replace(_observed(scan, scan.volume.data - np.float32(air)), zero_is_missing=False)
            for scan in scans
        ]
    else:
        observations = _on_a_common_scale(scans, interleaved)
    return PreparedContrast(
        modality,
        tuple(
            PreparedScan(
                scan.believed,
                scan.noise,
                ScanState.as_acquired(
                    replace(observation, slice_weights=scan.slice_weights),
                    _above_air(scan.noise, air),
                    scan.slices,
                ),
            )
            for scan, observation in zip(scans, observations, strict=True)
        ),
    )


def air_intensity(noise: Sequence[NoiseEstimate], modality: Modality) -> float:
    """What stands for air in a contrast: the prior takes what lies beyond the grid to be 0."""
    return min(own.background_mean for own in noise) if modality == "CT" else 0.0


def _on_a_common_scale(scans: Sequence[RepairedScan], interleaved: bool) -> list[Observation]:
    """Repeats of MR, each divided by how much brighter it is than all of them on average."""
    fields = relative_fields(
        [scan.believed for scan in scans],
        [scan.pose for scan in scans],
        [scan.noise for scan in scans],
    )
    observations = []
    for scan, field in zip(scans, fields, strict=True):
        observation = _observed(scan, scan.volume.data / field)
        if interleaved:
            believed = scan.believed.data / field
            axis, threshold = observation.slice_axis, scan.noise.halfway
            scale = estimate_interleave(believed, axis, threshold)
            observation = replace(observation, interleave=scale)
        observations.append(observation)
    return observations


def _observed(scan: RepairedScan, data: NDArray[np.float32]) -> Observation:
    return Observation(data, scan.volume.affine, scan.noise.tau, scan.profile, scan.pose)


def _above_air(noise: NoiseEstimate, air: float) -> NoiseEstimate:
    """Noise of a scan whose intensities are counted from that of air."""
    return replace(
        noise,
        background_mean=noise.background_mean - air,
        foreground_mean=noise.foreground_mean - air,
    )
