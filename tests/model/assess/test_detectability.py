"""What small lesions become: much where voxels are small, little where slices are thick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from bids_unires.config import Modality
from bids_unires.model import LesionLook, NoiseEstimate, Observation
from bids_unires.model.assess.detectability import (
    DEFAULTS,
    Detectability,
    DetectabilityParameters,
    detectability,
)
from bids_unires.model.solve.problem import Stop
from bids_unires.model.solve.repeats import Fitted, solve_with_repeats
from bids_unires.model.solve.residual_feedback import with_residuals
from bids_unires.model.solve.solver import Solution
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from tests.model.states import contrast_of, problem_of

SIDE = 56
GRID = Grid((SIDE,) * 3, np.eye(4))
NOISE_SD = 1.0
FEW = replace(
    DEFAULTS,
    diameters=(2.0, 6.0),
    contrasts=(0.6,),
    densities=(40.0,),
    rounds=1,
    apart=7.0,
    fewest=3,
)


def fitted(
    thickness: int = 1, unit: float = 1.0, modality: Modality = "MR", axis: int = 2
) -> Fitted:
    """An even ball of tissue in slices of so many voxels across an axis."""
    at = np.moveaxis(np.indices((SIDE,) * 3), 0, -1) - (SIDE - 1) / 2
    head = np.where(np.linalg.norm(at, axis=-1) < 0.47 * SIDE, 100.0, 0.0)
    thick = head.reshape(SIDE, SIDE, -1, thickness).mean(axis=3)
    thick = np.moveaxis(thick, 2, axis)
    noise = np.random.default_rng(axis).normal(scale=NOISE_SD, size=thick.shape)
    steps = np.where(np.arange(3) == axis, thickness, 1)
    affine = translation((steps - 1) / 2) @ scaling(steps)
    scan = Observation(
        (unit * (thick + noise)).astype(np.float32), affine, 1 / (unit * NOISE_SD) ** 2
    )
    known = NoiseEstimate(unit * NOISE_SD, 0.0, unit * 100.0, "rice-mixture")
    contrast = contrast_of([scan], 0.04 / unit, known, modality)
    return solve_with_repeats(problem_of(contrast, grid=GRID), Stop(1e-3, 20))


def statements(
    fit: Fitted, looks: Sequence[LesionLook | None], parameters: DetectabilityParameters
) -> tuple[Detectability | None, ...]:
    return detectability(fit, with_residuals(fit), looks, parameters)


def found(
    fit: Fitted, look: LesionLook = "bright", parameters: DetectabilityParameters = FEW
) -> Detectability:
    (statement,) = statements(fit, [look], parameters)
    assert statement is not None
    return statement


def test_all_lesions_are_drawn_where_voxels_are_as_small_as_they() -> None:
    statement = found(fitted())
    assert [odds.kind.diameter for odds in statement.odds] == [2.0, 6.0]
    for odds in statement.odds:
        assert odds.drawn == 1
        assert odds.missed == 0


def test_small_lesions_are_not_drawn_in_thick_slices_and_large_ones_are() -> None:
    small, large = found(fitted(thickness=8), parameters=replace(FEW, rounds=12)).odds
    assert small.kept < 0.4
    assert small.drawn < 0.2
    assert large.kept > 2 * small.kept
    assert large.drawn > small.drawn
    assert large.missed == 0


def test_faint_lesions_are_missed_in_noise() -> None:
    faint = replace(FEW, diameters=(2.0,), contrasts=(0.005, 0.6))
    weak, strong = found(fitted(thickness=4), parameters=faint).odds
    assert weak.missed > 0.6
    assert strong.missed == 0


def test_the_statement_does_not_depend_on_units_or_look() -> None:
    one = found(fitted(thickness=4))
    for other in (found(fitted(thickness=4, unit=16.0)), found(fitted(thickness=4), "dark")):
        for first, second in zip(one.odds, other.odds, strict=True):
            assert second.kept == pytest.approx(first.kept, abs=0.03)
            assert second.count == first.count


def test_lesions_of_ct_differ_by_hounsfield_units() -> None:
    statement = found(fitted(modality="CT"))
    assert {odds.kind.contrast for odds in statement.odds} == {40.0}


def test_nothing_is_said_of_a_contrast_without_a_look() -> None:
    assert statements(fitted(), [None], FEW) == (None,)


def test_the_fit_is_left_as_it_was() -> None:
    fit = fitted(thickness=4)
    images, data = fit.solution.images.clone(), fit.contrasts[0].observations[0].data.copy()
    found(fit)
    assert np.array_equal(images, fit.solution.images)
    assert np.array_equal(data, fit.contrasts[0].observations[0].data)


def test_nothing_is_said_of_lesions_smaller_than_two_voxels() -> None:
    tiny = replace(FEW, diameters=(1.0, 1.9))
    assert statements(fitted(), ["bright"], tiny) == (None,)


@pytest.mark.parametrize(
    ("sides", "widths"),
    [
        ((0.5, 0.5, 0.5), {2.0, 3.0, 4.0, 6.0}),
        ((1.0, 1.0, 1.0), {2.0, 3.0, 4.0, 6.0}),
        ((1.0, 1.0, 1.2), {3.0, 4.0, 6.0}),
        ((2.0, 0.5, 0.5), {4.0, 6.0}),
        ((3.0, 3.0, 3.0), {6.0}),
        ((3.2, 1.0, 1.0), set()),
    ],
)
def test_lesions_are_two_voxels_wide_along_the_longest_side_of_the_voxels(
    sides: tuple[float, ...], widths: set[float]
) -> None:
    kinds = DEFAULTS.kinds("MR", Grid((8, 8, 8), scaling(sides)))
    assert {kind.diameter for kind in kinds} == widths


def test_every_contrast_has_lesions_of_its_own() -> None:
    sharp, thick = fitted(), fitted(thickness=8)
    contrasts = (sharp.contrasts[0], thick.contrasts[0])
    images = torch.cat([sharp.solution.images, thick.solution.images])
    both = Fitted(problem_of(*contrasts, grid=GRID), Solution(images, (), True, 1e-4))
    alone = found(sharp, parameters=replace(FEW, rounds=2))
    of_sharp, of_thick = statements(both, ["bright", "dark"], replace(FEW, rounds=2))
    assert of_sharp is not None
    assert of_thick is not None
    assert (of_sharp.look, of_thick.look) == ("bright", "dark")
    # They share the room that one of them has alone.
    total = sum(odds.count for odds in (*of_sharp.odds, *of_thick.odds))
    assert total <= 1.2 * sum(odds.count for odds in alone.odds)
    assert of_sharp.odds[-1].drawn == 1
    assert of_sharp.odds[0].kept > of_thick.odds[0].kept + 0.2
    nothing, something = statements(both, [None, "bright"], FEW)
    assert nothing is None
    assert something is not None


def test_repeats_show_a_lesion_each() -> None:
    one, across = fitted(thickness=8), fitted(thickness=8, axis=0)
    scans = [*one.contrasts[0].observations, *across.contrasts[0].observations]
    contrast = contrast_of(scans, one.contrasts[0].weight, one.contrasts[0].scans[0].noise)
    both = solve_with_repeats(problem_of(contrast, grid=GRID), Stop(1e-3, 20))
    for single, twice in zip(found(one).odds, found(both).odds, strict=True):
        assert twice.kept > single.kept + 0.1
