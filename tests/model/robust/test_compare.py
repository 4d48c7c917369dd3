"""A slice is judged by what the others predict of it, and by how those around it fare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.model.robust import compare
from bids_unires.model.robust.compare import (
    Comparison,
    compare_with_predictions,
    deviations,
    deviations_from_accepted,
    spare_neighbours_of_worse,
    student_weights,
    worse_than_interpolation,
)
from bids_unires.model.robust.cross_validation import CrossValidation
from bids_unires.model.robust.shift import translate_slice
from bids_unires.model.robust.verdict import FEATURES
from bids_unires.model.scanner.rejected_slices import REJECTION_WEIGHT


def smooth_stack(slices: int = 24) -> CrossValidation:
    """Slices whose predictions are off by noise that grows smoothly towards the ends."""
    rng = np.random.default_rng(0)
    u, v = np.indices((40, 50))
    anatomy = 100 + 40 * np.sin(0.4 * u) * np.cos(0.3 * v)
    anatomy *= np.hypot((u - 20) / 16, (v - 25) / 20) < 1
    predicted = np.broadcast_to(anatomy, (slices, 40, 50)).astype(np.float32)
    level = 2 + 4 * np.linspace(-1, 1, slices)[:, None, None] ** 2
    measured = predicted + level * rng.normal(size=predicted.shape)
    detail = rng.gamma(4.0, 1.0, size=predicted.shape)
    return CrossValidation(
        measured.astype(np.float32), predicted, detail.astype(np.float32), (4, 1, 1)
    )


def off_by(parts: CrossValidation) -> np.ndarray:
    return deviations(
        compare_with_predictions(parts, 50.0), np.ones(len(parts.measured), dtype=bool)
    )


def with_slice(parts: CrossValidation, k: int, image: np.ndarray) -> CrossValidation:
    measured = parts.measured.copy()
    measured[k] = image
    return replace(parts, measured=measured)


def test_slices_that_fit_in_weigh_one() -> None:
    np.testing.assert_array_equal(student_weights(off_by(smooth_stack())), 1.0)


def test_brightness_and_shift_are_told_as_they_are() -> None:
    parts = smooth_stack()
    image = parts.measured[10]
    dark = compare_with_predictions(with_slice(parts, 10, 0.3 * image), 20.0).features[10]
    assert dark[0] == pytest.approx(np.log(0.3), abs=0.01)
    shifted = compare_with_predictions(
        with_slice(parts, 10, translate_slice(image, np.array([0.5, -0.25]))), 50.0
    )
    np.testing.assert_allclose(shifted.features[10, 1:3], [0.5, -0.25], atol=0.2)


def test_a_shift_points_the_same_way_where_slopes_alone_tell_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = smooth_stack()
    moved = translate_slice(parts.measured[10], np.array([0.5, -0.25]))
    monkeypatch.setattr(compare, "correlation_shift", lambda *_: None)
    told = compare_with_predictions(with_slice(parts, 10, moved), 50.0).features[10, 1:3]
    np.testing.assert_allclose(told, [0.5, -0.25], atol=0.2)


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
    assert np.flatnonzero(weights < REJECTION_WEIGHT).tolist() == [10]
    of_feature = [n for n, name in enumerate(FEATURES) if name == feature]
    assert np.abs(off[10, of_feature]).max() > 5


def test_slices_are_judged_alike_whatever_the_unit_of_intensity() -> None:
    parts = smooth_stack()
    parts = with_slice(parts, 10, 0.6 * parts.measured[10])
    other = CrossValidation(
        1000 * parts.measured, 1000 * parts.predicted, 1e6 * parts.detail, parts.spacing
    )
    np.testing.assert_allclose(
        compare_with_predictions(other, 50_000.0).features
        - compare_with_predictions(parts, 50.0).features,
        np.broadcast_to([0, 0, 0, np.log(1000), np.log(1000), 0], (24, 6)),
        atol=1e-3,
    )
    accepted = np.ones(24, dtype=bool)
    np.testing.assert_allclose(
        deviations(compare_with_predictions(other, 50_000.0), accepted), off_by(parts), atol=1e-2
    )


def test_too_few_slices_are_not_judged() -> None:
    compared = Comparison(np.random.default_rng(0).normal(size=(7, 6)), *np.zeros((2, 7)))
    np.testing.assert_array_equal(deviations(compared, np.ones(7, dtype=bool)), 0)


def test_slices_without_head_are_not_judged() -> None:
    parts = smooth_stack()
    empty = replace(parts, measured=parts.measured.copy(), predicted=parts.predicted.copy())
    empty.measured[:3] = empty.predicted[:3] = 1.0
    found = compare_with_predictions(empty, 50.0).features
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
    compared = Comparison(features, *np.zeros((2, 30)))
    accepted = np.ones(30, dtype=bool)
    hidden = student_weights(deviations(compared, accepted))
    assert (hidden[[10, 13]] > REJECTION_WEIGHT).any()
    found = student_weights(deviations_from_accepted(compared, accepted))
    assert np.flatnonzero(found < REJECTION_WEIGHT).tolist() == [10, 13]


def test_a_slice_is_worth_more_than_what_stands_in_for_it_unless_it_is_far_off() -> None:
    unexplained = np.full(20, 0.1)
    discrepancy = np.full(20, 0.1)
    discrepancy[[5, 9]] = [0.15, 0.5]
    compared = Comparison(np.zeros((20, 6)), unexplained, discrepancy)
    assert np.flatnonzero(worse_than_interpolation(compared, np.ones(20, dtype=bool))).tolist() == [
        9
    ]


def test_a_slice_that_nothing_predicts_is_not_judged() -> None:
    parts = smooth_stack(1)
    alone = compare_with_predictions(replace(parts, predicted=np.zeros_like(parts.predicted)), 50.0)
    assert np.isnan(alone.features).all()
    assert np.isnan(alone.unexplained).all()


@pytest.mark.parametrize("worst", [0, 5, 11])
def test_of_bad_neighbours_the_worst_alone_is_rejected(worst: int) -> None:
    """It may have spoiled what the others were compared with, unless nobody was with it."""
    weights, accepted = np.ones(12), np.ones(12, dtype=bool)
    near = [k for k in (worst - 1, worst + 1) if 0 <= k < 12]
    weights[near], weights[worst] = 0.6 * REJECTION_WEIGHT, 0.2 * REJECTION_WEIGHT
    spared = spare_neighbours_of_worse(weights, accepted)
    assert np.flatnonzero(spared < REJECTION_WEIGHT).tolist() == [worst]
    accepted[worst] = False
    found = spare_neighbours_of_worse(weights, accepted)
    np.testing.assert_array_equal(found, weights)
