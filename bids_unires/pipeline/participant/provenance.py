"""Records in the sidecars of how the images of a participant were made."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...records.detectability import DetectabilityRecord
from ...records.image import (
    DetailRecord,
    ImageRecord,
    MeasuredRecord,
    PriorRecord,
    ResidualRecord,
    ScanRecord,
    SliceProfileRecord,
    UncertaintyRecord,
)
from ...records.slice_motion import SliceMotionRecord
from ...records.slice_verdicts import SliceVerdictRecord
from ...space.affines import Affine
from ...space.rigid import rigid_parameters
from ...work.allotment import peak_memory
from .acquired import AcquiredScan
from .reconstructed import (
    FittedScan,
    ReconstructedContrast,
    ReconstructedParticipant,
    ReconstructedScan,
)


def run_record(participant: ReconstructedParticipant, settings: Mapping[str, Any]) -> ImageRecord:
    """The part of the record that is the same for all images of a participant, at this time.

    Parameters
    ----------
    participant
        The images.
    settings
        Settings that they depend on, by name; see `stated_settings`.
    """
    fit = participant.result.fit
    return ImageRecord(
        version=__version__,
        settings=settings,
        device=participant.result.device,
        iterations=None if fit is None else fit.iterations,
        converged=None if fit is None else fit.converged,
        objective=None if fit is None else fit.objective[-1].objective,
        runtime_seconds=round(time.perf_counter() - participant.began, 2),
        peak_memory_bytes=peak_memory(),
        template=participant.template,
    )


def image_record(contrast: ReconstructedContrast, run: ImageRecord) -> ImageRecord:
    """The record of how one image was made.

    Parameters
    ----------
    contrast
        The image.
    run
        The part that is the same for all images of the participant; see `run_record`.
    """
    found = contrast.detectability
    return replace(
        run,
        prior=_prior(contrast),
        scans=tuple(map(_scan, contrast.scans)),
        detectability=None if found is None else DetectabilityRecord.of_statement(found),
    )


def uncertainty_record(contrast: ReconstructedContrast, samples: int | None) -> UncertaintyRecord:
    """The record of how the map of standard deviations of an image was made."""
    return UncertaintyRecord(
        version=__version__,
        statistic="standard deviation",
        samples=samples,
        calibration_scale=None if contrast.scales is None else contrast.scales.sampled,
        extremes_scale=None if contrast.scales is None else contrast.scales.between,
        units="Hounsfield units" if contrast.contrast.modality == "CT" else "those of the scans",
    )


def measured_record(contrast: ReconstructedContrast, shares: NDArray[np.float32]) -> MeasuredRecord:
    """The record of the map ``(X, Y, Z)`` of how much of the detail of an image was measured."""
    inside = shares[contrast.image > 0]
    return MeasuredRecord(
        version=__version__,
        statistic="share of the detail that the scans measured",
        units="1",
        median=round(float(np.median(inside)), 3) if inside.size else None,
    )


def _prior(contrast: ReconstructedContrast) -> PriorRecord | None:
    if contrast.weight is None:
        return None
    detail = contrast.detail
    learned = None if detail is None else DetailRecord.of_statement(detail)
    return PriorRecord(contrast.weight, learned)


def _scan(scan: ReconstructedScan) -> ScanRecord:
    acquired, shift = scan.acquired, scan.acquired.shift[:3, 3]
    placed = ScanRecord(
        source=acquired.scan.uri,
        origin_shift=tuple(shift.tolist()) if shift.any() else None,
        pose=scan.pose,
        pose_parameters=_pose_parameters(scan.pose),
        pose_uncertainty=scan.pose_uncertainty,
    )
    if scan.fit is None:
        return placed
    fit = scan.fit
    return replace(
        placed,
        noise_sd=fit.noise.noise_sd,
        tau=fit.noise.tau,
        mu=fit.noise.contrast,
        noise_method=fit.noise.method,
        noise_kernel=fit.noise.kernel if any(fit.noise.kernel) else None,
        residual_scale=fit.scale,
        interleave_log_scale=fit.interleave,
        slice_profile=_profile(acquired, fit),
        residual=ResidualRecord.of_statement(fit.residual),
        verdict=None if fit.verdict is None else SliceVerdictRecord.of_verdict(fit.verdict),
        slice_motion=_slice_motion(acquired, fit),
    )


def _pose_parameters(pose: Affine) -> tuple[float, ...] | None:
    try:
        return tuple(rigid_parameters(pose).tolist())
    except ValueError:
        # The scan was scaled to a template, so its pose is not rigid.
        return None


def _profile(acquired: AcquiredScan, fit: FittedScan) -> SliceProfileRecord:
    return SliceProfileRecord(
        in_plane=fit.profile.in_plane,
        through_plane=fit.profile.through_plane,
        source=acquired.acquisition.profile_source,
        slice_axis=acquired.acquisition.slice_axis,
        gap=fit.profile.gap,
        gap_source=acquired.acquisition.gap_source,
    )


def _slice_motion(acquired: AcquiredScan, fit: FittedScan) -> SliceMotionRecord | None:
    if not fit.could_move:
        return None
    if fit.motion is None:
        return SliceMotionRecord(groups=())
    return SliceMotionRecord.of_motion(fit.motion, acquired.volume.grid)
