"""Slices that moved by themselves stand out beside a template; those that drift do not."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bids_unires.dataset.reading import load_volume
from bids_unires.model.robust.shift import translate_slice
from bids_unires.model.robust.template import find_displaced_slices, find_displaced_slices_in_head
from bids_unires.model.scanner.observation import Observation
from bids_unires.space.affines import scaling, translation
from tests.paths import SHARED

REAL = SHARED / "data/contrasts/sub-01/anat/sub-01_T1w.nii.gz"

SPACING = np.array([2.0, 1.5])
THRESHOLD = 15.0
SLICES = 24


def head() -> NDArray[np.float32]:
    """A stack through a ball with structure, which nearly vanishes towards its ends."""
    z, x, y = np.meshgrid(
        np.linspace(-0.93, 0.93, SLICES),
        np.linspace(-1.3, 1.3, 64),
        np.linspace(-1.3, 1.3, 72),
        indexing="ij",
    )
    # The widest place of a slice is not in the middle of it: it goes from front to back.
    radius = np.sqrt(x**2 + (y - 0.15 * z**2) ** 2 + z**2)
    inside = 1 / (1 + np.exp((radius - 1) / 0.03))
    texture = np.sin(7 * x + 2 * z) * np.cos(6 * y - 3 * z)
    return (inside * (60 + 30 * texture)).astype(np.float32)


def drifting(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every slice somewhere else than in the template, as heads differ: smoothly."""
    at = np.linspace(-1, 1, len(stack))
    shifts = np.stack([2.0 * at**2, 1.5 * np.sin(2 * at)], axis=1)
    return np.stack(
        [translate_slice(image, mm / SPACING) for image, mm in zip(stack, shifts, strict=True)]
    )


def with_moved(
    stack: NDArray[np.float32], shifts: dict[int, tuple[float, float]]
) -> NDArray[np.float32]:
    result = stack.copy()
    for k, mm in shifts.items():
        result[k] = translate_slice(stack[k], np.array(mm) / SPACING)
    return result


SHIFTS = {2: (2.1, -2.1), 11: (-3.0, 0.0), 20: (0.5, 2.9)}


def test_slices_that_drift_stay_where_they_are() -> None:
    assert find_displaced_slices(drifting(head()), head(), SPACING, THRESHOLD) == {}


def test_slices_that_moved_by_themselves_are_found_up_to_the_ends() -> None:
    found = find_displaced_slices(with_moved(drifting(head()), SHIFTS), head(), SPACING, THRESHOLD)
    assert set(found) == set(SHIFTS)
    for k, shift in SHIFTS.items():
        assert math.dist(found[k], shift) < 0.6


def test_neither_contrast_nor_unit_nor_order_of_slices_matters() -> None:
    measured = with_moved(drifting(head()), SHIFTS)
    inverted = (100 * (measured > THRESHOLD) - measured * (measured > THRESHOLD)).clip(0)
    assert set(find_displaced_slices(inverted, head(), SPACING, THRESHOLD)) == set(SHIFTS)
    before = find_displaced_slices(measured, head(), SPACING, THRESHOLD)
    for data, template, threshold in (
        (1000 * measured, head(), 1000 * THRESHOLD),
        (measured, 0.01 * head(), THRESHOLD),
    ):
        found = find_displaced_slices(data, template, SPACING, threshold)
        assert set(found) == set(before)
        for k, shift in before.items():
            assert math.dist(found[k], shift) < 0.05
    reverse = find_displaced_slices(measured[::-1], head()[::-1], SPACING, THRESHOLD)
    assert {SLICES - 1 - k for k in reverse} == set(before)


def test_axes_of_the_plane_are_told_apart() -> None:
    measured = with_moved(drifting(head()), SHIFTS)
    before = find_displaced_slices(measured, head(), SPACING, THRESHOLD)
    swapped = find_displaced_slices(
        measured.transpose(0, 2, 1), head().transpose(0, 2, 1), SPACING[::-1].copy(), THRESHOLD
    )
    assert set(swapped) == set(before)
    for k, (u, v) in swapped.items():
        assert (v, u) == pytest.approx(before[k], abs=0.02)


def test_missing_voxels_say_nothing() -> None:
    measured = with_moved(drifting(head()), SHIFTS)
    measured[:, :8] = np.nan
    assert set(find_displaced_slices(measured, head(), SPACING, THRESHOLD)) == set(SHIFTS)
    # All that is dark, and a side of the head: at the end of the stack too little is left.
    measured[measured < 2 * THRESHOLD] = np.nan
    measured[:, :20] = np.nan
    found = find_displaced_slices(measured, head(), SPACING, THRESHOLD)
    assert set(SHIFTS) - {2} <= set(found) <= set(SHIFTS)


