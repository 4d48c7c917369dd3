"""CT from end to end: Hounsfield units, where 0 is water, with thick or tilted slices."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from bids_unires.config import Modality, ModelSettings
from bids_unires.dataset.reading import load_volume
from bids_unires.kernels.device import usable_device
from bids_unires.model import Observation, Reconstruction, super_resolve
from bids_unires.model.fit.scans import ScanLike
from bids_unires.model.scanner.resampling import linear_images
from bids_unires.space.affines import apply_affine, scaling, shear_angle, slice_spacing, translation
from bids_unires.space.grid import Grid, centre_of
from bids_unires.space.volume import Volume, reset_origin
from tests.paths import SHARED

VOXEL_MM, SLICE_MM = 2.5, 5.0
NOISE_SD = 8.0
AIR, PADDING, BRAIN, CSF, BONE = -1000.0, -1024.0, 35.0, 5.0, 1100.0
# Centre and radii in mm of each ellipsoid and its HU, later ones inside the earlier.
HEAD = (
    ((0, 0, 0), (72, 90, 70), 40.0),
    ((0, 0, 0), (66, 84, 64), 1000.0),
    ((0, 0, 0), (59, 77, 57), BRAIN),
    ((0, 5, 5), (24, 34, 16), CSF),
    ((0, -40, -25), (26, 24, 24), BONE),
    ((0, 60, -52), (16, 14, 14), AIR),
)

CUP = 180.0  # holder: a shell of this behind the head
REGIONS = {"brain": BRAIN, "ventricles": CSF, "bone": BONE, "air": AIR}
SETTINGS = ModelSettings(
    voxel_size=(VOXEL_MM, VOXEL_MM, VOXEL_MM),
    coregister=False,
    max_iter=40,
    learning_effort="brief",
)
PITCHED = SHARED / "data" / "ct" / "ct_pitch_8bit.nii.gz"


def hounsfield(points: np.ndarray) -> np.ndarray:
    """HU at world points ``(..., 3)`` in mm."""
    values = np.full(points.shape[:-1], AIR)
    cup = np.linalg.norm(points[..., :2] / [84, 104], axis=-1)
    values[(np.abs(cup - 1) < 0.04) & (points[..., 1] < -30)] = CUP
    for centre, radii, value in HEAD:
        at = (points - np.array(centre)) / radii
        values[np.einsum("...i,...i", at, at) < 1] = value
    return values


def points_of(grid: Grid) -> np.ndarray:
    """World points of a grid's voxels, ``(X, Y, Z, 3)``."""
    return apply_affine(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))


def within(result: Reconstruction, region: str, margin_mm: float = 10.0) -> np.ndarray:
    """Voxels that were measured and have nothing but one tissue within ``margin_mm``."""
    points = points_of(result.grid)
    uniform = np.pad(hounsfield(points) == REGIONS[region], 1)
    depth = VOXEL_MM * ndimage.distance_transform_edt(uniform)[1:-1, 1:-1, 1:-1]
    measured = result.coverage & (np.linalg.norm(points[..., :2], axis=-1) < 95)
    return np.asarray(measured & (depth > margin_mm))


def scan_grid(tilt_degrees: float) -> Grid:
    """Slices tilted about the x axis, one table step of 5 mm apart along z."""
    tilt = np.radians(tilt_degrees)
    affine = scaling([VOXEL_MM, VOXEL_MM, SLICE_MM])
    affine[1:3, 1] = VOXEL_MM * np.array([np.cos(tilt), np.sin(tilt)])
    grid = Grid((88, 88, 32), affine)
    return Grid(grid.shape, translation(-centre_of(grid)) @ affine)


@cache
def ct_scan(tilt_degrees: float) -> Volume:
    """Slices as thick as they are apart, in whole HU, padded outside of a circle."""
    grid = scan_grid(tilt_degrees)
    points = points_of(grid)
    normal = np.cross(grid.affine[:3, 0], grid.affine[:3, 1])
    normal *= slice_spacing(grid.affine, 2) / np.linalg.norm(normal)
    in_plane = (np.arange(2) + 0.5) / 2 - 0.5
    offsets = [
        grid.affine[:3, 0] * a + grid.affine[:3, 1] * b + normal * c
        for a, b, c in product(in_plane, in_plane, (np.arange(6) + 0.5) / 6 - 0.5)
    ]
    data = np.mean([hounsfield(points + offset) for offset in offsets], axis=0)
    data += np.random.default_rng(0).normal(scale=NOISE_SD, size=data.shape)
    data = np.maximum(np.round(data), PADDING)
    voxels = np.indices(grid.shape)[:2] - 43.5
    data[np.linalg.norm(voxels, axis=0) > 44] = PADDING
    return Volume(data.astype(np.float32), grid.affine)


def as_ct(scan: ScanLike, settings: ModelSettings = SETTINGS) -> Reconstruction:
    return super_resolve([[scan]], settings, "cpu", modalities=["CT"])


@cache
def reconstructed(tilt_degrees: float) -> Reconstruction:
    return as_ct(ct_scan(tilt_degrees))


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("tilt", [0.0, 18.0])
def test_densities_stay_what_they_are(region: str, tilt: float) -> None:
    result = reconstructed(tilt)
    inside = within(result, region)
    assert inside.sum() > 300
    assert result.images[0][inside].mean() == pytest.approx(REGIONS[region], abs=2)


