"""What lies within thick slices is learned from the detail in their planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.model import Observation
from bids_unires.model.detail.learning import (
    TRUST_IF_RESOLVED,
    can_guide,
    learn_detail,
    learn_details,
    resolves_slices_of,
    thin_voxel_count,
)
from bids_unires.model.detail.network import PlaneNetwork, Prediction
from bids_unires.model.detail.parameters import Effort, LearningParameters
from bids_unires.model.detail.planes import slice_planes
from bids_unires.model.detail.term import LearnedDetail, detail_from_earlier_fit, move_detail
from bids_unires.model.detail.thin_slices import ThinSlices
from bids_unires.model.intensity.noise import NoiseEstimate
from bids_unires.model.intensity.scan_state import ScanState
from bids_unires.model.scanner.profile import SliceProfile
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix

CPU = torch.device("cpu")
SIDE, RATIO = 56, 4
NOISE_SD = 1.0
NOISE = NoiseEstimate(NOISE_SD, 0.0, 100.0, "rice-mixture")
RECT = SliceProfile("point", "rect", axis=2)
# As the head is cut into slices: away from its outermost ones.
INNER = (slice(12, -12),) * 3


@cache
def head() -> NDArray[np.float32]:
    """A ball of two tissues whose borders fold alike in all directions, in air."""
    rng = np.random.default_rng(1)
    folds = ndimage.gaussian_filter(rng.standard_normal((SIDE,) * 3), 2.5)
    tissue = np.where(folds > 0, 120.0, 80.0) + 200 * np.clip(folds, -0.05, 0.05)
    at = np.moveaxis(np.indices((SIDE,) * 3), 0, -1) - (SIDE - 1) / 2
    inside = np.linalg.norm(at, axis=-1) < 0.47 * SIDE
    return ndimage.gaussian_filter(np.where(inside, tissue, 0), 0.6).astype(np.float32)


def sliced(axis: int = 2, thickness: int = RATIO, affine: Affine | None = None) -> Observation:
    """The head in slices of this many voxels every four, with noise."""
    truth = np.moveaxis(head(), axis, 0)
    skipped = (RATIO - thickness) // 2
    blocks = truth.reshape(SIDE // RATIO, RATIO, SIDE, SIDE)
    thick = np.moveaxis(blocks[:, skipped : skipped + thickness].mean(axis=1), 0, axis)
    noise = np.random.default_rng(2).normal(scale=NOISE_SD, size=thick.shape)
    steps = np.where(np.arange(3) == axis, RATIO, 1)
    thick_affine = (
        (np.eye(4) if affine is None else affine) @ translation((steps - 1) / 2) @ scaling(steps)
    )
    return Observation(
        (thick + noise).astype(np.float32),
        thick_affine,
        1 / NOISE_SD**2,
        SliceProfile("point", "rect", gap=1 - thickness / RATIO, axis=axis),
    )


# What small heads of large folds need; those of participants take ten times as long.
ALONE = Effort(pairs=200_000, widths=(96, 96), steps=1000)
FAIR = LearningParameters(ALONE, replace(ALONE, widths=(64, 64), steps=600))
MOMENT = Effort(pairs=50_000, widths=(32, 32), steps=60)
BRIEF = LearningParameters(MOMENT, MOMENT, MOMENT)


def state(scan: Observation) -> ScanState:
    return ScanState.as_acquired(scan, NOISE)


def learn(
    scan: Observation,
    voxel_size: float = 1.0,
    others: Sequence[ScanState] = (),
    parameters: LearningParameters = FAIR,
) -> LearnedDetail | None:
    return learn_detail(state(scan), voxel_size, others, parameters=parameters)


def learned(
    scan: Observation, voxel_size: float = 1.0, parameters: LearningParameters = FAIR
) -> LearnedDetail:
    detail = learn(scan, voxel_size, parameters=parameters)
    assert detail is not None
    return detail


def error(detail: LearnedDetail) -> float:
    return float(np.sqrt(np.mean((detail.scan.data - head())[INNER] ** 2)))


def error_of_cubic(scan: Observation) -> float:
    axis = scan.slice_axis
    places = np.indices((SIDE,) * 3).astype(float)
    places[axis] = (places[axis] - (RATIO - 1) / 2) / RATIO
    cubic = ndimage.map_coordinates(scan.data, places, order=3, mode="nearest")
    return float(np.sqrt(np.mean((cubic - head())[INNER] ** 2)))


@pytest.fixture(scope="module")
def axial() -> LearnedDetail:
    return learned(sliced())


@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_it_is_closer_to_the_truth_than_a_cubic_whatever_the_slice_axis(axis: int) -> None:
    scan = sliced(axis)
    assert error(learned(scan)) < 0.8 * error_of_cubic(scan)


@pytest.mark.slow
def test_more_planes_tell_more(axial: LearnedDetail) -> None:
    from_two = learned(sliced(), parameters=replace(FAIR, directions=(0.0, 90.0)))
    assert error(axial) < 0.99 * error(from_two)
    assert axial.statement == from_two.statement


class Constant:
    """In place of a network: the same value and variance for every voxel."""

    ways = (None, None)

    def __init__(self, value: float, variance: float) -> None:
        self._value, self._variance = value, variance

    def predict(
        self, patches: torch.Tensor, views: torch.Tensor, way: int | None = None
    ) -> Prediction:
        values = torch.full((len(patches), RATIO), self._value)
        values[~patches.isfinite().all(dim=2).all(dim=1)] = torch.nan
        return Prediction(values, torch.full_like(values, self._variance))


class Copying(Constant):
    """In place of a network: the voxel in the middle of the patch, and its contrast as variance."""

    def __init__(self) -> None:
        super().__init__(0.0, 1.0)

    def predict(
        self, patches: torch.Tensor, views: torch.Tensor, way: int | None = None
    ) -> Prediction:
        rows, columns = (side // 2 for side in patches.shape[1:])
        middle = patches[:, rows, columns, None].expand(-1, RATIO)
        near = patches[:, rows - 1 : rows + 2, columns - 1 : columns + 2]
        spread = near.flatten(1).var(dim=1, keepdim=True)
        return Prediction(middle, 0.1 + spread.expand(-1, RATIO))


def predicted(
    scan: Observation, guided: Constant | None, unguided: Constant, noise: NoiseEstimate = NOISE
) -> Observation:
    """Predictions of networks for a whole scan; the guided one predicts along one axis."""
    planes = slice_planes(scan, noise, 1.0, CPU)
    assert planes is not None
    thin = ThinSlices(planes, FAIR)
    if guided is not None:
        guide = torch.zeros((SIDE, SIDE, SIDE))
        thin.add_guided(cast("PlaneNetwork", guided), (1,), guide, planes.head)
    thin.add_unguided(cast("PlaneNetwork", unguided), planes.head)
    return thin.scan(scan, 1.0)


def test_however_many_planes_there_are_they_weigh_as_two() -> None:
    scan = predicted(sliced(), Constant(1.0, 0.25), Constant(4.0, 0.25))
    middle = (SIDE // 2,) * 3
    unit = NOISE.contrast
    assert scan.data[middle] == pytest.approx((1.0 + 2 * 4.0) / 3 * unit)
    assert np.asarray(scan.tau)[middle] == pytest.approx(4 / unit**2)


def test_units_do_not_matter() -> None:
    noise = NoiseEstimate(1e-3 * NOISE_SD, 0.0, 1e-3 * NOISE.contrast, "rice-mixture")
    whole, small = sliced(), sliced()
    small = replace(small, data=np.float32(1e-3) * small.data)
    found = predicted(whole, None, Constant(1.0, 0.25))
    other = predicted(small, None, Constant(1.0, 0.25), noise)
    np.testing.assert_allclose(other.tau, 1e6 * np.asarray(found.tau), rtol=1e-4)
    np.testing.assert_allclose(other.data, 1e-3 * found.data, rtol=1e-4)


def test_what_few_planes_tell_is_as_precise_as_one_of_them_is() -> None:
    whole = sliced()
    data = whole.data.copy()
    data[:30] = np.nan
    scan = predicted(replace(whole, data=data), None, Constant(1.0, 0.25))
    tau = np.asarray(scan.tau)[:, SIDE // 2, SIDE // 2]
    # Planes along the rim are all that is left at it.
    np.testing.assert_allclose(tau[30:60], 4 / NOISE.contrast**2, rtol=1e-4)
    assert not tau[:30].any()


def test_it_lies_where_the_scan_lies() -> None:
    turned = rigid_matrix([3.0, -2.0, 5.0, 0.2, -0.1, 0.3]) @ np.diag([-1.0, 1.0, 1.0, 1.0])
    scan = replace(sliced(affine=turned), pose=rigid_matrix([1.0, 0.0, 0.0, 0.0, 0.1, 0.0]))
    detail = learned(scan, parameters=BRIEF).scan
    assert detail.grid == Grid((SIDE,) * 3, turned)
    np.testing.assert_array_equal(detail.world_pose, scan.world_pose)


def test_it_says_how_far_off_it_is(axial: LearnedDetail) -> None:
    off = axial.scan.data - head()
    assert isinstance(axial.scan.tau, np.ndarray)
    share = float(np.mean(axial.scan.tau[INNER] * off[INNER] ** 2))
    assert 0.5 < share < 2
    assert axial.statement is not None
    assert axial.statement.error_sd == pytest.approx(error(axial), rel=0.3)
    assert 0.3 < axial.statement.explained < 1


@pytest.mark.slow
def test_what_it_knows_by_heart_is_not_how_good_it_is() -> None:
    scan = sliced()
    # Nothing in one slice says anything of another one.
    speckled = np.random.default_rng(3).normal(100, 20, scan.data.shape).astype(np.float32)
    statement = learned(replace(scan, data=speckled)).statement
    assert statement is not None
    assert statement.explained < 0.1


def test_it_does_not_matter_where_in_the_stack_the_head_is() -> None:
    scan = sliced()
    aside = np.pad(scan.data, [(0, 0), (0, 0), (0, scan.data.shape[2] + 3)])
    both = (scan, replace(scan, data=aside))
    here, there = (learned(one, parameters=BRIEF).statement for one in both)
    assert here is not None
    assert there is not None
    assert here.explained == pytest.approx(there.explained, abs=0.1)


def test_it_says_nothing_of_air_nor_of_what_is_missing() -> None:
    scan, hole = sliced(), slice(SIDE // 2 - 5, SIDE // 2 + 5)
    at = SIDE // RATIO // 2
    scan.data[hole, hole, at] = np.nan
    detail = learned(scan, parameters=BRIEF).scan
    assert isinstance(detail.tau, np.ndarray)
    assert not detail.tau[: SIDE // 9, : SIDE // 9].any()
    assert not detail.tau[hole, hole, at * RATIO : (at + 1) * RATIO].any()
    # Nor of what would have to be told from there.
    middle, beside = SIDE // 2, SIDE // 2 + 12
    assert not detail.tau[middle, middle, (at + 1) * RATIO]
    assert detail.tau[beside, beside, at * RATIO]
    assert np.isfinite(detail.tau).all()


def test_air_beside_the_head_takes_no_part_in_the_fit() -> None:
    scan, air = sliced(), 20
    noise = np.random.default_rng(3).normal(scale=NOISE_SD, size=(air, *scan.data.shape[1:]))
    wide = replace(
        scan,
        data=np.concatenate([noise.astype(np.float32), scan.data]),
        affine=scan.affine @ translation([-air, 0, 0]),
    )
    everything = learned(wide, parameters=BRIEF).scan
    (found,) = learn_details([state(wide)], [state(wide)], 1.0, CPU, BRIEF)
    assert found is not None
    assert found.scan.data.shape[0] <= SIDE < everything.data.shape[0]
    # Threads that share the work round a little differently.
    assert np.sum(found.scan.tau) == pytest.approx(np.sum(everything.tau), rel=0.01)


@pytest.mark.slow
def test_a_doubted_slice_is_doubted_within() -> None:
    weights = np.ones(SIDE // RATIO)
    weights[8] = 0.25
    trusted, doubted = (
        learned(replace(sliced(), slice_weights=own)).scan.tau for own in (None, weights)
    )
    assert isinstance(trusted, np.ndarray)
    assert isinstance(doubted, np.ndarray)
    here = slice(8 * RATIO, 9 * RATIO)
    np.testing.assert_allclose(doubted[..., here], trusted[..., here] / 4, rtol=1e-5)


@pytest.mark.slow
def test_even_slices_may_be_brighter(axial: LearnedDetail) -> None:
    scan = sliced()
    factors = np.exp(0.1 * (-1.0) ** np.arange(SIDE // RATIO)).astype(np.float32)
    uneven = replace(scan, data=scan.data * factors, interleave=0.1)
    assert error(learned(uneven)) < 1.05 * error(axial)


@pytest.mark.slow
def test_a_gap_is_worth_knowing() -> None:
    scan = sliced(thickness=2)
    ignorant = replace(scan, profile=replace(scan.profile, gap=0.0))
    assert error(learned(scan)) < 0.97 * error(learned(ignorant))


def test_small_voxels_in_the_plane_are_averaged_first() -> None:
    fine = sliced()
    assert learned(fine, 2.0, parameters=BRIEF).scan.grid == Grid(
        (SIDE // 2,) * 3, translation([0.5, 0.5, 0.5]) @ scaling([2, 2, 2])
    )


def test_how_many_voxels_it_has_is_known_before(axial: LearnedDetail) -> None:
    assert thin_voxel_count(sliced(), 1.0) == axial.scan.data.size
    halved = learned(sliced(), 2.0, parameters=BRIEF)
    assert thin_voxel_count(sliced(), 2.0) == halved.scan.data.size
    assert thin_voxel_count(sliced(), 4.0) == 0


def test_there_may_be_nothing_to_learn() -> None:
    scan = sliced()
    assert learn(scan, 4.0) is None
    few = np.ascontiguousarray(scan.data[:14, :14])
    assert learn(replace(scan, data=few), 1.0) is None
    nobody = replace(scan, data=np.zeros_like(scan.data))
    assert learn(nobody, 1.0) is None


def test_voxels_much_wider_than_wanted_are_not_taken_for_points() -> None:
    assert learn(sliced(), 0.45, parameters=BRIEF) is not None
    assert learn(sliced(), 0.35, parameters=BRIEF) is None
    assert thin_voxel_count(sliced(), 0.35) == 0


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_nothing() -> None:
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        scan = state(sliced())
        (detail,) = learn_details([scan], [scan], 1.0, CPU, BRIEF)
        assert torch.get_num_threads() == count
        assert detail is not None
        found.append(detail.scan.data)
    np.testing.assert_array_equal(*found)


def test_smooth_places_are_predicted_from_fewer_directions() -> None:
    scan = state(sliced())
    every = replace(BRIEF, smooth_share=0.0)
    fewer, more = (learn_detail(scan, 1.0, parameters=each) for each in (BRIEF, every))
    assert fewer is not None
    assert more is not None
    head = np.asarray(more.scan.tau) > 0
    same = fewer.scan.data[head] == more.scan.data[head]
    assert 0.5 < same.mean() < 0.75
    # Errors are small where they differ.
    assert np.asarray(more.scan.tau)[head][~same].mean() > np.asarray(more.scan.tau)[head].mean()


def test_it_tells_how_far_it_is() -> None:
    told: list[float] = []
    scan = state(sliced())
    learn_details([scan, scan], [scan], 1.0, CPU, BRIEF, told.append)
    assert (told[0], told[-1]) == (0, 1)
    assert told == sorted(told)
    assert max(np.diff(told)) < 0.5


def test_nothing_is_told_where_nothing_is_learned() -> None:
    told: list[float] = []
    cubic = Observation(np.ones((20, 20, 20), np.float32), np.eye(4))
    assert learn_details([state(cubic)], [], 1.0, CPU, BRIEF, told.append) == [None]
    assert told == []


def precision(*contrasts: list[Observation]) -> float:
    """Mean of the first contrast's detail."""
    scans = [state(scan) for own in contrasts for scan in own]
    (detail,) = learn_details(scans[:1], scans, 1.0, CPU, BRIEF)
    assert detail is not None
    return float(np.mean(detail.scan.tau))


