"""Mean space, enclosing box and network-friendly shapes."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.space.affines import apply_affine, scaling, shear_angle, translation
from bids_unires.space.boxes import enclose, mask_box, network_grid, with_margin
from bids_unires.space.grid import Grid, corners
from bids_unires.space.mean_space import SHEAR_TOLERANCE, in_axial_order, mean_space
from bids_unires.space.rigid import rigid_matrix
from tests.paths import DATA

REFERENCE = json.loads((DATA / "reference.json").read_text())

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
    # The mean of scans in several positions has shears, and the reference stops within a
    # micrometre of the closest grid without.
    atol = 1e-9 if len(case["mats"]) == 1 else 1e-3
    np.testing.assert_allclose(grid.affine, case["mat"], rtol=0, atol=atol)


@pytest.mark.parametrize("size", [(0.45, 0.45, 7.0), (1.0, 1.0, 8.0), (5.0, 5.0, 15.0)])
@given(st.floats(-30, 30), st.tuples(*[st.floats(-0.3, 0.3)] * 3))
@settings(max_examples=30, deadline=None)
def test_a_tilted_gantry_gives_the_closest_directions_without_tilt(
    size: tuple[float, ...], degrees: float, turns: tuple[float, ...]
) -> None:
    affine = scaling(size)
    affine[1, 2] = size[2] * np.tan(np.radians(degrees))
    affine = rigid_matrix([10.0, -20.0, 5.0, *turns]) @ affine
    grid = mean_space([Grid((40, 40, 10), affine)], (1.0, 1.0, 1.0))
    # Next to no tilt is left as it is, as by the reference.
    most_left = float(np.degrees(np.sqrt(SHEAR_TOLERANCE)))
    assert shear_angle(grid.affine) < (1e-3 if abs(degrees) > 2 * most_left else most_left)

    def misfit(directions: np.ndarray) -> float:
        columns = affine[:3, :3]
        return float(((directions * (directions * columns).sum(axis=0) - columns) ** 2).sum())

    least = misfit(grid.affine[:3, :3])
    for turn in np.random.default_rng(0).normal(0, 0.02, (20, 3)):
        assert misfit(rigid_matrix([0, 0, 0, *turn])[:3, :3] @ grid.affine[:3, :3]) > least - 1e-6


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
def test_sides_for_networks_are_the_reference_s(case: dict) -> None:
    assert max(case["out"]) <= case["max"]
    assert network_grid(Grid(tuple(case["dim"]), np.eye(4)), "pow23").shape == tuple(case["out"])


@given(st.integers(1, 256))
def test_network_side_is_the_next_friendly_number(side: int) -> None:
    friendly = sorted({2**k for k in range(9)} | {3 * 2**k for k in range(7)})
    box = Grid((side, 1, 1), np.eye(4))
    assert network_grid(box, "pow23").shape[0] == next(n for n in friendly if n >= side)


def outer_faces(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    points = apply_affine(grid.affine, corners(grid.shape, 0.5))
    return points.min(axis=0), points.max(axis=0)


def centre(grid: Grid) -> np.ndarray:
    return apply_affine(grid.affine, (np.array(grid.shape) - 1) / 2)


@st.composite
def masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A box of voxels inside an image, and the image's affine."""
    grid = draw(grids())
    low = [draw(st.integers(0, side - 1)) for side in grid.shape]
    high = [draw(st.integers(first, side - 1)) for first, side in zip(low, grid.shape, strict=True)]
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] = True
    return mask, grid.affine


