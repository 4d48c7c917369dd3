"""Mean space, enclosing box and network-friendly shapes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.geometry import Grid, apply_affine, corners, rigid_matrix, scaling, translation
from bids_unires.grid import enclose, mean_space, network_shape

REFERENCE = json.loads((Path(__file__).parent / "data" / "reference.json").read_text())

poses = st.tuples(*[st.floats(-40, 40)] * 3, *[st.floats(-0.35, 0.35)] * 3).map(rigid_matrix)
shapes = st.tuples(*[st.integers(4, 60)] * 3)
sizes = st.tuples(*[st.floats(0.5, 6)] * 3)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    shape = draw(shapes)
    centre = translation(-(np.array(shape) - 1) / 2)
    return Grid(shape, draw(poses) @ scaling(draw(sizes)) @ centre)


def reference_scans(case: dict) -> list[Grid]:
    return [
        Grid(tuple(int(n) for n in dim), np.array(mat))
        for dim, mat in zip(case["dims"], case["mats"], strict=True)
    ]


def stored_differently(grid: Grid, axes: tuple[int, ...], flips: tuple[bool, ...]) -> Grid:
    """The same voxels, stored with axes permuted and flipped."""
    order = np.eye(4)[:, [*axes, 3]]
    shape = tuple(grid.shape[axis] for axis in axes)
    signs = np.where(flips, -1.0, 1.0)
    flip = scaling(signs)
    flip[:3, 3] = np.where(flips, np.array(shape) - 1.0, 0.0)
    return Grid(shape, grid.affine @ order @ flip)


@pytest.mark.parametrize("case", REFERENCE["mean_space"], ids=lambda case: f"{len(case['mats'])}")
def test_mean_space_is_the_reference_s(case: dict) -> None:
    grid = mean_space(reference_scans(case), [case["vx"]] * 3)
    assert grid.shape == tuple(case["dim"])
    np.testing.assert_allclose(grid.affine, case["mat"], atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(grids(), sizes)
def test_mean_of_one_scan_keeps_its_directions(scan: Grid, wanted: tuple[float, ...]) -> None:
    grid = mean_space([scan], wanted)
    directions = scan.affine[:3, :3] / scan.voxel_size
    np.testing.assert_allclose(grid.voxel_size, wanted, rtol=1e-9)
    np.testing.assert_allclose(grid.affine[:3, :3] / wanted, directions, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(grids(), min_size=1, max_size=3),
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
)
def test_orientation_ignores_storage_order(
    scans: list[Grid], axes: list[int], flips: tuple[bool, ...]
) -> None:
    expected = mean_space(scans, (1.0, 1.0, 1.0))
    stored = [stored_differently(scan, tuple(axes), flips) for scan in scans]
    found = mean_space(stored, (1.0, 1.0, 1.0))
    np.testing.assert_allclose(found.affine[:3, :3], expected.affine[:3, :3], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(poses, poses)
def test_mean_moves_with_the_scans(first: np.ndarray, second: np.ndarray) -> None:
    """Turning the whole world turns the mean direction with it."""
    box = scaling([1.0, 1.0, 4.0]) @ translation([-20, -20, -5])
    turn = rigid_matrix([0, 0, 0, 0.05, -0.08, 0.03])
    shape = (40, 40, 10)
    still = mean_space([Grid(shape, first @ box), Grid(shape, second @ box)], (1, 1, 1))
    moved = mean_space(
        [Grid(shape, turn @ first @ box), Grid(shape, turn @ second @ box)], (1, 1, 1)
    )
    np.testing.assert_allclose(moved.affine[:3, :3], turn[:3, :3] @ still.affine[:3, :3], atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(grids(), min_size=1, max_size=4), grids())
def test_enclosing_box_is_the_smallest_that_holds_all(scans: list[Grid], lattice: Grid) -> None:
    box = enclose(lattice, scans)
    faces = np.concatenate(
        [
            apply_affine(np.linalg.inv(box.affine) @ scan.affine, corners(scan.shape, 0.5))
            for scan in scans
        ]
    )
    low, high = faces.min(axis=0), faces.max(axis=0)
    last = np.array(box.shape) - 1
    assert (low >= -0.5 - 2e-3).all()
    assert (high <= last + 0.5 + 2e-3).all()
    assert (low < 0.5).all()
    assert (high > last - 0.5).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(grids(), min_size=1, max_size=3), grids())
def test_enclosing_box_lies_on_the_lattice(scans: list[Grid], lattice: Grid) -> None:
    shift = np.linalg.inv(lattice.affine) @ enclose(lattice, scans).affine
    np.testing.assert_allclose(shift[:3, :3], np.eye(3), atol=1e-9)
    np.testing.assert_allclose(shift[:3, 3], np.round(shift[:3, 3]), atol=1e-6)


def test_enclosing_a_scan_in_its_own_lattice_changes_nothing() -> None:
    scan = reference_scans(REFERENCE["mean_space"][0])[0]
    assert enclose(scan, [scan]) == scan


@pytest.mark.parametrize("case", REFERENCE["ceil_pow"], ids=lambda case: str(case["dim"]))
def test_network_shape_is_the_reference_s(case: dict) -> None:
    assert network_shape(tuple(case["dim"]), case["max"]) == tuple(case["out"])


@given(st.integers(1, 256))
def test_network_side_is_the_next_friendly_number(side: int) -> None:
    friendly = sorted({2**k for k in range(9)} | {3 * 2**k for k in range(7)})
    assert network_shape((side, 1, 1))[0] == next(n for n in friendly if n >= side)


def test_network_shape_is_bounded() -> None:
    assert network_shape((300, 257, 10)) == (256, 256, 12)
    assert network_shape((200, 60, 10), maximum=128) == (128, 64, 12)


@pytest.mark.parametrize("wanted", [(1, 1), (0, 1, 1), (1, -1, 1), (1, np.nan, 1)])
def test_impossible_voxel_sizes_are_refused(wanted: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="voxel size"):
        mean_space([Grid((4, 4, 4), np.eye(4))], wanted)


def test_nothing_to_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="no scan"):
        mean_space([], (1, 1, 1))
    with pytest.raises(ValueError, match="no scan"):
        enclose(Grid((4, 4, 4), np.eye(4)), [])
    with pytest.raises(ValueError, match="at least one voxel"):
        network_shape((4, 0, 4))
