"""Deviations of slices from their predictions, and the weights that follow.

Single slices of a stack are damaged when the head moves during their acquisition, when a
radio-frequency pulse fails, or by a spike in k-space. Every slice is compared with its prediction
from all other slices (`cross_validate`), by its brightness, its position, its residual and its
finest detail. These features change smoothly from slice to slice, also where predictions are poor,
as in the neck or at the vertex. So a slice is compared with its neighbours. The differences are
modelled by a multivariate Student-t distribution, whose weights are those of the slices (Lange,
Little & Taylor 1989, "Robust statistical modeling using the t distribution", section 3). A slice of
very low weight is rejected.
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
"""Of the t distribution: low, for heavy tails."""

# Deviations of features up to these are harmless, however well the other slices agree.
_FLOORS = np.array([0.05, 0.3, 0.3, 0.15, 0.08, 0.5])
# Slices with less of the head than this share of the median of the stack are not judged.
_LEAST_HEAD = 0.15
_FEWEST_VOXELS = 50
# Upper bound of the unexplained share of the energy of a slice.
_MOST_UNEXPLAINED = 0.9
# Slices on each side that a slice is compared with. A stack needs twice as many.
_NEIGHBOURS = 4
_EXTRAPOLATED = 0.5
# An interpolated slice is better than one whose discrepancy exceeds that of others by this factor.
_WORSE = 2.0
# The spread of the slices around is a low quantile of their absolute deviations, since two damaged
# slices disturb most of the others; and the standard deviation of a normal distribution over it.
_LOW_QUANTILE, _QUANTILE_TO_SD = 0.35, 2.2
# A slice of lower weight may be damaged, and others are not compared with it.
_SUSPECT = 0.7
# So far, in slices, a damaged slice spoils predictions; the worst slice is rejected first.
_REACH = 2


@dataclass(frozen=True, eq=False)
class Comparison:
    """Differences between the slices of a scan and their predictions.

    Parameters
    ----------
    features
        ``(K, 6)``, see `FEATURES`; NaN for slices with too little of the head.
    unexplained
        ``(K,)``, share of the energy of a slice that its prediction does not explain, once it has
        the brightness and position of the slice.
    discrepancy
        ``(K,)``, the same share with the prediction as it is.
    """

    features: NDArray[np.float64]
    unexplained: NDArray[np.float64]
    discrepancy: NDArray[np.float64]


def compare_with_predictions(validation: CrossValidation, threshold: float) -> Comparison:
    """Compare slices with their predictions.

    Brightness is that of tissue, wherever in the slice it lies. The shift follows from the
    cross-correlation with the prediction (`correlation_shift`) or, if that has no maximum nearby,
    from a regression on the derivatives of the prediction. The regression also gives the
    unexplained share.

    Parameters
    ----------
    validation
        The scan and its predictions.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    known = np.isfinite(validation.measured)
    measured = np.where(known, validation.measured, np.float32(0))
    head = known & ((measured > threshold) | (validation.predicted > threshold))
    voxels = head.sum(axis=(1, 2))
    enough = voxels >= max(_FEWEST_VOXELS, _LEAST_HEAD * _median(voxels[voxels > 0]))
    # A slice whose prediction is empty is not judged.
    enough &= (validation.predicted > threshold).any(axis=(1, 2))
    features = np.full((len(head), len(FEATURES)), np.nan)
    unexplained = np.full(len(head), np.nan)
    discrepancy = np.full(len(head), np.nan)
    # Added to all energies, so that no logarithm is infinite.
    least = (1e-3 * threshold) ** 2
    for k in np.flatnonzero(enough).tolist():
        inside, predicted = head[k], validation.predicted[k]
        residual = np.where(known[k], measured[k] - predicted, 0).astype(np.float64)
        slopes = _slopes(predicted, np.array(validation.spacing[1:]))
        regressors = np.stack([regressor[inside] for regressor in (predicted, *slopes)], axis=1)
        here = residual[inside]
        (gain, *towards), *_ = np.linalg.lstsq(regressors.astype(np.float64), here, rcond=None)
        left = here - regressors @ [gain, *towards]
        energy = float(np.mean(measured[k][inside].astype(np.float64) ** 2))
        unexplained[k] = np.mean(left**2) / max(energy, least)
        discrepancy[k] = np.mean(here**2) / max(energy, least)
        features[k] = [
            np.log(relative_brightness(measured[k][inside], predicted[inside])),
            *(
                correlation_shift(measured[k], predicted, np.array(validation.spacing[1:]))
                or (-np.array(towards) / (1 + gain))
            ),
            0.5 * np.log(np.mean(here**2) + least),
            0.5 * np.log(validation.detail[k][inside].mean(dtype=np.float64) + least),
            _log_peak(residual),
        ]
    return Comparison(features, unexplained, discrepancy)