@settings(max_examples=60, deadline=None)
@given(masks(), sizes)
def test_box_of_a_mask_is_the_smallest_around_its_voxels(
    masked: tuple[np.ndarray, np.ndarray], wanted: tuple[float, ...]
) -> None:
    mask, affine = masked
    box = mask_box(mask, affine, wanted)
    np.testing.assert_allclose(box.affine[:3, :3], np.diag(wanted))
    each = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    faces = apply_affine(affine, (np.argwhere(mask)[:, None] + each).reshape(-1, 3))
    low, high = outer_faces(box)
    assert (faces.min(axis=0) >= low - 2e-3 * np.array(wanted)).all()
    assert (faces.max(axis=0) <= high + 2e-3 * np.array(wanted)).all()
    assert (high - low < np.ptp(faces, axis=0) + wanted).all()
    middle = (faces.min(axis=0) + faces.max(axis=0)) / 2
    # In mm: a centre at 0 leaves nothing for a relative tolerance.
    np.testing.assert_allclose(centre(box), middle, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(masks(), sizes, st.tuples(*[st.floats(-0.4, 0.4)] * 3))
def test_moving_a_mask_by_less_than_a_voxel_moves_its_grid_as_much(
    masked: tuple[np.ndarray, np.ndarray], wanted: tuple[float, ...], shift: tuple[float, ...]
) -> None:
    mask, affine = masked
    still = network_grid(mask_box(mask, affine, wanted), "pow23")
    moved = network_grid(mask_box(mask, translation(shift) @ affine, wanted), "pow23")
    assert moved.shape == still.shape
    np.testing.assert_allclose(moved.affine, translation(shift) @ still.affine, atol=1e-9)


ALLOWED = {
    "pow2": lambda side: _is_power(side),
    "pow23": lambda side: _is_power(side) or (side % 3 == 0 and _is_power(side // 3)),
    "multiple": lambda side: side % 24 == 0,
}


def _is_power(side: int) -> bool:
    return side & (side - 1) == 0


@settings(max_examples=60, deadline=None)
@given(grids(), st.sampled_from(sorted(ALLOWED)))
def test_network_grid_is_the_smallest_allowed_one_around_a_box(box: Grid, policy: str) -> None:
    grid = network_grid(box, policy, 24)
    for side, wanted in zip(grid.shape, box.shape, strict=True):
        assert ALLOWED[policy](side)
        assert not any(ALLOWED[policy](smaller) for smaller in range(wanted, side))
        assert side >= wanted
    np.testing.assert_allclose(grid.affine[:3, :3], box.affine[:3, :3])
    np.testing.assert_allclose(centre(grid), centre(box), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(grids(), st.floats(0, 30))
def test_margin_is_kept_by_the_fewest_whole_voxels(box: Grid, margin: float) -> None:
    grown = with_margin(box, margin)
    added = (np.array(grown.shape) - box.shape) / 2 * box.voxel_size
    assert (added >= margin - 2e-3 * box.voxel_size).all()
    assert (added < margin + box.voxel_size).all()
    shift = np.linalg.inv(box.affine) @ grown.affine
    np.testing.assert_allclose(shift[:3, 3], np.round(shift[:3, 3]), atol=1e-6)
    np.testing.assert_allclose(centre(grown), centre(box), atol=1e-9)


def test_impossible_boxes_are_refused() -> None:
    box = Grid((4, 4, 4), np.eye(4))
    with pytest.raises(ValueError, match="empty mask"):
        mask_box(np.zeros((3, 3, 3), dtype=bool), np.eye(4), (1, 1, 1))
    with pytest.raises(ValueError, match="voxel size"):
        mask_box(np.ones((3, 3, 3), dtype=bool), np.eye(4), (1, 0, 1))
    with pytest.raises(ValueError, match="margin"):
        with_margin(box, -1)
    with pytest.raises(ValueError, match="multiple of 0"):
        network_grid(box, "multiple", 0)
    with pytest.raises(ValueError, match="pow5"):
        network_grid(box, "pow5")


@pytest.mark.parametrize("wanted", [(1, 1), (0, 1, 1), (1, -1, 1), (1, np.nan, 1)])
def test_impossible_voxel_sizes_are_refused(wanted: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="voxel size"):
        mean_space([Grid((4, 4, 4), np.eye(4))], wanted)


def test_nothing_to_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="no scan"):
        mean_space([], (1, 1, 1))
    with pytest.raises(ValueError, match="no scan"):
        enclose(Grid((4, 4, 4), np.eye(4)), [])


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_axial_order_keeps_every_voxel_where_it_is(
    axes: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, list(axes)] * signs) @ np.diag([1.0, 2.0, 3.0])
    affine = rigid_matrix([3, -2, 1, 0.1, -0.2, 0.15]) @ affine
    grid = Grid((4, 5, 6), affine)
    ordered = in_axial_order(grid)
    directions = ordered.affine[:3, :3] / ordered.voxel_size
    assert (np.diag(directions) > 0.9).all()
    before, after = (
        sorted(map(tuple, np.round(apply_affine(g.affine, np.argwhere(np.ones(g.shape))), 6)))
        for g in (grid, ordered)
    )
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_rounding_does_not_choose_between_axes_that_are_as_close(plane: tuple[int, int]) -> None:
    """Turned by 45 degrees, a scan is as close to one order of its axes as to another."""
    found = set()
    for angle in np.pi / 4 * (1 + np.array([0.0, 1e-15, -1e-15, 3e-16])):
        turn = np.eye(4)
        turn[np.ix_(plane, plane)] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        found.add(in_axial_order(Grid((4, 5, 6), turn)).shape)
    assert len(found) == 1