def test_those_who_see_no_more_change_nothing() -> None:
    axial = sliced()
    tilted = replace(axial, pose=rigid_matrix([0, 0, 0, 0, 0, 0.2]))
    assert precision([axial], [tilted]) == pytest.approx(precision([axial]), rel=1e-5)


def test_edges_that_only_the_prior_is_shown_count_more_than_detail() -> None:
    axial = sliced()
    # Its slices cross both axes of the others' planes.
    oblique = replace(sliced(1), pose=rigid_matrix([0, 0, 0, np.pi / np.sqrt(8), 0, 0]))
    assert resolves_slices_of(oblique, axial)
    seen = precision([axial]) * TRUST_IF_RESOLVED
    assert precision([axial], [oblique]) == pytest.approx(seen, rel=1e-5)


def darker(scan: Observation) -> Observation:
    """Another contrast: what is bright is dark."""
    dark = np.where(scan.data > 20, 250 - scan.data, 0.0)
    return replace(scan, data=np.asarray(dark, dtype=np.float32))


def guide(axis: int | None, pose: Affine | None = None) -> ScanState:
    """The head in another contrast, in slices across an axis or sharp."""
    scan = Observation(head(), np.eye(4), 1.0) if axis is None else sliced(axis)
    return state(replace(darker(scan), pose=pose))