def deviations(compared: Comparison, accepted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Deviations of the features of each slice from those of the slices around it.

    Location and spread are the median over four accepted slices on each side, and a low quantile
    of their absolute deviations from it; a few damaged slices hardly change them. The scale is the
    spread of the slices around or that of the whole stack, whichever is larger. Deviations are
    reduced where predictions explain little, both of this slice and of one of those around it.

    Parameters
    ----------
    compared
        The comparison of slices and predictions.
    accepted
        ``(K,)`` bool, slices to compare with.

    Returns
    -------
    ndarray
        ``(K, 6)``, in units of that scale; 0 for slices that cannot be compared.
    """
    features, unexplained = compared.features, compared.unexplained
    usable = np.isfinite(features).all(axis=1)
    reference = np.flatnonzero(usable & accepted)
    result = np.zeros_like(features)
    if len(reference) < 2 * _NEIGHBOURS:
        return result
    around = {k: neighbours(k, reference) for k in np.flatnonzero(usable).tolist()}
    off = {k: features[k] - np.median(features[near], axis=0) for k, near in around.items()}
    spread = {k: np.abs(off[k]) for k in reference.tolist()}
    overall = MAD_TO_SD * np.median(list(spread.values()), axis=0)
    for k, near in around.items():
        local = _QUANTILE_TO_SD * np.quantile(
            [spread[j] for j in near.tolist()], _LOW_QUANTILE, axis=0
        )
        scale = np.maximum(np.maximum(local, overall), _FLOORS)
        # A slice without explanation is damaged, unless its neighbours have none either.
        share = min(unexplained[k], unexplained[near].max(), _MOST_UNEXPLAINED)
        result[k] = off[k] * (1 - share) ** 2 / scale
        # Trends are extrapolated to the ends of a stack, not interpolated.
        if min(np.count_nonzero(near < k), np.count_nonzero(near > k)) < _NEIGHBOURS // 2:
            result[k] *= _EXTRAPOLATED
    return result


def deviations_from_accepted(
    compared: Comparison, accepted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """`deviations`, computed again without slices that deviate, and without their neighbours.

    Two damaged slices close to each other also spoil the predictions of their neighbours. Most
    slices that each of them is compared with are then affected, and it does not stand out.

    Parameters
    ----------
    compared, accepted
        As for `deviations`; ``accepted`` is ``(K,)``.

    Returns
    -------
    ndarray
        ``(K, 6)``, as of `deviations`, which are returned if too few slices would be left to
        compare with.
    """
    off = deviations(compared, accepted)
    suspect = (student_weights(off) < _SUSPECT) & accepted
    good = accepted & ~(suspect | adjacent(suspect))
    usable = np.isfinite(compared.features).all(axis=1)
    if good[usable].sum() < 2 * _NEIGHBOURS:
        return off
    return deviations(compared, good)


def worse_than_interpolation(
    compared: Comparison, accepted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Slices further from their predictions than an interpolation would be, ``(K,)`` bool.

    In the only scan of a contrast, a rejected slice is interpolated. The interpolation is no
    better than predictions are.

    Parameters
    ----------
    compared
        The comparison of slices and predictions.
    accepted
        ``(K,)`` bool, slices to compare with.
    """
    reference = np.flatnonzero(np.isfinite(compared.unexplained) & accepted)
    result = np.ones(len(accepted), dtype=bool)
    if len(reference) == 0:
        return result
    for k in np.flatnonzero(np.isfinite(compared.discrepancy)).tolist():
        typical = np.median(compared.unexplained[neighbours(k, reference)])
        result[k] = compared.discrepancy[k] > _WORSE * typical
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
    """Slices next to at least one of those given, both ``(K,)`` bool."""
    found = np.zeros_like(slices)
    found[1:] |= slices[:-1]
    found[:-1] |= slices[1:]
    return found


def spare_neighbours_of_worse(
    weights: NDArray[np.float64], accepted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weights that do not reject a slice next to one of lower weight.

    The worse slice may have spoiled the predictions of its neighbours.

    Parameters
    ----------
    weights
        ``(K,)``.
    accepted
        ``(K,)`` bool, slices that the others were compared with.
    """
    result = weights.copy()
    for k in np.flatnonzero((weights < REJECTION_WEIGHT) & accepted).tolist():
        near = slice(max(k - _REACH, 0), k + _REACH + 1)
        if weights[k] > weights[near][accepted[near]].min():
            result[k] = REJECTION_WEIGHT
    return result


def neighbours(k: int, reference: NDArray[np.intp]) -> NDArray[np.intp]:
    """Of the accepted slices ``(N,)``, the four nearest on each side of slice k."""
    below, above = reference[reference < k], reference[reference > k]
    return np.concatenate([below[-_NEIGHBOURS:], above[:_NEIGHBOURS]])


def _slopes(image: NDArray[np.float32], spacing: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    """Derivatives of a slice ``(U, V)`` along both of its axes, per mm."""
    return [
        np.gradient(image, step, axis=axis) if image.shape[axis] > 1 else np.zeros_like(image)
        for axis, step in enumerate(spacing)
    ]


def _log_peak(residual: NDArray[np.float64]) -> float:
    """Logarithm of the largest power over the mean, with more weight at high frequencies.

    Residuals of anatomy have power at many frequencies, most of it at low ones. A spike in k-space
    is a single frequency.
    """
    u, v = (np.fft.fftfreq(side) for side in residual.shape)
    power = np.abs(np.fft.fft2(residual)) ** 2 * (u[:, None] ** 2 + v**2)
    return float(np.log(power.max() / power.mean())) if power.any() else 0.0


def _median(values: NDArray[np.int_]) -> float:
    return float(np.median(values)) if values.size else 0.0
