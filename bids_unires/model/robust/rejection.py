"""Which slices to believe, found in turn with what the believed ones say of all others.

Stripes are taken off first, since they tell by themselves. Then slices are weighed by how well the
others predict them, and those of very low weight rejected, until the same ones are. What a rejected
slice measured may be all there but for its brightness or its place: where undoing that
brings it in line with the others, it is believed again. Where slices of a contrast's only MR scan
then lie elsewhere than a template of the head expects, they are put there, and all are judged anew.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...space.grid import Grid
from ..intensity.noise import NoiseEstimate
from ..intensity.preprocessing import PreparedContrast, PreparedScan
from ..scanner.rejected_slices import REJECTION_WEIGHT, stood_in
from .compare import (
    adjacent,
    compare_with_predictions,
    deviations_from_accepted,
    neighbours,
    spare_neighbours_of_worse,
    student_weights,
    worse_than_interpolation,
)
from .cross_validation import (
    CrossValidation,
    average_in_plane,
    coarse_grid,
    cross_validate,
    with_repaired_slices,
)
from .repair import (
    Repairs,
    SliceRepair,
    candidate_repairs,
    lost_signal_repairs,
    repair_coarse_slices,
)
from .stripes import StripedSlice, find_stripes
from .template import Shift, find_displaced_slices_in_head
from .verdict import FEATURES, SliceVerdict, Verdicts

logger = logging.getLogger("bids_unires")

_MOST_TURNS = 8
_MENDING_TURNS = 3
_OUTERMOST = 2
# Slices of a lower weight may have gone wrong, and by how much mending has to raise it.
_SUSPECT, _BETTER_BY = 0.8, 0.1
_SAME_PLACE_MM, _SAME_LOG_FACTOR = 0.1, 0.05
_LEAST_SHIFT_MM = 0.5
# Neighbours may tell more exactly where a slice lies than a template does, which is off by so much;
# and where they tell anything, they must not be contradicted by so much more than before.
_TEMPLATE_OFF_MM, _MOST_CONTRADICTED = 1.0, 1.2
# By how much a slice is off whose stripes do not come off.
_STRIPED = 12.0
# Beside a gap in the only scan of its contrast, a slice is predicted across two slices or more.
_BESIDE_A_GAP = 0.5

Prepared = tuple[PreparedContrast, ...]

Reader = Callable[[Verdicts], Prepared]
"""Prepares the scans as verdicts on their slices have it."""

Found = TypeVar("Found")
Nested = tuple[tuple[Found, ...], ...]
"""One for each scan: (contrast, repeat)."""


def reject_and_repair_slices(
    contrasts: Prepared,
    trusting: Reader,
    grid: Grid,
    weights: Sequence[float],
    device: torch.device,
) -> tuple[Prepared, Verdicts]:
    """Find how far each slice is believed, and what can be undone of those that went wrong.

    Parameters
    ----------
    contrasts
        The scans, every slice believed.
    trusting
        Prepares them anew, given verdicts on their slices.
    grid, weights, device
        As for `cross_validate`.

    Returns
    -------
    tuple
        The scans with the weights found, their neighbours standing in for rejected slices;
        and the verdict on each scan.
    """
    predict = partial(cross_validate, grid=grid, weights=weights, device=device)
    judge = _Judge(contrasts, trusting, predict)
    judge.reject()
    judge.mend(coarse_grid(grid))
    if judge.put_back(coarse_grid(grid)):
        judge.reject()
        judge.mend(coarse_grid(grid))
    return _filled(judge.contrasts), judge.verdicts


def apply_verdicts(trusting: Reader, verdicts: Verdicts) -> Prepared:
    """The scans with weights of slices that were found before.

    Parameters
    ----------
    trusting
        Prepares the scans, given verdicts on their slices.
    verdicts
        On each scan.
    """
    return _filled(trusting(verdicts))


@dataclass(frozen=True, eq=False)
class _Exhibit:
    """A scan before its judge.

    ``is_alone`` says whether no other scan shows its contrast, and ``striped`` which slices have
    stripes.
    """

    scan: PreparedScan
    is_alone: bool
    striped: Mapping[int, StripedSlice]

    @property
    def noise(self) -> NoiseEstimate:
        return self.scan.state.noise


class _Judge:
    """Verdicts, and the scans as they have them, on their way to each other.

    Parameters
    ----------
    contrasts, trusting
        As for `reject_and_repair_slices`.
    predict
        What `cross_validate` predicts of prepared scans.
    """

    def __init__(
        self,
        contrasts: Prepared,
        trusting: Reader,
        predict: Callable[[Prepared], Nested[CrossValidation]],
    ) -> None:
        self._trusting = trusting
        self._predict = predict
        self._exhibits = tuple(
            tuple(_Exhibit(scan, len(own.scans) == 1, _striped(scan)) for scan in own.scans)
            for own in contrasts
        )
        self._first = _each(_before_comparison, self._exhibits)
        self._trust(self._first)
        self._compared = predict(self.contrasts)

    def reject(self) -> None:
        """Judge by predictions from what is believed, until that does not change any more."""
        for turn in range(1, _MOST_TURNS + 1):
            before = self.verdicts
            judged = _each(_off, self._exhibits, self._compared, before)
            verdicts = _each(_verdict, self._exhibits, before, judged)
            if turn < _MOST_TURNS:
                verdicts = _each(_with_worst_first, before, verdicts)
            self._trust(verdicts)
            logger.debug("slices rejected in turn %d: %s", turn, _rejected(verdicts))
            if _rejected(verdicts) == _rejected(before):
                break
            self._compared = self._predict(self.contrasts)

    def mend(self, coarse: Grid) -> None:
        """Mend rejected slices, and believe those that fit in with the others after that.

        ``coarse`` is the grid of the fits.
        """
        unmended, settled, compared = self._exhibits, self.verdicts, self._compared
        for _ in range(_MENDING_TURNS):
            before = self.verdicts
            self._trust(_each(_mended, unmended, settled, compared))
            if all(map(all, _each(_same_repairs, self.verdicts, before))):
                break
            # Slices beside mended ones are predicted better, and tell more of these.
            predicted = self._predict(self.contrasts)
            compared = _each(partial(_shown, coarse=coarse), predicted, unmended)

    def put_back(self, coarse: Grid) -> bool:
        """Put slices of a contrast's only MR scan where a template expects them, and start anew.

        Returns
        -------
        bool
            Whether any lies elsewhere now.
        """
        shifts = _each(partial(_displaced, coarse=coarse), self._exhibits)
        if not any(map(any, shifts)):
            return False
        likely = _each(_likely, self._exhibits, self._predict(self.contrasts), shifts)
        if not any(map(any, likely)):
            return False
        self._trust(_each(_with_shifts, self._first, self.verdicts, likely))
        self._compared = self._predict(self.contrasts)
        return True

    def _trust(self, verdicts: Verdicts) -> None:
        self.verdicts = verdicts
        self.contrasts = self._trusting(verdicts)
        scans = tuple(own.scans for own in self.contrasts)
        self._exhibits = _each(lambda seen, scan: replace(seen, scan=scan), self._exhibits, scans)


def _shown(parts: CrossValidation, exhibit: _Exhibit, coarse: Grid) -> CrossValidation:
    """The same predictions beside what a scan shows."""
    return with_repaired_slices(parts, exhibit.scan.observation, coarse)


def _striped(scan: PreparedScan) -> Mapping[int, StripedSlice]:
    """Stripes on a scan's slices; magnitudes alone have them."""
    observation = scan.observation
    if not observation.zero_is_missing:
        return {}
    slices = np.moveaxis(scan.volume.data, observation.slice_axis, 0)
    return find_stripes(slices, scan.noise.halfway)


