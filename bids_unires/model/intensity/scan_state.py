"""One scan, and all that is known of it during a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...space.affines import Affine
from ..scanner.observation import Observation
from ..scanner.slice_groups import SliceMotion, SliceOrder, split_by_motion
from .noise import NoiseEstimate

SlicePlan: TypeAlias = SliceOrder | SliceMotion | None
"""The order of a scan's slices, or how they moved if that is known; None: they did not move."""


@dataclass(frozen=True, eq=False)
class ScanState:
    """One scan, and what is known of it besides its data.

    Parameters
    ----------
    observation
        The scan at its pose, with the precision of each voxel.
    noise
        Its noise, and the mean intensities of head and air, as differences from that of air.
    residual_scale
        Scale of its residuals in intensity: the noise, or more where repeats disagree.
    slices
        What is known of its slices before the fit.
    motion
        How its slices moved, as the fit has found; None if they did not.
    """

    observation: Observation
    noise: NoiseEstimate
    residual_scale: float
    slices: SlicePlan = None
    motion: SliceMotion | None = None

    @classmethod
    def as_acquired(
        cls, observation: Observation, noise: NoiseEstimate, slices: SlicePlan = None
    ) -> ScanState:
        """A scan before the fit: the scale of its residuals is the noise."""
        return cls(observation, noise, noise.noise_sd, slices)

    @property
    def parts(self) -> list[Observation]:
        """Its groups of slices as scans of their own; the scan itself if no slice moved."""
        return split_by_motion(self.observation, self.motion)

    def with_observation(self, observation: Observation) -> ScanState:
        """The same state with another observation, such as a part of the scan."""
        return replace(self, observation=observation)

    def at_pose(self, pose: Affine) -> ScanState:
        """The scan at another pose, ``(4, 4)``, scan world mm -> world mm of the images."""
        return self.with_observation(replace(self.observation, pose=pose))


def observations_of(scans: Sequence[ScanState]) -> list[Observation]:
    """The scans alone."""
    return [scan.observation for scan in scans]
