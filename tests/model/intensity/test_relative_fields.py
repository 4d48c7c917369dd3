"""Smooth factors between repeats: found where there are some, and not made up."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model import NoiseEstimate, SliceProfile
from bids_unires.model.intensity.relative_fields import relative_fields
from bids_unires.model.intensity.repaired_scan import RepairedScan
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.rigid import rigid_matrix
from bids_unires.space.volume import Volume

SIDE = 48
VOXEL_MM = 4.0
NOISE = NoiseEstimate(2.0, 0.0, 120.0, "rice-mixture")


def head_at(points: np.ndarray) -> np.ndarray:
    """A ball of two tissues, 150 mm across."""
    radius = np.linalg.norm(points, axis=-1)
    return np.where(radius < 75, 120 + 20 * np.sin(points[..., 0] / 15), 0.0)


def scan(
    axis: int = 2, pose: Affine | None = None, slope: float = 0.0, gain: float = 1.0
) -> Volume:
    """A scan with slices twice as thick along ``axis``, brighter towards one side."""
    sizes, shape = np.full(3, VOXEL_MM), np.full(3, SIDE)
    sizes[axis] *= 2
    shape[axis] //= 2
    affine = scaling(sizes) @ translation(-(shape - 1) / 2)
    index = np.stack(np.indices(shape), axis=-1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    placed = pose if pose is not None else np.eye(4)
    data = head_at(world @ placed[:3, :3].T + placed[:3, 3])
    data *= gain * np.exp(slope * world[..., 1] / 100)
    noise = np.random.default_rng(axis).normal(scale=2.0, size=data.shape)
    return Volume((data + noise).astype(np.float32), affine)


def inside(volume: Volume) -> np.ndarray:
    return volume.data > 60


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 2)])
def test_scans_that_agree_are_left_as_they_are(axes: tuple[int, ...]) -> None:
    volumes = [scan(axis) for axis in axes]
    for volume, field in zip(volumes, fields_of(volumes), strict=True):
        assert field.shape == volume.data.shape
        assert field.dtype == np.float32
        np.testing.assert_allclose(field, 1, atol=0.02)


def test_a_gain_is_found_everywhere() -> None:
    first, second = fields_of([scan(), scan(gain=1.3)])
    np.testing.assert_allclose(second / first, 1.3, rtol=0.02)


def test_a_field_is_found_within_the_head_and_no_gain_beyond_it() -> None:
    volumes = [scan(0), scan(2, slope=0.3)]
    first, second = fields_of(volumes)
    head = inside(volumes[1])
    y = np.broadcast_to((np.arange(SIDE) - (SIDE - 1) / 2)[None, :, None] * VOXEL_MM, head.shape)
    slope = np.polyfit(y[head], np.log(second[head]), 1)[0]
    assert slope == pytest.approx(0.5 * 0.3 / 100, rel=0.2)
    assert abs(np.log(second[:, 0]).mean()) < 0.05
    assert float((first[inside(volumes[0])]).mean()) == pytest.approx(1, abs=0.02)


def test_it_is_the_head_that_is_compared_wherever_it_lies() -> None:
    pose = rigid_matrix([20.0, -10.0, 5.0, 0.2, -0.1, 0.3])
    volumes = [scan(), scan(1, pose=pose, gain=1.2)]
    first, second = fields_of(volumes, [np.eye(4), pose])
    ratio = np.median(second[inside(volumes[1])]) / np.median(first[inside(volumes[0])])
    assert ratio == pytest.approx(1.2, rel=0.03)


def test_one_scan_has_nothing_to_be_compared_with() -> None:
    assert (fields_of([scan(slope=1.0)])[0] == 1).all()


def test_scans_of_different_places_are_not_compared() -> None:
    volumes, apart = [scan(), scan(gain=2.0)], translation([0, 0, 500])
    for field in fields_of(volumes, [np.eye(4), apart]):
        assert (field == 1).all()


def test_missing_voxels_do_not_count() -> None:
    volumes = [scan(), scan(gain=1.3)]
    volumes[1].data[10:14] = np.nan
    first, second = fields_of(volumes)
    np.testing.assert_allclose(second / first, 1.3, rtol=0.03)


def fields_of(volumes: list[Volume], poses: list[Affine] | None = None) -> list[np.ndarray]:
    poses = poses or [np.eye(4)] * len(volumes)
    return relative_fields(
        [
            RepairedScan(volume, volume, NOISE, SliceProfile(), pose)
            for volume, pose in zip(volumes, poses, strict=True)
        ]
    )
