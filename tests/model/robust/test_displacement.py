"""Slices that moved are put back where a template has them, unless their neighbours deny it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.model import SliceVerdict
from bids_unires.model.robust.cross_validation import CrossValidation, coarse_grid
from bids_unires.model.robust.displacement import confirmed_shifts, put_back, shifts_by_template
from bids_unires.model.robust.repair import SliceRepair
from bids_unires.model.robust.shift import translate_slice
from bids_unires.model.robust.stripes import Stripes
from bids_unires.model.scanner.observation import Observation

ASKED = "bids_unires.model.robust.displacement.find_displaced_slices_in_head"
SPACING = (4.0, 2.0, 2.0)
STRIPES = (Stripes((0.1, 0.2), 30.0, 0.0),)


def textured_slices() -> np.ndarray:
    x, y = np.indices((48, 56))
    inside = (x - 24) ** 2 / 20**2 + (y - 28) ** 2 / 24**2 < 1
    image = inside * (80 + 40 * np.sin(x / 2.5) * np.cos(y / 3))
    return np.stack([image] * 12).astype(np.float32)


def moved(k: int, voxels: tuple[float, float]) -> CrossValidation:
    """Slices of which one moved, and what their neighbours predict of all of them."""
    predicted = textured_slices()
    measured = predicted.copy()
    measured[k] = translate_slice(predicted[k], np.array(voxels))
    return CrossValidation(measured, predicted, np.zeros_like(measured), SPACING)


def settled(repairs: dict[int, SliceRepair]) -> SliceVerdict:
    return SliceVerdict(2, np.ones(9), np.zeros((9, 6)), repairs)


@pytest.mark.parametrize("mr", [True, False])
def test_slices_of_ct_stay_where_they_are(monkeypatch: pytest.MonkeyPatch, mr: bool) -> None:
    monkeypatch.setattr(ASKED, lambda *_: {7: (3.0, 0.0)})
    data = np.ascontiguousarray(np.moveaxis(textured_slices(), 0, 2))
    scan = Observation(data, np.diag([2.0, 2.0, 4.0, 1.0]), zero_is_missing=mr)
    found = shifts_by_template(scan, 40.0, coarse_grid(scan.grid))
    assert found == ({7: (3.0, 0.0)} if mr else {})


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_slice_that_did_not_move_is_not_moved_by_a_template(order: tuple[int, int]) -> None:
    parts = moved(5, (1.5, 0.0))
    along, across = order
    turned = CrossValidation(
        *(np.transpose(each, (0, *order)) for each in (parts.measured, parts.predicted)),
        np.transpose(parts.detail, (0, *order)),
        SPACING,
    )
    said = {5: (2.6, 0.4), 8: (2.6, 0.4)}
    said = {k: (shift[along - 1], shift[across - 1]) for k, shift in said.items()}
    confirmed = confirmed_shifts(turned, said, 40.0)
    # Slice 5 did move, and the neighbours show more exactly how far; the other one did not.
    assert set(confirmed) == {5}
    expected = (3.0, 0.0)
    assert confirmed[5] == pytest.approx((expected[along - 1], expected[across - 1]), abs=0.2)


def test_a_displacement_comes_on_top_of_what_was_undone_already() -> None:
    found = settled({1: SliceRepair(0.5, (1.0, 0.0)), 3: SliceRepair(0.3)})
    repairs = put_back(settled({}), found, {1: (2.0, 1.0)}).repairs
    assert repairs == {1: SliceRepair(shift=(3.0, 1.0))}


def test_a_slice_that_moved_back_is_not_blurred_by_a_shift_of_nearly_nothing() -> None:
    found = settled({2: SliceRepair(shift=(2.9, 0.3))})
    assert put_back(settled({}), found, {2: (-2.8, -0.3)}).repairs == {}


def test_stripes_of_a_displaced_slice_are_removed_as_before() -> None:
    initial = settled({4: SliceRepair(stripes=STRIPES), 6: SliceRepair(stripes=STRIPES)})
    found = replace(initial, weights=np.zeros(9))
    verdict = put_back(initial, found, {4: (0.0, 3.0)})
    assert verdict.repairs[4] == SliceRepair(1.0, (0.0, 3.0), STRIPES)
    assert verdict.repairs[6] == initial.repairs[6]
    np.testing.assert_array_equal(verdict.weights, initial.weights)