@pytest.mark.slow
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_another_contrast_shows_what_lies_within_slices(
    axial: LearnedDetail, axis: int | None
) -> None:
    shown = learn(sliced(), 1.0, [guide(axis)])
    assert shown is not None
    assert error(shown) < 0.8 * error(axial)
    assert shown.statement is not None
    assert axial.statement is not None
    assert shown.statement.explained > axial.statement.explained
    assert np.mean(shown.scan.tau) > 1.3 * np.mean(axial.scan.tau)


@pytest.mark.slow
def test_where_a_guide_explains_little_an_unguided_network_contributes() -> None:
    speckles = np.random.default_rng(4).normal(100, 20, head().shape).astype(np.float32)
    others = [state(Observation(speckles, np.eye(4), 1.0))]
    shown = learn(sliced(), 1.0, others)
    both = learn(sliced(), 1.0, others, replace(FAIR, guide_suffices=1.0))
    assert shown is not None
    assert both is not None
    assert error(both) < 0.97 * error(shown)


@pytest.mark.slow
def test_an_unguided_network_that_explains_less_does_not_contribute() -> None:
    found = []
    for share in (0.0, 1.0):
        found.append(learn(sliced(), 1.0, [guide(None)], replace(FAIR, guide_suffices=share)))
    first, second = found
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.scan.data, second.scan.data)
    assert first.statement == second.statement


