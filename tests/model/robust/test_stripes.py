"""Stripes are found, told apart from anatomy, and come off."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from bids_unires.model.robust.stripes import (
    Stripes,
    find_stripes,
    remove_stripes,
    upper_half_plane,
)
from tests.corrupted import stack

THRESHOLD = 250.0


@functools.cache
def slices() -> np.ndarray:
    """A stack of a simulated head, slices first."""
    return np.ascontiguousarray(np.moveaxis(stack(0, 0, 0.015, 0, 2.0).data, 2, 0))


def striped(k: int, *stripes: Stripes) -> np.ndarray:
    result = slices().copy()
    wave = np.sum([stripe.wave(result.shape[1:]) for stripe in stripes], axis=0)
    result[k] = np.abs(result[k] + wave)
    return result


@pytest.mark.slow
def test_clean_slices_have_no_stripes() -> None:
    assert find_stripes(slices(), THRESHOLD) == {}


@pytest.mark.parametrize("frequency", [(0.31, -0.12), (0.05, 0.4), (-0.214, 0.333)])
def test_stripes_are_found_as_they_are(frequency: tuple[float, float]) -> None:
    found = find_stripes(striped(20, Stripes(frequency, 90.0, -60.0)), THRESHOLD)
    assert list(found) == [20]
    assert found[20].removable
    (stripes,) = found[20].stripes
    expected = Stripes(frequency, 90.0, -60.0).wave((100, 80))
    assert np.abs(stripes.wave((100, 80)) - expected).max() < 15


def test_several_spikes_are_told_apart() -> None:
    both = (Stripes((0.31, -0.12), 150.0, 0.0), Stripes((0.1, 0.4), 0.0, 100.0))
    found = find_stripes(striped(22, *both), THRESHOLD)
    assert list(found) == [22]
    assert len(found[22].stripes) == 2


def test_a_slice_is_what_it_was_once_its_stripes_are_off_it() -> None:
    damaged = striped(20, Stripes((0.31, -0.12), 120.0, 60.0))
    (stripes,) = find_stripes(damaged, THRESHOLD)[20].stripes
    repaired = remove_stripes(damaged, 20, [stripes])
    error, damage = (np.sqrt(np.mean((a - slices()[20]) ** 2)) for a in (repaired, damaged[20]))
    assert error < 0.2 * damage


def test_the_unit_of_intensity_does_not_matter() -> None:
    damaged = striped(20, Stripes((0.31, -0.12), 120.0, 60.0))
    before, after = find_stripes(damaged, THRESHOLD), find_stripes(1000 * damaged, 1000 * THRESHOLD)
    assert list(after) == list(before)
    (one,), (other,) = before[20].stripes, after[20].stripes
    np.testing.assert_allclose(other.cosine, 1000 * one.cosine, rtol=1e-2)


def test_stripes_in_every_slice_are_the_scanner_and_not_a_spike() -> None:
    wave = Stripes((0.31, -0.12), 120.0, 60.0).wave(slices().shape[1:])
    everywhere = np.abs(slices() + wave).astype(np.float32)
    assert find_stripes(everywhere, THRESHOLD) == {}


def test_masked_voxels_stay_masked() -> None:
    masked = slices().copy()
    masked[masked < THRESHOLD] = 0
    inside = masked[20] > 0
    wave = Stripes((0.31, -0.12), 60.0, 0.0).wave(masked.shape[1:])
    masked[20][inside] += wave[inside]
    repaired = remove_stripes(masked, 20, [Stripes((0.31, -0.12), 60.0, 0.0)])
    np.testing.assert_array_equal(repaired == 0, ~inside)


def test_a_spike_that_cannot_be_removed_is_reported() -> None:
    """Its phase turns through the slice, as that of a complex image does."""
    damaged = slices().copy()
    u, v = np.indices(damaged.shape[1:])
    phase = 2 * np.pi * (0.31 * u - 0.12 * v) + 6 * np.sin(u / 14) + 5 * np.cos(v / 11)
    damaged[20] = np.abs(damaged[20] + 400 * np.cos(phase))
    found = find_stripes(damaged, THRESHOLD)
    assert 20 not in found or not found[20].removable


@pytest.mark.filterwarnings("error")
def test_infinite_voxels_are_missing() -> None:
    damaged = striped(20, Stripes((0.31, -0.12), 120.0, 60.0))
    damaged[20, 40, 40], damaged[21, 30, 40] = np.inf, -np.inf
    (stripes,) = find_stripes(damaged, THRESHOLD)[20].stripes
    np.testing.assert_allclose(stripes.frequency, (0.31, -0.12), atol=0.002)


@pytest.mark.parametrize(
    "frequency", [(0.31, -0.12), (0.0, 0.25), (0.5, 0.21), (0.21, 0.5), (0.21, 0.0)]
)
def test_a_wave_has_one_name(frequency: tuple[float, float]) -> None:
    """Which of its two frequencies is found is a rule and not a matter of rounding."""
    u, v = frequency
    names = []
    for named in ((u, v), (-u, -v)):
        (stripes,) = find_stripes(striped(20, Stripes(named, 150.0, 0.0)), THRESHOLD)[20].stripes
        assert stripes.frequency == upper_half_plane(stripes.frequency)
        names.append(stripes.frequency)
    np.testing.assert_allclose(names[0], names[1], atol=1e-9)
    np.testing.assert_allclose(names[0], frequency, atol=0.002)
