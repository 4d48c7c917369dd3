"""What the sidecars say about how images came about."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ... import __version__
from ...config import ModelSettings, RunConfig
from ...model import Reconstruction, Uncertainty
from ...model.detail.term import DetailStatement
from ...records.slice_motion import motion_record
from ...records.slice_verdicts import verdict_record
from ...space.rigid import rigid_parameters
from ..limits import peak_memory
from .acquired import AcquiredContrast, AcquiredScan

_OF_ANY_METHOD = ("voxel_size", "coregister", "method")
_OF_SUPER_RESOLUTION = ("learned_detail", "learning_effort")


def run_provenance(config: RunConfig, result: Reconstruction, began: float) -> dict[str, Any]:
    """Everything that all contrasts of a participant share.

    Parameters
    ----------
    began
        When the participant was begun, by `time.perf_counter`.
    """
    about: dict[str, Any] = {
        "Version": __version__,
        "Settings": {**_stated(config.model), **asdict(config.space)},
        "Device": result.device,
    }
    if result.fit is not None:
        about |= {
            "Iterations": result.fit.iterations,
            "Converged": result.fit.converged,
            "Objective": result.fit.objective[-1].objective,
        }
    return about | {
        "RuntimeSeconds": round(time.perf_counter() - began, 2),
        "PeakMemoryBytes": peak_memory(),
    }


def _stated(model: ModelSettings) -> dict[str, Any]:
    """The settings that images depend on: all of them in a fit, few in an interpolation."""
    settings = asdict(model)
    if model.method == "linear":
        return {name: settings[name] for name in _OF_ANY_METHOD}
    if model.method == "denoise":
        return {name: settings[name] for name in settings if name not in _OF_SUPER_RESOLUTION}
    return settings


def contrast_provenance(
    index: int, acquired: AcquiredContrast, result: Reconstruction
) -> dict[str, Any]:
    """What was estimated for one contrast and each of its scans."""
    scans = [
        {
            "Source": scan.scan.uri,
            **(_fit_of_scan(index, repeat, scan, result)),
            **_origin_of_scan(scan),
            **_pose_of_scan(index, repeat, result),
            **_slices_of_scan(index, repeat, scan, result),
        }
        for repeat, scan in enumerate(acquired.scans)
    ]
    return {**_prior_of_contrast(index, result), "Scans": scans}


def _prior_of_contrast(index: int, result: Reconstruction) -> Mapping[str, Any]:
    fit = result.fit
    if fit is None:
        return {}
    detail = fit.details[index] if fit.details else None
    return {
        "Lambda": fit.lam[index],
        "LearnedDetail": None
        if detail is None
        else {
            "ErrorSD": detail.error_sd,
            "ExplainedShare": detail.explained,
            "OtherContrast": detail.shown,
        },
    }


def detail_from_record(record: object) -> DetailStatement | None:
    """What a sidecar says under ``LearnedDetail``; None where that is nothing usable."""
    if not isinstance(record, Mapping):
        return None
    error_sd, explained = record.get("ErrorSD"), record.get("ExplainedShare")
    if not (isinstance(error_sd, int | float) and isinstance(explained, int | float)):
        return None
    if not (0 < error_sd < math.inf and explained <= 1):
        return None
    return DetailStatement(float(error_sd), float(explained), record.get("OtherContrast") is True)


def uncertainty_provenance(
    index: int, acquired: AcquiredContrast, uncertainty: Uncertainty
) -> dict[str, Any]:
    """How the standard deviations of one contrast came about."""
    return {
        "Version": __version__,
        "Statistic": "standard deviation",
        "Samples": uncertainty.samples,
        "CalibrationScale": uncertainty.scales[index],
        "Units": "Hounsfield units" if acquired.contrast.modality == "CT" else "those of the scans",
    }


def _origin_of_scan(acquired: AcquiredScan) -> Mapping[str, Any]:
    """How far a scan whose origin was reset moved before it got its pose, in mm."""
    shift = acquired.shift[:3, 3]
    return {"OriginShift": shift.tolist()} if shift.any() else {}


def _pose_of_scan(index: int, repeat: int, result: Reconstruction) -> Mapping[str, Any]:
    pose = result.poses[index][repeat]
    try:
        parameters = {"PoseParameters": rigid_parameters(pose).tolist()}
    except ValueError:
        # Scaled to a template: no rigid motion any more.
        parameters = {}
    return {"Pose": pose.tolist(), **parameters}


def _slices_of_scan(
    index: int, repeat: int, acquired: AcquiredScan, result: Reconstruction
) -> Mapping[str, Any]:
    if result.fit is None or not result.fit.slice_motions:
        return {}
    motion = result.fit.slice_motions[index][repeat]
    record = None if motion is None else motion_record(motion, acquired.volume.grid)
    return {"SliceMotion": record}


def _fit_of_scan(
    index: int, repeat: int, acquired: AcquiredScan, result: Reconstruction
) -> Mapping[str, Any]:
    fit = result.fit
    if fit is None:
        return {}
    noise = fit.noise[index][repeat]
    profile = fit.profiles[index][repeat]
    residual = fit.residuals[index][repeat]
    return {
        "NoiseSD": noise.noise_sd,
        "Tau": noise.tau,
        "Mu": noise.contrast,
        "NoiseMethod": noise.method,
        "ResidualScale": fit.scales[index][repeat],
        "InterleaveLogScale": fit.interleaves[index][repeat],
        "SliceProfile": {
            "InPlane": profile.in_plane,
            "ThroughPlane": profile.through_plane,
            "Source": acquired.acquisition.profile_source,
            "SliceAxis": acquired.acquisition.slice_axis,
            "Gap": profile.gap,
            "GapSource": acquired.acquisition.gap_source,
        },
        "Residual": {
            "Mean": residual.mean,
            "SD": residual.sd,
            "RobustSD": residual.robust_sd,
            "Autocorrelation": list(residual.autocorrelation),
            "ShareBeyond4SD": residual.far_share,
            "Voxels": residual.voxels,
            "Deviations": list(residual.deviations),
        },
        **({} if fit.slice_verdicts is None else verdict_record(fit.slice_verdicts[index][repeat])),
    }
