"""Stacks are split into groups of slices, and their values merged again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.model import ForwardOperator, Observation, SliceProfile
from bids_unires.model.scanner.slice_groups import (
    interleaved_order,
    merge_slices,
    order_of_times,
    predict_scan,
    select_slices,
)
from bids_unires.space.affines import scaling, translation
from bids_unires.space.grid import Grid
from bids_unires.space.rigid import rigid_matrix
from tests.model.states import motion_of

TARGET = Grid((30, 28, 26), translation([-15, -14, -13]))
POSE = rigid_matrix([0.4, -0.3, 0.2, 0.03, -0.02, 0.04])


def stack(
    axis: int, spacing: float = 4.0, gap: float = 0.0, interleave: float = 0.0
) -> Observation:
    sizes, sides = np.full(3, 1.1), np.array([22, 20, 18])
    sizes[axis], sides[axis] = spacing, 7
    affine = scaling(sizes) @ translation(-(sides - 1) / 2)
    data = np.random.default_rng(0).uniform(1, 2, sides).astype(np.float32)
    profile = SliceProfile("dirac", "rect", gap=gap, axis=axis)
    return Observation(data, affine, 2.0, profile, POSE, interleave)


def image() -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(1).uniform(size=TARGET.shape).astype(np.float32))


def operator(scan: Observation) -> ForwardOperator:
    return ForwardOperator(
        TARGET, scan.grid, pose=scan.pose, profile=scan.profile, interleave=scan.interleave
    )


GROUPS = (((0, 2, 4, 6), (1, 3, 5)), ((0, 1, 2), (3, 4, 5, 6)), ((0, 3, 6), (1, 2, 5), (4,)))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(("spacing", "gap"), [(4.0, 0.0), (4.0, 0.2), (4.7, 0.1), (3.0, -0.3)])
def test_groups_are_predicted_as_in_the_stack(
    axis: int, groups: tuple[tuple[int, ...], ...], spacing: float, gap: float
) -> None:
    whole = stack(axis, spacing, gap)
    predictions = [
        (group, operator(select_slices(whole, group)).forward(image()).numpy()) for group in groups
    ]
    expected = operator(whole).forward(image()).numpy()
    found = merge_slices(predictions, whole.grid, axis)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("interleave", [0.0, 0.1])
def test_data_terms_of_groups_add_up_to_that_of_the_stack(
    groups: tuple[tuple[int, ...], ...], interleave: float
) -> None:
    from bids_unires.model import Objective

    whole = stack(2, interleave=interleave)
    values, gradients = [], []
    for scans in ([whole], [select_slices(whole, group) for group in groups]):
        objective = Objective([scans], TARGET, [0.1], torch.device("cpu"))
        gradient = torch.zeros(TARGET.shape)
        values.append(objective.add_data_gradient(0, image(), gradient))
        gradients.append(gradient.numpy())
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


def test_slices_that_run_backwards_are_the_same_slices() -> None:
    whole = stack(1)
    turned = replace(
        whole,
        data=np.ascontiguousarray(whole.data[:, ::-1]),
        affine=whole.affine @ translation([0, 6, 0]) @ scaling([1, -1, 1]),
    )
    forth = operator(select_slices(whole, (0, 2, 6))).forward(image()).numpy()
    back = operator(select_slices(turned, (0, 4, 6))).forward(image()).numpy()
    # Groups (0, 2, 6) and (0, 4, 6) are held by the slices 0, 2, 4, 6 of either stack.
    np.testing.assert_allclose(back[:, ::-1], forth, rtol=1e-4, atol=1e-5)


def test_slices_between_those_of_a_group_are_missing() -> None:
    part = select_slices(stack(2), (1, 3, 6))
    assert part.data.shape[2] == 6
    assert np.flatnonzero(~part.missing.all(axis=(0, 1))).tolist() == [0, 2, 5]
    regular = select_slices(stack(2), (1, 4))
    assert (regular.data.shape[2], regular.profile.every) == (2, 3)
    assert not regular.missing.any()


def test_one_slice_is_a_group() -> None:
    part = select_slices(stack(0), (4,))
    np.testing.assert_array_equal(part.data[0], stack(0).data[4])
    np.testing.assert_allclose(part.affine, stack(0).affine @ translation([4, 0, 0]))


def test_precisions_of_voxels_follow_their_slices() -> None:
    grid = stack(2).grid
    tau = np.random.default_rng(2).uniform(size=grid.shape).astype(np.float32)
    whole = replace(stack(2), tau=tau)
    taus = [(group, select_slices(whole, group).tau) for group in GROUPS[0]]
    np.testing.assert_array_equal(merge_slices(taus, grid, 2), tau)


@pytest.mark.parametrize("interleave", [0.0, -0.2])
def test_a_motion_that_is_none_predicts_the_same(interleave: float) -> None:
    scan = stack(2, interleave=interleave)
    still = motion_of(GROUPS[0], [np.eye(4), np.eye(4)])
    plain = predict_scan(scan, None, TARGET, image())
    np.testing.assert_allclose(predict_scan(scan, still, TARGET, image()), plain, rtol=1e-5)
    nod = motion_of(GROUPS[0], [np.eye(4), translation([0, 2, 0])])
    moved = predict_scan(scan, nod, TARGET, image())
    np.testing.assert_allclose(moved[:, :, ::2], plain[:, :, ::2], rtol=1e-5)
    assert np.abs(moved[:, :, 1::2] - plain[:, :, 1::2]).max() > 0.05


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 9))
def test_groups_of_an_order_are_a_partition(count: int, step: int, parts: int) -> None:
    groups = interleaved_order(count, step, "test").groups(parts)
    assert sorted(index for group in groups for index in group) == list(range(count))
    assert all(group == tuple(sorted(group)) for group in groups)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=40))
def test_any_times_give_a_partition(times: list[float]) -> None:
    order = order_of_times(times, "test")
    groups = order.groups(2)
    assert order.count == len(times)
    assert sorted(index for group in groups for index in group) == list(range(len(times)))
    together = {index: group for group in groups for index in group}
    for one, time in enumerate(times):
        for other in range(one):
            if times[other] == time:
                assert together[one] == together[other]


@pytest.mark.parametrize(
    ("times", "packages"),
    [
        ([0, 1, 2, 3, 4, 5], ((0, 1, 2, 3, 4, 5),)),
        ([5, 4, 3, 2, 1, 0], ((0, 1, 2, 3, 4, 5),)),
        ([0, 3, 1, 4, 2, 5], ((0, 2, 4), (1, 3, 5))),
        ([3, 0, 4, 1, 5, 2], ((1, 3, 5), (0, 2, 4))),
        ([0, 2, 1, 3, 0, 2, 1, 3], ((0, 2, 4, 6), (1, 3, 5, 7))),
    ],
)
def test_packages_of_times(times: list[float], packages: tuple[tuple[int, ...], ...]) -> None:
    assert order_of_times(times, "test").groups(1) == packages


def test_parts_of_a_package_follow_time() -> None:
    assert order_of_times([5, 4, 3, 2, 1, 0], "test").groups(2) == ((3, 4, 5), (0, 1, 2))
