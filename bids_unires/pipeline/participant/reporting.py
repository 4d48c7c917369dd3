"""The page that shows what was done with a participant, and how well it went."""

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
from ...dataset.metadata import load_object
from ...dataset.naming import transform_path
from ...dataset.scans import ParticipantPlan
from ...model import Fit, Observation, Reconstruction
from ...model.detail.term import DetailStatement
from ...model.scanner.slice_groups import SliceMotion, predict_scan
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
from ...space.grid import padded
from ...space.volume import Volume
from ..limits import peak_memory
from .acquired import AcquiredContrast

logger = logging.getLogger("bids_unires")

# Around the images, so that slice profiles at the rim meet more of the same rather than nothing.
_MARGIN_MM = 12.0
# Receive coils vary over centimetres.
_FIELD_MM = 45.0


def write_report(
    plan: ParticipantPlan,
    config: RunConfig,
    contrasts: Sequence[AcquiredContrast],
    result: Reconstruction,
    space: str,
    outputs: Sequence[Path],
    warnings: Sequence[str],
    began: float,
) -> tuple[Path, ...]:
    """Write the report of a participant; without one, its results are still good.

    Parameters
    ----------
    space
        Label of the space the images lie in.
    outputs
        The derivatives, in the order of writing.
    warnings
        What was warned of so far.
    began
        When the participant was begun, by `time.perf_counter`.

    Returns
    -------
    tuple of Path
        The files, in the order of writing; none if the report could not be made, which is
        logged as a warning.
    """
    with may_fail(plan.label):
        write_citation(config.output_dir, methods_text(config.model, config.space))
        content = ParticipantReport(
            label=plan.label,
            dataset=dataset_name(config.bids_dir),
            grid=result.grid,
            contrasts=_reported(plan, config, contrasts, result, space, outputs),
            model=config.model,
            space=config.space,
            history=_history(result),
            device=result.device,
            seconds=time.perf_counter() - began,
            peak_memory=peak_memory(),
            warnings=tuple(warnings),
        )
        return write_participant_report(content, config.output_dir)
    return ()


@contextmanager
def may_fail(what: str) -> Iterator[None]:
    """Let a report fail without failing what it is about: that is logged as a warning.

    Parameters
    ----------
    what
        What the report is about.
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
    """Name of a dataset by its description, or else of its folder."""
    name = load_object(bids_dir / "dataset_description.json").get("Name")
    return name if isinstance(name, str) else bids_dir.resolve().name


def _history(result: Reconstruction) -> FitHistory | None:
    fit = result.fit
    return None if fit is None else FitHistory(fit.objective, fit.iterations, fit.converged)


def _reported(
    plan: ParticipantPlan,
    config: RunConfig,
    contrasts: Sequence[AcquiredContrast],
    result: Reconstruction,
    space: str,
    outputs: Sequence[Path],
) -> tuple[ReportedContrast, ...]:
    # Images are written last, one for each contrast.
    paths = [path for path in outputs if path.name.endswith(".nii.gz")][-len(contrasts) :]
    reported = []
    for index, (acquired, path) in enumerate(zip(contrasts, paths, strict=True)):
        fits = _fits(index, acquired, result)
        scans = tuple(
            ReportedScan(
                scan.scan.path.name,
                scan.volume,
                pose,
                scan.acquisition,
                transform_path(config.output_dir, plan, scan.scan, space=space),
                fit,
                _slice_motion(result, index, repeat),
            )
            for repeat, (scan, pose, fit) in enumerate(
                zip(acquired.scans, result.poses[index], fits, strict=True)
            )
        )
        contrast = acquired.contrast
        reported.append(
            ReportedContrast(
                contrast.name,
                result.images[index],
                path,
                scans,
                None if result.fit is None else result.fit.lam[index],
                _standard_deviations(index, result),
                _detail(index, result),
            )
        )
    return tuple(reported)


def _detail(index: int, result: Reconstruction) -> DetailStatement | None:
    if result.fit is None or not result.fit.details:
        return None
    return result.fit.details[index]


def _standard_deviations(index: int, result: Reconstruction) -> NDArray[np.float32] | None:
    if result.fit is None or result.fit.uncertainty is None:
        return None
    return np.asarray(result.fit.uncertainty.sds[index])


def _slice_motion(result: Reconstruction, index: int, repeat: int) -> SliceMotion | None:
    if result.fit is None or not result.fit.slice_motions:
        return None
    return result.fit.slice_motions[index][repeat]


def _fits(
    index: int, acquired: AcquiredContrast, result: Reconstruction
) -> Sequence[ScanFit | None]:
    fit = result.fit
    if fit is None:
        return [None] * len(acquired.scans)
    return [
        ScanFit(
            fit.noise[index][repeat],
            fit.profiles[index][repeat],
            fit.interleaves[index][repeat],
            fit.scales[index][repeat],
            fit.residuals[index][repeat],
            _residual_map(scan.volume, acquired, index, repeat, result, fit),
            None if fit.slice_verdicts is None else fit.slice_verdicts[index][repeat],
        )
        for repeat, scan in enumerate(acquired.scans)
    ]


def _residual_map(
    scan: Volume,
    acquired: AcquiredContrast,
    index: int,
    repeat: int,
    result: Reconstruction,
    fit: Fit,
) -> Volume:
    """Standardised residual of a scan against its image as written; NaN outside of the head."""
    noise = fit.noise[index][repeat]
    margin = math.ceil(_MARGIN_MM / float(result.grid.voxel_size.min()))
    placed = Observation(
        scan.data,
        scan.affine,
        profile=fit.profiles[index][repeat],
        pose=result.poses[index][repeat],
        interleave=fit.interleaves[index][repeat],
    )
    image = torch.from_numpy(np.pad(result.images[index], margin, mode="edge"))
    motion = _slice_motion(result, index, repeat)
    prediction = predict_scan(placed, motion, padded(result.grid, margin), image)
    threshold = noise.halfway
    head = (scan.data > threshold) | (prediction > threshold)
    if len(acquired.scans) > 1 and acquired.contrast.modality == "MR":
        # Repeats differ by a smooth factor, which the fit takes out of them.
        prediction = prediction * _smooth_ratio(scan, prediction, head)
    standardised = (scan.data - prediction) / np.float32(noise.noise_sd)
    return Volume(np.where(head, standardised, np.float32(np.nan)), scan.affine)


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
