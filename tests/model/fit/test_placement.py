"""Where scans and images lie."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model import Observation, SliceProfile
from bids_unires.model.fit.placement import individual_space, on_one_grid
from bids_unires.model.scanner.coverage import (
    field_of_view,
    footprint_margin,
    mask_outside,
    measured_voxels,
)
from bids_unires.space.affines import apply_affine, scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume

THICK = np.diag([1.0, 1.0, 4.0, 1.0])


def volume(affine: np.ndarray, shape: tuple[int, int, int] = (20, 22, 6)) -> Volume:
    return Volume(np.ones(shape, dtype=np.float32), affine)


def test_the_margin_holds_the_widest_profile_in_any_orientation() -> None:
    grid = Grid((40, 40, 40), np.eye(4))
    slices = Observation(np.ones((40, 40, 5), np.float32), np.diag([1.0, 1.0, 8.0, 1.0]))
    points = Observation(np.ones((40, 40, 40), np.float32), np.eye(4))
    # A rect of 8 voxels reaches 5 beyond its centre once interpolated, the last with weight 0.
    assert footprint_margin(grid, [slices]) == 6
    assert footprint_margin(grid, [points]) == 1
    assert footprint_margin(grid, [points, points, slices]) == 6


def test_images_that_share_their_voxels_are_recognised() -> None:
    assert on_one_grid([volume(THICK)] * 3)
    assert not on_one_grid([volume(THICK), volume(translation([0.1, 0, 0]) @ THICK)])
    assert not on_one_grid([volume(THICK), volume(THICK, (20, 22, 7))])


def test_voxel_size_zero_keeps_a_grid_that_all_scans_share() -> None:
    oblique = volume(rigid_matrix([5, -3, 2, 0.2, 0.1, 0.3]) @ THICK).grid
    assert individual_space([oblique, oblique], (0, 0, 0)) == oblique
    finest = individual_space([oblique, oblique.moved(translation([0, 0, 1.0]))], (0, 0, 0))
    np.testing.assert_allclose(finest.voxel_size, 1.0, atol=1e-6)


@pytest.mark.parametrize("order", [1, -1])
def test_no_scan_loses_voxels_where_several_are_denoised(order: int) -> None:
    scans = [volume(THICK).grid, volume(scaling([0.8, 0.8, 6.0])).grid][::order]
    np.testing.assert_allclose(individual_space(scans, (0, 0, 0)).voxel_size, 0.8, atol=1e-6)


@pytest.mark.parametrize("first", [True, False])
def test_a_scan_with_the_wanted_voxels_gives_the_lattice(first: bool) -> None:
    sharp = volume(rigid_matrix([5.3, -3.7, 2.2, 0.2, 0.1, 0.3]), (30, 32, 34))
    thick = volume(THICK)
    scans = [sharp.grid, thick.grid] if first else [thick.grid, sharp.grid]
    grid = individual_space(scans, (1, 1, 1))
    corners = np.array([[0, 0, 0], [29, 31, 33], [29, 0, 33], [7, 8, 9]])
    at = apply_affine(np.linalg.inv(grid.affine) @ sharp.affine, corners)
    np.testing.assert_allclose(at, np.round(at), atol=1e-6)
    at = apply_affine(np.linalg.inv(grid.affine) @ thick.affine, [[0, 0, 0], [19, 21, 5]])
    assert (at >= 0).all()
    assert (at <= np.array(grid.shape) - 1).all()


def test_scan_voxels_beyond_a_grid_become_missing() -> None:
    grid = Grid((20, 22, 24), np.eye(4))
    scan = Observation(
        np.ones((20, 22, 8), np.float32),
        translation([0, 0, -4.5]) @ scaling([1, 1, 4]),
        profile=SliceProfile("dirac", "rect"),
    )
    kept = np.isfinite(mask_outside(scan, grid).data)
    # Slice centres at -4.5, -0.5, 3.5, ... 23.5: the first two and the last reach beyond 0 to 23.
    assert kept.all(axis=(0, 1)).tolist() == [False, False, *[True] * 5, False]
    assert (kept.any(axis=(0, 1)) == kept.all(axis=(0, 1))).all()


@pytest.mark.parametrize("pose", [None, translation([0, 0, 3.0])])
def test_what_any_scan_saw_is_covered(pose: np.ndarray | None) -> None:
    grid = Grid((20, 22, 30), np.eye(4))
    scans = [
        Observation(np.ones((20, 22, 2), np.float32), THICK, pose=pose),
        Observation(np.ones((20, 22, 2), np.float32), translation([0, 0, 15]) @ THICK),
    ]
    reached = field_of_view(scans, grid)
    low = 0 if pose is None else 3
    expected = np.zeros(30, dtype=bool)
    expected[max(0, low - 2) : low + 7] = True
    expected[13:22] = True
    # Outer faces 2 mm before the first and behind the last slice centre, borders included.
    assert reached[5, 5].tolist() == expected.tolist()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("flipped", [False, True])
def test_deep_in_a_masked_region_nothing_was_measured(
    order: tuple[int, int, int], flipped: bool
) -> None:
    data = np.ones((20, 22, 12), np.float32)
    data[:10] = 0
    data[15, 11, 6] = 0
    affine = translation([3.0, -2.0, 5.0]) @ scaling([2, 2, 4])
    if flipped:
        data = data[::-1]
        affine = affine @ translation([19, 0, 0]) @ np.diag([-1.0, 1, 1, 1])
    exchange = np.eye(4)
    exchange[:3, :3] = np.eye(3)[:, list(order)]
    scan = Observation(np.ascontiguousarray(data.transpose(order)), affine @ exchange)
    grid = Grid((24, 26, 28), translation([1.0, -4.0, 3.0]) @ scaling([2, 2, 2]))
    x = (apply_affine(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))[..., 0] - 3) / 2
    seen = measured_voxels([scan], grid)
    # One voxel beside those that were measured is bridged, and so is a hole of one voxel.
    np.testing.assert_array_equal(seen, field_of_view([scan], grid) & (x > 8.5))
    whole = Observation(
        np.ones((20, 22, 12), np.float32), translation([3, -2, 5]) @ np.diag([2.0, 2, 4, 1])
    )
    np.testing.assert_array_equal(
        measured_voxels([scan, whole], grid), field_of_view([whole], grid)
    )
