"""What a report tells about one participant, without how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import ModelSettings, SpaceSettings
from ..dataset.acquisition import Acquisition
from ..model import NoiseEstimate, Progress, ResidualStatement, SliceProfile, SliceVerdict
from ..model.detail.term import DetailStatement
from ..model.scanner.slice_groups import SliceMotion
from ..space.affines import Affine
from ..space.grid import Grid
from ..space.volume import Volume


@dataclass(frozen=True, eq=False)
class ScanFit:
    """What the fit found out about one scan.

    Parameters
    ----------
    noise
        Its noise and contrast.
    profile
        The slice profile that was inverted.
    interleave
        Logarithm of the factor of even slices; 0 where it was not estimated.
    scale
        Scale of its residuals in intensity.
    residual
        Statistics of what the image leaves unexplained.
    residual_map
        The standardised residual itself, on the grid of the scan; NaN outside of the head.
    slices
        How far each of its slices is believed; None where the fit was not robust.
    """

    noise: NoiseEstimate
    profile: SliceProfile
    interleave: float
    scale: float
    residual: ResidualStatement
    residual_map: Volume
    slices: SliceVerdict | None = None


@dataclass(frozen=True, eq=False)
class ReportedScan:
    """One scan, and what became of it.

    Parameters
    ----------
    name
        Its file name.
    volume
        Intensities as acquired, and where they lie.
    pose
        ``(4, 4)``, world mm of ``volume`` -> world mm of the images.
    acquisition
        What its sidecar says.
    transform
        File that the pose was written to.
    fit
        What the fit found out; None where images were interpolated without one.
    slice_motion
        How its slices moved; None where they were kept together.
    """

    name: str
    volume: Volume
    pose: Affine
    acquisition: Acquisition
    transform: Path
    fit: ScanFit | None
    slice_motion: SliceMotion | None = None


@dataclass(frozen=True, eq=False)
class ReportedContrast:
    """One image, and the scans it was made of.

    Parameters
    ----------
    name
        What sets the contrast apart in file names, such as ``ce-gad_T1w``.
    image
        The result, ``(X, Y, Z)`` float32.
    path
        File that it was written to.
    scans
        In the order of their names.
    lam
        Weight of the prior in mm / intensity; None without a fit.
    sds
        Standard deviations of the image, ``(X, Y, Z)`` float32; None where they were not
        asked for.
    detail
        How good what was learned of the inside of its slices is; None where nothing was.
    """

    name: str
    image: NDArray[np.float32]
    path: Path
    scans: tuple[ReportedScan, ...]
    lam: float | None
    sds: NDArray[np.float32] | None = None
    detail: DetailStatement | None = None


@dataclass(frozen=True)
class FitHistory:
    """How the solver came to its end.

    Parameters
    ----------
    states
        Before the first iteration and after every one.
    iterations
        How many there were.
    converged
        Whether the tolerance was met, rather than the bound on iterations.
    """

    states: tuple[Progress, ...]
    iterations: int
    converged: bool


@dataclass(frozen=True, eq=False)
class ParticipantReport:
    """Everything that the page of one participant (and session) shows.

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    dataset
        Name of the raw dataset, as its description gives it.
    grid
        Where all images lie.
    contrasts
        In the order of the plan, at least one.
    model, space
        Settings.
    history
        Of the solver; None without a fit.
    device
        Where it was computed.
    seconds
        Wall time, without that of the report.
    peak_memory
        Bytes.
    warnings
        Messages worth a second look.
    """

    label: str
    dataset: str
    grid: Grid
    contrasts: tuple[ReportedContrast, ...]
    model: ModelSettings
    space: SpaceSettings
    history: FitHistory | None
    device: str
    seconds: float
    peak_memory: int
    warnings: tuple[str, ...]

    @property
    def scans(self) -> tuple[ReportedScan, ...]:
        """All scans of all contrasts."""
        return tuple(scan for contrast in self.contrasts for scan in contrast.scans)
