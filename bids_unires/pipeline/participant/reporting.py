"""Write the report page of a participant."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ...config import RunConfig
from ...dataset.description import raw_description
from ...dataset.naming import transform_path
from ...model import Fit, Observation
from ...model.scanner.slice_groups import predict_scan
from ...report import (
    FitHistory,
    ParticipantReport,
    ReportedContrast,
    ReportedScan,
    ScanFit,
    methods_text,
    write_citation,
    write_participant_report,
)
from ...space.grid import Grid, padded
from ...space.volume import Volume
from ...work.allotment import peak_memory
from .derivatives import image_path
from .reconstructed import (
    FittedScan,
    ReconstructedContrast,
    ReconstructedParticipant,
    ReconstructedScan,
)

logger = logging.getLogger("bids_unires")

# Margin by which images are extended with their edge values before scans are predicted. Otherwise,
# slice profiles at the edge would extend beyond the image, where it is 0.
_MARGIN_MM = 12.0
# Size of the region over which the brightness of two scans is compared. The sensitivity of receive
# coils varies over centimetres.
_FIELD_MM = 45.0


def write_report(
    participant: ReconstructedParticipant,
    config: RunConfig,
    warnings: Sequence[str],
) -> tuple[Path, ...]:
    """Write the report of a participant; if it fails, the run continues without it.

    Parameters
    ----------
    participant
        The images, and the scans from which they were made.
    config
        The configuration of the run.
    warnings
        Messages of the warnings so far.

    Returns
    -------
    tuple of Path
        The files, in the order of writing. It is empty if the report could not be made, which is
        logged as a warning.
    """
    label = participant.plan.label
    with may_fail(label):
        shared = participant.plan.shared_placement is not None
        reference = config.subject_anatomical_reference if shared else "sessionwise"
        write_citation(config.output_dir, methods_text(config.model, config.space, reference))
        content = ParticipantReport(
            label=label,
            dataset=dataset_name(config.bids_dir),
            grid=participant.result.grid,
            contrasts=_reported(participant, config),
            model=config.model,
            space=config.space,
            history=_history(participant.result.fit),
            device=participant.result.device,
            seconds=time.perf_counter() - participant.began,
            peak_memory=peak_memory(),
            warnings=tuple(warnings),
            reference=reference,
        )
        return write_participant_report(content, config.output_dir)
    return ()


@contextmanager
def may_fail(what: str) -> Iterator[None]:
    """Log an error in a report as a warning, so that it does not fail the unit of work.

    Parameters
    ----------
    what
        Subject of the report, for the warning.
    """
    try:
        yield
    except Exception as error:
        logger.warning(
            "%s: the results are complete, but the report could not be made: %s",
            what,
            str(error) or type(error).__name__,
            exc_info=logger.isEnabledFor(logging.DEBUG),
        )


def dataset_name(bids_dir: Path) -> str:
    """Name of a dataset in its description, or else the name of its folder."""
    name = raw_description(bids_dir).get("Name")
    return name if isinstance(name, str) else bids_dir.resolve().name


def _history(fit: Fit | None) -> FitHistory | None:
    if fit is None:
        return None
    return FitHistory(fit.objective, fit.iterations, fit.converged, fit.tolerance)


def _reported(
    participant: ReconstructedParticipant, config: RunConfig
) -> tuple[ReportedContrast, ...]:
    return tuple(
        ReportedContrast(
            own.contrast.name,
            own.image,
            image_path(participant, own.contrast, config),
            tuple(_reported_scan(scan, own, participant, config.output_dir) for scan in own.scans),
            own.weight,
            own.sds,
            own.detail,
            own.detectability,
            own.measured,
        )
        for own in participant.contrasts
    )


def _reported_scan(
    scan: ReconstructedScan,
    contrast: ReconstructedContrast,
    participant: ReconstructedParticipant,
    output_dir: Path,
) -> ReportedScan:
    acquired, fit = scan.acquired, scan.fit
    plan, space = participant.plan, participant.space
    return ReportedScan(
        acquired.scan.path.name,
        acquired.volume,
        scan.pose,
        acquired.acquisition,
        transform_path(output_dir, plan, acquired.scan, space=space),
        None if fit is None else _reported_fit(scan, fit, contrast, participant.result.grid),
        None if fit is None else fit.motion,
        scan.pose_uncertainty,
    )


def _reported_fit(
    scan: ReconstructedScan, fit: FittedScan, contrast: ReconstructedContrast, grid: Grid
) -> ScanFit:
    return ScanFit(
        fit.noise,
        fit.profile,
        fit.interleave,
        fit.scale,
        fit.residual,
        _residual_map(scan, fit, contrast, grid),
        fit.verdict,
    )


def _residual_map(
    scan: ReconstructedScan, fit: FittedScan, contrast: ReconstructedContrast, grid: Grid
) -> Volume:
    """Residual of a scan against the written image, in units of the noise; NaN outside the head."""
    volume, noise = scan.acquired.volume, fit.noise
    margin = math.ceil(_MARGIN_MM / float(grid.voxel_size.min()))
    placed = Observation(
        volume.data,
        volume.affine,
        profile=fit.profile,
        pose=scan.pose,
        interleave=fit.interleave,
    )
    image = torch.from_numpy(np.pad(contrast.image, margin, mode="edge"))
    prediction = predict_scan(placed, fit.motion, padded(grid, margin), image)
    threshold = noise.halfway
    head = (volume.data > threshold) | (prediction > threshold)
    if len(contrast.scans) > 1 and contrast.contrast.modality == "MR":
        # Repeats differ by a smooth intensity factor, which the fit removes from them.
        prediction = prediction * _smooth_ratio(volume, prediction, head)
    standardised = (volume.data - prediction) / np.float32(noise.noise_sd)
    return Volume(np.where(head, standardised, np.float32(np.nan)), volume.affine)


def _smooth_ratio(
    scan: Volume, prediction: NDArray[np.float32], head: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Ratio of the means of scan and prediction around every voxel of the head; 1 elsewhere."""
    size = np.maximum(1, np.round(_FIELD_MM / scan.grid.voxel_size)).astype(int).tolist()
    measured, predicted = (
        ndimage.uniform_filter(np.where(head, np.nan_to_num(values), 0), size, mode="constant")
        for values in (scan.data, prediction)
    )
    ratio = np.divide(measured, predicted, out=np.ones_like(measured), where=head & (predicted > 0))
    return np.asarray(ratio)
