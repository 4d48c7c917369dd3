"""Where a fit starts, and when it stops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.model import ForwardOperator, NoiseEstimate, Observation, SliceProfile
from bids_unires.model.detail.term import DetailStatement, LearnedDetail
from bids_unires.model.solve.problem import Problem, Stop
from bids_unires.model.solve.repeats import solve_with_repeats
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from tests.model.states import contrast_of, problem_of

GRID = Grid((20, 18, 24), np.eye(4))
NOISE_SD = 2.0
NOISE = NoiseEstimate(NOISE_SD, 0.0, 100.0, "rice-mixture")
POINTS = SliceProfile("point", "point")


def truth() -> np.ndarray:
    """A block with stripes across the slices, finer than these."""
    image = np.full(GRID.shape, 20.0, dtype=np.float32)
    image[4:16, 4:14, 4:20] = 100.0
    image[8:12, :, 5:19:3] += 40.0
    return image


def thick(axis: int = 2) -> Observation:
    """Slices of 4 mm of the truth."""
    sizes, shape, first = np.ones(3), list(GRID.shape), np.zeros(3)
    sizes[axis], shape[axis], first[axis] = 4, GRID.shape[axis] // 4, 1.5
    source = Grid((shape[0], shape[1], shape[2]), translation(first) @ scaling(sizes))
    clean = ForwardOperator(GRID, source).forward(truth()).numpy()
    noise = np.random.default_rng(0).normal(scale=NOISE_SD, size=clean.shape)
    return Observation((clean + noise).astype(np.float32), source.affine, NOISE_SD**-2)


def learned(error_sd: float, tau: np.ndarray | float) -> LearnedDetail:
    """Detail that is the truth but for an error."""
    noise = np.random.default_rng(1).normal(scale=error_sd, size=GRID.shape)
    data = (truth() + noise).astype(np.float32)
    scan = Observation(data, GRID.affine, tau, POINTS, zero_is_missing=False)
    return LearnedDetail(scan, DetailStatement(error_sd, 0.8, False))


def with_detail(detail: LearnedDetail | None, *more: Observation) -> Problem:
    return problem_of(contrast_of([thick(), *more], 0.02, NOISE, detail=detail), grid=GRID)


def test_a_fit_starts_from_learned_detail_where_it_is_precise() -> None:
    tau = np.ones(GRID.shape, dtype=np.float32)
    tau[:, :, :8] = 0
    detail = learned(0.0, tau)
    (image,) = with_detail(detail).start(None).numpy()
    (plain,) = with_detail(None).start(None).numpy()
    np.testing.assert_allclose(image[..., 8:], truth()[..., 8:], rtol=1e-5)
    np.testing.assert_array_equal(image[..., :8], plain[..., :8])
    assert np.abs(plain - truth())[..., 8:].max() > 10


def test_voxels_of_detail_that_were_not_measured_are_no_start() -> None:
    detail = learned(0.0, 1.0)
    data = detail.scan.data.copy()
    data[:6] = np.nan
    holed = replace(detail, scan=replace(detail.scan, data=data))
    (image,) = with_detail(holed).start(None).numpy()
    (plain,) = with_detail(None).start(None).numpy()
    np.testing.assert_array_equal(image[:6], plain[:6])
    assert np.isfinite(image).all()


def test_given_images_are_the_start_whatever_was_learned() -> None:
    problem = with_detail(learned(1.0, 1.0))
    images = problem.start(None) + 7
    np.testing.assert_array_equal(problem.start(images).numpy(), images.numpy())


def test_a_fit_from_detail_ends_sooner_and_as_near_to_the_truth() -> None:
    problem = with_detail(learned(6.0, 6.0**-2))
    stop = Stop(2e-5, 200)
    soon = solve_with_repeats(problem, stop).solution
    plain = with_detail(None).start(None)
    late = solve_with_repeats(problem, stop, plain).solution
    assert soon.converged
    assert late.converged
    assert len(soon.history) < 0.8 * len(late.history)
    assert soon.tolerance == pytest.approx(5 * late.tolerance)

    def error(images: np.ndarray) -> float:
        return float(np.sqrt(np.mean((images - truth()) ** 2)))

    assert error(soon.images[0].numpy()) < 1.005 * error(late.images[0].numpy())


@pytest.mark.parametrize("case", ["without detail", "repeats", "given images"])
def test_other_fits_keep_their_tolerance(case: str) -> None:
    problem = {
        "without detail": with_detail(None),
        "repeats": with_detail(None, thick(1)),
        "given images": with_detail(learned(6.0, 6.0**-2)),
    }[case]
    start = problem.start(None) if case == "given images" else None
    assert solve_with_repeats(problem, Stop(1e-3, 40), start).solution.tolerance == 1e-3


def test_the_tolerance_stays_below_one() -> None:
    assert Stop(0.4, 10).from_detail().tolerance == 0.5


@pytest.mark.parametrize("wrong", [{"tolerance": 0.0}, {"tolerance": 1.0}, {"max_iter": 0}])
def test_a_stop_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Stop(**wrong)  # type: ignore[arg-type]
