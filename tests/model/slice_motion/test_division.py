"""Stacks are taken apart where their slices say so, and as they say."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.model.scanner.slice_groups import interleaved_order, usual_order
from bids_unires.model.slice_motion.division import divide_stack
from bids_unires.model.slice_motion.pose import PoseDerivatives

COUNT = 24


def slices_at(where: np.ndarray, noise: float = 0.0) -> list[PoseDerivatives]:
    """PoseDerivatives of slices that each know where they were: ``(N,)`` mm along x."""
    rng = np.random.default_rng(0)
    precision = np.diag([100.0] * 3 + [1e5] * 3)
    found = []
    for shift in where:
        truth = np.zeros(6)
        truth[0] = shift
        truth[:3] += rng.normal(scale=noise, size=3)
        found.append(PoseDerivatives(-precision @ truth, precision))
    return found


def test_a_stack_that_held_still_stays_whole() -> None:
    still = slices_at(np.zeros(COUNT), noise=0.1)
    for parts in (1, 2, 4):
        assert divide_stack(usual_order(COUNT), parts, still, np.zeros((COUNT, 6))) is None


def test_packages_that_moved_are_taken_apart() -> None:
    moved = slices_at(np.where(np.arange(COUNT) % 2 == 0, 1.0, -1.0))
    found = divide_stack(usual_order(COUNT), 1, moved, np.zeros((COUNT, 6)))
    assert found is not None
    order, groups = found
    assert groups == (tuple(range(0, COUNT, 2)), tuple(range(1, COUNT, 2)))
    assert order.source.startswith("assumed")


def test_slices_that_are_where_they_belong_move_no_further() -> None:
    motions = np.zeros((COUNT, 6))
    motions[::2, 0], motions[1::2, 0] = 1.0, -1.0
    settled = slices_at(np.zeros(COUNT), noise=0.05)
    assert divide_stack(interleaved_order(COUNT, 2, "test"), 2, settled, motions) is None


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        (np.arange(COUNT) % 3 - 1.0, "interleaved in 3"),
        (np.arange(COUNT) % 4 - 1.5, "interleaved in 4"),
        (np.repeat(np.random.default_rng(1).uniform(-2, 2, 12), 2), "one after the other"),
    ],
)
def test_the_order_that_explains_the_slices_is_found(where: np.ndarray, kind: str) -> None:
    parts = 2 if "interleaved" in kind else 4
    found = divide_stack(usual_order(COUNT), parts, slices_at(where, 0.05), np.zeros((COUNT, 6)))
    assert found is not None
    assert kind in found[0].source


def test_what_is_certain_is_not_doubted() -> None:
    moved = slices_at(np.arange(COUNT) % 3 - 1.0)
    found = divide_stack(interleaved_order(COUNT, 2, "SliceTiming"), 4, moved, np.zeros((COUNT, 6)))
    assert found is None or found[0].source == "SliceTiming"


def test_groups_of_few_slices_are_not_made() -> None:
    moved = slices_at(np.array([1.0, -1.0, 1.0, -1.0, 1.0]))
    assert divide_stack(usual_order(5), 1, moved, np.zeros((5, 6))) is None
