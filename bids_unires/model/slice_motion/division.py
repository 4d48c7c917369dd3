"""Whether a stack is split into (more) groups of slices, and into which.

To second order, the data term of a slice as a function of its pose is a gradient and a Hessian, and
those of a group are the sums over its slices. Once they are known of every slice, any division into
groups can be judged without the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..scanner.slice_groups import SliceGroup, SliceOrder, interleaved_order
from .pose import (
    PoseDerivatives,
    most_likely_steps,
    predicted_gain,
    rms_displacement,
    sum_derivatives,
)

# Root mean square motion (mm) of a group that justifies a pose of its own: less is not visible in
# slices of some mm.
WORTHWHILE_MM = 0.25
# Numbers of packages that are tried where the order of slices is not known. The first one, the
# convention of most scanners, is kept unless another one explains more by this factor.
_NUMBERS_OF_PACKAGES = (2, 1, 3, 4)
_CLEARLY_BETTER = 1.25
# They are compared with the same number of poses, a multiple of all of them.
_POSES_COMPARED = 12
_FEWEST_SLICES = 3


def divide_stack(
    order: SliceOrder,
    parts: int,
    slices: Sequence[PoseDerivatives],
    motions: NDArray[np.float64],
    worthwhile: float = WORTHWHILE_MM,
) -> tuple[SliceOrder, tuple[SliceGroup, ...]] | None:
    """Choose the groups to split a stack into.

    Parameters
    ----------
    order
        The order of its slices.
    parts
        Number of parts in time that each package of slices may be divided into.
    slices
        PoseDerivatives of every slice at its present pose.
    motions
        ``(K, 6)``, motion of every slice relative to the stack; see `motion_parameters`.
    worthwhile
        Root mean square motion (mm) of a group that justifies a pose of its own.

    Returns
    -------
    tuple or None
        The order and the groups. If the order was not certain, it is the one that explains the
        slices best. None if there is nothing to divide, or if no group would move by more than
        ``worthwhile``.
    """
    if not order.certain:
        order = _likely_order(order, slices, motions)
    groups = order.groups(parts)
    if len(groups) < 2 or min(map(len, groups)) < _FEWEST_SLICES:
        return None
    steps = most_likely_steps(*_group_evidence(groups, slices, motions))
    return (order, groups) if rms_displacement(steps).max() > worthwhile else None


def _likely_order(
    usual: SliceOrder, slices: Sequence[PoseDerivatives], motions: NDArray[np.float64]
) -> SliceOrder:
    """The order with the number of packages that explains the slices clearly better, if any."""
    gains = {}
    for number in _NUMBERS_OF_PACKAGES:
        candidate = interleaved_order(usual.count, number, usual.source)
        groups = candidate.groups(_POSES_COMPARED // number)
        gains[number] = predicted_gain(*_group_evidence(groups, slices, motions))
    best = max(_NUMBERS_OF_PACKAGES, key=lambda number: gains[number])
    if gains[best] < _CLEARLY_BETTER * gains[_NUMBERS_OF_PACKAGES[0]]:
        return usual
    kind = f"interleaved in {best}" if best > 1 else "one after the other"
    return interleaved_order(usual.count, best, f"found: slices {kind}", certain=False)


def _group_evidence(
    groups: Sequence[SliceGroup], slices: Sequence[PoseDerivatives], motions: NDArray[np.float64]
) -> tuple[list[PoseDerivatives], NDArray[np.float64]]:
    """PoseDerivatives and motions of groups, from those of every slice."""
    return sum_derivatives(slices, groups), motions[[group[0] for group in groups]]