@pytest.mark.parametrize("seed", range(3))
def test_a_template_that_looks_like_something_else_tells_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(0, 100, head().shape).astype(np.float32)
    assert find_displaced_slices(noise, head(), SPACING, THRESHOLD) == {}
    assert find_displaced_slices(head(), noise, SPACING, THRESHOLD) == {}


def test_a_few_slices_have_no_drift_to_stand_out_from() -> None:
    measured = with_moved(drifting(head()), {11: (3.0, 0.0)})[8:16]
    assert find_displaced_slices(measured, head()[8:16], SPACING, THRESHOLD) == {}


def test_what_the_template_does_not_fit_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    scan = Observation(np.ones((20, 20, 12), np.float32), np.diag([2.0, 2.0, 4.0, 1.0]), 1.0)
    with caplog.at_level(logging.INFO, logger="bids_unires"):
        assert find_displaced_slices_in_head(scan, 0.5) == {}
    assert "does not fit the scan" in caplog.text


@pytest.mark.parametrize("axis", range(3))
def test_slices_first_whatever_the_axes(monkeypatch: pytest.MonkeyPatch, axis: int) -> None:
    measured = with_moved(drifting(head()), SHIFTS)
    template = np.ascontiguousarray(np.moveaxis(head(), 0, axis))
    monkeypatch.setattr(
        "bids_unires.registration.bent_template", lambda volume, head, threads: template
    )
    sizes = np.insert(SPACING, axis, 4.0)
    scan = Observation(
        np.ascontiguousarray(np.moveaxis(measured, 0, axis)), scaling(sizes.tolist()), 1.0
    )
    assert scan.slice_axis == axis
    expected = find_displaced_slices(measured, head(), SPACING, THRESHOLD)
    assert find_displaced_slices_in_head(scan, THRESHOLD) == expected


def test_what_cannot_be_bent_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no overlap at all")

    monkeypatch.setattr("bids_unires.registration.bent_template", fail)
    data = np.ascontiguousarray(np.moveaxis(head(), 0, 2))
    with caplog.at_level(logging.INFO, logger="bids_unires"):
        assert (
            find_displaced_slices_in_head(Observation(data, scaling([*SPACING, 4.0]), 1.0), 15.0)
            == {}
        )
    assert "no overlap at all" in caplog.text


def test_too_little_of_a_head_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("looked at")

    monkeypatch.setattr("bids_unires.registration.bent_template", fail)
    data = np.ascontiguousarray(np.moveaxis(head(), 0, 2))
    assert (
        find_displaced_slices_in_head(Observation(data, np.diag([0.2, 0.2, 0.4, 1.0]), 1.0), 15.0)
        == {}
    )
    few = np.ascontiguousarray(data[..., :9])
    assert (
        find_displaced_slices_in_head(Observation(few, scaling([*SPACING, 6.0]), 1.0), 15.0) == {}
    )


def real_stack(axis: int) -> Observation:
    """Slices of 4.4 mm of a real T1w, in its plane 1.8 mm."""
    volume = load_volume(REAL)
    steps = np.full(3, 2)
    steps[axis] = 5
    sides = np.array(volume.data.shape) // steps
    cut = volume.data[tuple(slice(0, side) for side in (sides * steps).tolist())]
    blocks = cut.reshape(np.stack([sides, steps], axis=1).ravel().tolist())
    affine = volume.affine @ translation((steps - 1) / 2) @ scaling(steps)
    return Observation(blocks.mean(axis=(1, 3, 5), dtype=np.float32), affine, 1.0)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("axis", range(3))
def test_ends_of_a_real_head_are_told(axis: int) -> None:
    scan = real_stack(axis)
    assert scan.slice_axis == axis
    slices = np.moveaxis(scan.data, axis, 0)
    threshold = 0.3 * float(np.quantile(slices, 0.98))
    assert find_displaced_slices_in_head(scan, threshold) == {}
    shown = np.flatnonzero((slices > threshold).mean(axis=(1, 2)) > 0.1)
    spacing = np.delete(scan.grid.voxel_size, axis)
    shifts = {int(shown[3]): (2.1, 2.1), int(shown[-4]): (-3.0, 0.0)}
    for k, mm in shifts.items():
        slices[k] = translate_slice(slices[k], np.array(mm) / spacing)
    found = find_displaced_slices_in_head(scan, threshold)
    assert set(found) == set(shifts)
    for k, mm in shifts.items():
        assert math.dist(found[k], mm) < 1.2
