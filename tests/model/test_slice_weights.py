"""Damaged slices are found by what the others predict of them; good ones are believed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.geometry import scaling, translation
from bids_unires.model import SliceVerdict, SuperResolution, super_resolve
from bids_unires.model.leave_out import LeftOut
from bids_unires.model.noise import estimate_noise
from bids_unires.model.slice_filling import REJECTED
from bids_unires.model.slice_weights import (
    FEATURES,
    Comparison,
    compare,
    deviations,
    deviations_from_good,
    student_weights,
)
from bids_unires.volume import Volume
from tests.corrupted import DAMAGES, Examination, examine

NOISE = 0.015
# A given strength of the prior spares the search for it.
FIT = ModelSettings(voxel_size=(2.0,) * 3, reg_scale=4.0)
COARSE_FIT = replace(FIT, voxel_size=(3.0,) * 3)


@dataclass(frozen=True, eq=False)
class Fitted:
    """An examination and what was made of it."""

    case: Examination
    result: SuperResolution

    @property
    def quality(self) -> float:
        return self.case.quality(self.result)[0]

    @property
    def verdicts(self) -> list[SliceVerdict]:
        found = self.result.slice_verdicts
        assert found is not None
        return [verdict for scans in found for verdict in scans]

    @property
    def rejected(self) -> list[tuple[int, ...]]:
        return [verdict.rejected for verdict in self.verdicts]

    @property
    def damaged(self) -> list[tuple[int, ...]]:
        return [tuple(done) for scans in self.case.damage for done in scans]


def fit(case: Examination, settings: ModelSettings, *, robust: bool) -> Fitted:
    settings = replace(settings, robust=robust)
    return Fitted(case, super_resolve(case.scans, settings, "cpu", poses=case.poses))


def weigh(case: Examination, settings: ModelSettings) -> Fitted:
    """The weights are found before the images, and these do not matter."""
    return fit(case, replace(settings, max_iter=1, tolerance=0.5), robust=True)


@pytest.fixture(scope="module")
def three_stacks() -> Fitted:
    return fit(examine("three stacks", NOISE, 0, 2.0), FIT, robust=False)


@pytest.fixture(scope="module")
def damaged_stacks(three_stacks: Fitted) -> Fitted:
    return fit(three_stacks.case.damaged(DAMAGES, seed=0), FIT, robust=True)


@pytest.fixture(scope="module")
def one_stack() -> Examination:
    return examine("one stack", NOISE, 0, 3.0)


@pytest.fixture(scope="module")
def dark_stack(one_stack: Examination) -> Fitted:
    return fit(one_stack.damaged(["scaled"], seed=0), COARSE_FIT, robust=True)


def smooth_stack(slices: int = 24) -> LeftOut:
    """Slices whose predictions are off by noise that grows smoothly towards the ends."""
    rng = np.random.default_rng(0)
    u, v = np.indices((40, 50))
    anatomy = 100 + 40 * np.sin(0.4 * u) * np.cos(0.3 * v)
    predicted = np.broadcast_to(anatomy, (slices, 40, 50)).astype(np.float32)
    level = 2 + 4 * np.linspace(-1, 1, slices)[:, None, None] ** 2
    measured = predicted + level * rng.normal(size=predicted.shape)
    detail = rng.gamma(4.0, 1.0, size=predicted.shape)
    return LeftOut(measured.astype(np.float32), predicted, detail.astype(np.float32), (4, 1, 1))


def off_by(parts: LeftOut) -> np.ndarray:
    return deviations(compare(parts, 50.0), np.ones(len(parts.measured), dtype=bool))


def with_slice(parts: LeftOut, k: int, image: np.ndarray) -> LeftOut:
    measured = parts.measured.copy()
    measured[k] = image
    return replace(parts, measured=measured)


def test_slices_that_fit_in_weigh_one() -> None:
    np.testing.assert_array_equal(student_weights(off_by(smooth_stack())), 1.0)


def test_brightness_and_shift_are_told_as_they_are() -> None:
    parts = smooth_stack()
    image = parts.measured[10]
    dark = compare(with_slice(parts, 10, 0.3 * image), 20.0).features[10]
    assert dark[0] == pytest.approx(np.log(0.3), abs=0.01)
    u, v = np.indices(image.shape)
    moved = (100 + 40 * np.sin(0.4 * (u - 0.5)) * np.cos(0.3 * (v - 0.25))).astype(np.float32)
    shifted = compare(with_slice(parts, 10, moved), 50.0).features[10]
    # Where the prediction goes up, an image that moved along lies lower.
    np.testing.assert_allclose(shifted[1:3], [-0.5, -0.25], atol=0.05)


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("brightness", lambda image: 0.6 * image),
        ("shift", lambda image: np.roll(image, 3, axis=0)),
        ("shift", lambda image: np.roll(image, 3, axis=1)),
        ("stripes", lambda image: image + 15 * np.cos(2.1 * np.arange(50))),
    ],
    ids=["scaled", "shifted", "shifted across", "striped"],
)
def test_a_slice_that_is_off_stands_out_and_alone(feature: str, change) -> None:  # type: ignore[no-untyped-def]
    parts = smooth_stack()
    off = off_by(with_slice(parts, 10, change(parts.measured[10])))
    weights = student_weights(off)
    assert np.flatnonzero(weights < REJECTED).tolist() == [10]
    of_feature = [n for n, name in enumerate(FEATURES) if name == feature]
    assert np.abs(off[10, of_feature]).max() > 5


def test_slices_are_judged_alike_whatever_the_unit_of_intensity() -> None:
    parts = smooth_stack()
    parts = with_slice(parts, 10, 0.6 * parts.measured[10])
    other = LeftOut(
        1000 * parts.measured, 1000 * parts.predicted, 1e6 * parts.detail, parts.spacing
    )
    np.testing.assert_allclose(
        compare(other, 50_000.0).features - compare(parts, 50.0).features,
        np.broadcast_to([0, 0, 0, np.log(1000), np.log(1000), 0], (24, 6)),
        atol=1e-3,
    )
    believed = np.ones(24, dtype=bool)
    np.testing.assert_allclose(
        deviations(compare(other, 50_000.0), believed), off_by(parts), atol=1e-2
    )


def test_too_few_slices_are_not_judged() -> None:
    compared = Comparison(np.random.default_rng(0).normal(size=(7, 6)), np.zeros(7))
    np.testing.assert_array_equal(deviations(compared, np.ones(7, dtype=bool)), 0)


def test_slices_without_head_are_not_judged() -> None:
    parts = smooth_stack()
    empty = replace(parts, measured=parts.measured.copy(), predicted=parts.predicted.copy())
    empty.measured[:3] = empty.predicted[:3] = 1.0
    found = compare(empty, 50.0).features
    assert np.isnan(found[:3]).all()
    assert np.isfinite(found[3:]).all()
    np.testing.assert_array_equal(off_by(empty)[:3], 0)


def test_weights_fall_with_every_deviation() -> None:
    off = np.zeros((4, 6))
    off[1:, 2] = [2, 5, 50]
    weights = student_weights(off)
    assert weights[:2].tolist() == [1.0, 1.0]
    assert weights[1] > weights[2] > weights[3] > 0


def test_slices_are_not_compared_with_bad_ones_nor_with_those_beside_these() -> None:
    features = np.random.default_rng(0).normal(scale=0.1, size=(30, 6))
    features[[10, 13], 3] += 1.2
    features[[9, 11, 12, 14], 3] += [0.3, -0.3, 0.3, -0.3]
    compared = Comparison(features, np.zeros(30))
    believed = np.ones(30, dtype=bool)
    hidden = student_weights(deviations(compared, believed))
    assert (hidden[[10, 13]] > REJECTED).all()
    found = student_weights(deviations_from_good(compared, believed))
    assert np.flatnonzero(found < REJECTED).tolist() == [10, 13]


def test_clean_slices_are_believed(three_stacks: Fitted, one_stack: Examination) -> None:
    one = weigh(one_stack, COARSE_FIT)
    three = fit(three_stacks.case, FIT, robust=True)
    for verdict in (*one.verdicts, *three.verdicts):
        assert verdict.rejected == ()
        assert ((verdict.weights > 0) & (verdict.weights <= 1)).all()
        assert verdict.weights.mean() > 0.97
    assert three_stacks.quality - three.quality < 0.05


def test_one_stack_tells_its_dark_slices(dark_stack: Fitted) -> None:
    assert dark_stack.rejected == dark_stack.damaged


def test_one_stack_is_better_off_than_with_a_gap_for_every_bad_slice(dark_stack: Fitted) -> None:
    believed = fit(dark_stack.case, COARSE_FIT, robust=False)
    assert dark_stack.quality > believed.quality + 1.0
    with_gaps = fit(dark_stack.case.without_damage(), COARSE_FIT, robust=False)
    assert dark_stack.quality > with_gaps.quality


def test_repeats_tell_all_damaged_slices(damaged_stacks: Fitted) -> None:
    assert damaged_stacks.rejected == damaged_stacks.damaged


def test_repeats_tell_spikes_close_to_each_other(three_stacks: Fitted) -> None:
    found = weigh(three_stacks.case.damaged(["spiked"], seed=0), FIT)
    assert found.rejected == found.damaged


def test_damage_costs_little_where_repeats_show_the_place(
    three_stacks: Fitted, damaged_stacks: Fitted
) -> None:
    assert three_stacks.quality - damaged_stacks.quality < 0.5


def test_nothing_is_read_off_rejected_slices(damaged_stacks: Fitted) -> None:
    oracle = damaged_stacks.case.without_damage().scans[0]
    result = damaged_stacks.result
    assert result.noise[0] == tuple(estimate_noise(scan.data) for scan in oracle)
    brightest = max(float(np.nanmax(scan.data)) for scan in oracle)
    # A spike is brighter than anything in the head, and the images may become as bright.
    assert max(float(scan.data.max()) for scan in damaged_stacks.case.scans[0]) > brightest
    assert result.images.max() <= brightest


def test_neither_unit_nor_order_of_axes_matters(dark_stack: Fitted) -> None:
    (scan,) = dark_stack.case.scans[0]
    (before,) = weigh(dark_stack.case, COARSE_FIT).verdicts

    def of(data: np.ndarray, affine: np.ndarray) -> SliceVerdict:
        other = replace(dark_stack.case, scans=((Volume(data, affine),),))
        return weigh(other, COARSE_FIT).verdicts[0]

    np.testing.assert_allclose(of(100 * scan.data, scan.affine).weights, before.weights, rtol=0.02)
    # Slices first, in reverse order, and a mirrored row.
    turned = np.ascontiguousarray(np.transpose(scan.data, (2, 0, 1))[::-1, :, ::-1])
    order = np.zeros((4, 4))
    order[[2, 0, 1, 3], [0, 1, 2, 3]] = 1
    first = [len(turned) - 1, 0, turned.shape[2] - 1]
    other = of(turned, scan.affine @ order @ translation(first) @ scaling([-1, 1, -1]))
    assert other.axis == 0
    # Which slices are left out together changes with where the counting begins.
    np.testing.assert_allclose(other.weights[::-1], before.weights, atol=0.1)
    assert {len(turned) - 1 - k for k in other.rejected} == set(before.rejected)
