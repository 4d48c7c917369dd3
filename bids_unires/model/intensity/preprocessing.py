"""From repaired scans to what the solver starts with: intensities on a common scale, above air."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...config import Modality
from ...space.grid import Grid
from ...space.volume import Volume
from ..scanner.coverage import mask_outside
from ..scanner.interleave import estimate_interleave
from ..scanner.observation import Observation
from ..scanner.rejected_slices import interpolate_and_weight_rejected_slices
from .noise import NoiseEstimate
from .relative_fields import relative_fields
from .repaired_scan import RepairedScan
from .scan_state import ScanState


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan, and the state of it that the solver starts with.

    Parameters
    ----------
    volume
        The scan, its rejected slices missing (NaN).
    noise
        Its noise, in the units of the scan.
    state
        The scan as the solver sees it: as bright as its repeats, with air at 0.
    """

    volume: Volume
    noise: NoiseEstimate
    state: ScanState

    @property
    def observation(self) -> Observation:
        """The scan as the solver sees it."""
        return self.state.observation

    def with_observation(self, observation: Observation) -> PreparedScan:
        """The same scan with another observation."""
        return replace(self, state=self.state.with_observation(observation))


@dataclass(frozen=True, eq=False)
class PreparedContrast:
    """A contrast, and what the solver starts with.

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
    def name(self) -> str | None:
        """Name of the file of its first scan; None if that was read from none."""
        path = self.scans[0].volume.path
        return None if path is None else path.name

    @property
    def air(self) -> float:
        """Intensity of air in the units of the scans."""
        return air_intensity([scan.noise for scan in self.scans], self.modality)

    @property
    def observations(self) -> list[Observation]:
        """The scans as the solver sees them."""
        return [scan.observation for scan in self.scans]

    @property
    def states(self) -> tuple[ScanState, ...]:
        """The states of the scans that the solver starts with."""
        return tuple(scan.state for scan in self.scans)

    def changed(self, change: Callable[[PreparedScan], Observation]) -> PreparedContrast:
        """The same contrast with another observation of every scan, which ``change`` returns."""
        return replace(
            self, scans=tuple(scan.with_observation(change(scan)) for scan in self.scans)
        )

    def within(self, grid: Grid | None) -> PreparedContrast:
        """The contrast without voxels beyond a grid (`mask_outside`); all of it if that is None."""
        if grid is None:
            return self
        return self.changed(lambda scan: mask_outside(scan.observation, grid))

    def with_interpolated_slices(self) -> PreparedContrast:
        """The contrast, slices of weight 0 interpolated if it has a single scan.

        Repeats show the place of a rejected slice better than an interpolation does.
        """
        if len(self.scans) > 1:
            return self
        return self.changed(
            lambda scan: interpolate_and_weight_rejected_slices(
                scan.observation, scan.state.noise.halfway
            )
        )


def prepare_contrast(
    scans: Sequence[RepairedScan], modality: Modality, *, interleaved: bool
) -> PreparedContrast:
    """Bring the scans of one contrast to common intensities, with air at 0.

    Rejected slices have no influence on noise, on the brightness of a scan relative to its
    repeats, or on the range of intensities.

    Parameters
    ----------
    scans
        Its scans (repeats).
    modality
        MR, in arbitrary units, or CT, in Hounsfield units.
    interleaved
        Whether even and odd slices may differ in brightness.
    """
    air = air_intensity([scan.noise for scan in scans], modality)
    if modality == "CT":
        # Hounsfield units are the same in every scan, and in every slice.
        prepared = [
            _prepared(
                scan,
                replace(_observed(scan, scan.volume.data - np.float32(air)), zero_is_missing=False),
                air,
            )
            for scan in scans
        ]
    else:
        fields = relative_fields(scans)
        prepared = [
            _prepared(scan, _with_equal_brightness(scan, fields[n], interleaved=interleaved), air)
            for n, scan in enumerate(scans)
        ]
    return PreparedContrast(modality, tuple(prepared))


def air_intensity(noise: Sequence[NoiseEstimate], modality: Modality) -> float:
    """Intensity of air of a contrast: 0 in MR. The prior assumes 0 beyond the grid."""
    return min(scan.background_mean for scan in noise) if modality == "CT" else 0.0


def _prepared(scan: RepairedScan, observation: Observation, air: float) -> PreparedScan:
    return PreparedScan(
        scan.accepted,
        scan.noise,
        ScanState.as_acquired(
            replace(observation, slice_weights=scan.slice_weights),
            _above_air(scan.noise, air),
            scan.slices,
        ),
    )


def _with_equal_brightness(
    scan: RepairedScan, field: NDArray[np.float32], *, interleaved: bool
) -> Observation:
    """A repeat over its relative brightness ``field`` ``(X, Y, Z)``, with its interleave."""
    observation = _observed(scan, scan.volume.data / field)
    if not interleaved:
        return observation
    accepted = scan.accepted.data / field
    scale = estimate_interleave(accepted, observation.slice_axis, scan.noise.halfway)
    return replace(observation, interleave=scale)


def _observed(scan: RepairedScan, data: NDArray[np.float32]) -> Observation:
    return Observation(data, scan.volume.affine, scan.noise.tau, scan.profile, scan.pose)


def _above_air(noise: NoiseEstimate, air: float) -> NoiseEstimate:
    """Noise of a scan whose intensities are differences from that of air."""
    return replace(
        noise,
        background_mean=noise.background_mean - air,
        foreground_mean=noise.foreground_mean - air,
    )
