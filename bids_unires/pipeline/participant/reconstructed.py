"""What became of a participant's scans, each with all that was found out about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...dataset.scans import Contrast, ParticipantPlan
from ...model import (
    Fit,
    NoiseEstimate,
    Reconstruction,
    ResidualStatement,
    SliceProfile,
    SliceVerdict,
)
from ...model.detail.term import DetailStatement
from ...model.scanner.slice_groups import SliceMotion
from ...space.affines import Affine
from .acquired import AcquiredContrast, AcquiredScan


@dataclass(frozen=True, eq=False)
class FittedScan:
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
    could_move
        Whether its slices could move in the fit, had they not been kept together.
    motion
        How they moved; None where they were kept together.
    verdict
        How far each of them is believed; None where the fit was not robust.
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
    """A scan, and where the images have it.

    Parameters
    ----------
    acquired
        The scan in memory.
    pose
        ``(4, 4)``, world mm of its volume -> world mm of the images.
    fit
        What the fit found out about it; None where images were interpolated without one.
    """

    acquired: AcquiredScan
    pose: Affine
    fit: FittedScan | None


@dataclass(frozen=True, eq=False)
class ReconstructedContrast:
    """An image, and the scans it was made of.

    Parameters
    ----------
    contrast
        Which one.
    scans
        In the order of their names.
    image
        ``(X, Y, Z)`` float32.
    sds
        Standard deviations of the image, ``(X, Y, Z)`` float32; None where they were not asked
        for.
    calibration_scale
        Factor on these, from the calibration; None where there are none.
    weight
        Of the prior in mm / intensity; None without a fit.
    detail
        How good what was learned of the inside of its slices is; None where nothing was.
    """

    contrast: Contrast
    scans: tuple[ReconstructedScan, ...]
    image: NDArray[np.float32]
    sds: NDArray[np.float32] | None
    calibration_scale: float | None
    weight: float | None
    detail: DetailStatement | None


@dataclass(frozen=True, eq=False)
class ReconstructedParticipant:
    """The images of a participant (and session), all on one grid.

    Parameters
    ----------
    plan
        Which scans they were made of.
    contrasts
        The images, in the order of the plan.
    result
        What they came out of.
    space
        Label of the space they lie in.
    began
        When the participant was begun, by `time.perf_counter`.
    """

    plan: ParticipantPlan
    contrasts: tuple[ReconstructedContrast, ...]
    result: Reconstruction
    space: str
    began: float

    @property
    def scans(self) -> Iterator[ReconstructedScan]:
        """All scans of all contrasts."""
        for contrast in self.contrasts:
            yield from contrast.scans


def reconstructed(
    acquired: Sequence[AcquiredContrast], result: Reconstruction
) -> tuple[ReconstructedContrast, ...]:
    """Put what a reconstruction found together with the scans and contrasts it is about.

    Parameters
    ----------
    acquired
        What was reconstructed.
    result
        What came out, in the same order.
    """
    return tuple(_contrast(index, own, result) for index, own in enumerate(acquired))


def _contrast(
    index: int, acquired: AcquiredContrast, result: Reconstruction
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
            )
            for repeat, scan in enumerate(acquired.scans)
        ),
        image=result.images[index],
        sds=None if uncertainty is None else uncertainty.sds[index],
        calibration_scale=None if uncertainty is None else uncertainty.scales[index],
        weight=None if fit is None else fit.lam[index],
        detail=fit.details[index] if fit is not None and fit.details else None,
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