def _before_comparison(exhibit: _Exhibit) -> SliceVerdict:
    """Every slice is believed but for those whose stripes do not come off."""
    scan, striped = exhibit.scan.observation, exhibit.striped
    count = scan.data.shape[scan.slice_axis]
    off = _with_stripes_left(np.zeros((count, len(FEATURES))), striped)
    repairs = {
        k: SliceRepair(stripes=own.stripes) for k, own in striped.items() if _comes_off(striped, k)
    }
    return SliceVerdict(scan.slice_axis, student_weights(off), off, repairs)


def _displaced(exhibit: _Exhibit, coarse: Grid) -> Mapping[int, Shift]:
    """Slices of a contrast's only MR scan that lie elsewhere than a template of the head has them.

    Repeats tell it better, and for CT it has not been tried.
    """
    scan = exhibit.scan.observation
    if not exhibit.is_alone or not scan.zero_is_missing:
        return {}
    return find_displaced_slices_in_head(average_in_plane(scan, coarse)[0], exhibit.noise.halfway)


def _likely(
    exhibit: _Exhibit, parts: CrossValidation, shifts: Mapping[int, Shift]
) -> Mapping[int, Shift]:
    """Shifts of slices, more exact where their neighbours tell; without those that they deny."""
    noise = exhibit.noise
    found = {k: _placed(parts, k, shift, noise.halfway) for k, shift in shifts.items()}
    repaired = repair_coarse_slices(parts, {k: SliceRepair(shift=own) for k, own in found.items()})
    there, back = (
        compare_with_predictions(seen, noise.halfway).contradicted for seen in (parts, repaired)
    )
    return {k: own for k, own in found.items() if not back[k] > _MOST_CONTRADICTED * there[k]}


