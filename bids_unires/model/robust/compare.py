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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..intensity.smooth_blocks import MAD_TO_SD
from ..scanner.rejected_slices import REJECTION_WEIGHT
from .cross_validation import CrossValidation
from .repair import relative_brightness
from .shift import correlation_shift
from .verdict import FEATURES

DEGREES_OF_FREEDOM = 4.0
"""Of the t distribution: few enough for heavy tails."""

# Deviations no larger than these do no harm, however evenly the other slices agree.
_FLOORS = np.array([0.05, 0.3, 0.3, 0.15, 0.08, 0.5])
# Slices with less head than this, of the median of the stack, barely touch it.
_LEAST_HEAD = 0.15
_FEWEST_VOXELS = 50
# No prediction is so bad that it leaves more than this of a slice's energy unexplained.
_MOST_UNEXPLAINED = 0.9
# A slice is compared with so many on either side, and a stack needs as many as both together.
_NEIGHBOURS = 4
_EXTRAPOLATED = 0.5
# By what factor a slice is further from its prediction than others are, to be worth less.
_WORSE = 2.0
# Of the slices around, the quietest tell how far off they usually are, since two bad ones disturb
# most of the others; and of a normal distribution that quantile over the standard deviation.
_QUIET, _QUANTILE_TO_SD = 0.35, 2.2
# A slice that weighs less may be bad, and others are not compared with it.
_SUSPECT = 0.7
# A bad slice spoils the prediction of those next to it: the worst is judged first.
_REACH = 2


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
    contradicted
        ``(K,)``, the same as both are.
    """

    features: NDArray[np.float64]
    unexplained: NDArray[np.float64]
    contradicted: NDArray[np.float64]


def compare_with_predictions(parts: CrossValidation, threshold: float) -> Comparison:
    """Tell how slices differ from their predictions.

    Brightness is that of the tissue in a slice, wherever it lies; where the correlation with the
    prediction (`correlation_shift`) does not tell the shift, least squares by the prediction's
    derivatives do. Both together, by least squares, tell what remains unexplained.

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
    # Where nothing tells what a slice should show, it cannot differ from that.
    enough &= (parts.predicted > threshold).any(axis=(1, 2))
    found = np.full((len(head), len(FEATURES)), np.nan)
    unexplained = np.full(len(head), np.nan)
    contradicted = np.full(len(head), np.nan)
    # Shared by all slices, so that no logarithm is that of 0.
    least = (1e-3 * threshold) ** 2
    for k in np.flatnonzero(enough).tolist():
        inside, predicted = head[k], parts.predicted[k]
        residual = np.where(known[k], measured[k] - predicted, 0).astype(np.float64)
        slopes = _slopes(predicted, np.array(parts.spacing[1:]))
        regressors = np.stack([part[inside] for part in (predicted, *slopes)], axis=1)
        here = residual[inside]
        (gain, *towards), *_ = np.linalg.lstsq(regressors.astype(np.float64), here, rcond=None)
        left = here - regressors @ [gain, *towards]
        energy = float(np.mean(measured[k][inside].astype(np.float64) ** 2))
        unexplained[k] = np.mean(left**2) / max(energy, least)
        contradicted[k] = np.mean(here**2) / max(energy, least)
        found[k] = [
            np.log(relative_brightness(measured[k][inside], predicted[inside])),
            *(
                correlation_shift(measured[k], predicted, np.array(parts.spacing[1:]))
                or (-np.array(towards) / (1 + gain))
            ),
            0.5 * np.log(np.mean(here**2) + least),
            0.5 * np.log(parts.detail[k][inside].mean(dtype=np.float64) + least),
            _log_peak(residual),
        ]
    return Comparison(found, unexplained, contradicted)


