"""Slices that do not fit in with the others: how much to believe each of them.

Single slices of a stack go wrong: the head moves while one is taken, a radio-frequency pulse
fails, a spike gets into its k-space. Every slice is compared with what all the others predict
of it (`leave_out`): its brightness, where it lies, how far off it is, and its finest
detail. These features change smoothly from slice to slice, for good predictions and bad ones
alike, so that a slice is judged by its neighbours: of a neck, or of the vertex, none is an outlier.
What remains is taken to follow a multivariate Student-t distribution, whose weights are the
slices' (Lange, Little & Taylor 1989, "Robust statistical modeling using the t
distribution", section 3); a slice of very low weight is rejected.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ..geometry import Grid
from .leave_out import LeftOut, left_out
from .noise import NoiseEstimate
from .observation import Observation
from .readings import Factors, Readings
from .slice_filling import REJECTED, stood_in
from .smooth_blocks import MAD_TO_SD

logger = logging.getLogger("bids_unires")

DEGREES_OF_FREEDOM = 4.0
"""Of the t distribution: few enough for heavy tails."""

FEATURES = ("brightness", "shift", "shift", "residual", "detail", "stripes")
"""What a slice is judged by: logarithm of its factor on the prediction; shift (mm) along both
axes of its plane; logarithm of the rms residual; logarithm of the rms detail; logarithm of the
strongest frequency of the residual over the mean of all."""

# Deviations no larger than these do no harm, however evenly the other slices agree.
_FLOORS = np.array([0.05, 0.3, 0.3, 0.15, 0.08, 0.5])
_LEAST_GAIN = 0.01
# Slices with less head than this, of the median of the stack, barely touch it.
_LEAST_HEAD = 0.15
_FEWEST_VOXELS = 50
# No prediction is so bad that it leaves more than this of a slice's energy unexplained.
_MOST_UNEXPLAINED = 0.9
# A slice is compared with so many on either side, and a stack needs as many as both together.
_NEIGHBOURS = 4
_EXTRAPOLATED = 0.5
# A slice that weighs less may be bad, and others are not compared with it.
_SUSPECT = 0.7
# A bad slice spoils the prediction of those next to it: the worst is judged first.
_REACH = 2
_MOST_PASSES = 4


@dataclass(frozen=True, eq=False)
class SliceVerdict:
    """How far each slice of one scan is believed.

    Parameters
    ----------
    axis
        The slice axis (0, 1 or 2).
    weights
        ``(K,)``, 1 for a slice that fits in with the others, and above 0.
    deviations
        ``(K, 6)``, by how much each of `FEATURES` is off, in units of what the slices around
        reach; 0 for slices with too little of the head to tell.
    """

    axis: int
    weights: NDArray[np.float64]
    deviations: NDArray[np.float64]

    @property
    def rejected(self) -> tuple[int, ...]:
        """Indices, from 0, of the slices that were left out."""
        return tuple(np.flatnonzero(self.weights < REJECTED).tolist())

    @property
    def reasons(self) -> tuple[str, ...]:
        """Of each rejected slice the feature that is off most."""
        return tuple(FEATURES[int(np.abs(self.deviations[k]).argmax())] for k in self.rejected)

    @property
    def lowest_kept(self) -> float:
        """The lowest weight of all slices that were not rejected; 1 if there is none."""
        return float(self.weights[self.weights >= REJECTED].min(initial=1.0))

    @property
    def factors(self) -> NDArray[np.float64]:
        """``(K,)``, factor on the precision of each slice: its weight, or 0 where rejected."""
        return np.where(self.weights < REJECTED, 0.0, self.weights)


Verdicts = tuple[tuple[SliceVerdict, ...], ...]


def weigh_slices(
    scans: Readings,
    trusting: Callable[[Factors], Readings],
    grid: Grid,
    lam: Sequence[float],
    device: torch.device,
) -> tuple[Readings, Verdicts]:
    """Find the weights of all slices in turn with the predictions of what is left.

    Parameters
    ----------
    scans
        The scans, every slice believed.
    trusting
        Reads them anew, given factors on the precision of their slices.
    grid, lam, device
        As for `left_out`.

    Returns
    -------
    tuple
        The scans with the weights found, their neighbours standing in for rejected slices;
        and the verdict on each scan.
    """
    rejected: list[list[tuple[int, ...]]] = [[() for _ in own] for own in scans.observations]
    for turn in range(1, _MOST_PASSES + 1):
        compared = left_out(scans.observations, grid, lam, _thresholds(scans), device)
        verdicts = tuple(
            tuple(
                _verdict(
                    *(scan, parts, own, before),
                    alone=len(each[0]) == 1,
                    settled=turn == _MOST_PASSES,
                )
                for scan, parts, own, before in zip(*each, strict=True)
            )
            for each in zip(scans.observations, compared, scans.above_air, rejected, strict=True)
        )
        before, rejected = rejected, [[own.rejected for own in each] for each in verdicts]
        scans = trusting([[own.factors for own in each] for each in verdicts])
        logger.debug("slices rejected in turn %d: %s", turn, rejected)
        if rejected == before:
            break
    return _filled(scans), verdicts


def weighed_as(trusting: Callable[[Factors], Readings], verdicts: Verdicts) -> Readings:
    """The scans with weights of slices that were found before.

    Parameters
    ----------
    trusting
        Reads the scans, given factors on the precision of their slices.
    verdicts
        On each scan.
    """
    return _filled(trusting([[own.factors for own in each] for each in verdicts]))


def _filled(scans: Readings) -> Readings:
    """With neighbours standing in for rejected slices."""
    filled = [stood_in(*each) for each in zip(scans.observations, _thresholds(scans), strict=True)]
    return replace(scans, observations=filled)


def _thresholds(scans: Readings) -> list[list[float]]:
    return [[own.halfway for own in each] for each in scans.above_air]


@dataclass(frozen=True, eq=False)
class Comparison:
    """How the slices of a scan differ from their predictions.

    Parameters
    ----------
    features
        ``(K, 6)``, see `FEATURES`; NaN for slices with too little of the head.
    unexplained
        ``(K,)``, share of a slice's energy that its prediction leaves unexplained, brought to
        its brightness and place.
    """

    features: NDArray[np.float64]
    unexplained: NDArray[np.float64]


def compare(parts: LeftOut, threshold: float) -> Comparison:
    """Tell how slices differ from their predictions.

    Brightness and shift are the least-squares coefficients of the prediction and its
    derivatives in the plane.

    Parameters
    ----------
    parts
        A scan and its predictions.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    known = np.isfinite(parts.measured)
    measured = np.where(known, parts.measured, np.float32(0))
    head = known & ((measured > threshold) | (parts.predicted > threshold))
    voxels = head.sum(axis=(1, 2))
    enough = voxels >= max(_FEWEST_VOXELS, _LEAST_HEAD * _median(voxels[voxels > 0]))
    found = np.full((len(head), len(FEATURES)), np.nan)
    unexplained = np.full(len(head), np.nan)
    # Shared by all slices, so that no logarithm is that of 0.
    least = (1e-3 * threshold) ** 2
    for k in np.flatnonzero(enough).tolist():
        inside, predicted = head[k], parts.predicted[k]
        residual = np.where(known[k], measured[k] - predicted, 0).astype(np.float64)
        slopes = _slopes(predicted, parts.spacing[1:])
        regressors = np.stack([part[inside] for part in (predicted, *slopes)], axis=1)
        here = residual[inside]
        (gain, *shift), *_ = np.linalg.lstsq(regressors.astype(np.float64), here, rcond=None)
        left = here - regressors @ [gain, *shift]
        energy = float(np.mean(measured[k][inside].astype(np.float64) ** 2))
        unexplained[k] = np.mean(left**2) / max(energy, least)
        found[k] = [
            np.log(max(1 + gain, _LEAST_GAIN)),
            *shift,
            0.5 * np.log(np.mean(here**2) + least),
            0.5 * np.log(parts.detail[k][inside].mean(dtype=np.float64) + least),
            _log_peak(residual),
        ]
    return Comparison(found, unexplained)


