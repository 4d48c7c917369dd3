"""Content of the report of one participant, without its layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..config import AnatomicalReference, ModelSettings, SpaceSettings
from ..dataset.acquisition import Acquisition
from ..model import (
    Detectability,
    NoiseEstimate,
    Progress,
    ResidualStatement,
    SliceProfile,
    SliceVerdict,
)
from ..model.detail.term import DetailStatement
from ..model.scanner.slice_groups import SliceMotion
from ..space.affines import Affine
from ..space.grid import Grid
from ..space.volume import Volume


@dataclass(frozen=True, eq=False)
class ScanFit:
    """Results of the fit for one scan.

    Parameters
    ----------
    noise
        Estimated noise and contrast of the scan.
    profile
        Slice profile used in the model.
    interleave
        Logarithm of the intensity factor of even slices; 0 if it was not estimated.
    scale
        Scale of the residuals, in units of intensity.
    residual
        Statistics of the residuals.
    residual_map
        Standardised residual, on the grid of the scan; NaN outside the head.
    slices
        Weights of the slices, and those rejected or repaired; None if the fit was not robust.
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
    """One scan and its results.

    Parameters
    ----------
    name
        File name of the scan.
    volume
        Intensities as acquired, and their affine.
    pose
        ``(4, 4)``, world mm of ``volume`` -> world mm of the images.
    acquisition
        Acquisition parameters from the sidecar.
    transform
        File that holds the pose.
    fit
        Results of the fit; None if images were interpolated without a fit.
    slice_motion
        Motion of the slices; None if it was not estimated.
    pose_uncertainty
        Uncertainty of the pose: root mean square displacement in mm, 70 mm from the middle of the
        head; None if it is not known.
    """

    name: str
    volume: Volume
    pose: Affine
    acquisition: Acquisition
    transform: Path
    fit: ScanFit | None
    slice_motion: SliceMotion | None = None
    pose_uncertainty: float | None = None


@dataclass(frozen=True, eq=False)
class ReportedContrast:
    """One image, and the scans from which it was made.

    Parameters
    ----------
    name
        Part of the file name that identifies the contrast, such as ``ce-gad_T1w``.
    image
        The result, ``(X, Y, Z)`` float32.
    path
        File that holds the image.
    scans
        Scans of this contrast, in the order of their names.
    lam
        Weight of the prior in mm / intensity; None without a fit.
    sds
        Standard deviations of the image, ``(X, Y, Z)`` float32; None if they were not requested.
    detail
        Quality of the detail learned within thick slices; None if no detail was learned.
    detectability
        What small lesions would become; None if that is not known.
    measured
        Share of the detail of the image that the scans measured, ``(X, Y, Z)`` float32; None if it
        was not requested.
    """

    name: str
    image: NDArray[np.float32]
    path: Path
    scans: tuple[ReportedScan, ...]
    lam: float | None
    sds: NDArray[np.float32] | None = None
    detail: DetailStatement | None = None
    detectability: Detectability | None = None
    measured: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class FitHistory:
    """Convergence of the solver.

    Parameters
    ----------
    states
        State before the first iteration, and after every iteration.
    iterations
        Number of iterations.
    converged
        Whether the tolerance was reached before the limit on the number of iterations.
    tolerance
        Relative fall of the objective at which the solver stops.
    """

    states: tuple[Progress, ...]
    iterations: int
    converged: bool
    tolerance: float


@dataclass(frozen=True, eq=False)
class ParticipantReport:
    """Content of the page of one participant (and session).

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    dataset
        Name of the raw dataset, from its description.
    grid
        Grid of all images.
    contrasts
        Contrasts in the order of the plan, at least one.
    model, space
        Settings of the run.
    history
        Convergence of the solver; None without a fit.
    device
        Device that computed the images.
    seconds
        Wall time in s, without the report.
    peak_memory
        Peak memory in bytes.
    warnings
        Warnings that the user should read.
    reference
        The space of the sessions; `sessionwise` if this one has a space of its own.
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
    reference: AnatomicalReference = "sessionwise"

    @property
    def scans(self) -> tuple[ReportedScan, ...]:
        """All scans of all contrasts."""
        return tuple(scan for contrast in self.contrasts for scan in contrast.scans)
