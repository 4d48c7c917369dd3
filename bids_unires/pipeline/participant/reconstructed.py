"""The reconstructed images of a participant, with the values estimated for each scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...dataset.scans import Contrast, ParticipantPlan
from ...model import (
    Detectability,
    Fit,
    NoiseEstimate,
    Reconstruction,
    ResidualStatement,
    SliceProfile,
    SliceVerdict,
)
from ...model.assess.uncertainty import Scales
from ...model.detail.term import DetailStatement
from ...model.fit.placement import StartingPose
from ...model.scanner.slice_groups import SliceMotion
from ...records.template import TemplateRecord
from ...space.affines import Affine
from .acquired import AcquiredContrast, AcquiredScan


@dataclass(frozen=True, eq=False)
class FittedScan:
    """The values that the fit estimated for one scan.

    Parameters
    ----------
    noise
        Its noise and contrast.
    profile
        The slice profile that was inverted.
    interleave
        Logarithm of the intensity factor of even slices; 0 if it was not estimated.
    scale
        Scale of its residuals in the units of its intensities.
    residual
        Statistics of its residuals.
    could_move
        Whether the fit could estimate motion of its slices.
    motion
        Motion of its slices; None if they were kept together.
    verdict
        Verdict on its slices; None if the fit was not robust.
    """

    noise: NoiseEstimate
    profile: SliceProfile
    interleave: float
    scale: float
    residual: ResidualStatement
    could_move: bool
    motion: SliceMotion | None
    verdict: SliceVerdict | None


@dataclass(frozen=True, eq=False)
class ReconstructedScan:
    """A scan with its pose and the values that the fit estimated.

    Parameters
    ----------
    acquired
        The scan in memory.
    pose
        ``(4, 4)``, world mm of its volume -> world mm of the images.
    fit
        The values that the fit estimated; None if images were interpolated without a fit.
    pose_uncertainty
        Uncertainty in mm of the pose before the fit, as in `StartingPose`.
    """

    acquired: AcquiredScan
    pose: Affine
    fit: FittedScan | None
    pose_uncertainty: float | None = None


@dataclass(frozen=True, eq=False)
class ReconstructedContrast:
    """The image of one contrast, and the scans from which it was made.

    Parameters
    ----------
    contrast
        The contrast.
    scans
        Its scans, in the order of their names.
    image
        Intensities, ``(X, Y, Z)`` float32.
    sds
        Standard deviations of the image, ``(X, Y, Z)`` float32; None if they were not requested.
    scales
        Weights of the parts of these, from the calibration; None if there are none.
    weight
        Weight of the prior in mm / intensity; None without a fit.
    detail
        Quality of the detail learned within its thick slices; None if none was learned.
    detectability
        What small lesions would become; None if that is not known.
    measured
        Share of the detail of the image that the scans measured, ``(X, Y, Z)`` float32; None if it
        was not requested.
    """

    contrast: Contrast
    scans: tuple[ReconstructedScan, ...]
    image: NDArray[np.float32]
    sds: NDArray[np.float32] | None
    scales: Scales | None
    weight: float | None
    detail: DetailStatement | None
    detectability: Detectability | None
    measured: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class ReconstructedParticipant:
    """The images of a participant (and session), all on one grid.

    Parameters
    ----------
    plan
        The scans from which they were made.
    contrasts
        The images, in the order of the plan.
    result
        The reconstruction that produced them.
    space
        Label of the space of the images.
    began
        Start of the processing of the participant, in s on the clock `time.perf_counter`.
    template
        The head that they were aligned to; None if they were aligned to none.
    """

    plan: ParticipantPlan
    contrasts: tuple[ReconstructedContrast, ...]
    result: Reconstruction
    space: str
    began: float
    template: TemplateRecord | None = None

    @property
    def scans(self) -> Iterator[ReconstructedScan]:
        """All scans of all contrasts."""
        for contrast in self.contrasts:
            yield from contrast.scans


def reconstructed(
    acquired: Sequence[AcquiredContrast],
    result: Reconstruction,
    scans: Sequence[Sequence[StartingPose]] | None = None,
) -> tuple[ReconstructedContrast, ...]:
    """Combine the results of a reconstruction with the scans and contrasts to which they belong.

    Parameters
    ----------
    acquired
        The contrasts that were reconstructed.
    result
        The reconstruction, with contrasts in the same order.
    scans
        Poses of the scans before the fit, likewise; None if no uncertainty of theirs is known.
    """
    return tuple(
        _contrast(index, own, result, None if scans is None else scans[index])
        for index, own in enumerate(acquired)
    )


def _contrast(
    index: int,
    acquired: AcquiredContrast,
    result: Reconstruction,
    starts: Sequence[StartingPose] | None,
) -> ReconstructedContrast:
    fit = result.fit
    uncertainty = None if fit is None else fit.uncertainty
    return ReconstructedContrast(
        contrast=acquired.contrast,
        scans=tuple(
            ReconstructedScan(
                scan,
                result.poses[index][repeat],
                None if fit is None else _fitted(index, repeat, fit),
                None if starts is None else starts[repeat].uncertainty,
            )
            for repeat, scan in enumerate(acquired.scans)
        ),
        image=result.images[index],
        sds=None if uncertainty is None else uncertainty.sds[index],
        scales=None if uncertainty is None else uncertainty.scales[index],
        weight=None if fit is None else fit.lam[index],
        detail=fit.details[index] if fit is not None and fit.details else None,
        detectability=fit.detectability[index] if fit is not None and fit.detectability else None,
        measured=None if fit is None or fit.measured is None else fit.measured[index],
    )


def _fitted(index: int, repeat: int, fit: Fit) -> FittedScan:
    could_move = bool(fit.slice_motions)
    return FittedScan(
        fit.noise[index][repeat],
        fit.profiles[index][repeat],
        fit.interleaves[index][repeat],
        fit.scales[index][repeat],
        fit.residuals[index][repeat],
        could_move,
        fit.slice_motions[index][repeat] if could_move else None,
        None if fit.slice_verdicts is None else fit.slice_verdicts[index][repeat],
    )
