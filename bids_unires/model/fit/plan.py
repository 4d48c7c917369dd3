"""A fit once all is known that does not depend on where it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config import Modality, ModelSettings
from ...kernels.device import device_name
from ...space.affines import Affine
from ...space.grid import Grid, padded
from ...space.volume import Volume
from ..assess.calibration import calibrate_scales
from ..assess.residuals import ResidualStatement, residual_statement
from ..assess.uncertainty import Uncertainty, standard_deviations
from ..detail.parameters import LearningParameters
from ..detail.term import detail_from_earlier_fit
from ..guided import group_by_sharpness, solve_guided
from ..intensity.preprocessing import PreparedContrast
from ..intensity.scan_state import ScanState
from ..prior.weight import is_searched, prior_weight
from ..robust.rejection import apply_verdicts, reject_and_repair_slices
from ..robust.verdict import Verdicts
from ..scanner.coverage import field_of_view, mask_outside, measured_voxels
from ..scanner.observation import Observation
from ..scanner.rejected_slices import without_interpolated_slices
from ..scanner.resampling import AIR_HU
from ..solve.problem import Problem, Stop
from ..solve.repeats import Fitted
from ..solve.solver import Listener
from ..state import ContrastState, with_learned_detail
from .result import Fit, Reconstruction
from .scans import PlacedContrast, StartImages, prepare

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class FitPlan:
    """What a fit begins with.

    Parameters
    ----------
    contrasts
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
    places_slices
        Whether slices are placed, or known to have moved.
    start
        Images to start from; the scans interpolated if None.
    verdicts
        How far slices are believed, as an earlier fit found it; None to judge them if the
        settings are robust.
    on_progress
        Called after every iteration of the solver.
    """

    contrasts: tuple[PlacedContrast, ...]
    settings: ModelSettings
    lattice: Grid
    is_given: bool
    margin: int
    places_slices: bool
    start: StartImages | None
    verdicts: Verdicts | None
    on_progress: Listener | None

    def on(self, device: torch.device) -> Reconstruction:
        """Judge slices, learn what lies within them, solve, and say how sure the outcome is."""
        prepared, verdicts = self._judged(device)
        problem = self._problem(prepared, self._detailed(prepared, verdicts, device), device)
        stop = Stop(self.settings.tolerance, self.settings.max_iter)
        fitted = solve_guided(problem, stop, self._start(prepared), self.on_progress)
        return self._result(fitted, prepared, verdicts, device)

    @property
    def _working(self) -> Grid:
        return padded(self.lattice, self.margin)

    def _prepared(self, verdicts: Verdicts | None = None) -> tuple[PreparedContrast, ...]:
        """The scans within the grid, as far as their slices are believed."""
        bounds = self._working if self.is_given else None
        return tuple(contrast.inside(bounds) for contrast in self._whole(verdicts))

    def _whole(self, verdicts: Verdicts | None = None) -> tuple[PreparedContrast, ...]:
        interleaved = self.settings.interleave_correction
        return prepare(self.contrasts, verdicts, interleaved=interleaved)

    def _judged(self, device: torch.device) -> tuple[tuple[PreparedContrast, ...], Verdicts | None]:
        """The scans as far as they are believed, and why."""
        if self.verdicts is not None:
            return apply_verdicts(self._prepared, self.verdicts), self.verdicts
        prepared = self._prepared()
        if not self.settings.robust:
            return prepared, None
        weights = self._weights(prepared, self._whole())
        return reject_and_repair_slices(prepared, self._prepared, self._working, weights, device)

    def _weights(
        self, prepared: Sequence[PreparedContrast], noisy: Sequence[PreparedContrast]
    ) -> list[float]:
        """Weight of the prior of each contrast, given that in their noise."""
        found = []
        for group in group_by_sharpness(
            [contrast.observations for contrast in prepared], self._working
        ):
            for c in group:
                noise = [scan.noise for scan in noisy[c].scans]
                given = self.contrasts[c].weight
                modality = prepared[c].modality
                weight = prior_weight(noise, self.settings, modality, len(group))
                found.append((c, weight if given is None else given))
        return [weight for _, weight in sorted(found)]

    def _detailed(
        self,
        prepared: Sequence[PreparedContrast],
        verdicts: Verdicts | None,
        device: torch.device,
    ) -> list[ContrastState]:
        """The contrasts with what is known of what lies within slices.

        That comes from an earlier fit, or is learned from the scans.
        """
        states = [self._state(contrast) for contrast in prepared]
        if self.start is not None and self.start.stand_in_for_detail:
            return self._recalled(states, self._above_air(self.start.images, prepared))
        # What lies beyond a given grid can be learned from, too.
        whole = self._whole() if verdicts is None else apply_verdicts(self._whole, verdicts)
        voxel_size = float(min(self.lattice.voxel_size))
        learned = with_learned_detail([self._state(own) for own in whole], voxel_size, device)
        details = [contrast.detail for contrast in learned]
        if self.is_given:
            working = self._working
            details = [
                None if detail is None else replace(detail, scan=mask_outside(detail.scan, working))
                for detail in details
            ]
        pairs = zip(states, details, strict=True)
        return [replace(state, detail=detail) for state, detail in pairs]

    def _state(self, contrast: PreparedContrast) -> ContrastState:
        learning = None
        if detail_is_learned(contrast.modality, self.settings):
            learning = LearningParameters.of(self.settings.learning_effort)
        return ContrastState(contrast.modality, contrast.states, learning)

    def _recalled(
        self, states: Sequence[ContrastState], images: NDArray[np.float32]
    ) -> list[ContrastState]:
        """The contrasts with the images of an earlier fit in the place of their detail."""
        found = []
        for state, image, given in zip(states, images, self.contrasts, strict=True):
            noise = [scan.noise for scan in state.scans]
            detail = detail_from_earlier_fit(image, self.lattice, noise, given.detail)
            found.append(replace(state, detail=detail))
        return found

    def _problem(
        self,
        prepared: Sequence[PreparedContrast],
        states: Sequence[ContrastState],
        device: torch.device,
    ) -> Problem:
        weights = self._weights(prepared, prepared)
        contrasts = []
        for state, weight, given in zip(states, weights, self.contrasts, strict=True):
            searched = given.weight is None and is_searched(self.settings, state.modality)
            contrasts.append(replace(state, weight=weight, is_searched=searched))
        moves = self.settings.unified_rigid
        return Problem(tuple(contrasts), self._working, device, refines_poses=moves)

    def _start(self, prepared: Sequence[PreparedContrast]) -> Tensor | None:
        """Images to start from on the working grid, with air at 0."""
        if self.start is None:
            return None
        return _with_margin(self._above_air(self.start.images, prepared), self.margin)

    @staticmethod
    def _above_air(
        images: NDArray[np.float32], prepared: Sequence[PreparedContrast]
    ) -> NDArray[np.float32]:
        """Images with air at 0."""
        air = [contrast.air for contrast in prepared]
        return images - np.asarray(air, dtype=np.float32)[:, None, None, None]

    def _result(
        self,
        fitted: Fitted,
        prepared: Sequence[PreparedContrast],
        verdicts: Verdicts | None,
        device: torch.device,
    ) -> Reconstruction:
        """What was found, without the margin, and where the first scan was."""
        lattice, contrasts = self.lattice, fitted.contrasts
        first = self.contrasts[0].scans[0].pose
        anchor = np.eye(4) if self.is_given else _anchor(first, contrasts[0].observations[0])
        covered = np.stack([field_of_view(own.observations, lattice) for own in contrasts])
        seen = np.stack([measured_voxels(own.observations, lattice) for own in contrasts])
        images = _cropped(fitted.solution.images, self.margin)
        problem = Problem(contrasts, self._working, fitted.solution.images.device)
        return Reconstruction(
            images=_finished(images, prepared, seen),
            grid=lattice.moved(anchor),
            coverage=np.asarray(covered.all(axis=0)),
            poses=_of_scans(contrasts, lambda scan: anchor @ scan.observation.world_pose),
            device=device_name(device),
            fit=Fit(
                noise=tuple(tuple(scan.noise for scan in own.scans) for own in prepared),
                profiles=_of_scans(contrasts, lambda scan: scan.observation.profile),
                interleaves=_of_scans(contrasts, lambda scan: scan.observation.interleave),
                scales=_of_scans(contrasts, lambda scan: scan.residual_scale),
                residuals=_residuals(problem, fitted.solution.images),
                lam=problem.weights,
                objective=fitted.solution.history,
                converged=fitted.solution.converged,
                uncertainty=self._uncertainty(problem, fitted.solution.images, seen),
                slice_motions=(
                    _of_scans(contrasts, lambda scan: scan.motion) if self.places_slices else ()
                ),
                slice_verdicts=verdicts,
                details=tuple(contrast.detail_statement for contrast in contrasts),
            ),
        )

    def _uncertainty(
        self, problem: Problem, images: Tensor, seen: NDArray[np.bool_]
    ) -> Uncertainty | None:
        """Calibrated standard deviations, where nothing was measured as large as the contrast."""
        samples = self.settings.uncertainty
        if samples is None:
            return None
        apart = problem.apart()
        stop = Stop(self.settings.tolerance, self.settings.max_iter)
        maps = _cropped(standard_deviations(apart, images, samples=samples), self.margin)
        scales = calibrate_scales(apart, stop, images, samples=samples)
        for own, scale, contrast, here in zip(maps, scales, problem.contrasts, seen, strict=True):
            own *= np.float32(scale)
            own[~here] = max(scan.noise.contrast for scan in contrast.scans)
        return Uncertainty(maps, scales, samples)


def detail_is_learned(modality: Modality, settings: ModelSettings) -> bool:
    """Whether detail of a contrast is learned; noise of CT is too coloured for that."""
    wanted = settings.learned_detail and settings.method == "super-resolution"
    return wanted and modality == "MR"


def _of_scans(
    contrasts: Sequence[ContrastState], find: Callable[[ScanState], Found]
) -> tuple[tuple[Found, ...], ...]:
    """Something of each scan, (contrast, repeat)."""
    return tuple(tuple(find(scan) for scan in own.scans) for own in contrasts)


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
    prepared: Sequence[PreparedContrast],
    seen: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """In the units of the scans, within their range, and as dark as air where none measured."""
    for image, contrast, here in zip(images, prepared, seen, strict=True):
        image += np.float32(contrast.air)
        low, high = _intensity_range([scan.volume for scan in contrast.scans])
        np.clip(image, low, high, out=image)
        image[~here] = max(AIR_HU, low) if contrast.modality == "CT" else 0
    return images


def _intensity_range(scans: Sequence[Volume]) -> tuple[float, float]:
    low = min(float(np.nanmin(scan.data, initial=0.0)) for scan in scans)
    high = max(float(np.nanmax(scan.data, initial=0.0)) for scan in scans)
    return low, high


def _residuals(problem: Problem, images: Tensor) -> tuple[tuple[ResidualStatement, ...], ...]:
    return tuple(
        tuple(
            residual_statement(
                scan.of(without_interpolated_slices(scan.observation)), problem.grid, image
            )
            for scan in contrast.scans
        )
        for contrast, image in zip(problem.contrasts, images, strict=True)
    )