def _placed(parts: CrossValidation, k: int, shift: Shift, threshold: float) -> Shift:
    for repair in candidate_repairs(parts, k, threshold):
        if any(repair.shift) and math.dist(repair.shift, shift) < _TEMPLATE_OFF_MM:
            return repair.shift
    return shift


def _with_shifts(
    first: SliceVerdict, settled: SliceVerdict, shifts: Mapping[int, Shift]
) -> SliceVerdict:
    """What was thought first, and shifts of slices beside those undone already."""
    repairs = dict(first.repairs)
    for k, shift in shifts.items():
        so_far = SliceRepair(shift=settled.repairs.get(k, SliceRepair()).shift)
        further = so_far.and_then(SliceRepair(shift=shift))
        repairs[k] = repairs.get(k, SliceRepair()).and_then(further)
    logger.debug("slices put where a template expects them: %s", dict(shifts))
    return replace(first, repairs=_worth_doing(repairs))


def _worth_doing(repairs: Repairs) -> Repairs:
    """Without shifts that nearly undo each other: to move a slice blurs it and costs its rim."""
    kept = {
        k: replace(own, shift=(0.0, 0.0)) if math.hypot(*own.shift) < _LEAST_SHIFT_MM else own
        for k, own in repairs.items()
    }
    return {k: own for k, own in kept.items() if own != SliceRepair()}


def _with_stripes_left(
    off: NDArray[np.float64], striped: Mapping[int, StripedSlice]
) -> NDArray[np.float64]:
    spoiled = [k for k in striped if not _comes_off(striped, k)]
    result = off.copy()
    result[spoiled, FEATURES.index("stripes")] = _STRIPED
    return result


def _comes_off(striped: Mapping[int, StripedSlice], k: int) -> bool:
    """Whether all the stripes of a slice come off, if it has any."""
    return k not in striped or striped[k].settled


def _off(exhibit: _Exhibit, parts: CrossValidation, before: SliceVerdict) -> NDArray[np.float64]:
    believed = _believed(before)
    off = deviations_from_accepted(compare_with_predictions(parts, exhibit.noise.halfway), believed)
    if exhibit.is_alone:
        off[adjacent(~believed)] *= _BESIDE_A_GAP
    return off