def deviations(compared: Comparison, believed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each slice is off those around it, in units of what these reach.

    The median over four believed slices on either side, and a low quantile of the absolute
    deviations from it, are hardly changed by a few bad slices among them. The scale is that of
    the slices around or of the whole stack, whichever is larger; and the larger, the less a
    prediction explains, of this slice and of one of those around it.

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
    around = {k: neighbours(k, reference) for k in np.flatnonzero(usable).tolist()}
    off = {k: found[k] - np.median(found[near], axis=0) for k, near in around.items()}
    spread = {k: np.abs(off[k]) for k in reference.tolist()}
    overall = MAD_TO_SD * np.median(list(spread.values()), axis=0)
    for k, near in around.items():
        local = _QUANTILE_TO_SD * np.quantile([spread[j] for j in near.tolist()], _QUIET, axis=0)
        scale = np.maximum(np.maximum(local, overall), _FLOORS)
        # A slice that nothing explains is bad; unless its neighbours are not explained either.
        share = min(unexplained[k], unexplained[near].max(), _MOST_UNEXPLAINED)
        result[k] = off[k] * (1 - share) ** 2 / scale
        # Trends are extrapolated to the ends of a stack, not interpolated.
        if min(np.count_nonzero(near < k), np.count_nonzero(near > k)) < _NEIGHBOURS // 2:
            result[k] *= _EXTRAPOLATED
    return result


def deviations_from_accepted(
    compared: Comparison, believed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """`deviations`, found again without slices that are off already, and without those beside them.

    Two bad slices close to each other, and what they do to the predictions of their neighbours,
    are most of what each of them is compared with, and make it look usual. Parameters and
    result are those of `deviations`; where too few slices would be left to compare with, these
    are its result.
    """
    off = deviations(compared, believed)
    suspect = (student_weights(off) < _SUSPECT) & believed
    good = believed & ~(suspect | adjacent(suspect))
    usable = np.isfinite(compared.features).all(axis=1)
    if good[usable].sum() < 2 * _NEIGHBOURS:
        return off
    return deviations(compared, good)


def worse_than_interpolation(
    compared: Comparison, believed: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Slices that are further from their prediction than those around, and so worth less, ``(K,)``.

    What stands in for a slice in the only scan of a contrast is no better than predictions are.

    Parameters
    ----------
    compared
        The slices and their predictions.
    believed
        ``(K,)``, slices to compare with.
    """
    reference = np.flatnonzero(np.isfinite(compared.unexplained) & believed)
    result = np.ones(len(believed), dtype=bool)
    if len(reference) == 0:
        return result
    for k in np.flatnonzero(np.isfinite(compared.contradicted)).tolist():
        usual = np.median(compared.unexplained[neighbours(k, reference)])
        result[k] = compared.contradicted[k] > _WORSE * usual
    return result


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


def adjacent(slices: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Slices next to at least one of those given, both ``(K,)``."""
    found = np.zeros_like(slices)
    found[1:] |= slices[:-1]
    found[:-1] |= slices[1:]
    return found


def spare_neighbours_of_worse(
    weights: NDArray[np.float64], believed: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weights that spare bad slices beside a worse one, which may be all that is wrong with them.

    Parameters
    ----------
    weights
        ``(K,)``.
    believed
        ``(K,)``, slices that the others were compared with.
    """
    result = weights.copy()
    for k in np.flatnonzero((weights < REJECTION_WEIGHT) & believed).tolist():
        near = slice(max(k - _REACH, 0), k + _REACH + 1)
        if weights[k] > weights[near][believed[near]].min():
            result[k] = REJECTION_WEIGHT
    return result


def neighbours(k: int, reference: NDArray[np.intp]) -> NDArray[np.intp]:
    """The nearest believed slices on either side of slice k."""
    below, above = reference[reference < k], reference[reference > k]
    return np.concatenate([below[-_NEIGHBOURS:], above[:_NEIGHBOURS]])


def _slopes(image: NDArray[np.float32], spacing: NDArray[np.float64]) -> list[NDArray[np.float32]]:
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