@pytest.mark.slow
def test_another_contrast_of_somebody_else_does_no_harm(axial: LearnedDetail) -> None:
    turned = translation([SIDE - 1, SIDE - 1, 0]) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    unlike = learn(sliced(), 1.0, [guide(None, turned)])
    assert unlike is not None
    assert error(unlike) < 1.1 * error(axial)


@pytest.mark.slow
def test_where_another_contrast_was_not_measured_planes_alone_tell(axial: LearnedDetail) -> None:
    half = guide(None)
    half.observation.data[SIDE // 2 :] = 0
    shown = learn(sliced(), 1.0, [half])
    assert shown is not None
    off = [(detail.scan.data - head())[INNER] ** 2 for detail in (shown, axial)]
    left, right = (slice(0, SIDE // 2 - 14), slice(SIDE // 2 - 10, None))
    assert off[0][left].mean() < 0.7 * off[1][left].mean()
    assert off[0][right].mean() == pytest.approx(off[1][right].mean(), rel=0.2)
    assert isinstance(shown.scan.tau, np.ndarray)
    assert shown.scan.tau[INNER][right].mean() > 0


def test_of_several_guides_the_sharpest_is_used() -> None:
    sharp = guide(None)
    found = [
        learn(sliced(), 1.0, others, parameters=BRIEF)
        for others in ([sharp], [guide(0), sharp, guide(1), guide(2)])
    ]
    assert found[0] is not None
    assert found[1] is not None
    np.testing.assert_array_equal(found[0].scan.data, found[1].scan.data)


def test_what_is_learned_along_an_axis_is_shown_as_well_across_slices() -> None:
    axial = sliced()
    assert [can_guide(sliced(1), axial, axis) for axis in (0, 1)] == [True, False]
    assert [can_guide(sliced(0), axial, axis) for axis in (0, 1)] == [False, True]
    assert not any(can_guide(axial, axial, axis) for axis in (0, 1))
    assert all(can_guide(Observation(head(), np.eye(4)), axial, axis) for axis in (0, 1))


def test_a_sharp_scan_resolves_slices_and_they_do_not_resolve_it() -> None:
    sharp = Observation(head(), np.eye(4))
    assert resolves_slices_of(sharp, sliced())
    assert not resolves_slices_of(sliced(), sharp)


def test_an_earlier_fit_has_the_precision_of_the_noise(axial: LearnedDetail) -> None:
    quieter = replace(NOISE, noise_sd=NOISE_SD / 7)
    again = detail_from_earlier_fit(
        head(), Grid((SIDE,) * 3, np.eye(4)), [NOISE, quieter], axial.statement
    )
    assert again.statement == axial.statement
    assert again.scan.tau == pytest.approx(49 / 25)
    assert not again.scan.missing.any()


def test_detail_moves_with_the_scan() -> None:
    scan, pose = sliced(), rigid_matrix([1.0, -2.0, 0.5, 0.1, 0.0, 0.0])
    detail = LearnedDetail(replace(scan, affine=np.diag([1.0, 1.0, 1.0, 1.0])), None)
    along = move_detail(detail, scan, replace(scan, pose=pose))
    np.testing.assert_allclose(along.scan.world_pose, pose)


def test_a_guide_without_held_out_slices_is_not_used() -> None:
    scan = sliced()
    # Of these slices of the scan none is kept to tell how far off a network is.
    slab = np.full((SIDE,) * 3, np.nan, np.float32)
    slab[:, :, 40:64] = 200 - head()[:, :, 40:64]
    other = Observation(slab, np.eye(4), 1.0, SliceProfile("point", "point", axis=2))
    detail = learn(scan, 1.0, [state(other)], BRIEF)
    assert detail is not None
    assert detail.statement is not None
    assert not detail.statement.used_other_contrast
    assert np.isfinite(detail.scan.tau).all()


def test_detail_of_a_changed_scan_changes_there_alone() -> None:
    detail = learned(sliced(), parameters=BRIEF)
    change = np.zeros((SIDE, SIDE, SIDE // RATIO), dtype=np.float32)
    assert np.array_equal(detail.changed(change).scan.data, detail.scan.data, equal_nan=True)
    change[30:33, 40:43, 8] = 40.0
    changed = detail.changed(change).scan
    difference = np.nan_to_num(changed.data - detail.scan.data)
    assert difference[31, 41, 8 * RATIO : 9 * RATIO].mean() > 20
    far = np.ones(difference.shape, dtype=bool)
    far[26:37, 36:47, 7 * RATIO : 10 * RATIO] = False
    assert not difference[far].any()
    assert np.array_equal(np.asarray(changed.tau)[far], np.asarray(detail.scan.tau)[far])


def test_detail_of_a_changed_scan_is_that_of_a_scan_acquired_so() -> None:
    every = replace(FAIR, smooth_share=0.0)
    scan, change = sliced(), np.zeros((SIDE, SIDE, SIDE // RATIO), dtype=np.float32)
    change[30:33, 40:43, 8] = 40.0
    network = cast("PlaneNetwork", Copying())
    ill = replace(scan, data=scan.data + change)
    planes, other = (slice_planes(each, NOISE, 1.0, CPU) for each in (scan, ill))
    assert planes is not None
    assert other is not None
    thin, anew = ThinSlices(planes, every), ThinSlices(other, every)
    thin.add_unguided(network, planes.head)
    anew.add_unguided(network, planes.head)
    again, expected = thin.of_changed(other).scan(ill, 1.0), anew.scan(ill, 1.0)
    assert np.allclose(again.data, expected.data, atol=1e-3)
    # Splines through a changed voxel differ a little further away.
    assert np.allclose(again.tau, expected.tau, rtol=0.02)


def test_an_image_of_an_earlier_fit_does_not_change_with_the_scan() -> None:
    image = np.ones((4, 4, 4), dtype=np.float32)
    detail = detail_from_earlier_fit(image, Grid((4, 4, 4), np.eye(4)), [NOISE], None)
    assert detail.changed(np.ones((4, 4, 1), dtype=np.float32)) is detail
