"""Damage of slices is found and repaired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.model.robust.cross_validation import CrossValidation
from bids_unires.model.robust.repair import (
    SliceRepair,
    candidate_repairs,
    lost_signal_repairs,
    relative_brightness,
    repair_coarse_slices,
    repair_slices,
)
from bids_unires.model.robust.shift import translate_slice
from bids_unires.space.volume import Volume
from tests.model.robust.test_shift import head


def parts(image: np.ndarray) -> CrossValidation:
    """A slice beside its prediction, voxels of 2 by 1 mm."""
    predicted = head()[None]
    return CrossValidation(image[None], predicted, np.ones_like(predicted), (4.0, 2.0, 1.0))


def damaged(factor: float, mm: tuple[float, float]) -> np.ndarray:
    noise = np.random.default_rng(0).normal(scale=1.0, size=head().shape)
    return (factor * (head(mm[0] / 2, mm[1]) + noise)).astype(np.float32)


def test_a_good_slice_needs_nothing() -> None:
    assert candidate_repairs(parts(damaged(1.0, (0.0, 0.0))), 0, 50.0) == [SliceRepair()]


def test_of_a_dark_slice_brightness_is_the_simplest_explanation() -> None:
    nothing, first, *_ = candidate_repairs(parts(damaged(0.3, (0.0, 0.0))), 0, 50.0)
    assert nothing == SliceRepair()
    assert first.factor == pytest.approx(0.3, rel=0.02)
    assert first.shift == (0.0, 0.0)


def test_of_a_moved_slice_its_place_is_found() -> None:
    (shifted,) = [
        repair
        for repair in candidate_repairs(parts(damaged(1.0, (3.0, -2.0))), 0, 50.0)
        if any(repair.shift)
    ]
    assert shifted.factor == 1
    np.testing.assert_allclose(shifted.shift, (3.0, -2.0), atol=0.2)


def test_of_a_dark_slice_that_moved_both_are_found() -> None:
    *_, both = candidate_repairs(parts(damaged(0.4, (2.0, 2.0))), 0, 50.0)
    assert both.factor == pytest.approx(0.4, rel=0.05)
    np.testing.assert_allclose(both.shift, (2.0, 2.0), atol=0.2)


def test_what_nothing_explains_is_not_moved() -> None:
    noise = np.random.default_rng(0).uniform(0, 200, size=head().shape).astype(np.float32)
    assert not any(any(repair.shift) for repair in candidate_repairs(parts(noise), 0, 50.0))


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_lost_signal_is_told_wherever_tissue_lies(scale: float) -> None:
    small = np.zeros_like(head())
    small[10:30, 12:40] = head()[10:30, 12:40]
    slices = scale * np.stack([head(), 0.3 * small, head(), 0.8 * head()])
    beside = CrossValidation(slices, slices, np.zeros_like(slices), (4.0, 2.0, 1.0))
    (found,) = lost_signal_repairs(beside, 1, [0, 2])
    assert found.factor == pytest.approx(0.3, rel=0.15)
    assert not any(found.shift)
    assert lost_signal_repairs(beside, 3, [0, 2]) == []


def test_signal_is_not_lost_where_nothing_tells_how_bright_it_should_be() -> None:
    air = np.zeros((2, 40, 50), dtype=np.float32)
    beside = CrossValidation(air, air, air, (4.0, 2.0, 1.0))
    assert lost_signal_repairs(beside, 0, [1]) == []
    assert lost_signal_repairs(parts(damaged(0.3, (0.0, 0.0))), 0, []) == []


def test_a_coarse_slice_is_repaired_like_the_scan() -> None:
    repair = SliceRepair(0.4, (3.0, -2.0))
    image = repair_coarse_slices(parts(damaged(0.4, (3.0, -2.0))), {0: repair}).measured[0]
    inside = np.isfinite(image)
    np.testing.assert_allclose(image[inside], head()[inside], atol=6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scan_is_what_it_was_once_it_is_repaired(axis: int) -> None:
    slices = np.stack([head() for _ in range(5)])
    spacing = np.insert([2.0, 1.0], axis, 4.0)
    slices[2] = 0.4 * translate_slice(head(), np.array([3.0, -2.0]) / [2.0, 1.0])
    scan = Volume(np.ascontiguousarray(np.moveaxis(slices, 0, axis)), np.diag([*spacing, 1.0]))
    after = repair_slices(scan, axis, {2: SliceRepair(0.4, (3.0, -2.0))})
    image = np.moveaxis(after.data, axis, 0)
    # What came in from beyond the edges was never measured.
    assert np.isnan(image[2]).sum() == 2 * 60 + 2 * 48 - 4
    known = np.isfinite(image)
    np.testing.assert_allclose(image[known], np.stack([head()] * 5)[known], atol=1.0)
    np.testing.assert_array_equal(image[[0, 1, 3, 4]], slices[[0, 1, 3, 4]])


@pytest.mark.parametrize("down", [1, -1])
@pytest.mark.parametrize("right", [1, -1])
def test_of_a_moved_slice_only_what_lay_beyond_its_edges_is_missing(down: int, right: int) -> None:
    scan = Volume(np.stack([head()] * 3), np.eye(4))
    moved = {1: SliceRepair(shift=(2.0 * down, 3.0 * right))}
    found = repair_slices(scan, 0, moved).data[1]
    seen = np.isfinite(found[::down, ::right])
    assert seen[:-2, :-3].all()
    assert not seen[-2:].any()
    assert not seen[:, -3:].any()


def test_masked_and_missing_voxels_move_along() -> None:
    image = head()
    image[image < 50] = 0
    image[:, 40:] = np.nan
    slices = np.stack([head(), image, head()])
    scan = Volume(slices, np.eye(4))
    found = repair_slices(scan, 0, {1: SliceRepair(shift=(0.0, 3.0))}).data[1]
    assert np.isnan(found[10:30, 37:]).all()
    np.testing.assert_array_equal(found[10:40, 5:30] == 0, image[10:40, 8:33] == 0)


def test_nothing_to_repair_is_the_same_scan() -> None:
    scan = Volume(np.stack([head()] * 3), np.eye(4))
    assert repair_slices(scan, 0, {}) is scan


def test_brightness_does_not_ask_where_tissue_lies() -> None:
    image = head()
    assert relative_brightness(0.5 * image[:, ::-1], image) == pytest.approx(0.5)


def test_a_repair_tells_what_it_undoes() -> None:
    assert str(replace(SliceRepair(), factor=0.5)) == "brightness of 0.50"
    assert str(SliceRepair(shift=(0.0, 2.0))) == "moved by 2.0 mm"