def test_beyond_the_scan_there_is_air_and_no_water() -> None:
    result = reconstructed(18.0)
    beyond = ~result.coverage
    assert beyond.sum() > 300
    assert (result.images[0][beyond] == AIR).all()


def test_edges_are_sharper_than_interpolated() -> None:
    result, scan = reconstructed(0.0), ct_scan(0.0)
    points = points_of(result.grid)
    head = (hounsfield(points) > -500) & (np.linalg.norm(points[..., :2], axis=-1) < 95)
    observation = Observation(scan.data, scan.affine, zero_is_missing=False)
    linear = linear_images([[observation]], result.grid, usable_device("cpu"))[0].numpy()
    truth = hounsfield(points)[head & result.coverage]
    error, of_linear = (
        np.sqrt(np.mean((image[head & result.coverage] - truth) ** 2))
        for image in (result.images[0], linear)
    )
    assert error < 0.9 * of_linear


def test_noise_is_that_of_tissue_not_of_padding() -> None:
    assert reconstructed(0.0).fit.noise[0][0].noise_sd == pytest.approx(NOISE_SD, rel=0.25)


def test_water_is_measured_not_missing() -> None:
    scan = ct_scan(0.0)
    data = scan.data.copy()
    points = points_of(scan.grid)
    ventricles = np.linalg.norm((points - [0, 5, 5]) / [24, 34, 16], axis=-1) < 1
    data[ventricles] = 0
    result = as_ct(Volume(data, scan.affine))
    inside = within(result, "ventricles")
    # Were these voxels missing, the brain around them would fill them in.
    assert result.images[0][inside].mean() == pytest.approx(0, abs=2)


def test_detail_is_learned_and_the_fit_converges() -> None:
    fit = as_ct(ct_scan(0.0), replace(SETTINGS, max_iter=200)).fit
    assert fit.converged
    assert fit.details[0] is not None
    assert not fit.residuals[0][0].deviations


def test_tilted_slices_end_on_right_angles() -> None:
    result = reconstructed(18.0)
    assert shear_angle(ct_scan(18.0).affine) == pytest.approx(18)
    assert shear_angle(result.grid.affine) < 1e-6
    np.testing.assert_allclose(result.grid.voxel_size, VOXEL_MM)


def test_a_reset_origin_changes_nothing_but_the_place() -> None:
    far = (12.5, -240.0, 1350.0)
    scan = ct_scan(0.0)
    moved, shift = reset_origin(Volume(scan.data, translation(far) @ scan.affine))
    np.testing.assert_allclose(centre_of(moved.grid), 0, atol=1e-9)
    np.testing.assert_allclose(moved.affine[:3, :3], scan.affine[:3, :3])
    result = as_ct(moved)
    np.testing.assert_allclose(result.images, reconstructed(0.0).images, atol=0.5)
    # A voxel of the file, through what is written out, lies where it does in the result.
    from_file = result.poses[0][0] @ shift
    np.testing.assert_allclose(from_file @ translation(far), np.eye(4), atol=1e-9)


def displacement(result: Reconstruction, scan: Volume) -> np.ndarray:
    """How far in mm the result has to move, along each world axis, to match the scan best."""
    steps = np.array([-2.0, 0.0, 2.0])
    points, measured = points_of(scan.grid)[::3, ::3], scan.data[::3, ::3].ravel()
    into_result = np.linalg.inv(result.grid.affine)
    found = []
    for axis in np.eye(3):
        matches = []
        for step in steps:
            at = np.moveaxis(apply_affine(into_result, points - step * axis), -1, 0)
            sampled = ndimage.map_coordinates(result.images[0], at, order=1, mode="nearest")
            matches.append(np.corrcoef(sampled.ravel(), measured)[0, 1])
        curvature, slope, _ = np.polyfit(steps, matches, 2)
        assert curvature < 0
        found.append(-slope / (2 * curvature))
    return np.array(found)


@pytest.mark.parametrize("tilt", [0.0, 18.0])
def test_the_head_stays_in_its_place(tilt: float) -> None:
    np.testing.assert_allclose(displacement(reconstructed(tilt), ct_scan(tilt)), 0, atol=0.5)


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_pitched_head_is_not_flipped(modality: Modality) -> None:
    scan = load_volume(PITCHED)
    settings = replace(SETTINGS, max_iter=15)
    result = super_resolve([[scan]], settings, "cpu", modalities=[modality])
    np.testing.assert_allclose(displacement(result, scan), 0, atol=0.5)
    at = apply_affine(np.linalg.inv(result.grid.affine), points_of(scan.grid)[::3, ::3])
    sampled = ndimage.map_coordinates(result.images[0], np.moveaxis(at, -1, 0), order=1)
    measured = scan.data[::3, ::3]
    # To MR, 0 means missing, and the air of this scan is 0.
    head = measured > 0
    assert np.corrcoef(sampled[head], measured[head])[0, 1] > 0.95
    for axis in range(3):
        assert np.corrcoef(np.flip(sampled, axis)[head], measured[head])[0, 1] < 0.6
