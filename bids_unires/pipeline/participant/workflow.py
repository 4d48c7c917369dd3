"""The steps for one participant (and session), from its scans to its derivatives."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...config import RunConfig
from ...dataset.scans import ParticipantPlan
from ...model import Fit, Progress, Reconstruction, interpolate, super_resolve
from ...records.slice_motion import largest_motion
from ...report import page_path
from ...work.allotment import Allotment
from ...work.progress import listener
from .acquired import AcquiredContrast, AcquiredScan, acquire, volumes_of
from .alignment import Placement, place, placed_before, placed_with_visits
from .derivatives import write_derivatives
from .lesion_look import lesion_look
from .reconstructed import (
    FittedScan,
    ReconstructedContrast,
    ReconstructedParticipant,
    reconstructed,
)
from .reporting import write_report
from .screening import screened
from .slice_order import slice_orders

logger = logging.getLogger("bids_unires")

# Receive coils and rescaling make the brightness of repeats differ by less than this factor.
_MOST_UNLIKE_REPEATS = 1.5


@dataclass(frozen=True)
class ParticipantOutcome:
    """The result of the processing of one participant.

    Attributes
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    outputs
        Files written, in the order of writing.
    seconds
        Wall time in s.
    warnings
        Messages of the warnings that the user should read.
    missing
        Path of the report page if it could not be made; else empty.
    """

    label: str
    outputs: tuple[Path, ...]
    seconds: float
    warnings: tuple[str, ...]
    missing: tuple[Path, ...] = ()


def run_participant(
    plan: ParticipantPlan, config: RunConfig, allotment: Allotment
) -> ParticipantOutcome:
    """Read the scans of a participant, reconstruct them on one grid and write the derivatives.

    Parameters
    ----------
    plan
        The scans, grouped into contrasts and repeats.
    config
        The configuration of the run.
    allotment
        Device, threads and memory that the participant may use.

    Raises
    ------
    UniResError
        If a scan cannot be used, or an output cannot be written. No file under its final name is
        then incomplete.
    """
    began = time.perf_counter()
    tell = listener()
    with _collected_warnings() as warnings:
        tell.phase(plan.label, "reading")
        contrasts = acquire(plan, config.model, allotment.memory, reset_origin=config.reset_origin)
        config = screened(contrasts, config)
        tell.phase(plan.label, "alignment")
        placement = (
            placed_before(plan, contrasts, config)
            or placed_with_visits(plan, contrasts)
            or place(contrasts, config, allotment.threads)
        )
        tell.phase(plan.label, "reconstruction")
        result = _reconstruct(plan, contrasts, placement, config, allotment)
        images = reconstructed(contrasts, result, placement.scans)
        if result.fit is not None:
            _say_how_it_went(images, result.fit)
        participant = ReconstructedParticipant(
            plan, images, result, placement.space, began, placement.template
        )
        tell.phase(plan.label, "writing")
        outputs = write_derivatives(participant, config)
        tell.phase(plan.label, "report")
        report = write_report(participant, config, warnings)
    return ParticipantOutcome(
        plan.label,
        (*outputs, *report),
        time.perf_counter() - began,
        tuple(warnings),
        () if report else (page_path(config.output_dir, plan.label),),
    )


def _reconstruct(
    plan: ParticipantPlan,
    contrasts: Sequence[AcquiredContrast],
    placement: Placement,
    config: RunConfig,
    allotment: Allotment,
) -> Reconstruction:
    """Make one image of every contrast, with the selected method."""
    settings, volumes = config.model, volumes_of(contrasts)
    modalities = [acquired.contrast.modality for acquired in contrasts]
    if settings.method == "linear":
        return interpolate(
            volumes,
            settings,
            allotment.device,
            modalities=modalities,
            poses=placement.poses,
            grid=placement.grid,
        )

    number = itertools.count()

    def report(progress: Progress) -> None:
        listener().iteration(plan.label, next(number), settings.max_iter, progress.objective)

    return super_resolve(
        volumes,
        settings,
        allotment.device,
        modalities=modalities,
        profiles=[[scan.profile for scan in acquired.scans] for acquired in contrasts],
        poses=placement.poses,
        grid=placement.grid,
        slices=slice_orders(contrasts) if settings.slice_motion else None,
        lesions=[lesion_look(own.contrast) if config.detectability else None for own in contrasts],
        measured=True,
        memory_limit=allotment.memory,
        on_progress=report,
        on_learning=partial(listener().learning, plan.label),
    )


def _say_how_it_went(contrasts: Sequence[ReconstructedContrast], fit: Fit) -> None:
    end = fit.objective[-1]
    logger.info(
        "%s after %d iterations and %.1f s: objective %.6g",
        "converged" if fit.converged else "stopped at the bound on iterations",
        fit.iterations,
        end.seconds,
        end.objective,
    )
    if not fit.converged:
        logger.warning(
            "the fit had not converged after %d iterations; raise --max-iter or --tolerance",
            fit.iterations,
        )
    for contrast in contrasts:
        _say_how_repeats_differ(contrast)
    _say_of_each(contrasts, _say_how_slices_moved)
    say_which_slices(contrasts)
    _say_of_each(contrasts, _say_what_is_left)


def say_which_slices(contrasts: Sequence[ReconstructedContrast]) -> None:
    """Log the slices that a robust fit repaired or left out."""
    _say_of_each(contrasts, _say_which_slices)


def _say_of_each(
    contrasts: Sequence[ReconstructedContrast], say: Callable[[AcquiredScan, FittedScan], None]
) -> None:
    for contrast in contrasts:
        for scan in contrast.scans:
            if scan.fit is not None:
                say(scan.acquired, scan.fit)


def _say_how_repeats_differ(contrast: ReconstructedContrast) -> None:
    """Log repeats of MR whose brightness differs much.

    The intensities of the image are then on the scale of none of its repeats.
    """
    brightness = {
        scan.acquired.scan.path.name: scan.fit.noise.foreground_mean
        for scan in contrast.scans
        if scan.fit is not None
    }
    if contrast.contrast.modality == "CT" or len(brightness) < 2:
        return
    darkest = min(brightness, key=brightness.__getitem__)
    brightest = max(brightness, key=brightness.__getitem__)
    ratio = brightness[brightest] / brightness[darkest]
    if ratio > _MOST_UNLIKE_REPEATS:
        logger.warning(
            "%s is %.1f times as bright as %s, its repeat: the image is as bright as the "
            "geometric mean of all repeats",
            brightest,
            ratio,
            darkest,
        )


def _say_what_is_left(scan: AcquiredScan, fit: FittedScan) -> None:
    """Log the residuals of a scan, and how they differ from noise."""
    residual = fit.residual
    logger.info(
        "%s: residuals of %.2f times the noise, mean %+.2f, neighbours correlated %s, "
        "%.2f %% beyond 4 sd",
        scan.scan.path.name,
        residual.sd,
        residual.mean,
        " ".join(f"{value:+.2f}" for value in residual.autocorrelation),
        100 * residual.far_share,
    )
    if residual.shows_structure:
        logger.warning(
            "%s does not fit its image: %s. Look at its residuals on the page. It may lie off its "
            "repeats, or have slices that are damaged (--robust) or moved (--slice-motion)",
            scan.scan.path.name,
            "; ".join(residual.deviations),
        )


def _say_how_slices_moved(scan: AcquiredScan, fit: FittedScan) -> None:
    if not fit.could_move:
        return
    if fit.motion is None:
        logger.info("%s: its slices are kept together", scan.scan.path.name)
        return
    logger.info(
        "%s: %d groups of slices moved by up to %.2f mm (order: %s)",
        scan.scan.path.name,
        len(fit.motion.groups),
        largest_motion(fit.motion, scan.volume.grid),
        fit.motion.source,
    )


def _say_which_slices(scan: AcquiredScan, fit: FittedScan) -> None:
    verdict = fit.verdict
    if verdict is None:
        return
    mended = [f"{k} ({repair})" for k, repair in sorted(verdict.repaired.items())]
    left_out = [
        f"{k} ({reason})" for k, reason in zip(verdict.rejected, verdict.reasons, strict=True)
    ]
    for what, slices in (("mended", mended), ("left out", left_out)):
        if slices:
            logger.warning(
                "%s: %d of %d slices, which do not fit in, were %s (counted from 0 along %s): %s",
                scan.scan.path.name,
                len(slices),
                len(verdict.weights),
                what,
                "ijk"[verdict.axis],
                ", ".join(slices),
            )


class _WarningCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect the warnings that are logged while the block runs."""
    collector = _WarningCollector()
    logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)
