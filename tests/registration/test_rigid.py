"""Rigid registration: known poses are found, however a scan is stored and whatever it shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from bids_unires.errors import BadDataError
from bids_unires.registration import align_rigid, coregister, rigid
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.space.volume import Volume
from tests.paths import SHARED

POSITIONS = SHARED / "data" / "positions"
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


def head_at(points: np.ndarray) -> np.ndarray:
    """Intensity of the synthetic head at world points ``(..., 3)``, edges 2 mm wide."""
    intensity = np.zeros(points.shape[:-1])
    for centre, radii, value in HEAD:
        radius = np.linalg.norm((points - centre) / np.array(radii), axis=-1)
        inside = 1 / (1 + np.exp((radius - 1) * min(radii) / 1.0))
        intensity += inside * (value - intensity)
    return intensity


def scan(affine: Affine, shape: tuple[int, int, int], pose: Affine, seed: int = 0) -> Volume:
    """The head, moved by ``inv(pose)`` in the scanner, with noise."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    intensity = head_at(apply_affine(pose @ affine, voxels))
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


@pytest.fixture(scope="module")
def reference() -> Volume:
    return scan(centred(*AXIAL), AXIAL[1], np.eye(4), seed=1)


def moving_scan(pose: Affine) -> Volume:
    return scan(centred(*SAGITTAL), SAGITTAL[1], pose, seed=2)


@pytest.mark.parametrize(
    "pose",
    [
        motion((4.0, -3.0, 6.0), (5.0, -8.0, 3.0)),
        motion((25.0, 20.0, -30.0), (10.0, 30.0, 20.0)),
        motion((5.0, 0.0, 175.0), (-20.0, 10.0, 5.0)),
        motion((-85.0, 10.0, 5.0), (0.0, 25.0, -15.0)),
    ],
    ids=["close", "far", "upside down", "on its side"],
)
def test_known_pose_is_recovered(reference: Volume, pose: Affine) -> None:
    alignment = align_rigid(reference, moving_scan(pose), threads=2)
    assert_same_pose(alignment.pose, pose)
    assert alignment.pose.dtype == np.float64
    np.testing.assert_allclose(
        alignment.pose[:3, :3] @ alignment.pose[:3, :3].T, np.eye(3), atol=1e-6
    )
    assert alignment.metric > 0.3


def test_contrast_may_be_inverted(reference: Volume) -> None:
    pose = motion((-6.0, 8.0, 3.0), (-6.0, 4.0, 9.0))
    moving = moving_scan(pose)
    shown = moving.data > 30
    inverted = np.where(shown, 200 - moving.data, moving.data)
    assert_same_pose(align_rigid(reference, Volume(inverted, moving.affine), threads=2).pose, pose)


def test_part_of_the_head_is_enough(reference: Volume) -> None:
    pose = motion((10.0, -5.0, 12.0), (8.0, -20.0, 12.0))
    moving = moving_scan(pose)
    part = Volume(moving.data[:26], moving.affine)
    assert_same_pose(align_rigid(reference, part, threads=2).pose, pose)


def test_storage_order_changes_nothing(reference: Volume) -> None:
    moving = moving_scan(motion((7.0, 4.0, -5.0), (4.0, 6.0, -8.0)))
    flip = np.diag([-1.0, 1.0, 1.0, 1.0])
    flip[0, 3] = moving.data.shape[0] - 1
    stored = Volume(moving.data[::-1].transpose(2, 0, 1), (moving.affine @ flip)[:, [2, 0, 1, 3]])
    np.testing.assert_allclose(
        align_rigid(reference, stored, threads=2).pose,
        align_rigid(reference, moving, threads=2).pose,
        atol=1e-5,
    )


def test_scale_and_missing_values_change_little(reference: Volume) -> None:
    pose = motion((7.0, 4.0, -5.0), (4.0, 6.0, -8.0))
    moving = moving_scan(pose)
    data = moving.data * 37
    data[:, :8] = np.nan
    assert_same_pose(align_rigid(reference, Volume(data, moving.affine), threads=2).pose, pose)


def test_coregister_keeps_the_first_scan_and_ignores_threads(reference: Volume) -> None:
    pose = motion((3.0, 5.0, 2.0), (1.0, -9.0, 4.0))
    moving = moving_scan(pose)
    first, second = coregister([reference, moving], threads=1)
    np.testing.assert_array_equal(first.pose, np.eye(4))
    assert_same_pose(second.pose, pose)
    np.testing.assert_allclose(
        align_rigid(reference, moving, threads=2).pose, second.pose, atol=1e-4
    )


@pytest.mark.parametrize("sheared", ["moving", "both"])
def test_tilted_gantry_changes_nothing(reference: Volume, sheared: str) -> None:
    """Slices shifted along y from one to the next: axes that are not at right angles."""
    pose = motion((6.0, -4.0, 8.0), (6.0, -10.0, 5.0))
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.deg2rad(20.0))
    tilted = shear @ centred(*AXIAL)
    fixed = scan(tilted, AXIAL[1], np.eye(4), seed=1) if sheared == "both" else reference
    moving = scan(tilted, AXIAL[1], pose, seed=2)
    assert_same_pose(align_rigid(fixed, moving, threads=2).pose, pose)


