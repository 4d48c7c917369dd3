"""What small lesions would become: they are put into the scans, which are reconstructed again.

Where slices are thick, a small lesion is fainter in the scan than in the head, and how much of it
an image shows depends on its size, its contrast, and where it lies. So some hundred small lesions
are put into the images, at random places of even tissue. What they change in the scans follows from
the forward model, and is added to the scans as acquired, with their own noise. From these, images
are made again: by the networks that were learned already, with known poses and weights of the
prior, starting from the images without lesions. What of each lesion is there then is known.

It is the way in which detection is measured in radiology, with lesions inserted into scans of
patients (Robins et al. 2018, "Techniques for virtual lung nodule insertion").
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config import Modality
from ...space.grid import Grid
from ..detail.learning import learning_threads
from ..guided import group_by_sharpness
from ..prior.total_variation import edge_squares
from ..solve.problem import Problem
from ..solve.repeats import Fitted
from ..solve.residual_feedback import with_residuals
from ..solve.solver import Descent
from ..state import ContrastState
from .lesion_contrast import ERASED, lesion_contrasts
from .small_lesions import (
    EvenTissue,
    LesionKind,
    LesionLook,
    SmallLesions,
    choose_places,
    even_tissue,
    put_lesions,
)

# A lesion counts as missed if its contrast in the image is not above this quantile of the contrasts
# that places without lesions have.
_USUAL = 0.95
_ROUNDING_MM = 1e-3


@dataclass(frozen=True)
class DetectabilityParameters:
    """Which lesions are put into scans, and how images are made again.

    Parameters
    ----------
    diameters
        mm.
    contrasts
        Shares of the intensity of tissue, in MR.
    densities
        Differences from tissue in HU, in CT.
    rounds
        How often lesions are put at other places and images made again.
    apart
        Lesions have at least this distance in mm, and one voxel of the scans more.
    iterations
        Steps of the solver for each round.
    smoothing
        Smoothing of the prior (no unit), as at the end of a fit.
    fewest
        With fewer lesions of a kind, nothing is said of it.
    seed
        Seed of the places.
    """

    diameters: tuple[float, ...] = (2.0, 3.0, 4.0, 6.0)
    contrasts: tuple[float, ...] = (0.15, 0.3, 0.6)
    densities: tuple[float, ...] = (10.0, 20.0, 40.0)
    rounds: int = 2
    apart: float = 9.0
    iterations: int = 6
    smoothing: float = 2e-4
    fewest: int = 8
    seed: int = 30

    def kinds(self, modality: Modality, grid: Grid) -> tuple[LesionKind, ...]:
        """The kinds of lesions in a contrast: those that are at least two voxels wide."""
        steps = self.densities if modality == "CT" else self.contrasts
        least = 2 * float(grid.voxel_size.max()) - _ROUNDING_MM
        widths = [mm for mm in self.diameters if mm >= least]
        return tuple(LesionKind(mm, step) for mm in widths for step in steps)


DEFAULTS = DetectabilityParameters()


@dataclass(frozen=True)
class LesionOdds:
    """What becomes of small lesions of one kind.

    Attributes
    ----------
    kind
        What they look like.
    count
        Number of lesions that were put into the scans.
    kept
        Median share of their contrast that the image keeps.
    erased
        Share of lesions that keep less than half of it.
    drawn
        Share of lesions that keep at least half of it, and are not missed.
    missed
        Share of lesions that do not stand out in the image: one in twenty places without a lesion
        has as much contrast or more.
    """

    kind: LesionKind
    count: int
    kept: float
    erased: float
    drawn: float
    missed: float


@dataclass(frozen=True)
class Detectability:
    """What could hide in one contrast.

    Attributes
    ----------
    look
        Whether the lesions are bright or dark.
    modality
        MR, where contrasts are shares of the intensity of tissue, or CT, where they are in HU.
    odds
        For each kind of lesion, by size and then by contrast.
    """

    look: LesionLook
    modality: Modality
    odds: tuple[LesionOdds, ...]


class _Found(NamedTuple):
    """One lesion after its scans were reconstructed: contrasts in the direction of its look.

    ``true`` is what it adds to the head, ``before`` and ``after`` are the contrasts of its place in
    the images without and with it.
    """

    kind: LesionKind
    true: float
    before: float
    after: float


def detectability(
    fitted: Fitted,
    images: Tensor,
    looks: Sequence[LesionLook | None],
    parameters: DetectabilityParameters = DEFAULTS,
) -> tuple[Detectability | None, ...]:
    """Say what would become of small lesions that one contrast shows.

    Parameters
    ----------
    fitted
        The fit.
    images
        ``(C, X, Y, Z)`` float32, its images as they are shown (`with_residuals`).
    looks
        How small lesions look in each contrast; None where nothing is to be said.
    parameters
        Which lesions.

    Returns
    -------
    tuple
        One for each contrast; None without a look, or where there is too little even tissue.
    """
    problem = fitted.problem.split_by_motion()
    if not any(parameters.kinds(contrast.modality, problem.grid) for contrast in problem.contrasts):
        return (None,) * len(problem.contrasts)
    tissues = [
        _tissue(contrast, images[c], problem.grid) if looks[c] else _nowhere(problem.grid)
        for c, contrast in enumerate(problem.contrasts)
    ]
    found: list[list[_Found]] = [[] for _ in problem.contrasts]
    for number in range(parameters.rounds):
        rng = np.random.default_rng([parameters.seed, number])
        lesions = _lesions(problem, tissues, looks, parameters, rng)
        if not any(each.kinds for each in lesions):
            break
        again = _made_again(fitted, problem, lesions, parameters)
        for c, each in enumerate(lesions):
            found[c] += _compared(each, images[c], again[c], problem, c, looks[c])
    return tuple(
        None if look is None else _stated(look, contrast.modality, found[c], parameters.fewest)
        for c, (look, contrast) in enumerate(zip(looks, problem.contrasts, strict=True))
    )


def _tissue(contrast: ContrastState, image: Tensor, grid: Grid) -> EvenTissue:
    return even_tissue(image.cpu().numpy(), grid, _threshold(contrast))


def _nowhere(grid: Grid) -> EvenTissue:
    return EvenTissue(np.zeros(grid.shape, dtype=bool), float("nan"))


def _threshold(contrast: ContrastState) -> float:
    return float(np.mean([scan.noise.halfway for scan in contrast.scans]))


def _lesions(
    problem: Problem,
    tissues: Sequence[EvenTissue],
    looks: Sequence[LesionLook | None],
    parameters: DetectabilityParameters,
    rng: np.random.Generator,
) -> list[SmallLesions]:
    """Lesions in each image."""
    grid, apart = problem.grid, _apart(problem, parameters.apart)
    lesions = []
    for c, places in enumerate(choose_places(tissues, apart, rng)):
        modality = problem.contrasts[c].modality
        unit = 1.0 if modality == "CT" else tissues[c].intensity
        every = parameters.kinds(modality, grid)
        kinds = [every[number] for number in rng.permutation(len(every))]
        lesions.append(put_lesions(places, kinds, -unit if looks[c] == "dark" else unit, grid, rng))
    return lesions


def _apart(problem: Problem, mm: float) -> NDArray[np.int64]:
    """Least distance of lesions in voxels along each axis of the images, ``(3,)``."""
    grid = problem.grid
    into = np.linalg.inv(grid.affine)
    reach = np.max(
        [
            np.abs(into @ scan.placed_grid.affine)[:3, :3].max(axis=1)
            for contrast in problem.contrasts
            for scan in contrast.observations
        ],
        axis=0,
    )
    return np.asarray(np.ceil(mm / grid.voxel_size + reach).astype(np.int64))


def _made_again(
    fitted: Fitted,
    problem: Problem,
    lesions: Sequence[SmallLesions],
    parameters: DetectabilityParameters,
) -> Tensor:
    """Images ``(C, X, Y, Z)`` of the scans with lesions."""
    ill = problem.with_contrasts(_with_lesions(problem, lesions))
    images = fitted.solution.images.clone()
    guide = None
    for group in group_by_sharpness([c.observations for c in ill.contrasts], ill.grid):
        own = list(group)
        part = replace(ill, contrasts=tuple(ill.contrasts[c] for c in own), guide=guide)
        descent = Descent(part.objective(), images[own])
        for _ in range(parameters.iterations):
            descent.bound(parameters.smoothing)
            descent.step()
        images[own] = descent.images
        guide = edge_squares(images[own], ill.grid, part.weights)
    return with_residuals(Fitted(ill, replace(fitted.solution, images=images)))


def _with_lesions(problem: Problem, lesions: Sequence[SmallLesions]) -> list[ContrastState]:
    """The contrasts of a problem; their scans show lesions."""
    changes = [
        _changes(contrast, own, problem)
        for contrast, own in zip(problem.contrasts, lesions, strict=True)
    ]
    with learning_threads(problem.device) as (contrasts_at_once, helpers):

        def changed(
            contrast: ContrastState, values: Sequence[NDArray[np.float32]]
        ) -> ContrastState:
            return _changed(contrast, values, helpers)

        return list(contrasts_at_once.map(changed, problem.contrasts, changes))


def _changes(
    contrast: ContrastState, lesions: SmallLesions, problem: Problem
) -> list[NDArray[np.float32]]:
    """What lesions add to each scan of a contrast, ``(X, Y, Z)``; none without lesions."""
    if not lesions.kinds:
        return []
    added = torch.as_tensor(lesions.added, device=problem.device)
    operators = [scan.observation.operator(problem.grid) for scan in contrast.scans]
    return [operator.forward(added).cpu().numpy() for operator in operators]


def _changed(
    contrast: ContrastState, changes: Sequence[NDArray[np.float32]], helpers: Executor | None
) -> ContrastState:
    """A contrast with changed scans and the detail that follows from them."""
    scans, detail = list(contrast.scans), contrast.detail
    for number, values in enumerate(changes):
        scan = scans[number].observation
        scans[number] = scans[number].with_observation(replace(scan, data=scan.data + values))
        detail = None if detail is None else detail.changed(values, helpers)
    return replace(contrast, scans=tuple(scans), detail=detail)


def _compared(
    lesions: SmallLesions,
    before: Tensor,
    after: Tensor,
    problem: Problem,
    c: int,
    look: LesionLook | None,
) -> list[_Found]:
    """The contrasts of lesions in the images of a contrast without and with them."""
    if not lesions.kinds:
        return []
    sign = -1.0 if look == "dark" else 1.0
    image, size = before.cpu().numpy(), problem.grid.voxel_size
    inside = image > _threshold(problem.contrasts[c])
    contrasts = [
        sign * lesion_contrasts(values, lesions.labels, inside, size.tolist())
        for values in (lesions.added, image, after.cpu().numpy())
    ]
    return [
        _Found(kind, *map(float, values))
        for kind, *values in zip(lesions.kinds, *contrasts, strict=True)
        if np.isfinite(values).all()
    ]


def _stated(
    look: LesionLook,
    modality: Modality,
    found: Sequence[_Found],
    fewest: int,
) -> Detectability | None:
    """What became of the lesions of each kind of which there are so many."""
    odds = []
    for kind in sorted({lesion.kind for lesion in found}):
        own = [lesion for lesion in found if lesion.kind == kind]
        if len(own) < fewest:
            continue
        alike = [lesion.before for lesion in found if lesion.kind.diameter == kind.diameter]
        usual = float(np.quantile(alike, _USUAL))
        kept = np.array([(lesion.after - lesion.before) / lesion.true for lesion in own])
        erased = kept < ERASED
        missed = np.array([lesion.after <= usual for lesion in own])
        shares = (float(np.mean(each)) for each in (erased, ~erased & ~missed, missed))
        odds.append(LesionOdds(kind, len(own), float(np.median(kept)), *shares))
    return Detectability(look, modality, tuple(odds)) if odds else None
