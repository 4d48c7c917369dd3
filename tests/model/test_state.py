"""The state of a contrast: its scans, detail and motion of slices change together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bids_unires.model import Observation, SliceProfile
from bids_unires.model.detail.parameters import LearningParameters
from bids_unires.model.detail.term import LearnedDetail
from bids_unires.model.state import with_learned_detail
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from tests.model.states import CPU, contrast_of, motion_of

SIDE = 12
GRID = Grid((SIDE,) * 3, np.eye(4))
POSE = rigid_matrix([1.0, -2.0, 0.5, 0.1, 0.0, 0.0])
BRIEF = LearningParameters.of("brief")


def scan(seed: int = 0) -> Observation:
    data = np.random.default_rng(seed).uniform(50, 150, (SIDE, SIDE, SIDE // 4))
    affine = translation([0, 0, 1.5]) @ scaling([1, 1, 4])
    return Observation(data.astype(np.float32), affine, 4.0, SliceProfile("point", "rect", axis=2))


def detail() -> LearnedDetail:
    return LearnedDetail(Observation(np.ones(GRID.shape, np.float32), GRID.affine), None)


def test_detail_is_one_more_scan_to_the_fit() -> None:
    learned = detail()
    assert contrast_of([scan()], 1.0, detail=learned).terms(GRID)[-1] is learned.scan
    assert len(contrast_of([scan()], 1.0).terms(GRID)) == 1


def test_with_detail_a_scan_has_less_precision_where_it_is_curved() -> None:
    between = Grid(GRID.shape, translation([0.5, 0.5, 0.0]))
    alone, (with_detail, _) = (
        contrast_of([scan()], 1.0, detail=learned).terms(between) for learned in (None, detail())
    )
    assert alone[0].tau == 4.0
    assert np.max(with_detail.tau) <= 4.0
    assert np.mean(with_detail.tau) < 0.9 * 4.0


def test_detail_moves_with_the_only_scan_and_stays_where_repeats_move() -> None:
    for count, expected in ((1, POSE), (2, np.eye(4))):
        before = contrast_of([scan(seed) for seed in range(count)], 1.0, detail=detail())
        moved = replace(before, scans=tuple(one.at_pose(POSE) for one in before.scans))
        after = before.with_poses_of(moved)
        assert after.detail is not None
        np.testing.assert_allclose(after.detail.scan.world_pose, expected)
        np.testing.assert_array_equal(after.observations[0].world_pose, POSE)


def test_a_scan_whose_slices_moved_is_split_and_loses_its_detail() -> None:
    whole = contrast_of([scan()], 1.0, detail=detail())
    assert whole.split_by_motion() is whole
    motion = motion_of([(0, 2), (1,)], [np.eye(4), POSE])
    moved = replace(whole, scans=(replace(whole.scans[0], motion=motion),))
    split = moved.split_by_motion()
    assert [part.data.shape[2] for part in split.observations] == [2, 1]
    assert split.detail is None
    np.testing.assert_array_equal(split.observations[1].world_pose, POSE)


def test_repeats_and_contrasts_that_do_not_learn_are_left_alone() -> None:
    contrasts = (
        contrast_of([scan(0), scan(1)], 1.0, learning=BRIEF),
        contrast_of([scan(2)], 1.0),
    )
    learned = with_learned_detail(contrasts, 1.0, CPU)
    assert [contrast.detail for contrast in learned] == [None, None]
