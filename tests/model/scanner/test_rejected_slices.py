"""Rejected slices are interpolated, with weights that follow from the error of that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.model import NoiseEstimate, Observation
from bids_unires.model.scanner.profile import SliceProfile
from bids_unires.model.scanner.rejected_slices import (
    REJECTION_WEIGHT,
    interpolate_and_weight_rejected_slices,
    interpolate_rejected_slices,
    without_interpolated_slices,
)
from tests.model.states import prepared_of

THRESHOLD = 50.0
NOISE = NoiseEstimate(1.0, 0.0, 2 * THRESHOLD, "rice-mixture")


def cubic_scan(noise_sd: float = 1.0, axis: int = 2) -> Observation:
    """Slices that a cubic through their neighbours predicts exactly, but for noise."""
    k = np.linspace(-1, 1, 20)
    slices = np.broadcast_to((200 + 30 * k - 40 * k**2 + 50 * k**3)[:, None, None], (20, 30, 25))
    noisy = slices + np.random.default_rng(0).normal(scale=noise_sd, size=slices.shape)
    data = np.ascontiguousarray(np.moveaxis(noisy.astype(np.float32), 0, axis))
    affine = np.diag([*np.where(np.arange(3) == axis, 4.0, 1.0), 1.0])
    return Observation(data, affine, 1 / noise_sd**2, SliceProfile(axis=axis))


def without(scan: Observation, *slices: int) -> Observation:
    weights = np.ones(20)
    weights[list(slices)] = 0
    return replace(scan, slice_weights=weights)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_cubic_is_interpolated_exactly(axis: int) -> None:
    scan = cubic_scan(noise_sd=1e-3, axis=axis)
    found = interpolate_rejected_slices(without(scan, 4, 5, 12))
    assert found.slice_weights is None
    np.testing.assert_allclose(found.data, scan.data, atol=0.05)


def test_beyond_the_last_slice_it_is_repeated() -> None:
    scan = cubic_scan()
    found = interpolate_rejected_slices(without(scan, 0, 19)).data
    np.testing.assert_array_equal(found[..., 0], scan.data[..., 1])
    np.testing.assert_array_equal(found[..., 19], scan.data[..., 18])


def test_what_is_missing_in_a_neighbour_is_missing_in_the_slice() -> None:
    scan = cubic_scan()
    scan.data[3, 4, 6] = 0
    found = interpolate_rejected_slices(without(scan, 7))
    assert found.missing[3, 4, 7]
    assert not found.missing[4, 4, 7]


def test_uneven_slices_keep_their_brightness() -> None:
    even = cubic_scan(noise_sd=1e-3)
    factor = np.exp(0.2 * (1 - 2 * (np.arange(20) % 2))).astype(np.float32)
    uneven = replace(even, data=even.data * factor, interleave=0.2)
    np.testing.assert_allclose(
        interpolate_rejected_slices(without(uneven, 7)).data, uneven.data, rtol=1e-3
    )


def test_nothing_is_interpolated_if_no_slice_is_rejected_or_all_are() -> None:
    scan = cubic_scan()
    assert interpolate_rejected_slices(scan) is scan
    nothing = without(scan, *range(20))
    assert interpolate_rejected_slices(nothing) is nothing
    assert interpolate_and_weight_rejected_slices(scan, THRESHOLD) is scan


def test_the_weight_falls_with_the_error_of_interpolation() -> None:
    good = interpolate_and_weight_rejected_slices(
        without(cubic_scan(), 7), THRESHOLD
    ).weight_of_slices
    rough = cubic_scan()
    rough.data[...] += 10 * np.random.default_rng(1).normal(size=20).astype(np.float32)
    poor = interpolate_and_weight_rejected_slices(without(rough, 7), THRESHOLD).weight_of_slices
    assert 0 < poor[7] < 0.05 < good[7] < REJECTION_WEIGHT
    assert np.delete(good, 7).tolist() == np.delete(poor, 7).tolist() == [1.0] * 19


def test_weights_do_not_depend_on_the_unit_of_intensity() -> None:
    scan = without(cubic_scan(), 7)
    other = replace(scan, data=1000 * scan.data, tau=scan.tau / 1000**2)
    np.testing.assert_allclose(
        interpolate_and_weight_rejected_slices(scan, THRESHOLD).weight_of_slices,
        interpolate_and_weight_rejected_slices(other, 1000 * THRESHOLD).weight_of_slices,
        rtol=1e-3,
    )


def test_only_a_scan_without_repeats_is_interpolated() -> None:
    scan = without(cubic_scan(), 7)
    (alone,) = prepared_of([scan], NOISE).with_interpolated_slices().observations
    assert alone.weight_of_slices[7] > 0
    for repeat in prepared_of([scan, scan], NOISE).with_interpolated_slices().observations:
        assert repeat is scan


def test_interpolated_slices_were_not_measured() -> None:
    scan = interpolate_and_weight_rejected_slices(without(cubic_scan(), 7), THRESHOLD)
    assert not scan.missing.any()
    np.testing.assert_array_equal(
        without_interpolated_slices(scan).missing.all(axis=(0, 1)), np.arange(20) == 7
    )