def test_constant_scan_is_refused(reference: Volume) -> None:
    flat = Volume(np.full((20, 20, 20), 7, dtype=np.float32), np.eye(4), Path("flat.nii.gz"))
    with pytest.raises(BadDataError, match=r"flat\.nii\.gz"):
        align_rigid(reference, flat, threads=1)


def test_scans_that_do_not_overlap_are_named(
    reference: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rigid, "starting_poses", lambda *_: [])
    first, second = (replace(reference, path=Path(f"{name}.nii.gz")) for name in "ab")
    second = replace(second, affine=translation([0, 0, 2000]) @ second.affine)
    with pytest.raises(BadDataError, match=r"^b\.nii\.gz and a\.nii\.gz do not overlap"):
        coregister([first, second], threads=1)


def test_heads_of_mice_are_aligned_as_well_as_those_of_humans(reference: Volume) -> None:
    size = 0.1
    pose = motion((12.0, -8.0, 15.0), (15.0, -20.0, 10.0))
    small, moved = (
        replace(scan, affine=scaling([size] * 3) @ scan.affine)
        for scan in (reference, moving_scan(pose))
    )
    found = align_rigid(small, moved, threads=2).pose
    found[:3, 3] /= size
    assert_same_pose(found, pose)


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


@pytest.mark.parametrize(
    ("axis", "count", "overlap", "still"),
    [(2, 2, 20.0, False), (0, 2, 40.0, False), (1, 3, 20.0, True), (2, 4, 0.0, True)],
)
def test_stations_of_one_scan_lie_as_their_headers_say(
    axis: int, count: int, overlap: float, still: bool
) -> None:
    parts = stations(axis, count, overlap, still)
    first, *others = coregister(parts, threads=2, series=["a"] * count)
    expected = np.eye(4) if still else motion((1.5, -1, 2), (1, 1.5, -1))
    np.testing.assert_array_equal(first.pose, np.eye(4))
    for alignment in others:
        assert_same_pose(alignment.pose, expected, OF_A_PART)


def test_parts_that_share_little_are_found_from_their_headers() -> None:
    """Nothing says that they are stations, and turned about they would share more."""
    lower, upper = stations(2, 2, 25.0, still=False)
    expected = motion((1.5, -1, 2), (1, 1.5, -1))
    assert_same_pose(align_rigid(lower, upper, threads=2).pose, expected, OF_A_PART)


def test_stations_follow_each_other_onto_a_scan_that_lies_elsewhere(reference: Volume) -> None:
    away = motion((20.0, 10.0, -100.0), (30.0, -10.0, 40.0))
    parts = [replace(part, affine=np.linalg.inv(away) @ part.affine) for part in stations(2, 3, 0)]
    _, *found = coregister([reference, *parts], threads=2, series=[None, "a", "a", "a"])
    for alignment in found:
        assert_same_pose(alignment.pose, away, OF_A_PART)


def test_a_slab_that_comes_first_does_not_place_the_others(reference: Volume) -> None:
    slab = Volume(reference.data[:, 42:58], reference.affine @ translation([0, 42, 0]))
    pose = motion((7.0, 4.0, -5.0), (4.0, 6.0, -8.0))
    first, whole, other = coregister([slab, reference, moving_scan(pose)], threads=2)
    np.testing.assert_array_equal(first.pose, np.eye(4))
    # However well the slab is placed, whole heads fit each other.
    assert_same_pose(np.linalg.inv(whole.pose) @ other.pose, pose)


@pytest.mark.parametrize(("turn", "is_far"), [((3.0, 0.0, 5.0), False), ((0.0, 0.0, 120.0), True)])
def test_poses_far_from_headers_are_named(
    reference: Volume,
    turn: tuple[float, float, float],
    is_far: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pose = motion(turn, (5.0, 0.0, 0.0))
    moving = replace(moving_scan(pose), path=Path("b.nii.gz"))
    coregister([replace(reference, path=Path("a.nii.gz")), moving], threads=2)
    assert ("b.nii.gz was turned by 120 degrees" in caplog.text) == is_far
    assert ("--no-coregister" in caplog.text) == is_far


@pytest.mark.skipif(not POSITIONS.exists(), reason="scans of four positions are not here")
def test_four_positions_of_one_head_agree() -> None:
    """Aligning two scans directly or by way of a third one gives one pose, to a voxel."""
    import nibabel as nib

    images = [nib.load(path) for path in sorted(POSITIONS.glob("sub-01/anat/*run-[134]*.nii.gz"))]
    supine, right, left = (
        Volume(image.get_fdata(dtype=np.float32), image.affine) for image in images
    )
    _, right_pose, left_pose = (one.pose for one in coregister([supine, right, left], threads=2))
    direct = align_rigid(right, left, threads=2).pose
    around = np.linalg.inv(right_pose) @ left_pose
    head = apply_affine(np.linalg.inv(left_pose), np.array([[0, 0, 0], [0, -70, 0], [0, 0, 60]]))
    gap = np.linalg.norm(apply_affine(direct, head) - apply_affine(around, head), axis=1)
    assert gap.max() < 2.0