def deviations(compared: Comparison, believed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each slice is off those around it, in units of what these reach.

    The median over four believed slices on either side, and the median absolute deviation from
    it, are hardly changed by a few bad slices among them. The scale is that of the slices
    around or of the whole stack, whichever is larger; and the larger, the less a prediction
    explains, of this slice and of one of those around it.

    Parameters
    ----------
    compared
        The slices and their predictions.
    believed
        ``(K,)``, slices to compare with.

    Returns
    -------
    ndarray
        ``(K, F)``; 0 where there is nothing to compare.
    """
    found, unexplained = compared.features, compared.unexplained
    usable = np.isfinite(found).all(axis=1)
    reference = np.flatnonzero(usable & believed)
    result = np.zeros_like(found)
    if len(reference) < 2 * _NEIGHBOURS:
        return result
    around = {k: _neighbours(k, reference) for k in np.flatnonzero(usable).tolist()}
    off = {k: found[k] - np.median(found[near], axis=0) for k, near in around.items()}
    spread = {k: np.abs(off[k]) for k in reference.tolist()}
    overall = MAD_TO_SD * np.median(list(spread.values()), axis=0)
    for k, near in around.items():
        local = MAD_TO_SD * np.median([spread[j] for j in near.tolist()], axis=0)
        scale = np.maximum(np.maximum(local, overall), _FLOORS)
        # A slice that nothing explains is bad; unless its neighbours are not explained either.
        share = min(unexplained[k], unexplained[near].max(), _MOST_UNEXPLAINED)
        result[k] = off[k] * (1 - share) ** 2 / scale
        # Trends are extrapolated to the ends of a stack, not interpolated.
        if min(np.count_nonzero(near < k), np.count_nonzero(near > k)) < _NEIGHBOURS // 2:
            result[k] *= _EXTRAPOLATED
    return result


def deviations_from_good(compared: Comparison, believed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`deviations`, found again without slices that are off already, and without those beside them.

    Two bad slices close to each other, and what they do to the predictions of their neighbours,
    are most of what each of them is compared with, and make it look usual. Parameters and
    result are those of `deviations`; where too few slices would be left to compare with, these
    are its result.
    """
    off = deviations(compared, believed)
    suspect = (student_weights(off) < _SUSPECT) & believed
    good = believed & ~(suspect | _beside(suspect))
    usable = np.isfinite(compared.features).all(axis=1)
    if good[usable].sum() < 2 * _NEIGHBOURS:
        return off
    return deviations(compared, good)


def student_weights(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of a multivariate t distribution, ``(nu + F) / (nu + sum of squares)``, at most 1.

    Parameters
    ----------
    deviations
        ``(K, F)``.
    """
    dimensions = deviations.shape[1]
    squares = (deviations**2).sum(axis=1)
    weights = (DEGREES_OF_FREEDOM + dimensions) / (DEGREES_OF_FREEDOM + squares)
    return np.asarray(np.minimum(weights, 1.0))


def _verdict(
    scan: Observation,
    parts: LeftOut,
    noise: NoiseEstimate,
    rejected: Sequence[int],
    *,
    alone: bool,
    settled: bool,
) -> SliceVerdict:
    """Judge the slices of a scan, one bad one of several neighbours at a time until settled.

    Beside a gap in the only scan of its contrast, a slice is predicted across two slices or more.
    """
    compared = compare(parts, noise.halfway)
    believed = np.ones(len(compared.features), dtype=bool)
    believed[list(rejected)] = False
    off = deviations_from_good(compared, believed)
    if alone:
        off[_beside(~believed)] *= _EXTRAPOLATED
    weights = student_weights(off)
    if not settled:
        weights = _worst_first(weights, believed)
    return SliceVerdict(scan.slice_axis, weights, off)


def _beside(slices: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slices next to at least one of those given."""
    beside = np.zeros_like(slices)
    beside[1:] |= slices[:-1]
    beside[:-1] |= slices[1:]
    return beside


def _worst_first(weights: NDArray[np.float64], believed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Spare bad slices beside a worse one, which may be all that is wrong with them."""
    result = weights.copy()
    for k in np.flatnonzero((weights < REJECTED) & believed).tolist():
        near = slice(max(k - _REACH, 0), k + _REACH + 1)
        if weights[k] > weights[near][believed[near]].min():
            result[k] = REJECTED
    return result


def _neighbours(k: int, reference: NDArray[np.intp]) -> NDArray[np.intp]:
    """The nearest believed slices on either side of slice k."""
    below, above = reference[reference < k], reference[reference > k]
    return np.concatenate([below[-_NEIGHBOURS:], above[:_NEIGHBOURS]])


def _slopes(image: NDArray[np.float32], spacing: tuple[float, float]) -> list[NDArray[np.float32]]:
    """Derivatives of a slice along both of its axes, per mm."""
    return [
        np.gradient(image, step, axis=axis) if image.shape[axis] > 1 else np.zeros_like(image)
        for axis, step in enumerate(spacing)
    ]


def _log_peak(residual: NDArray[np.float64]) -> float:
    """Logarithm of the strongest frequency's power over the mean, high frequencies favoured.

    What is left of anatomy spreads over many frequencies, the low ones above all; a spike in
    k-space is one frequency.
    """
    u, v = (np.fft.fftfreq(side) for side in residual.shape)
    power = np.abs(np.fft.fft2(residual)) ** 2 * (u[:, None] ** 2 + v**2)
    return float(np.log(power.max() / power.mean())) if power.any() else 0.0


def _median(values: NDArray[np.int_]) -> float:
    return float(np.median(values)) if values.size else 0.0