def _verdict(exhibit: _Exhibit, before: SliceVerdict, off: NDArray[np.float64]) -> SliceVerdict:
    off = _with_stripes_left(off, exhibit.striped)
    return replace(before, weights=student_weights(off), deviations=off)


def _with_worst_first(before: SliceVerdict, verdict: SliceVerdict) -> SliceVerdict:
    return replace(verdict, weights=spare_neighbours_of_worse(verdict.weights, _believed(before)))


def _believed(verdict: SliceVerdict) -> NDArray[np.bool_]:
    return verdict.weights >= REJECTION_WEIGHT


def _mended(exhibit: _Exhibit, settled: SliceVerdict, parts: CrossValidation) -> SliceVerdict:
    """A verdict, but for slices that are believed once they are mended as simply as possible."""
    noise, striped = exhibit.noise, exhibit.striped
    compared = compare_with_predictions(parts, noise.halfway)
    usable = np.flatnonzero(np.isfinite(compared.unexplained)).tolist()
    suspects = [k for k in usable if settled.weights[k] < _SUSPECT and _comes_off(striped, k)]
    # Beyond the outermost slices nothing tells how brightness and place go on.
    inner = usable[_OUTERMOST:-_OUTERMOST]
    reference = np.flatnonzero(np.isfinite(compared.unexplained) & _believed(settled))
    possible = {
        k: [
            *(candidate_repairs(parts, k, noise.halfway) if k in inner else [SliceRepair()]),
            *lost_signal_repairs(parts, k, neighbours(k, reference).tolist()),
        ]
        for k in suspects
    }
    weights, off = settled.weights.copy(), settled.deviations.copy()
    found: dict[int, SliceRepair] = {}
    for turn in range(max(map(len, possible.values()), default=0)):
        tried = {k: own[turn] for k, own in possible.items() if turn < len(own)}
        off_then = _off(exhibit, repair_coarse_slices(parts, tried), settled)
        weights_then = student_weights(off_then)
        for k, repair in tried.items():
            least = max(settled.weights[k] + _BETTER_BY, REJECTION_WEIGHT)
            if weights_then[k] >= least and weights[k] < _SUSPECT and weights_then[k] > weights[k]:
                weights[k], off[k], found[k] = weights_then[k], off_then[k], repair
    if exhibit.is_alone:
        spared = ~worse_than_interpolation(compared, _believed(settled))
        spared[[k for k in striped if not _comes_off(striped, k)]] = False
        weights[spared] = np.maximum(weights[spared], REJECTION_WEIGHT)
    further = {
        k: settled.repairs.get(k, SliceRepair()).and_then(own)
        for k, own in found.items()
        if own != SliceRepair()
    }
    repairs = _worth_doing({**settled.repairs, **further})
    return replace(settled, weights=weights, deviations=off, repairs=repairs)


def _same_repairs(verdict: SliceVerdict, before: SliceVerdict) -> bool:
    if verdict.repairs.keys() != before.repairs.keys():
        return False
    pairs = [(own, before.repairs[k]) for k, own in verdict.repairs.items()]
    return all(
        math.dist(own.shift, then.shift) < _SAME_PLACE_MM
        and abs(math.log(own.factor / then.factor)) < _SAME_LOG_FACTOR
        for own, then in pairs
    )


def _filled(contrasts: Prepared) -> Prepared:
    """With neighbours standing in for rejected slices."""
    return tuple(
        own.of(stood_in(own.observations, [scan.state.noise.halfway for scan in own.scans]))
        for own in contrasts
    )


def _rejected(verdicts: Verdicts) -> Nested[tuple[int, ...]]:
    return _each(lambda verdict: verdict.rejected, verdicts)


def _each(find: Callable[..., Found], *nested: Sequence[Sequence[Any]]) -> Nested[Found]:
    """What a function finds of each scan, given what is known of it; nested like the scans."""
    return tuple(
        tuple(find(*parts) for parts in zip(*own, strict=True)) for own in zip(*nested, strict=True)
    )
