"""The fit on one device: rejected slices, learned detail, solver, uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config import ModelSettings
from ...kernels.device import device_name
from ...space.affines import Affine
from ...space.grid import Grid, padded
from ...space.volume import Volume
from ..assess.calibration import calibrate_scales
from ..assess.detectability import Detectability, detectability
from ..assess.measured import measured_shares
from ..assess.residuals import ResidualStatement, expected_sd, residual_statement
from ..assess.small_lesions import LesionLook
from ..assess.uncertainty import Uncertainty, between_extremes, standard_deviations
from ..detail.learning import ShareListener
from ..detail.parameters import LearningParameters
from ..detail.term import LearnedDetail, detail_from_earlier_fit
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
from ..solve.residual_feedback import with_residuals
from ..solve.solver import Listener
from ..state import ContrastState, with_learned_detail
from .result import Fit, Reconstruction
from .scans import PlacedContrast, StartImages, prepare

Found = TypeVar("Found")


class FitListeners(NamedTuple):
    """Who is told how far a fit is.

    Attributes
    ----------
    on_progress
        Called after every iteration of the solver.
    on_learning
        Called with the share of the detail within slices that is learned, from 0 to 1.
    """

    on_progress: Listener | None = None
    on_learning: ShareListener | None = None


NOBODY = FitListeners()


@dataclass(frozen=True, eq=False)
class FitPlan:
    """All that a fit starts from.

    Parameters
    ----------
    contrasts
        The contrasts, with the poses to start from.
    settings
        Settings of the model.
    lattice
        Grid of the images.
    is_given
        Whether the caller gave that grid. If so, the images stay on it. Else they move so that the
        first scan keeps its pose.
    is_part
        Whether scans may reach beyond that grid. Their voxels there are then not used.
    margin
        Voxels around the grid in which scans may lie.
    places_slices
        Whether slices are placed, or are known to have moved.
    start
        Images to start from; the scans interpolated if None.
    verdicts
        Weights and repairs of slices from an earlier fit; None to judge slices if the settings are
        robust.
    listeners
        Who is told how far the fit is.
    """

    contrasts: tuple[PlacedContrast, ...]
    settings: ModelSettings
    lattice: Grid
    is_given: bool
    is_part: bool
    margin: int
    places_slices: bool
    start: StartImages | None
    verdicts: Verdicts | None
    listeners: FitListeners

    def run(self, device: torch.device) -> Reconstruction:
        """Reject slices, learn detail, solve, and estimate the uncertainty, all on one device."""
        prepared, verdicts = self._judged(device)
        states = self._with_detail(prepared, verdicts, device)
        stop = Stop(self.settings.tolerance, self.settings.max_iter)
        fitted = solve_guided(
            self._problem(prepared, states, device),
            stop,
            self._start(prepared),
            self.listeners.on_progress,
        )
        return self._result(fitted, prepared, verdicts, device)

    @property
    def _working(self) -> Grid:
        return padded(self.lattice, self.margin)

    def _prepared(self, verdicts: Verdicts | None = None) -> tuple[PreparedContrast, ...]:
        """The scans with the weights of verdicts, without voxels beyond the grid."""
        bounds = self._working if self.is_part else None
        return tuple(contrast.within(bounds) for contrast in self._whole(verdicts))

    def _whole(self, verdicts: Verdicts | None = None) -> tuple[PreparedContrast, ...]:
        interleaved = self.settings.interleave_correction
        return prepare(self.contrasts, verdicts, interleaved=interleaved)

    def _judged(self, device: torch.device) -> tuple[tuple[PreparedContrast, ...], Verdicts | None]:
        """The scans with weights and repairs of their slices, and the verdicts."""
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
        """Weight of the prior of each contrast, from the noise of the contrasts ``noisy``."""
        weights: dict[int, float] = {}
        observations = [contrast.observations for contrast in prepared]
        for group in group_by_sharpness(observations, self._working):
            for c in group:
                noise = [scan.noise for scan in noisy[c].scans]
                chosen = prior_weight(noise, self.settings, prepared[c].modality, len(group))
                given = self.contrasts[c].weight
                weights[c] = chosen if given is None else given
        return [weights[c] for c in range(len(prepared))]

    def _with_detail(
        self,
        prepared: Sequence[PreparedContrast],
        verdicts: Verdicts | None,
        device: torch.device,
    ) -> list[ContrastState]:
        """The contrasts with detail: images of an earlier fit, or learned from the scans."""
        states = [self._state(c, contrast) for c, contrast in enumerate(prepared)]
        if self.start is not None and self.start.stand_in_for_detail:
            images = self._above_air(self.start.images, prepared)
            return [self._with_earlier_fit(c, state, images[c]) for c, state in enumerate(states)]
        # Detail is also learned from what lies beyond the grid.
        whole = self._whole() if verdicts is None else apply_verdicts(self._whole, verdicts)
        learned = with_learned_detail(
            [self._state(c, contrast) for c, contrast in enumerate(whole)],
            float(min(self.lattice.voxel_size)),
            device,
            self.listeners.on_learning,
        )
        return [
            replace(state, detail=self._kept(learned[c].detail, self.contrasts[c].lesions))
            for c, state in enumerate(states)
        ]

    def _state(self, c: int, contrast: PreparedContrast) -> ContrastState:
        learning = None
        if detail_is_learned(self.settings):
            learning = LearningParameters.of(self.settings.learning_effort)
        name = contrast.name or f"contrast {c + 1}"
        return ContrastState(contrast.modality, contrast.states, learning, name=name)

    def _with_earlier_fit(
        self, c: int, state: ContrastState, image: NDArray[np.float32]
    ) -> ContrastState:
        """A contrast with the image ``(X, Y, Z)`` of an earlier fit in place of learned detail."""
        noise = [scan.noise for scan in state.scans]
        statement = self.contrasts[c].detail
        detail = detail_from_earlier_fit(image, self.lattice, noise, statement)
        return replace(state, detail=detail)

    def _kept(
        self, detail: LearnedDetail | None, lesions: LesionLook | None
    ) -> LearnedDetail | None:
        """Detail without voxels beyond the grid, and without what only lesions would need."""
        if detail is None:
            return None
        if lesions is None:
            detail = replace(detail, of_changed=None)
        if not self.is_part:
            return detail
        return replace(detail, scan=mask_outside(detail.scan, self._working))

    def _problem(
        self,
        prepared: Sequence[PreparedContrast],
        states: Sequence[ContrastState],
        device: torch.device,
    ) -> Problem:
        weights = self._weights(prepared, prepared)
        contrasts = []
        for c, state in enumerate(states):
            searched = self.contrasts[c].weight is None
            searched = searched and is_searched(self.settings)
            contrasts.append(replace(state, weight=weights[c], is_searched=searched))
        refines_poses = self.settings.unified_rigid
        return Problem(tuple(contrasts), self._working, device, refines_poses=refines_poses)

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
        """The results without the margin, in the world of the first scan."""
        lattice, contrasts, solution = self.lattice, fitted.contrasts, fitted.solution
        first = self.contrasts[0].scans[0].pose
        anchor = np.eye(4) if self.is_given else _anchor(first, contrasts[0].observations[0])
        covered = [field_of_view(contrast.observations, lattice) for contrast in contrasts]
        known = np.stack([measured_voxels(c.observations, lattice) for c in contrasts])
        complete = with_residuals(fitted)
        asked = any(contrast.measured for contrast in self.contrasts)
        shares = measured_shares(fitted.problem, complete) if asked else None
        images = _cropped(complete, self.margin)
        return Reconstruction(
            images=_in_units_of_scans(images, prepared, known),
            grid=lattice.moved(anchor),
            coverage=np.asarray(np.stack(covered).all(axis=0)),
            poses=_of_scans(contrasts, lambda scan: anchor @ scan.observation.world_pose),
            device=device_name(device),
            fit=Fit(
                noise=tuple(tuple(scan.noise for scan in c.scans) for c in prepared),
                profiles=_of_scans(contrasts, lambda scan: scan.observation.profile),
                interleaves=_of_scans(contrasts, lambda scan: scan.observation.interleave),
                scales=_of_scans(contrasts, lambda scan: scan.residual_scale),
                residuals=_residuals(fitted),
                lam=fitted.problem.weights,
                objective=solution.history,
                converged=solution.converged,
                tolerance=solution.tolerance,
                uncertainty=self._uncertainty(fitted, complete, known),
                detectability=self._detectability(fitted, complete),
                measured=None if shares is None else known * _cropped(shares, self.margin),
                slice_motions=(
                    _of_scans(contrasts, lambda scan: scan.motion) if self.places_slices else ()
                ),
                slice_verdicts=verdicts,
                details=tuple(contrast.detail_statement for contrast in contrasts),
            ),
        )

    def _detectability(self, fitted: Fitted, complete: Tensor) -> tuple[Detectability | None, ...]:
        """What small lesions would become, in the contrasts of which that was asked."""
        looks = [contrast.lesions for contrast in self.contrasts]
        return detectability(fitted, complete, looks) if any(looks) else ()

    def _uncertainty(
        self, fitted: Fitted, complete: Tensor, known: NDArray[np.bool_]
    ) -> Uncertainty | None:
        """Calibrated standard deviations; the contrast of the head where nothing was measured."""
        samples, images = self.settings.uncertainty, fitted.solution.images
        if samples is None:
            return None
        problem = fitted.problem.split_by_motion()
        stop = Stop(self.settings.tolerance, self.settings.max_iter)
        sds = _cropped(standard_deviations(problem, images, samples=samples), self.margin)
        size = self.lattice.voxel_size.tolist()
        between = _cropped(
            torch.stack([between_extremes(image, size) for image in complete]), self.margin
        )
        scales = calibrate_scales(problem, stop, images, samples=samples)
        for c, contrast in enumerate(fitted.contrasts):
            sds[c] = scales[c].combined(sds[c], between[c])
            sds[c][~known[c]] = max(scan.noise.contrast for scan in contrast.scans)
        return Uncertainty(sds, scales, samples)


def detail_is_learned(settings: ModelSettings) -> bool:
    """Whether detail is learned."""
    return settings.learned_detail and settings.method == "super-resolution"


def _of_scans(
    contrasts: Sequence[ContrastState], find: Callable[[ScanState], Found]
) -> tuple[tuple[Found, ...], ...]:
    """A value of each scan, (contrast, repeat)."""
    return tuple(tuple(find(scan) for scan in contrast.scans) for contrast in contrasts)


def _with_margin(images: NDArray[np.float32], margin: int) -> Tensor:
    return torch.as_tensor(np.pad(images, [(0, 0)] + [(margin, margin)] * 3, mode="edge"))


def _cropped(images: Tensor, margin: int) -> NDArray[np.float32]:
    inner = (slice(None), *(slice(margin, side - margin) for side in images.shape[1:]))
    return np.ascontiguousarray(images.cpu().numpy()[inner])


def _anchor(given: Affine, first: Observation) -> Affine:
    """Motion of scans and images, ``(4, 4)``, that takes the first scan back to its given pose."""
    return np.asarray(given @ np.linalg.inv(first.world_pose))


def _in_units_of_scans(
    images: NDArray[np.float32],
    prepared: Sequence[PreparedContrast],
    known: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Images in the units and the range of the scans; air where nothing was measured.

    ``images`` ``(C, X, Y, Z)`` is changed in place; ``known`` has the same shape.
    """
    for c, contrast in enumerate(prepared):
        image = images[c]
        image += np.float32(contrast.air)
        low, high = _intensity_range([scan.volume for scan in contrast.scans])
        np.clip(image, low, high, out=image)
        image[~known[c]] = max(AIR_HU, low) if contrast.modality == "CT" else 0
    return images


def _intensity_range(scans: Sequence[Volume]) -> tuple[float, float]:
    low = min(float(np.nanmin(scan.data, initial=0.0)) for scan in scans)
    high = max(float(np.nanmax(scan.data, initial=0.0)) for scan in scans)
    return low, high


def _residuals(fitted: Fitted) -> tuple[tuple[ResidualStatement, ...], ...]:
    """Statistics of the residuals of every scan, without its interpolated slices.

    They are those that the fit has left, before they are added back to the images.
    """

    def residual(contrast: ContrastState, scan: ScanState, image: Tensor) -> ResidualStatement:
        measured = scan.with_observation(without_interpolated_slices(scan.observation))
        grid = fitted.problem.grid
        alone = contrast.modality == "CT" and not contrast.has_repeats
        sd = expected_sd(measured, grid) if alone else None
        return residual_statement(measured, grid, image, sd)

    return tuple(
        tuple(residual(contrast, scan, fitted.solution.images[c]) for scan in contrast.scans)
        for c, contrast in enumerate(fitted.contrasts)
    )
