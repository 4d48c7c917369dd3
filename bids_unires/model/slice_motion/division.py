"""Whether a stack is worth taking apart (further), and into which slices.

The slices themselves say so. To first order, what each of them says about its pose is a
gradient and a Hessian, and those of a group are the sums over its slices. So once these are
known for every slice, any way to group them is judged without looking at the data again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..scanner.slice_groups import SliceGroup, SliceOrder, interleaved_order
from .pose import Evidence, most_likely_steps, predicted_gain, rms_displacement, sum_evidence

# Root mean square motion (mm) of a part of a stack that is worth a pose of its own: less does
# not show in slices of some mm.
WORTHWHILE_MM = 0.25
# Packages that the slices may have come in where nobody says. The first is the convention of
# most scanners, and stays unless another number explains this much more.
_NUMBERS_OF_PACKAGES = (2, 1, 3, 4)
_CLEARLY_BETTER = 1.25
# They are compared by as many poses each, which 1, 2, 3 and 4 divide.
_POSES_COMPARED = 12
_FEWEST_SLICES = 3


def divide_stack(
    order: SliceOrder,
    parts: int,
    slices: Sequence[Evidence],
    motions: NDArray[np.float64],
    worthwhile: float = WORTHWHILE_MM,
) -> tuple[SliceOrder, tuple[SliceGroup, ...]] | None:
    """Into which groups to take a stack apart.

    Parameters
    ----------
    order
        What is known of the order of its slices.
    parts
        Into how many parts in time each package of slices may be divided.
    slices
        Evidence of every slice where it lies now.
    motions
        ``(N, 6)``, where every slice lies relative to the stack; see `slice_pose`.
    worthwhile
        Root mean square motion (mm) of a group that is worth a pose of its own.

    Returns
    -------
    tuple or None
        The order, where it was not certain the one that explains most, and the groups; None
        if there is nothing to divide, or no group would move by more than ``worthwhile``.
    """
    if not order.certain:
        order = _likely_order(order, slices, motions)
    groups = order.groups(parts)
    if len(groups) < 2 or min(map(len, groups)) < _FEWEST_SLICES:
        return None
    steps = most_likely_steps(*_of(groups, slices, motions))
    return (order, groups) if rms_displacement(steps).max() > worthwhile else None


def _likely_order(
    usual: SliceOrder, slices: Sequence[Evidence], motions: NDArray[np.float64]
) -> SliceOrder:
    """The number of packages that explains the slices, where it does so clearly better."""
    gains = {}
    for number in _NUMBERS_OF_PACKAGES:
        candidate = interleaved_order(usual.count, number, usual.source)
        groups = candidate.groups(_POSES_COMPARED // number)
        gains[number] = predicted_gain(*_of(groups, slices, motions))
    best = max(_NUMBERS_OF_PACKAGES, key=lambda number: gains[number])
    if gains[best] < _CLEARLY_BETTER * gains[_NUMBERS_OF_PACKAGES[0]]:
        return usual
    kind = f"interleaved in {best}" if best > 1 else "one after the other"
    return interleaved_order(usual.count, best, f"found: slices {kind}", certain=False)


def _of(
    groups: Sequence[SliceGroup], slices: Sequence[Evidence], motions: NDArray[np.float64]
) -> tuple[list[Evidence], NDArray[np.float64]]:
    return sum_evidence(slices, groups), motions[[group[0] for group in groups]]
