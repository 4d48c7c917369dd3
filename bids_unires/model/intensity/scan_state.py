"""What a fit knows of one scan, while it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...space.affines import Affine
from ..scanner.observation import Observation
from ..scanner.slice_groups import SliceMotion, SliceOrder, split_by_motion
from .noise import NoiseEstimate

SlicePlan: TypeAlias = SliceOrder | SliceMotion | None
"""The order of a scan's slices, or how they moved where that is known; None to keep it whole."""


@dataclass(frozen=True, eq=False)
class ScanState:
    """One scan, and what is known of it beside what the scanner measured.

    Parameters
    ----------
    observation
        The scan at its pose, with the precision of each voxel.
    noise
        Its noise, and what tells head from air; intensities are counted from that of air.
    residual_scale
        Scale of its residuals in intensity: its noise, or more where repeats disagree.
    slices
        What is known of its slices before the fit.
    motion
        How its slices moved, as the fit has found; None where it is kept whole.
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
        """A scan before the fit: its residuals are expected to be noise."""
        return cls(observation, noise, noise.noise_sd, slices)

    @property
    def parts(self) -> list[Observation]:
        """Its groups of slices as scans of their own; itself where it is kept whole."""
        return split_by_motion(self.observation, self.motion)

    def of(self, observation: Observation) -> ScanState:
        """The same knowledge of another observation, such as a part of the scan."""
        return replace(self, observation=observation)

    def at(self, pose: Affine) -> ScanState:
        """The scan at another pose, ``(4, 4)``."""
        return self.of(replace(self.observation, pose=pose))


def observations_of(scans: Sequence[ScanState]) -> list[Observation]:
    """The scans alone."""
    return [scan.observation for scan in scans]
