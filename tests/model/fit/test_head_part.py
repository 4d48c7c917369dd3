"""Only the part of the grid that shows the head is solved; nothing else changes for the user."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bids_unires.config import ModelSettings
from bids_unires.model import Reconstruction, super_resolve
from bids_unires.model.fit.head_part import HeadPart, head_part
from bids_unires.model.fit.scans import PlacedContrast, PlacedScan, noise_of_scan
from bids_unires.model.scanner.profile import SliceProfile
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume

SETTINGS = ModelSettings(
    voxel_size=(3.0, 3.0, 3.0), coregister=False, learned_detail=False, max_iter=8
)
# World mm of the centre of the head, which lies far from that of the field of view.
CENTRE = np.array([-40.0, 30.0, 0.0])
RADII = np.array([36.0, 42.0, 40.0])
SHAPE = (80, 76, 10)
SIZES = (3.0, 3.0, 9.0)


def head_scan(
    seed: int = 0, *, shape: tuple[int, int, int] = SHAPE, sizes: tuple[float, ...] = SIZES
) -> Volume:
    """An ellipsoid with a dark core in noisy air."""
    affine = scaling(sizes) @ translation(-(np.array(shape) - 1) / 2)
    voxels = np.moveaxis(np.indices(shape), 0, -1)
    at = (voxels @ affine[:3, :3].T + affine[:3, 3] - CENTRE) / RADII
    radius = np.linalg.norm(at, axis=-1)
    clean = 100.0 * (radius < 1) - 50.0 * (radius < 0.5) + 30 * (np.abs(at[..., 0] - 0.6) < 0.1)
    clean[radius >= 1] = 0
    noise = np.random.default_rng(seed).normal(scale=2.0, size=(2, *shape))
    return Volume(np.hypot(clean + noise[0], noise[1]).astype(np.float32), affine)


def placed(volume: Volume, pose: np.ndarray | None = None) -> PlacedScan:
    pose = np.eye(4) if pose is None else pose
    return PlacedScan(volume, noise_of_scan(volume, "MR"), SliceProfile(), pose)


def lattice_of(volume: Volume) -> Grid:
    """Voxels of 3 mm in the field of view of a scan."""
    x, y, z = volume.data.shape
    first = volume.affine @ np.array([0, 0, -1 / 3, 1])
    return Grid((x, y, 3 * z), translation(first[:3]) @ scaling([3.0, 3.0, 3.0]))


def world_of(grid: Grid) -> np.ndarray:
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1)
    return np.asarray(voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3])


def fit(*scans: Volume, **known: object) -> Reconstruction:
    return super_resolve([[scan] for scan in scans], SETTINGS, "cpu", **known)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scan() -> Volume:
    return head_scan()


@pytest.fixture(scope="module")
def found(scan: Volume) -> Reconstruction:
    return fit(scan)


def test_the_part_holds_the_head_and_its_skin(scan: Volume) -> None:
    lattice = lattice_of(scan)
    part = head_part([PlacedContrast((placed(scan),))], lattice)
    near_head = np.linalg.norm((world_of(lattice) - CENTRE) / (RADII + 10), axis=-1) < 1
    kept = np.zeros(lattice.shape, dtype=bool)
    kept[part.box] = True
    assert kept[near_head].all()
    assert kept.mean() < 0.6
    assert part.grid == Grid(part.grid.shape, part.grid.affine)
    np.testing.assert_allclose(world_of(part.grid), world_of(lattice)[part.box], atol=1e-9)


def test_a_head_that_another_scan_alone_shows_is_not_cut() -> None:
    whole = head_scan()
    half = head_scan(1)
    half.data[: SHAPE[0] // 3] = 0
    lattice = lattice_of(whole)
    alone = head_part([PlacedContrast((placed(half),))], lattice)
    both = head_part([PlacedContrast((placed(half),)), PlacedContrast((placed(whole),))], lattice)
    assert alone.box[0].start > both.box[0].start
    assert both.box == head_part([PlacedContrast((placed(whole),))], lattice).box


def test_the_part_is_where_the_pose_puts_the_head(scan: Volume) -> None:
    lattice = lattice_of(scan)
    pose = translation([60.0, 0.0, 0.0])
    still = head_part([PlacedContrast((placed(scan),))], lattice)
    moved = head_part([PlacedContrast((placed(scan, pose),))], lattice)
    assert moved.box[0].start == still.box[0].start + 20
    assert moved.box[1] == still.box[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_flip_flips_the_part(scan: Volume, axis: int) -> None:
    lattice = lattice_of(scan)
    flip = np.diag([-1.0 if n == axis else 1.0 for n in range(3)] + [1.0])
    flip[axis, 3] = scan.data.shape[axis] - 1
    # The same voxels in the world, stored in the other direction.
    flipped = Volume(np.flip(scan.data, axis).copy(), scan.affine @ flip)
    usual = head_part([PlacedContrast((placed(scan),))], lattice).box
    other = head_part([PlacedContrast((placed(flipped),))], lattice).box
    for mine, theirs in zip(usual, other, strict=True):
        assert abs(mine.start - theirs.start) <= 1
        assert abs(mine.stop - theirs.stop) <= 1


def test_single_bright_voxels_in_air_are_no_head(scan: Volume) -> None:
    spiky = Volume(scan.data.copy(), scan.affine)
    spiky.data[::7, -3:, 5] = 60
    lattice = lattice_of(scan)
    noise = placed(scan).noise
    fine = replace(placed(scan), volume=_finer(scan), noise=noise)
    spiked = replace(placed(scan), volume=_finer(spiky), noise=noise)
    assert (
        head_part([PlacedContrast((spiked,))], lattice).box
        == head_part([PlacedContrast((fine,))], lattice).box
    )


def test_a_head_that_a_coil_shows_dark_on_one_side_is_not_cut(scan: Volume) -> None:
    lattice = lattice_of(scan)
    usual = head_part([PlacedContrast((placed(scan),))], lattice).box
    across = (world_of(scan.grid)[..., 0] - CENTRE[0]) / RADII[0]
    dark = Volume((scan.data * 10 ** (-np.clip(across, -1, 1) / 3)).astype(np.float32), scan.affine)
    uneven = head_part([PlacedContrast((placed(dark),))], lattice).box
    assert uneven[0].stop >= usual[0].stop - 2
    assert uneven[1].start <= usual[1].start
    assert uneven[1].stop >= usual[1].stop


def _finer(volume: Volume) -> Volume:
    """A scan with four voxels for each within slices, only one of which keeps what is bright."""
    data = np.repeat(np.repeat(volume.data, 4, axis=0), 4, axis=1)
    lonely = np.ones(data.shape, dtype=bool)
    lonely[::4, ::4] = False
    air = world_of(volume.grid)
    far = np.linalg.norm((air - CENTRE) / RADII, axis=-1) > 1.3
    far = np.repeat(np.repeat(far, 4, axis=0), 4, axis=1)
    data[lonely & far] = np.minimum(data[lonely & far], 2)
    half = translation([-0.375, -0.375, 0])
    return Volume(data, volume.affine @ half @ scaling([0.25, 0.25, 1.0]))


def test_a_head_that_fills_its_field_of_view_is_solved_on_the_whole_grid(scan: Volume) -> None:
    first = translation([10, 30, 0])
    tight = Volume(scan.data[10:43, 30:66].copy(), scan.affine @ first)
    lattice = lattice_of(tight)
    assert head_part([PlacedContrast((placed(tight),))], lattice).is_whole


def test_air_alone_is_solved_on_the_whole_grid(scan: Volume) -> None:
    empty = replace(placed(scan), volume=Volume(np.full(SHAPE, 2.0, np.float32), scan.affine))
    assert head_part([PlacedContrast((empty,))], lattice_of(scan)).is_whole


def test_scans_keep_all_slices_around_the_part(scan: Volume) -> None:
    contrasts = (PlacedContrast((placed(scan, rigid_matrix([2, 1, 0, 0.05, 0.02, 0.1])),)),)
    part = head_part(contrasts, lattice_of(scan))
    (near,) = part.around(contrasts)[0].scans
    assert near.volume.data.shape[2] == SHAPE[2]
    assert near.volume.data.size < scan.data.size
    # What is left lies where it lay.
    first = np.rint(
        (np.linalg.inv(scan.affine) @ near.volume.affine @ np.array([0, 0, 0, 1]))[:3]
    ).astype(int)
    box = tuple(
        slice(start, start + side)
        for start, side in zip(first, near.volume.data.shape, strict=True)
    )
    np.testing.assert_array_equal(near.volume.data, scan.data[box])


def test_the_images_have_the_whole_grid(scan: Volume, found: Reconstruction) -> None:
    whole = lattice_of(scan)
    assert found.images.shape[1:] == found.grid.shape
    assert found.coverage.all()
    assert np.prod(found.grid.shape) >= np.prod(whole.shape)


def test_the_part_is_what_a_fit_on_its_grid_gives(scan: Volume, found: Reconstruction) -> None:
    part = head_part([PlacedContrast((placed(scan),))], found.grid)
    alone = fit(scan, grid=part.grid, poses=[[np.eye(4)]])
    inner = (0, *(slice(axis.start, axis.stop) for axis in part.box))
    difference = found.images[inner] - alone.images[0]
    assert np.sqrt(np.mean(difference**2)) < 0.05


def test_no_seam_shows_in_air(scan: Volume, found: Reconstruction) -> None:
    part = head_part([PlacedContrast((placed(scan),))], found.grid)
    image, edge = found.images[0], part.box[0].stop
    inside, outside = image[edge - 3 : edge, :, 9:21], image[edge : edge + 3, :, 9:21]
    assert abs(float(inside.mean() - outside.mean())) < 0.3
    assert np.abs(image[edge - 1] - image[edge])[:, 9:21].max() < 4


def test_what_is_missing_is_air_around_the_part() -> None:
    masked = head_scan()
    masked.data[-8:] = 0
    image = fit(masked).images[0]
    assert np.all(image[-6:] == 0)
    assert np.all(image[-24:-12, :, 12:18] > 0)
    # Beside a mask, air is as bright as elsewhere.
    assert image[-9].mean() == pytest.approx(image[-24:-12].mean(), rel=0.1)


def test_a_given_grid_is_filled(scan: Volume) -> None:
    grid = lattice_of(scan)
    images = fit(scan, grid=grid, poses=[[np.eye(4)]])
    assert images.grid == grid
    assert images.images.shape[1:] == grid.shape
    again = fit(scan, grid=grid, poses=[[np.eye(4)]], start=images.images)
    assert images.fit is not None
    assert again.fit is not None
    # It starts from the images, not from the scans interpolated.
    assert again.fit.objective[0].objective < images.fit.objective[0].objective


def test_maps_beside_the_images_cover_the_whole_grid() -> None:
    masked = head_scan()
    masked.data[-8:] = 0
    settings = replace(SETTINGS, uncertainty=2, max_iter=3)
    found = super_resolve([[masked]], settings, "cpu", measured=True)
    assert found.fit is not None
    assert found.fit.uncertainty is not None
    assert found.fit.measured is not None
    sds, shares = found.fit.uncertainty.sds, found.fit.measured
    assert sds.shape == shares.shape == found.images.shape
    assert sds.min() > 0
    # Nothing was measured there.
    assert np.all(shares[0, -6:] == 0)
    assert sds[0, -6:].min() > 2 * np.median(sds)
    assert shares[0, -20].min() > 0


def test_the_whole_of_a_grid_changes_nothing(scan: Volume, found: Reconstruction) -> None:
    part = HeadPart.whole(found.grid)
    contrasts = (PlacedContrast((placed(scan),)),)
    assert part.around(contrasts)[0].scans[0].volume is scan
    assert part.with_surroundings(found, contrasts) is found
