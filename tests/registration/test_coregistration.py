"""Coregistration: each scan is placed by the one that tells most of where it lies."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bids_unires.errors import BadDataError
from bids_unires.registration import (
    align_rigid,
    coregister,
    coregistration,
    fullest_scan,
    rigid,
)
from bids_unires.registration.pyramid import Pyramid
from bids_unires.registration.rigid import RigidAlignment
from bids_unires.space.affines import apply_affine, translation
from bids_unires.space.volume import Volume
from tests.paths import SHARED
from tests.registration.synthetic import (
    AXIAL,
    OF_A_PART,
    assert_same_pose,
    centred,
    motion,
    moving_scan,
    scan,
    stations,
)

POSITIONS = SHARED / "data" / "positions"


@pytest.fixture(scope="module")
def reference() -> Volume:
    return scan(centred(*AXIAL), AXIAL[1], np.eye(4), seed=1)


@pytest.mark.slow
def test_coregister_keeps_the_first_scan_and_ignores_threads(reference: Volume) -> None:
    pose = motion((3.0, 5.0, 2.0), (1.0, -9.0, 4.0))
    moving = moving_scan(pose)
    first, second = coregister([reference, moving], threads=1)
    np.testing.assert_array_equal(first.pose, np.eye(4))
    assert_same_pose(second.pose, pose)
    np.testing.assert_allclose(
        align_rigid(reference, moving, threads=2).pose, second.pose, atol=1e-4
    )


def test_each_scan_is_named_as_soon_as_it_is_aligned(
    reference: Volume, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def at_once(fixed: Pyramid, moving: Pyramid, threads: int) -> RigidAlignment:
        said.append(len(caplog.messages))
        return RigidAlignment(np.eye(4), 1.0, "header")

    said: list[int] = []
    caplog.set_level(logging.INFO, "bids_unires")
    monkeypatch.setattr(coregistration, "align_pyramids", at_once)
    coregister([replace(reference, path=Path(f"{name}.nii.gz")) for name in "abc"], threads=2)
    assert said == [0, 1]
    assert caplog.messages == [
        f"{name}.nii.gz is aligned ({number} of 3 scans)" for number, name in ((2, "b"), (3, "c"))
    ]


def test_scans_that_do_not_overlap_are_named(
    reference: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rigid, "starting_poses", lambda *_: [])
    first, second = (replace(reference, path=Path(f"{name}.nii.gz")) for name in "ab")
    second = replace(second, affine=translation([0, 0, 2000]) @ second.affine)
    with pytest.raises(BadDataError, match=r"^b\.nii\.gz and a\.nii\.gz do not overlap"):
        coregister([first, second], threads=1)


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


def test_a_part_is_placed_by_the_one_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others show nothing of what it shows, and a pose by them would be made up."""
    pairs = []

    def align(reference: Pyramid, moving: Pyramid, _: int) -> RigidAlignment:
        pairs.append((reference.head[:, 2].mean(), moving.head[:, 2].mean()))
        return RigidAlignment(np.eye(4), 0.0, "as the header says")

    monkeypatch.setattr(coregistration, "align_pyramids", align)
    parts = stations(2, 4, 35.0)
    coregister(parts, threads=1)
    height = np.linalg.norm(parts[0].affine[:3, 2]) * parts[0].data.shape[2]
    assert len(pairs) >= 3
    for reference, moving in pairs:
        assert abs(reference - moving) < height


@pytest.mark.slow
def test_parts_that_reach_each_other_alone_are_chained() -> None:
    """The first and the last share nothing; no name says that they are stations."""
    first, middle, last = stations(2, 3, 35.0)
    _, of_last, of_middle = coregister([first, last, middle], threads=2)
    for alignment in (of_middle, of_last):
        assert_same_pose(alignment.pose, np.eye(4), OF_A_PART)


@pytest.mark.slow
def test_stations_follow_each_other_onto_a_scan_that_lies_elsewhere(reference: Volume) -> None:
    away = motion((20.0, 10.0, -100.0), (30.0, -10.0, 40.0))
    parts = [replace(part, affine=np.linalg.inv(away) @ part.affine) for part in stations(2, 3, 0)]
    _, *found = coregister([reference, *parts], threads=2, series=[None, "a", "a", "a"])
    for alignment in found:
        # The pose of the largest part, which alone was searched for, is that of all.
        assert_same_pose(alignment.pose, away, 3 * OF_A_PART)


@pytest.mark.slow
def test_stations_of_two_contrasts_find_each_other() -> None:
    """Parts that touch: each has one of the other contrast to lie on, and no other."""
    upper, lower = stations(2, 2, 0.0)
    inverted = [replace(one, data=160 - one.data) for one in (lower, upper)]
    found = coregister([upper, lower, *inverted], threads=2, series=["a", "a", "b", "b"])
    for alignment in found:
        assert_same_pose(alignment.pose, np.eye(4), OF_A_PART)


@pytest.mark.slow
def test_a_slab_that_comes_first_does_not_place_the_others(reference: Volume) -> None:
    slab = Volume(reference.data[:, 42:58], reference.affine @ translation([0, 42, 0]))
    pose = motion((7.0, 4.0, -5.0), (4.0, 6.0, -8.0))
    first, whole, other = coregister([slab, reference, moving_scan(pose)], threads=2)
    np.testing.assert_array_equal(first.pose, np.eye(4))
    # However well the slab is placed, whole heads fit each other.
    assert_same_pose(np.linalg.inv(whole.pose) @ other.pose, pose)


def test_the_fullest_scan_is_the_first_that_is_no_small_part(reference: Volume) -> None:
    slab = Volume(reference.data[:, 42:58], reference.affine @ translation([0, 42, 0]))
    most = Volume(reference.data[:, :, 8:], reference.affine @ translation([0, 0, 8]))
    assert fullest_scan([most, reference], threads=1) == 0
    assert fullest_scan([slab, most, reference], threads=1) == 2
    assert fullest_scan([slab], threads=1) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("turn", "is_far"), [((3.0, 0.0, 5.0), False), ((0.0, 0.0, 120.0), True)])
def test_poses_far_from_headers_are_named(
    reference: Volume,
    turn: tuple[float, float, float],
    is_far: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pose = motion(turn, (5.0, 0.0, 0.0))
    moving = replace(moving_scan(pose), path=Path("b.nii.gz"))
    caplog.set_level(logging.INFO, "bids_unires")
    coregister([replace(reference, path=Path("a.nii.gz")), moving], threads=2)
    assert "b.nii.gz is aligned (2 of 2 scans)" in caplog.messages
    assert ("b.nii.gz was turned by 120 degrees" in caplog.text) == is_far
    assert ("--no-coregister" in caplog.text) == is_far


@pytest.mark.slow
@pytest.mark.realdata
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
