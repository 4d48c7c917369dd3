"""A reconstruction once all is known that does not depend on where it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config import Modality, ModelSettings
from ...kernels.device import device_name
from ...space.affines import Affine
from ...space.grid import Grid, padded
from ...space.volume import Volume
from ..assess.calibration import calibrated_scales
from ..assess.residuals import ResidualStatement, residual_statement
from ..assess.uncertainty import Uncertainty, standard_deviations
from ..detail.learning import learned_details
from ..detail.term import Details, DetailStatement, recalled, with_details
from ..guided import solve_in_tiers, tiers
from ..intensity.noise import NoiseEstimate
from ..intensity.preprocessing import Readings, intensity_of_air
from ..prior.weight import is_searched, regularisation
from ..robust.judge import weigh_slices, weighed_as
from ..robust.verdict import Verdicts
from ..scanner.coverage import coverage, measured, within
from ..scanner.filling import measured_only
from ..scanner.observation import Observation
from ..scanner.resampling import AIR_HU
from ..scanner.slice_groups import apart
from ..slice_motion.solve import SlicePlans
from ..solve.repeats import UnifiedSolution
from ..solve.solver import Listener
from .result import SuperResolution
from .scans import Scans


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a reconstruction begins with.

    Parameters
    ----------
    scans
        As they were acquired, and their poses to start from.
    settings
        Of the model.
    lattice
        Grid of the images.
    is_given
        Whether that is a grid somebody chose, beyond which scans are left out, and on which the
        images stay; else they move with the first scan, which keeps its pose.
    margin
        Voxels around the images that the scans may see.
    slices
        As for `solve_in_tiers`.
    start, lam, verdicts, details, on_progress
        As for `super_resolve`.
    """

    scans: Scans
    settings: ModelSettings
    lattice: Grid
    is_given: bool
    margin: int
    slices: SlicePlans | None
    start: NDArray[np.float32] | None
    lam: Sequence[float] | None
    verdicts: Verdicts | None
    details: Sequence[DetailStatement | None] | None
    on_progress: Listener | None

    def on(self, device: torch.device) -> SuperResolution:
        """Judge slices, learn what lies within them, solve, and say how sure the outcome is."""
        read, verdicts = self._judged(device)
        fitted = self._fitted(read, self._learned(read, verdicts, device), device)
        return self._result(fitted, read, verdicts, device)

    @property
    def _working(self) -> Grid:
        return padded(self.lattice, self.margin)

    @property
    def _bounds(self) -> Grid | None:
        return self._working if self.is_given else None

    def _read(self, verdicts: Verdicts | None = None) -> Readings:
        return self.scans.read(verdicts).inside(self._bounds)

    def _judged(self, device: torch.device) -> tuple[Readings, Verdicts | None]:
        """The scans as far as they are believed, and why."""
        if self.verdicts is not None:
            return weighed_as(self._read, self.verdicts), self.verdicts
        read = self._read()
        if not self.settings.robust:
            return read, None
        lam = self._regularisation(read, self.scans.noise)
        return weigh_slices(read, self._read, self._working, lam, device)

    def _regularisation(
        self, read: Readings, noise: Sequence[Sequence[NoiseEstimate]]
    ) -> Sequence[float]:
        if self.lam is not None:
            return self.lam
        groups = tiers(read.observations, self._working)
        return regularisation(noise, self.settings, self.scans.modalities, groups)

    def _learned(self, read: Readings, verdicts: Verdicts | None, device: torch.device) -> Details:
        """What is known of what lies within slices: from an earlier fit, or from the scans."""
        if self.details is not None and self.start is not None:
            start = _above_air(self.start, self.scans.modalities, read.noise)
            return _recalled(self.details, start, self.lattice, read.above_air)
        # What lies beyond a given grid can be learned from, too.
        whole = self.scans.read() if verdicts is None else weighed_as(self.scans.read, verdicts)
        found = learned_details(
            whole.observations,
            whole.above_air,
            float(min(self.lattice.voxel_size)),
            learns(self.scans.modalities, self.settings),
            device,
        )
        if not self.is_given:
            return found
        return tuple(
            None if detail is None else replace(detail, scan=within(detail.scan, self._working))
            for detail in found
        )

    def _fitted(self, read: Readings, details: Details, device: torch.device) -> UnifiedSolution:
        settings, modalities, start = self.settings, self.scans.modalities, self.start
        if start is not None:
            start = _above_air(start, modalities, read.noise)
        return solve_in_tiers(
            read.observations,
            read.above_air,
            self._working,
            self._regularisation(read, read.noise),
            [self.lam is None and is_searched(settings, modality) for modality in modalities],
            move=settings.unified_rigid,
            tolerance=settings.tolerance,
            max_iter=settings.max_iter,
            device=device,
            start=None if start is None else _with_margin(start, self.margin),
            slices=self.slices,
            details=details,
            on_progress=self.on_progress,
        )

    def _result(
        self,
        fitted: UnifiedSolution,
        read: Readings,
        verdicts: Verdicts | None,
        device: torch.device,
    ) -> SuperResolution:
        """What was found, without the margin, and where the first scan was."""
        lattice, margin, scans = self.lattice, self.margin, fitted.contrasts
        first = self.scans.poses[0][0]
        anchor = np.eye(4) if self.is_given else _anchor(first, scans[0][0])
        covered = np.stack([coverage(own, lattice) for own in scans])
        seen = np.stack([measured(own, lattice) for own in scans])
        images = _cropped(fitted.solution.images, margin)
        return SuperResolution(
            images=_finished(images, read.volumes, self.scans.modalities, read.noise, seen),
            grid=Grid(lattice.shape, anchor @ lattice.affine),
            coverage=np.asarray(covered.all(axis=0)),
            poses=tuple(tuple(anchor @ scan.world_pose for scan in own) for own in scans),
            device=device_name(device),
            noise=tuple(tuple(estimates) for estimates in read.noise),
            profiles=tuple(tuple(scan.profile for scan in own) for own in scans),
            interleaves=tuple(tuple(scan.interleave for scan in own) for own in scans),
            scales=fitted.scales,
            residuals=_residuals(fitted, read.above_air, self._working),
            lam=fitted.lam,
            objective=fitted.solution.history,
            converged=fitted.solution.converged,
            uncertainty=_uncertainty(
                fitted, read.above_air, self._working, self.settings, margin, seen
            ),
            slice_motions=fitted.motions,
            slice_verdicts=verdicts,
            details=tuple(None if own is None else own.statement for own in fitted.details),
        )


