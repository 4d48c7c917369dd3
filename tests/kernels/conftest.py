"""Scans of every orientation, resolution and slice profile, drawn by hypothesis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from bids_unires.model.scanner.forward import ForwardOperator
from bids_unires.model.scanner.profile import SHAPES, Shape1D, SliceProfile
from bids_unires.space.affines import Affine, scaling, translation
from bids_unires.space.grid import Grid

OperatorMaker = Callable[..., ForwardOperator]

SMALL = 12


def number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False)


@st.composite
def motions(draw: st.DrawFn) -> Affine:
    """Rigid motions: any rotation, and none along some axes."""
    matrix = np.eye(4)
    for plane, angle in enumerate(draw(st.tuples(*[number(-math.pi, math.pi)] * 3))):
        rotation = np.eye(4)
        a, b = [axis for axis in range(3) if axis != plane]
        rotation[[a, a, b, b], [a, b, a, b]] = (
            math.cos(angle),
            -math.sin(angle),
            math.sin(angle),
            math.cos(angle),
        )
        matrix = rotation @ matrix
    matrix[:3, 3] = draw(st.tuples(*[number(-5, 5)] * 3))
    return matrix


def small_motion(motion: Affine) -> Affine:
    """A few degrees and millimetres in the place of any rotation."""
    left, _, right = np.linalg.svd(np.eye(3) + 0.1 * motion[:3, :3])
    matrix = np.eye(4)
    matrix[:3, :3] = left @ right
    matrix[:3, 3] = 0.3 * motion[:3, 3]
    return matrix


@st.composite
def sources(draw: st.DrawFn, target: Grid) -> Grid:
    """Scan grids: axes stored in any order and direction, up to six target voxels long."""
    steps = draw(st.tuples(*[st.integers(1, 6)] * 3))
    shrink = draw(st.tuples(*[st.sampled_from([0.0, 0.05, 0.4])] * 3))
    axes = draw(st.permutations(range(3)))
    flips = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    shape = tuple(draw(st.integers(1, max(1, SMALL // step))) for step in steps)
    sizes = target.voxel_size[list(axes)] * (np.array(steps) - shrink)
    offset = np.array(draw(st.tuples(*[number(-1.2, 1.2)] * 3))) * target.shape * target.voxel_size
    stored = np.eye(4)[:, [*axes, 3]] @ scaling(flips * sizes)
    return Grid(
        (shape[0], shape[1], shape[2]),
        translation(offset) @ stored @ translation(-(np.array(shape) - 1) / 2),
    )


@st.composite
def operator_makers(draw: st.DrawFn, in_plane: tuple[Shape1D, ...] = SHAPES) -> OperatorMaker:
    """Functions that make the operator of one scan with the backend they are given."""
    shape = tuple(draw(st.integers(1, SMALL)) for _ in range(3))
    voxel_size = draw(st.tuples(*[st.sampled_from([1.0, 0.7, 1.5])] * 3))
    centre = translation(-(np.array(shape) - 1) / 2)
    target = Grid((shape[0], shape[1], shape[2]), scaling(voxel_size) @ centre)
    motion = draw(motions())
    profile = SliceProfile(
        draw(st.sampled_from(in_plane)),
        draw(st.sampled_from(SHAPES)),
        gap=draw(st.sampled_from([0.0, 0.2, 0.5, -0.25])),
        axis=draw(st.sampled_from([None, 0, 1, 2])),
    )
    return partial(
        ForwardOperator,
        target,
        draw(sources(target)),
        pose=draw(st.sampled_from([None, motion, small_motion(motion)])),
        profile=profile,
        interleave=draw(st.sampled_from([0.0, 0.1, -0.05])),
    )


@pytest.fixture(scope="session")
def operators() -> st.SearchStrategy[OperatorMaker]:
    """Strategy of operators in general."""
    return operator_makers()


@pytest.fixture(scope="session")
def thick_slice_operators() -> st.SearchStrategy[OperatorMaker]:
    """Strategy of operators blurred along one axis at most."""
    return operator_makers(in_plane=("dirac",))


@pytest.fixture(autouse=True)
def thread_count() -> Iterator[Callable[[int], None]]:
    """Setting the number of threads; one at the start, since most images here are tiny."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch.set_num_threads
    torch.set_num_threads(before)
