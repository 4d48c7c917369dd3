"""Planes through a head: where they lie, which way round they are, what they show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bids_unires.report.planes import HeadBox, brick_of, grid_box, head_box, view_of
from bids_unires.space.affines import apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

STAY = np.eye(4)


def parts(box: HeadBox, volume: Volume, order: int = 1) -> list[np.ndarray]:
    """The three planes, cut out of the picture."""
    view = view_of(box)
    picture = view.sample(volume, STAY, order)
    found, at = [], 0
    for plane in view.planes:
        rows, columns, _ = plane.grid.shape
        above = (view.height - rows) // 2
        found.append(picture[above : above + rows, at : at + columns])
        at += columns + 10
    return found


def where_brightest(part: np.ndarray) -> tuple[float, float]:
    """Row and column of a spot, as shares of the height and the width."""
    filled = np.nan_to_num(part)
    row, column = np.argwhere(filled > 0.5 * filled.max()).mean(axis=0)
    return row / part.shape[0], column / part.shape[1]


def flipped(volume: Volume, axis: int) -> Volume:
    """The same head, stored the other way round."""
    data = np.flip(volume.data, axis)
    factors, offset = np.ones(3), np.zeros(3)
    factors[axis], offset[axis] = -1, volume.data.shape[axis] - 1
    return Volume(data, volume.affine @ translation(offset) @ scaling(factors))


def transposed(volume: Volume) -> Volume:
    """The same head with its axes in another order."""
    order = [2, 0, 1]
    return Volume(volume.data.transpose(order), volume.affine[:, [*order, 3]])


@pytest.mark.parametrize("width", [90, 400])
def test_planes_begin_where_the_box_ends(head_grid: Grid, width: int) -> None:
    """Their first pixel touches the top and the left edge, however wide pixels are."""
    box = grid_box(head_grid)
    for plane, (across, up) in zip(
        view_of(box, width).planes, ((0, 1), (0, 2), (1, 2)), strict=True
    ):
        to_box = np.linalg.inv(box.affine) @ plane.grid.affine
        corner = apply_affine(to_box, [-0.5, -0.5, 0.0])
        assert corner[up] == pytest.approx(box.high[up], abs=1e-6)
        assert corner[across] == pytest.approx(box.low[across], abs=1e-6)


def test_left_front_and_top_of_the_head_are_where_they_belong(head_grid: Grid) -> None:
    data = np.full(head_grid.shape, 10.0, dtype=np.float32)
    # A spot to the left, in front and above of the middle, within all planes through it.
    middle = (15, 18, 16)
    data[5, 18, 16] = data[15, 30, 16] = data[15, 18, 26] = 1000
    box = HeadBox(head_grid.affine, np.zeros(3), np.array(head_grid.shape) - 1.0, np.array(middle))
    axial, coronal, sagittal = parts(box, Volume(data, head_grid.affine))
    assert axial[:, : axial.shape[1] // 3].max() > 900
    assert np.nanmax(axial[:, 2 * axial.shape[1] // 3 :]) < 100
    assert axial[: axial.shape[0] // 3].max() > 900
    assert np.nanmax(axial[2 * axial.shape[0] // 3 :]) < 100
    assert coronal[: coronal.shape[0] // 3].max() > 900
    assert np.nanmax(coronal[2 * coronal.shape[0] // 3 :]) < 100
    assert sagittal[:, 2 * sagittal.shape[1] // 3 :].max() > 900
    assert np.nanmax(sagittal[:, : sagittal.shape[1] // 3]) < 100


@pytest.mark.parametrize("store", [lambda v: flipped(v, 0), lambda v: flipped(v, 2), transposed])
def test_how_the_image_is_stored_does_not_show(
    head_grid: Grid, head_image: np.ndarray, store
) -> None:
    straight = Volume(head_image, head_grid.affine)
    other = store(straight)
    expected = view_of(head_box([straight.data], straight.grid)).sample(straight, STAY, 1)
    found = view_of(head_box([other.data], other.grid)).sample(other, STAY, 1)
    # Every other voxel is looked at, so that the box may move by one.
    assert abs(found.shape[0] - expected.shape[0]) < 0.1 * expected.shape[0]
    share = [where_brightest(picture) for picture in (expected, found)]
    np.testing.assert_allclose(share[0], share[1], atol=0.05)


def test_the_box_holds_the_head_and_little_else(head_grid: Grid, head_image: np.ndarray) -> None:
    box = head_box([head_image], head_grid)
    low, high = apply_affine(box.affine, np.stack([box.low, box.high]))
    assert np.all(low <= [-44, -60, -50])
    assert np.all(high >= [44, 60, 50])
    # The margin and one voxel of every other.
    assert np.all(low >= np.array([-44, -60, -50]) - 6 - 12)
    assert np.all(high <= np.array([44, 60, 50]) + 6 + 12)


def test_the_box_holds_what_any_image_shows(head_grid: Grid, head_image: np.ndarray) -> None:
    lower = head_image.copy()
    lower[:, :, 16:] = 0
    alone = head_box([lower], head_grid)
    both = head_box([lower, head_image], head_grid)
    assert both.high[2] > alone.high[2] + 4
    np.testing.assert_array_equal(both.centre, alone.centre)


def test_the_head_is_found_in_hounsfield_units_too(head_grid: Grid, head_image: np.ndarray) -> None:
    expected = head_box([head_image], head_grid)
    found = head_box([np.where(head_image > 0, head_image - 90, -1000)], head_grid)
    np.testing.assert_allclose(found.low, expected.low, atol=2)
    np.testing.assert_allclose(found.high, expected.high, atol=2)


def test_a_neck_does_not_draw_the_planes_down() -> None:
    grid = Grid((60, 60, 90), translation([-90, -90, -200]) @ np.diag([3.0, 3.0, 3.0, 1.0]))
    x, y, z = np.indices(grid.shape)
    neck = np.hypot(x - 30, y - 30) < 22
    box = head_box([np.where(neck & (z < 85), 100, 0).astype(np.float32)], grid)
    assert box.centre[2] == pytest.approx(85 - 80 / 3, abs=2)


def test_an_empty_image_still_has_planes(head_grid: Grid) -> None:
    empty = np.zeros(head_grid.shape, dtype=np.float32)
    view = view_of(head_box([empty], head_grid))
    assert view.sample(Volume(empty, head_grid.affine), STAY, 1).shape == (view.height, view.width)


def test_nearest_shows_the_values_of_voxels_and_linear_those_between(head_grid: Grid) -> None:
    data = np.random.default_rng(0).choice([1.0, 5.0], size=head_grid.shape).astype(np.float32)
    box = HeadBox(head_grid.affine, np.zeros(3), np.full(3, 28.0), np.full(3, 14.0))
    nearest = view_of(box).sample(Volume(data, head_grid.affine), STAY, 0)
    linear = view_of(box).sample(Volume(data, head_grid.affine), STAY, 1)
    assert set(np.unique(nearest[np.isfinite(nearest)])) == {1.0, 5.0}
    assert np.unique(linear[np.isfinite(linear)]).size > 50


def test_a_pose_moves_what_is_seen(head_grid: Grid, head_image: np.ndarray) -> None:
    view = view_of(head_box([head_image], head_grid))
    there = Volume(head_image, translation([20, 0, 0]) @ head_grid.affine)
    back = view.sample(there, translation([-20, 0, 0]), 1)
    np.testing.assert_allclose(
        back, view.sample(Volume(head_image, head_grid.affine), STAY, 1), atol=1e-3
    )


def test_beyond_the_volume_there_is_nothing(head_grid: Grid, head_image: np.ndarray) -> None:
    box = head_box([head_image], head_grid)
    axial, _, sagittal = parts(box, Volume(head_image[:10], head_grid.affine))
    assert np.isfinite(axial[:, : axial.shape[1] // 5]).all()
    assert np.isnan(axial[:, axial.shape[1] // 2 :]).all()
    assert np.isnan(sagittal).all()


def test_the_sheet_of_a_brick_holds_its_slices_in_order(head_grid: Grid) -> None:
    box = HeadBox(head_grid.affine, np.full(3, -0.5), np.array(head_grid.shape) - 0.5, np.zeros(3))
    brick = brick_of(box)
    x, y, z = np.indices(head_grid.shape, dtype=np.float32)
    sheet = brick.sheet(Volume(x + 100 * y + 10000 * z, head_grid.affine))
    across, along, count = brick.grid.shape
    assert brick.grid.shape == head_grid.shape
    for a, b, c in ((0, 0, 0), (3, 7, 1), (29, 35, 31), (11, 2, 12)):
        row, column = divmod(c, brick.columns)
        assert sheet[row * along + b, column * across + a] == a + 100 * b + 10000 * c
    assert sheet.shape == (-(-count // brick.columns) * along, brick.columns * across)


def test_a_brick_stays_small_and_isotropic() -> None:
    fine = Grid((300, 300, 100), np.diag([0.7, 0.7, 2.1, 1.0]))
    box = HeadBox(fine.affine, np.full(3, -0.5), np.array(fine.shape) - 0.5, np.zeros(3))
    brick = brick_of(box)
    assert np.prod(brick.grid.shape) < 2e6
    np.testing.assert_allclose(brick.grid.voxel_size, brick.grid.voxel_size[0])


def test_letters_stand_at_the_ends_of_their_planes(head_grid: Grid, head_image: np.ndarray) -> None:
    marks = view_of(head_box([head_image], head_grid)).marks
    assert [mark.letter for mark in marks] == ["L", "R", "L", "R", "P", "A"]
    assert [mark.left for mark in marks] == sorted(mark.left for mark in marks)
    assert all(0 <= mark.left < 1 for mark in marks)


@pytest.mark.parametrize("change", [lambda v: v, lambda v: flipped(v, 1), transposed])
def test_the_box_of_a_grid_is_all_of_it_however_it_is_stored(
    head_grid: Grid, head_image: np.ndarray, change: Callable[[Volume], Volume]
) -> None:
    grid = change(Volume(head_image, head_grid.affine)).grid
    box = grid_box(grid)
    np.testing.assert_allclose(box.extent, np.array(head_grid.shape) * 4.0)
    for corner in (box.low, box.high):
        world = apply_affine(box.affine, corner)
        outermost = (
            apply_affine(head_grid.affine, [-0.5] * 3),
            apply_affine(head_grid.affine, np.array(head_grid.shape) - 0.5),
        )
        assert any(np.allclose(world, end) for end in outermost)
    middle = apply_affine(box.affine, box.centre)
    centre = apply_affine(head_grid.affine, (np.array(head_grid.shape) - 1) / 2)
    assert np.abs(middle - centre).max() <= 2.0


def test_more_space_around_the_head_ends_with_the_grid(
    head_grid: Grid, head_image: np.ndarray
) -> None:
    near, far = (head_box([head_image], head_grid, margin) for margin in (0.0, 8.0))
    np.testing.assert_allclose(near.low - far.low, 2.0)
    everything = head_box([head_image], head_grid, 1000.0)
    np.testing.assert_allclose(everything.low, -0.5)
    np.testing.assert_allclose(everything.high, np.array(head_grid.shape) - 0.5)


def test_a_view_is_as_wide_as_asked_for(head_grid: Grid) -> None:
    box = grid_box(head_grid)
    separation = 2 * 10
    assert abs(view_of(box, 200).width - separation - 200) <= 2
    assert view_of(box, 200).pixel_mm > view_of(box).pixel_mm