def learns(modalities: Sequence[Modality], settings: ModelSettings) -> list[bool]:
    """Of which contrasts detail is learned; noise of CT is too coloured for that."""
    wanted = settings.learned_detail and settings.method == "super-resolution"
    return [wanted and modality == "MR" for modality in modalities]


def _recalled(
    details: Sequence[DetailStatement | None],
    start: NDArray[np.float32],
    grid: Grid,
    noise: Sequence[Sequence[NoiseEstimate]],
) -> Details:
    return tuple(
        recalled(image, grid, own, statement)
        for image, own, statement in zip(start, noise, details, strict=True)
    )


def _above_air(
    images: NDArray[np.float32],
    modalities: Sequence[Modality],
    noise: Sequence[Sequence[NoiseEstimate]],
) -> NDArray[np.float32]:
    """Images with air at 0."""
    air = [intensity_of_air(*pair) for pair in zip(noise, modalities, strict=True)]
    return images - np.asarray(air, dtype=np.float32)[:, None, None, None]


def _with_margin(images: NDArray[np.float32], margin: int) -> Tensor:
    return torch.as_tensor(np.pad(images, [(0, 0)] + [(margin, margin)] * 3, mode="edge"))


def _cropped(images: Tensor, margin: int) -> NDArray[np.float32]:
    inner = (slice(None), *(slice(margin, side - margin) for side in images.shape[1:]))
    return np.ascontiguousarray(images.cpu().numpy()[inner])


def _anchor(given: Affine, first: Observation) -> Affine:
    """Motion of scans and images together that takes the first scan back to where it was."""
    return np.asarray(given @ np.linalg.inv(first.world_pose))


def _finished(
    images: NDArray[np.float32],
    volumes: Sequence[Sequence[Volume]],
    modalities: Sequence[Modality],
    noise: Sequence[Sequence[NoiseEstimate]],
    seen: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """In the units of the scans, within their range, and as dark as air where none measured."""
    parts = zip(images, volumes, modalities, noise, seen, strict=True)
    for image, scans, modality, own, here in parts:
        image += np.float32(intensity_of_air(own, modality))
        low, high = _intensity_range(scans)
        np.clip(image, low, high, out=image)
        image[~here] = max(AIR_HU, low) if modality == "CT" else 0
    return images


def _intensity_range(scans: Sequence[Volume]) -> tuple[float, float]:
    low = min(float(np.nanmin(scan.data, initial=0.0)) for scan in scans)
    high = max(float(np.nanmax(scan.data, initial=0.0)) for scan in scans)
    return low, high


def _residuals(
    fitted: UnifiedSolution, noise: Sequence[Sequence[NoiseEstimate]], grid: Grid
) -> tuple[tuple[ResidualStatement, ...], ...]:
    motions = fitted.motions or [[None] * len(scans) for scans in fitted.contrasts]
    return tuple(
        tuple(
            residual_statement(measured_only(scan), own, grid, image, motion)
            for scan, own, motion in zip(scans, estimates, moved, strict=True)
        )
        for scans, estimates, image, moved in zip(
            fitted.contrasts, noise, fitted.solution.images, motions, strict=True
        )
    )


def _uncertainty(
    fitted: UnifiedSolution,
    noise: Sequence[Sequence[NoiseEstimate]],
    grid: Grid,
    settings: ModelSettings,
    margin: int,
    seen: NDArray[np.bool_],
) -> Uncertainty | None:
    """Calibrated standard deviations, where nothing was measured as large as the contrast."""
    samples = settings.uncertainty
    if samples is None:
        return None
    images, lam = fitted.solution.images, fitted.lam
    scans, estimates_of = apart(fitted.contrasts, noise, fitted.motions)
    seen_and_learned = with_details(scans, fitted.details, grid)
    sds = standard_deviations(seen_and_learned, grid, lam, images, samples=samples)
    scales = calibrated_scales(
        scans,
        estimates_of,
        grid,
        lam,
        images,
        samples=samples,
        learned=[detail is not None for detail in fitted.details],
        tolerance=settings.tolerance,
        max_iter=settings.max_iter,
    )
    maps = _cropped(sds, margin)
    for own, scale, estimates, here in zip(maps, scales, noise, seen, strict=True):
        own *= np.float32(scale)
        own[~here] = max(estimate.contrast for estimate in estimates)
    return Uncertainty(maps, scales, samples)
