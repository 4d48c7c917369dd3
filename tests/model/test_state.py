"""What a fit knows of a contrast stays together while it changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bids_unires.model import Observation, SliceProfile
from bids_unires.model.detail.parameters import LearningParameters
from bids_unires.model.detail.term import LearnedDetail
from bids_unires.model.scanner.slice_groups import SliceMotion
from bids_unires.model.state import with_learned_detail
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from tests.model.states import CPU, contrast_of

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
    own = detail()
    assert contrast_of([scan()], 1.0, detail=own).terms(GRID)[-1] is own.scan
    assert len(contrast_of([scan()], 1.0).terms(GRID)) == 1


def test_beside_detail_a_scan_is_believed_less_where_it_bends() -> None:
    between = Grid(GRID.shape, translation([0.5, 0.5, 0.0]))
    alone, (doubted, _) = (
        contrast_of([scan()], 1.0, detail=own).terms(between) for own in (None, detail())
    )
    assert alone[0].tau == 4.0
    assert np.max(doubted.tau) <= 4.0
    assert np.mean(doubted.tau) < 0.9 * 4.0


def test_detail_moves_with_the_only_scan_and_stays_where_repeats_move() -> None:
    for count, expected in ((1, POSE), (2, np.eye(4))):
        before = contrast_of([scan(seed) for seed in range(count)], 1.0, detail=detail())
        moved = replace(before, scans=tuple(own.at(POSE) for own in before.scans))
        after = before.placed_as(moved)
        assert after.detail is not None
        np.testing.assert_allclose(after.detail.scan.world_pose, expected)
        np.testing.assert_array_equal(after.observations[0].world_pose, POSE)


def test_a_scan_whose_slices_moved_comes_apart_and_loses_its_detail() -> None:
    whole = contrast_of([scan()], 1.0, detail=detail())
    assert whole.apart() is whole
    motion = SliceMotion(((0, 2), (1,)), (np.eye(4), POSE), "test")
    moved = replace(whole, scans=(replace(whole.scans[0], motion=motion),))
    apart = moved.apart()
    assert [own.data.shape[2] for own in apart.observations] == [2, 1]
    assert apart.detail is None
    np.testing.assert_array_equal(apart.observations[1].world_pose, POSE)


def test_repeats_and_contrasts_that_do_not_learn_are_left_alone() -> None:
    contrasts = (
        contrast_of([scan(0), scan(1)], 1.0, learning=BRIEF),
        contrast_of([scan(2)], 1.0),
    )
    assert [own.detail for own in with_learned_detail(contrasts, 1.0, CPU)] == [None, None]
