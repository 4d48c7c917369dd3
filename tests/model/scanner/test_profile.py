"""Slice profiles: the reference's weights, their sums, and which one a geometry suggests."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.model.scanner.profile import (
    SHAPES,
    SliceProfile,
    profile_for_voxels,
    profile_weights,
    subdivision,
)
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from tests.paths import DATA

REFERENCE = json.loads((DATA / "reference.json").read_text())
ONE_MM = Grid((8, 8, 8), np.eye(4))


def grid(*sizes: float) -> Grid:
    return Grid((8, 8, 8), np.diag([*sizes, 1.0]))


@pytest.mark.parametrize(
    "case", REFERENCE["slice_profiles"], ids=lambda case: f"{case['profile']}-{case['fwhm']:g}"
)
def test_weights_are_the_reference_s(case: dict[str, Any]) -> None:
    weights = profile_weights(case["profile"], case["fwhm"])
    np.testing.assert_allclose(weights, case["weights"], atol=1e-4)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["rect", "triangle", "gauss"]), st.floats(0.05, 12))
def test_weights_are_a_symmetric_average(shape: Any, width: float) -> None:
    weights = profile_weights(shape, width)
    assert len(weights) % 2 == 1
    assert weights.min() >= -1e-12
    assert weights.sum() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-12)


@pytest.mark.parametrize("shape", ["rect", "triangle", "gauss"])
def test_weights_are_the_integral_of_profile_times_hat(shape: Any) -> None:
    width, step = 2.7, 1e-3
    at = np.arange(-20, 20, step) + step / 2
    sd = width / np.sqrt(8 * np.log(2))
    profile = {
        "rect": (np.abs(at) < width / 2) / width,
        "triangle": np.clip(1 - np.abs(at) / width, 0, None) / width,
        "gauss": np.exp(-0.5 * (at / sd) ** 2) / (sd * np.sqrt(2 * np.pi)),
    }[shape]
    weights = profile_weights(shape, width)
    limit = len(weights) // 2
    expected = [
        (profile * np.clip(1 - np.abs(at - k), 0, None)).sum() * step
        for k in range(-limit, limit + 1)
    ]
    np.testing.assert_allclose(weights, expected, atol=1e-4)


def test_a_point_has_one_weight_of_any_width() -> None:
    assert profile_weights("dirac", 5.0).tolist() == profile_weights("point", 5.0).tolist() == [1.0]


@pytest.mark.parametrize("width", [0.0, -1.0, np.nan])
def test_a_profile_without_width_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="width must be above 0"):
        profile_weights("rect", width)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_plane": "box"}, "'box'"),
        ({"through_plane": "sinc"}, "'sinc'"),
        ({"gap": 1.0}, "below 1, got 1.0"),
        ({"gap": np.nan}, "gap"),
        ({"axis": 3}, "slice axis"),
        ({"axis": -1}, "slice axis"),
    ],
)
def test_an_impossible_profile_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SliceProfile(**arguments)


def test_the_slice_axis_is_the_longest_unless_it_is_given() -> None:
    scan = grid(1, 5, 2)
    assert SliceProfile().slice_axis(scan) == 1
    assert SliceProfile(axis=2).slice_axis(scan) == 2


@pytest.mark.parametrize(
    ("sizes", "ratio"),
    [
        ((1, 1, 4), (1, 1, 4)),
        ((1.000007, 1.00009, 4.00007), (1, 1, 4)),
        ((1.001, 0.5, 3.2), (2, 1, 4)),
        ((0.999993, 0.2, 3.99999), (1, 1, 4)),
    ],
)
def test_rounding_noise_divides_no_voxel(
    sizes: tuple[float, float, float], ratio: tuple[int, int, int]
) -> None:
    assert subdivision(ONE_MM, grid(*sizes)) == ratio


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(*[st.floats(0.3, 8)] * 3),
    st.permutations(range(3)),
    st.tuples(*[st.floats(-0.5, 0.5)] * 6).map(rigid_matrix),
)
def test_subdivision_follows_the_axes_of_the_scan(
    sizes: tuple[float, float, float], axes: list[int], motion: np.ndarray
) -> None:
    scan = Grid((8, 8, 8), np.diag([*sizes, 1.0]))
    stored = Grid((8, 8, 8), (motion @ scan.affine)[:, [*axes, 3]])
    ratio = subdivision(ONE_MM, scan)
    assert subdivision(Grid((8, 8, 8), motion), stored) == tuple(ratio[axis] for axis in axes)
    assert all(size / step <= 1 + 1e-4 for size, step in zip(sizes, ratio, strict=True))


@pytest.mark.parametrize(
    ("sizes", "in_plane", "through_plane"),
    [
        ((1.02, 1.02, 4.8), "point", "rect"),
        ((2, 2, 5), "gauss", "rect"),
        ((1, 2, 5), "gauss", "rect"),
        ((1, 1, 1.2), "point", "point"),
    ],
)
def test_the_profile_that_voxels_suggest(
    sizes: tuple[float, float, float], in_plane: str, through_plane: str
) -> None:
    profile = profile_for_voxels(grid(*sizes), 1.0, gap=0.2)
    assert profile == SliceProfile(in_plane, through_plane, gap=0.2, axis=2)
    assert {in_plane, through_plane} <= set(SHAPES)


def test_a_given_slice_axis_decides_which_profile_is_across_slices() -> None:
    profile = profile_for_voxels(grid(1, 1, 3), (1, 1, 1), axis=0)
    assert profile == SliceProfile("gauss", "point", axis=0)
