"""A head of ellipsoids, scans of it and of its parts, and how near a pose has to come."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.volume import Volume

MILLIMETRES = 0.5
DEGREES = 0.5
# A part shows less to align by.
OF_A_PART = 3.0

# Centre (mm), radii (mm) and intensity of the ellipsoids of a head without symmetry.
HEAD = (
    ((0, 0, 0), (70, 88, 75), 60.0),
    ((0, -2, 4), (63, 80, 67), 100.0),
    ((-22, 10, 8), (12, 34, 14), 35.0),
    ((24, -12, 12), (9, 24, 18), 45.0),
    ((6, -50, -28), (36, 22, 18), 140.0),
    ((20, 48, 26), (20, 14, 24), 125.0),
    ((-36, -22, -16), (16, 24, 12), 155.0),
    ((4, 92, -24), (11, 14, 13), 80.0),
    ((0, -20, -84), (30, 32, 42), 90.0),
)


# Intensities of the same ellipsoids in another contrast.
OTHER_CONTRAST = (50.0, 70.0, 180.0, 160.0, 45.0, 60.0, 30.0, 40.0, 60.0)


def head_at(points: np.ndarray, values: tuple[float, ...] | None = None) -> np.ndarray:
    """Intensity of the synthetic head at world points ``(..., 3)``, edges 2 mm wide."""
    intensity = np.zeros(points.shape[:-1])
    own = values or [value for _, _, value in HEAD]
    for (centre, radii, _), value in zip(HEAD, own, strict=True):
        radius = np.linalg.norm((points - centre) / np.array(radii), axis=-1)
        inside = 1 / (1 + np.exp((radius - 1) * min(radii) / 1.0))
        intensity += inside * (value - intensity)
    return intensity


def scan(
    affine: Affine,
    shape: tuple[int, int, int],
    pose: Affine,
    seed: int = 0,
    values: tuple[float, ...] | None = None,
) -> Volume:
    """The head, moved by ``inv(pose)`` in the scanner, with noise."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    intensity = head_at(apply_affine(pose @ affine, voxels), values)
    noise = np.random.default_rng(seed).normal(scale=2.0, size=(2, *shape))
    return Volume(np.hypot(intensity + noise[0], noise[1]).astype(np.float32), affine)


def centred(sizes: tuple[float, float, float], shape: tuple[int, int, int]) -> Affine:
    return scaling(sizes) @ translation(-(np.array(shape) - 1) / 2)


def motion(degrees: tuple[float, float, float], offset: tuple[float, float, float]) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = offset
    return matrix


def assert_same_pose(found: Affine, expected: Affine, times: float = 1.0) -> None:
    difference = np.linalg.inv(expected) @ found
    turned = np.rad2deg(Rotation.from_matrix(difference[:3, :3]).magnitude())
    assert np.linalg.norm(difference[:3, 3]) < times * MILLIMETRES
    assert turned < times * DEGREES


AXIAL = ((2.2, 2.2, 5.0), (80, 100, 44))
SAGITTAL = ((4.8, 2.2, 2.2), (40, 100, 100))


def moving_scan(pose: Affine) -> Volume:
    return scan(centred(*SAGITTAL), SAGITTAL[1], pose, seed=2)


def stations(axis: int, count: int, overlap: float, still: bool = True) -> list[Volume]:
    """The head cut into parts along an axis, each after the first moved a little more."""
    sizes = np.full(3, 3.0)
    sizes[(axis + 1) % 3] = 5.0
    low, high = np.array([-82.0, -100, -118]), np.array([82.0, 104, 88])
    ends = np.linspace(low[axis], high[axis], count + 1)
    parts = []
    for number in range(count):
        first, last = low.copy(), high.copy()
        first[axis], last[axis] = ends[number], ends[number + 1] + overlap * (number + 1 < count)
        shape = np.round((last - first) / sizes).astype(int)
        affine = translation(first) @ scaling(sizes)
        moved = motion((1.5, -1, 2), (1, 1.5, -1)) if number and not still else np.eye(4)
        parts.append(scan(affine, (shape[0], shape[1], shape[2]), moved, seed=number))
    return parts
