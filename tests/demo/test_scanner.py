import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bids_unires.demo.scanner import (
    Motion,
    Plane,
    Protocol,
    acquire,
    add_rician_noise,
    scan_grid,
    thick_slices,
)
from bids_unires.space.affines import apply_affine, slice_axis, translation
from bids_unires.space.grid import Grid, corners
from bids_unires.space.volume import Volume

PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "transverse")
FIELD = Grid((24, 28, 20), translation([-10.0, -15.0, 3.0]))
small = st.floats(-4, 4)
motions = st.builds(Motion, st.tuples(small, small, small), st.tuples(small, small, small))


def blob(centre: np.ndarray, sd: float = 2.5) -> Volume:
    """A Gaussian ball at a place given in mm."""
    world = np.moveaxis(np.indices(FIELD.shape), 0, -1) + FIELD.affine[:3, 3]
    distance = np.linalg.norm(world - centre, axis=-1)
    return Volume(np.exp(-0.5 * (distance / sd) ** 2).astype(np.float32), FIELD.affine)


def centroid(image: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return apply_affine(affine, ndimage.center_of_mass(image))


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("spacing", [1.0, 3.0, 4.0])
def test_scan_covers_the_field_of_view(plane: Plane, spacing: float) -> None:
    grid = scan_grid(FIELD, plane, spacing)
    np.testing.assert_allclose(grid.voxel_size, [1, 1, spacing])
    outer = [apply_affine(g.affine, corners(g.shape, edge=0.5)) for g in (grid, FIELD)]
    excess = np.concatenate([outer[1].min(0) - outer[0].min(0), outer[0].max(0) - outer[1].max(0)])
    assert excess.min() > -1e-9
    assert excess.max() < spacing / 2 + 1e-9


@pytest.mark.parametrize(("plane", "normal"), list(zip(PLANES, (0, 1, 2), strict=True)))
def test_slices_follow_the_third_axis_along_the_plane_normal(plane: Plane, normal: int) -> None:
    grid = scan_grid(FIELD, plane, 4.0)
    assert slice_axis(grid.affine) == 2
    assert np.argmax(np.abs(grid.affine[:3, 2])) == normal


@given(motion=motions, plane=st.sampled_from(PLANES), thickness=st.floats(0.5, 6))
@settings(max_examples=15, deadline=None)
def test_constant_stays_constant(motion: Motion, plane: Plane, thickness: float) -> None:
    truth = Volume(np.full(FIELD.shape, 7.0, dtype=np.float32), FIELD.affine)
    slices = thick_slices(truth, scan_grid(FIELD, plane, 4.0), thickness, motion.scanner_to_head)
    np.testing.assert_allclose(slices, 7.0, rtol=1e-5)


@given(motion=motions, plane=st.sampled_from(PLANES))
@settings(max_examples=15, deadline=None)
def test_landmark_moves_with_the_head(motion: Motion, plane: Plane) -> None:
    place = np.array([2.0, -1.0, 13.0])
    grid = scan_grid(FIELD, plane, 3.0)
    slices = thick_slices(blob(place), grid, 3.0, motion.scanner_to_head)
    seen = centroid(slices, grid.affine)
    moved = apply_affine(np.linalg.inv(motion.scanner_to_head), place)
    np.testing.assert_allclose(seen, moved, atol=0.1)


def test_translation_moves_the_head_its_own_way() -> None:
    grid = scan_grid(FIELD, "transverse", 1.0)
    place = np.array([0.0, 0.0, 12.0])
    motion = Motion(translation=(2.0, -3.0, 1.0))
    slices = thick_slices(blob(place), grid, 1.0, motion.scanner_to_head)
    np.testing.assert_allclose(centroid(slices, grid.affine), [2.0, -3.0, 13.0], atol=0.02)


@pytest.mark.parametrize("plane", PLANES)
def test_touching_slices_preserve_the_integral(plane: Plane) -> None:
    truth = blob(np.array([2.0, -1.0, 13.0]))
    grid = scan_grid(FIELD, plane, 4.0)
    slices = thick_slices(truth, grid, 4.0, np.eye(4))
    total = float(slices.sum()) * 4.0
    assert total == pytest.approx(float(truth.data.sum()), rel=2e-3)


def test_slices_as_thick_as_a_pattern_is_long_see_its_mean() -> None:
    stripes = np.zeros(FIELD.shape, dtype=np.float32)
    stripes[:, :, ::4] = 1
    grid = scan_grid(FIELD, "transverse", 4.0)
    thick, thin = (
        thick_slices(Volume(stripes, FIELD.affine), grid, thickness, np.eye(4))[..., 1:-1]
        for thickness in (4.0, 1.0)
    )
    np.testing.assert_allclose(thick, 0.25, atol=0.02)
    assert thin.max() < 0.1


@pytest.mark.parametrize("plane", PLANES)
def test_what_lies_within_a_slice_is_seen_by_no_other(plane: Plane) -> None:
    grid = scan_grid(FIELD, plane, 4.0)
    height = apply_affine(
        np.linalg.inv(grid.affine) @ FIELD.affine, np.moveaxis(np.indices(FIELD.shape), 0, -1)
    )[..., 2]
    bright = (np.abs(height - 2) < 0.3).astype(np.float32)
    slices = thick_slices(Volume(bright, FIELD.affine), grid, 4.0, np.eye(4))
    assert slices[:, :, 2].mean() > 0.4
    np.testing.assert_allclose(np.delete(slices, 2, axis=2), 0, atol=0.04)


def test_slices_average_a_ramp_to_its_middle() -> None:
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32), FIELD.shape).copy()
    grid = scan_grid(FIELD, "transverse", 4.0)
    slices = thick_slices(Volume(ramp, FIELD.affine), grid, 4.0, np.eye(4))
    np.testing.assert_allclose(slices[5, 5, 1:-1], [5.5, 9.5, 13.5], atol=0.02)


def test_rician_noise_has_the_moments_of_a_rice_distribution() -> None:
    rng = np.random.default_rng(0)
    air = add_rician_noise(np.zeros(200_000, dtype=np.float32), 5.0, rng)
    bright = add_rician_noise(np.full(200_000, 500, dtype=np.float32), 5.0, rng)
    assert air.mean() == pytest.approx(5.0 * np.sqrt(np.pi / 2), rel=0.01)
    assert bright.mean() == pytest.approx(np.hypot(500, 5 / np.sqrt(2)), rel=1e-3)
    assert bright.std() == pytest.approx(5.0, rel=0.02)


def test_a_scan_is_the_same_again_with_the_same_seed() -> None:
    protocol = Protocol("T1w", {}, 0.0, "coronal")
    scans = [
        acquire(blob(np.zeros(3)), protocol, Motion(), np.random.default_rng(seed)).data
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(scans[0], scans[1])
    assert not np.array_equal(scans[0], scans[2])


def test_sidecar_states_the_slices() -> None:
    sidecar = Protocol("T2w", {}, 0.0, "coronal", {"EchoTime": 0.1}, 3.0, 3.6).sidecar()
    assert sidecar["SliceThickness"] == 3.0
    assert sidecar["SpacingBetweenSlices"] == 3.6
    assert sidecar["MRAcquisitionType"] == "2D"
    assert sidecar["EchoTime"] == 0.1
