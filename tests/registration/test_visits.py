"""Visits of one head: where they are put, whatever changed between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from bids_unires.registration import VisitScan, visit_positions
from bids_unires.registration.between_visits import VisitMotion, motion_between
from bids_unires.registration.visits import _positions
from bids_unires.space.affines import Affine, apply_affine, translation
from bids_unires.space.rigid import mean_pose, rigid_matrix
from bids_unires.space.volume import Volume
from tests.registration.visiting_head import HEAD, LESION, TURNED, scan


def error(found: Affine, truth: Affine) -> float:
    """Mean distance in mm by which a head is put elsewhere than where it is."""
    points = np.random.default_rng(0).normal(scale=40, size=(500, 3))
    wrong = apply_affine(found, points) - apply_affine(truth, points)
    return float(np.linalg.norm(wrong, axis=1).mean())


@pytest.fixture(scope="module")
def before() -> VisitScan:
    return scan(np.eye(4), 0)


@pytest.fixture(scope="module")
def after() -> VisitScan:
    return scan(TURNED, 1, (*HEAD, LESION), gain=1.7)


@pytest.fixture(scope="module")
def found(before: VisitScan, after: VisitScan) -> VisitMotion:
    return motion_between([before], [after], threads=1)


@pytest.mark.slow
def test_a_large_new_lesion_does_not_pull(found: VisitMotion) -> None:
    assert error(found.by_contrast["FLAIR"], np.linalg.inv(TURNED)) < 0.06
    assert found.brightness["FLAIR"] == pytest.approx(1.7, rel=0.01)


@pytest.mark.slow
def test_either_visit_may_come_first(
    before: VisitScan, after: VisitScan, found: VisitMotion
) -> None:
    back = motion_between([after], [before], threads=1)
    assert error(found.pose @ back.pose, np.eye(4)) < 0.02


def test_a_visit_that_shows_part_of_the_head_is_placed_as_well(before: VisitScan) -> None:
    whole = scan(TURNED, 1)
    start = (20, 0, 12)
    shown = np.ascontiguousarray(whole.volume.data[start[0] :, start[1] :, start[2] :])
    part = replace(whole, volume=Volume(shown, whole.volume.affine @ translation(start)))
    found = motion_between([before], [part], threads=1)
    assert error(found.by_contrast["FLAIR"], np.linalg.inv(TURNED)) < 0.1


@pytest.mark.slow
def test_contrasts_between_which_the_head_moved_are_placed_apart() -> None:
    other = rigid_matrix([0.6, 0.3, -0.5, 0.01, 0.0, -0.01]) @ TURNED
    within = rigid_matrix([10.0, 5.0, -8.0, 0.1, 0.2, -0.1])
    first = [scan(np.eye(4), 0), scan(np.eye(4), 1, contrast="T1w")]
    second = [scan(TURNED, 2, start=within), scan(other, 3, contrast="T1w", start=within)]
    found = motion_between(first, second, threads=1)
    for contrast, pose in (("FLAIR", TURNED), ("T1w", other)):
        assert error(found.by_contrast[contrast] @ within, np.linalg.inv(pose)) < 0.06


def visit(*contrasts: str) -> list[VisitScan]:
    volume = Volume(np.ones((2, 2, 2)), np.eye(4))
    return [VisitScan(contrast, volume, np.eye(4)) for contrast in contrasts]


@pytest.fixture
def known_motion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the second visit lie as ``TURNED`` says, and its T1w as half of it."""
    poses = {"FLAIR": np.linalg.inv(TURNED), "T1w": np.linalg.inv(mean_pose([TURNED, np.eye(4)]))}

    def motion(reference: list[VisitScan], moving: list[VisitScan], *, threads: int) -> VisitMotion:
        shared = {one.contrast for one in reference} & {one.contrast for one in moving}
        own = {name: pose for name, pose in poses.items() if name in shared}
        return VisitMotion(poses["FLAIR"], own, dict.fromkeys(own, 1.5))

    monkeypatch.setattr("bids_unires.registration.visits.motion_between", motion)


@pytest.mark.usefixtures("known_motion")
def test_the_first_visit_stays() -> None:
    first, second = visit_positions([visit("FLAIR"), visit("FLAIR")], "first-lex", threads=1)
    np.testing.assert_array_equal(first.of("FLAIR"), np.eye(4))
    np.testing.assert_allclose(second.of("FLAIR"), np.linalg.inv(TURNED), atol=1e-4)
    assert (first.brightness, second.brightness) == ({}, {"FLAIR": 1.5})


@pytest.mark.usefixtures("known_motion")
def test_brightness_is_told_against_the_first_visit_that_has_the_contrast() -> None:
    visits = [visit("FLAIR"), visit("FLAIR", "T1w"), visit("FLAIR", "T1w")]
    told = [each.brightness for each in visit_positions(visits, "unbiased", threads=1)]
    assert told == [{}, {"FLAIR": 1.5}, {"FLAIR": 1.5, "T1w": 1.5}]
    told = [each.brightness for each in visit_positions(visits, "first-lex", threads=1)]
    assert told == [{}, {"FLAIR": 1.5}, {"FLAIR": 1.5}]


@pytest.mark.usefixtures("known_motion")
def test_unbiased_visits_meet_half_way() -> None:
    both = visit("FLAIR", "T1w")
    first, second = visit_positions([both, both], "unbiased", threads=1)
    np.testing.assert_allclose(first.pose @ second.pose, np.eye(4), atol=1e-6)
    for contrast in ("FLAIR", "T1w"):
        poses = first.of(contrast), second.of(contrast)
        np.testing.assert_allclose(mean_pose(poses), np.eye(4), atol=1e-6)


@pytest.mark.usefixtures("known_motion")
def test_a_contrast_that_only_one_visit_has_moves_with_the_others() -> None:
    _, second = visit_positions([visit("FLAIR"), visit("FLAIR", "T1w")], "first-lex", threads=1)
    assert set(second.by_contrast) == {"FLAIR"}
    np.testing.assert_array_equal(second.of("T1w"), second.pose)


def test_positions_do_not_depend_on_the_order_of_visits() -> None:
    rng = np.random.default_rng(3)
    truth = [rigid_matrix(rng.normal(scale=[5, 5, 5, 0.1, 0.1, 0.1])) for _ in range(4)]
    # Each pair is measured with an error of its own.
    wrong = {
        (i, j): rigid_matrix(rng.normal(scale=[0.2, 0.2, 0.2, 0.005, 0.005, 0.005]))
        for i in range(4)
        for j in range(i + 1, 4)
    }

    def placed(order: tuple[int, ...]) -> dict[int, Affine]:
        motions = {}
        for at, i in enumerate(order):
            for further, j in enumerate(order[at + 1 :], at + 1):
                motion = np.linalg.inv(truth[i]) @ truth[j]
                error = wrong[min(i, j), max(i, j)]
                motion = motion @ error if i < j else np.linalg.inv(error) @ motion
                motions[at, further] = motion
        poses = _positions(motions, len(order))
        to_mean = np.linalg.inv(mean_pose(poses))
        return {i: to_mean @ pose for i, pose in zip(order, poses, strict=True)}

    usual = placed((0, 1, 2, 3))
    for order in list(permutations(range(4)))[1::5]:
        other = placed(order)
        for index, pose in usual.items():
            np.testing.assert_allclose(other[index], pose, atol=1e-6)
