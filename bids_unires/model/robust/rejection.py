"""Which slices are rejected, and which are repaired.

Stripes are removed first, since they are found without any prediction. Then slices get weights by
how well the others predict them, and slices of very low weight are rejected. Predictions change
without them, so this is repeated until the same slices are rejected. A rejected slice may be intact
except for its brightness or its position. If a repair brings it in line with the others, it is
accepted again. At last, the only MR scan of a contrast is compared with a template of the head; if
slices are displaced, they are put back, and all slices are judged again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...space.grid import Grid
from ..intensity.noise import NoiseEstimate
from ..intensity.preprocessing import PreparedContrast, PreparedScan
from ..scanner.rejected_slices import REJECTION_WEIGHT
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
    coarse_grid,
    cross_validate,
    with_repaired_slices,
)
from .displacement import confirmed_shifts, put_back, shifts_by_template
from .repair import (
    SliceRepair,
    candidate_repairs,
    lost_signal_repairs,
    repair_coarse_slices,
    without_small_shifts,
)
from .stripes import StripedSlice, find_stripes
from .verdict import FEATURES, SliceVerdict, Verdicts

logger = logging.getLogger("bids_unires")

_MOST_TURNS = 8
_REPAIR_TURNS = 3
_OUTERMOST = 2
# Repairs are tried of slices of a lower weight than this, and have to raise it by this much.
_SUSPECT, _BETTER_BY = 0.8, 0.1
_SAME_PLACE_MM, _SAME_LOG_FACTOR = 0.1, 0.05
# Deviation of a slice whose stripes cannot be removed.
_STRIPED = 12.0
# Factor on deviations next to a gap in the only scan of a contrast: predictions are worse there.
_BESIDE_A_GAP = 0.5

Prepared = tuple[PreparedContrast, ...]

Preparation = Callable[[Verdicts], Prepared]
"""Prepares the scans with the weights and repairs of verdicts."""

Found = TypeVar("Found")
Nested = tuple[tuple[Found, ...], ...]
"""One value for each scan: (contrast, repeat)."""


def reject_and_repair_slices(
    contrasts: Prepared,
    prepare: Preparation,
    grid: Grid,
    weights: Sequence[float],
    device: torch.device,
) -> tuple[Prepared, Verdicts]:
    """Find the weight of every slice, and the repairs of damaged slices.

    Parameters
    ----------
    contrasts
        The scans, every slice of weight 1.
    prepare
        Prepares them again, given verdicts on their slices.
    grid, weights, device
        As for `cross_validate`.

    Returns
    -------
    tuple
        The scans with repaired slices and the weights found, rejected slices interpolated; and the
        verdict on each scan.
    """
    validate = partial(cross_validate, grid=grid, weights=weights, device=device)
    coarse = coarse_grid(grid)
    judge = _Judge(contrasts, prepare, validate)
    judge.reject()
    judge.repair(coarse)
    if judge.put_back_displaced(coarse):
        judge.reject()
        judge.repair(coarse)
    return _with_interpolated_slices(judge.contrasts), judge.verdicts


def apply_verdicts(prepare: Preparation, verdicts: Verdicts) -> Prepared:
    """The scans with weights and repairs of slices that were found before.

    Parameters
    ----------
    prepare
        Prepares the scans, given verdicts on their slices.
    verdicts
        For each contrast, the verdicts on its scans.
    """
    return _with_interpolated_slices(prepare(verdicts))


def _with_interpolated_slices(contrasts: Prepared) -> Prepared:
    return tuple(contrast.with_interpolated_slices() for contrast in contrasts)


@dataclass(frozen=True, eq=False)
class _Case:
    """A scan and the verdict on its slices.

    Attributes
    ----------
    place
        Its indices: contrast and repeat.
    scan
        The scan with the weights and repairs of the verdict.
    is_alone
        Whether its contrast has no other scan.
    striped
        Stripes by index of the slice.
    initial
        The verdict before any comparison with predictions.
    verdict
        The present verdict.
    """

    place: tuple[int, int]
    scan: PreparedScan
    is_alone: bool
    striped: Mapping[int, StripedSlice]
    initial: SliceVerdict
    verdict: SliceVerdict

    @classmethod
    def of(cls, scan: PreparedScan, place: tuple[int, int], *, is_alone: bool) -> _Case:
        """A scan before any comparison."""
        striped = _find_stripes(scan)
        initial = _initial_verdict(scan, striped)
        return cls(place, scan, is_alone, striped, initial, initial)

    @property
    def noise(self) -> NoiseEstimate:
        return self.scan.state.noise

    def select(self, nested: Nested[Found]) -> Found:
        """Of values of all scans, the one of this scan."""
        contrast, repeat = self.place
        return nested[contrast][repeat]


class _Judge:
    """The verdicts on all scans, and the scans with their weights and repairs.

    Parameters
    ----------
    contrasts, prepare
        As for `reject_and_repair_slices`.
    validate
        `cross_validate` of prepared scans.
    """

    def __init__(
        self,
        contrasts: Prepared,
        prepare: Preparation,
        validate: Callable[[Prepared], Nested[CrossValidation]],
    ) -> None:
        self.contrasts = contrasts
        self._prepare = prepare
        self._validate = validate
        self._accept(
            _Case.of(scan, (c, n), is_alone=len(contrast.scans) == 1)
            for c, contrast in enumerate(contrasts)
            for n, scan in enumerate(contrast.scans)
        )
        self._validations = validate(self.contrasts)

    @property
    def verdicts(self) -> Verdicts:
        """For each contrast, the verdicts on its scans."""
        return self._nested(case.verdict for case in self._cases)

    def reject(self) -> None:
        """Reject slices by their deviations from predictions, until the same ones are rejected."""
        for turn in range(1, _MOST_TURNS + 1):
            before = self.verdicts
            # In the last turn, no slice is spared: its verdict is final.
            spare = turn < _MOST_TURNS
            self._accept(
                _judged(case, case.select(self._validations), spare=spare) for case in self._cases
            )
            logger.debug("slices rejected in turn %d: %s", turn, _rejected(self.verdicts))
            if _rejected(self.verdicts) == _rejected(before):
                break
            self._validations = self._validate(self.contrasts)

    def repair(self, coarse: Grid) -> None:
        """Repair rejected slices, and accept those that agree with the others then.

        Parameters
        ----------
        coarse
            Grid of the fits, `coarse_grid`.
        """
        unrepaired, validations = self._cases, self._validations
        for _ in range(_REPAIR_TURNS):
            before = self.verdicts
            self._accept(_repaired(case, case.select(validations)) for case in unrepaired)
            if all(_same_repairs(case.verdict, case.select(before)) for case in self._cases):
                break
            # Next to repaired slices, predictions are better, and so are repairs found with them.
            predicted = self._validate(self.contrasts)
            validations = self._nested(
                with_repaired_slices(case.select(predicted), case.scan.observation, coarse)
                for case in unrepaired
            )

    def put_back_displaced(self, coarse: Grid) -> bool:
        """Put slices of the only MR scan of a contrast where a template shows their anatomy.

        Parameters
        ----------
        coarse
            Grid of the fits, `coarse_grid`.

        Returns
        -------
        bool
            Whether any slice was moved. All other findings are discarded then.
        """
        by_template = {
            case: shifts_by_template(case.scan.observation, case.noise.halfway, coarse)
            # Repeats show displacements better.
            for case in self._cases
            if case.is_alone
        }
        if not any(by_template.values()):
            return False
        validations = self._validate(self.contrasts)
        shifts = {
            case: confirmed_shifts(case.select(validations), found, case.noise.halfway)
            for case, found in by_template.items()
        }
        if not any(shifts.values()):
            return False
        self._accept(
            replace(case, verdict=put_back(case.initial, case.verdict, shifts.get(case, {})))
            for case in self._cases
        )
        self._validations = self._validate(self.contrasts)
        return True

    def _accept(self, cases: Iterable[_Case]) -> None:
        """Prepare the scans with the verdicts of these cases, of all scans in order."""
        self._cases = tuple(cases)
        self.contrasts = self._prepare(self.verdicts)
        scans = tuple(contrast.scans for contrast in self.contrasts)
        self._cases = tuple(replace(case, scan=case.select(scans)) for case in self._cases)

    def _nested(self, values: Iterable[Found]) -> Nested[Found]:
        """Values of all scans in order, as one tuple for each contrast."""
        left = iter(values)
        return tuple(tuple(islice(left, len(contrast.scans))) for contrast in self.contrasts)


def _find_stripes(scan: PreparedScan) -> Mapping[int, StripedSlice]:
    """Stripes in the slices of a magnitude image, by index; none in CT."""
    observation = scan.observation
    if not observation.zero_is_missing:
        return {}
    slices = np.moveaxis(scan.volume.data, observation.slice_axis, 0)
    return find_stripes(slices, scan.noise.halfway)


def _initial_verdict(scan: PreparedScan, striped: Mapping[int, StripedSlice]) -> SliceVerdict:
    """Every slice is accepted, except for those whose stripes cannot be removed."""
    observation = scan.observation
    count = observation.data.shape[observation.slice_axis]
    off = _with_remaining_stripes(np.zeros((count, len(FEATURES))), striped)
    repairs = {
        k: SliceRepair(stripes=found.stripes)
        for k, found in striped.items()
        if _is_free_of_stripes(striped, k)
    }
    return SliceVerdict(observation.slice_axis, student_weights(off), off, repairs)


def _with_remaining_stripes(
    deviations: NDArray[np.float64], striped: Mapping[int, StripedSlice]
) -> NDArray[np.float64]:
    """Deviations ``(K, 6)``, with a large one for stripes that cannot be removed."""
    spoiled = [k for k in striped if not _is_free_of_stripes(striped, k)]
    result = deviations.copy()
    result[spoiled, FEATURES.index("stripes")] = _STRIPED
    return result


def _is_free_of_stripes(striped: Mapping[int, StripedSlice], k: int) -> bool:
    """Whether slice k has no stripes, or stripes that can be removed."""
    return k not in striped or striped[k].removable


def _judged(case: _Case, validation: CrossValidation, *, spare: bool) -> _Case:
    """A case with weights by deviations from predictions.

    With ``spare``, only the worst of neighbouring damaged slices is rejected.
    """
    off = _with_remaining_stripes(_deviations(case, validation), case.striped)
    weights = student_weights(off)
    if spare:
        weights = spare_neighbours_of_worse(weights, _accepted(case.verdict))
    return replace(case, verdict=replace(case.verdict, weights=weights, deviations=off))


def _deviations(case: _Case, validation: CrossValidation) -> NDArray[np.float64]:
    """Deviations ``(K, 6)`` of slices from the accepted slices around."""
    accepted = _accepted(case.verdict)
    compared = compare_with_predictions(validation, case.noise.halfway)
    off = deviations_from_accepted(compared, accepted)
    if case.is_alone:
        off[adjacent(~accepted)] *= _BESIDE_A_GAP
    return off


def _accepted(verdict: SliceVerdict) -> NDArray[np.bool_]:
    return verdict.weights >= REJECTION_WEIGHT


def _repaired(case: _Case, validation: CrossValidation) -> _Case:
    """A case with the simplest repairs of slices that raise their weights enough."""
    settled, striped = case.verdict, case.striped
    compared = compare_with_predictions(validation, case.noise.halfway)
    candidates = _candidates(case, validation, compared.unexplained)
    weights, off = settled.weights.copy(), settled.deviations.copy()
    found: dict[int, SliceRepair] = {}
    for turn in range(max(map(len, candidates.values()), default=0)):
        tried = {k: repairs[turn] for k, repairs in candidates.items() if turn < len(repairs)}
        off_then = _deviations(case, repair_coarse_slices(validation, tried))
        weights_then = student_weights(off_then)
        for k, repair in tried.items():
            least = max(settled.weights[k] + _BETTER_BY, REJECTION_WEIGHT)
            if weights_then[k] >= least and weights[k] < _SUSPECT and weights_then[k] > weights[k]:
                weights[k], off[k], found[k] = weights_then[k], off_then[k], repair
    if case.is_alone:
        kept = ~worse_than_interpolation(compared, _accepted(settled))
        kept[[k for k in striped if not _is_free_of_stripes(striped, k)]] = False
        weights[kept] = np.maximum(weights[kept], REJECTION_WEIGHT)
    further = {
        k: settled.repairs.get(k, SliceRepair()).followed_by(repair)
        for k, repair in found.items()
        if repair != SliceRepair()
    }
    repairs = without_small_shifts({**settled.repairs, **further})
    verdict = replace(settled, weights=weights, deviations=off, repairs=repairs)
    return replace(case, verdict=verdict)


def _candidates(
    case: _Case, validation: CrossValidation, unexplained: NDArray[np.float64]
) -> dict[int, list[SliceRepair]]:
    """Repairs to try of every slice of low weight, the simplest first."""
    threshold, settled = case.noise.halfway, case.verdict
    usable = np.flatnonzero(np.isfinite(unexplained)).tolist()
    suspects = [
        k for k in usable if settled.weights[k] < _SUSPECT and _is_free_of_stripes(case.striped, k)
    ]
    # Predictions of the outermost slices do not show their brightness and position.
    inner = usable[_OUTERMOST:-_OUTERMOST]
    reference = np.flatnonzero(np.isfinite(unexplained) & _accepted(settled))
    return {
        k: [
            *(candidate_repairs(validation, k, threshold) if k in inner else [SliceRepair()]),
            *lost_signal_repairs(validation, k, neighbours(k, reference).tolist()),
        ]
        for k in suspects
    }


def _same_repairs(verdict: SliceVerdict, before: SliceVerdict) -> bool:
    """Whether two verdicts have nearly the same repairs."""
    if verdict.repairs.keys() != before.repairs.keys():
        return False
    pairs = [(repair, before.repairs[k]) for k, repair in verdict.repairs.items()]
    return all(
        math.dist(repair.shift, earlier.shift) < _SAME_PLACE_MM
        and abs(math.log(repair.factor / earlier.factor)) < _SAME_LOG_FACTOR
        for repair, earlier in pairs
    )


def _rejected(verdicts: Verdicts) -> Nested[tuple[int, ...]]:
    return tuple(tuple(verdict.rejected for verdict in scans) for scans in verdicts)
