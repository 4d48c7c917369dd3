"""Shifts of slices in their plane, relative to a prediction, and the translation of slices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Slice = NDArray[np.float32]

LARGEST_SHIFT_MM = 5.0
"""Largest shift that `correlation_shift` finds."""

LARGEST_FACTOR = 8.0
"""Largest factor by which a slice may be brighter or darker."""

# Voxels mirrored around a slice before it is translated, so that opposite sides do not mix.
_RIM = 16

# Full Gauss-Newton steps are too long, since finite differences underestimate derivatives.
_STEP = 0.6
_MOST_STEPS = 60
_SETTLED_MM = 0.02
_FEWEST_VOXELS = 50


class Regression(NamedTuple):
    """A slice as a linear combination of its prediction and the derivatives of the prediction.

    Attributes
    ----------
    factor
        Factor on the prediction.
    towards
        ``(2,)``, factors on its derivatives per mm, in mm.
    unexplained
        Share of the energy of the slice that is left.
    """

    factor: float
    towards: NDArray[np.float64]
    unexplained: float


class SlicePosition(NamedTuple):
    """Position of a slice relative to its prediction.

    Attributes
    ----------
    shift
        mm along both axes.
    factor, unexplained
        As for `Regression`, at that shift.
    """

    shift: tuple[float, float]
    factor: float
    unexplained: float


def translate_slice(image: Slice, voxels: NDArray[np.float64]) -> Slice:
    """A slice ``(U, V)`` translated by voxels ``(2,)`` along its axes, by its Fourier transform."""
    padded = np.pad(image, _RIM, mode="symmetric")
    u, v = (np.fft.fftfreq(side) for side in padded.shape)
    phase = np.exp(-2j * np.pi * (u[:, None] * voxels[0] + v * voxels[1]))
    result = np.fft.ifft2(np.fft.fft2(padded) * phase).real
    return result[_RIM:-_RIM, _RIM:-_RIM].astype(np.float32)


def correlation_shift(
    measured: Slice, predicted: Slice, spacing: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Shift of a slice relative to its prediction, by their cross-correlation.

    The result does not depend on the brightness of the slice. Slices are padded with their mean
    intensity. The edge of the frame correlates best without a shift, so that shifts are up to a
    third too small, and 0 where the prediction is poor, as near the ends of a stack.

    Parameters
    ----------
    measured, predicted
        ``(U, V)``; NaN where missing.
    spacing
        ``(2,)``, mm between voxels.

    Returns
    -------
    tuple of float or None
        mm along both axes; None if the correlation has no maximum within 5 mm.
    """
    rims = [(rim, rim) for rim in (np.ceil(LARGEST_SHIFT_MM / spacing).astype(int) + 1).tolist()]
    first, second = (
        np.fft.fft2(np.pad(np.nan_to_num(image - np.nanmean(image)), rims))
        for image in (measured.astype(np.float64), predicted.astype(np.float64))
    )
    correlation = np.fft.ifft2(first * second.conj()).real
    u, v = (
        np.fft.fftfreq(side) * side * spacing[axis] for axis, side in enumerate(correlation.shape)
    )
    near = np.hypot(u[:, None], v) <= LARGEST_SHIFT_MM
    row, column = np.unravel_index(
        np.argmax(np.where(near, correlation, -np.inf)), correlation.shape
    )
    along_u = np.take(correlation[:, column], row + np.arange(-1, 2), mode="wrap")
    along_v = np.take(correlation[row], column + np.arange(-1, 2), mode="wrap")
    if any(values[1] < max(values[0], values[2]) for values in (along_u, along_v)):
        return None
    return (
        float(u[row]) + spacing[0] * _vertex(along_u),
        float(v[column]) + spacing[1] * _vertex(along_v),
    )


def least_squares_shift(
    measured: Slice,
    predicted: Slice,
    initial: tuple[float, float],
    spacing: NDArray[np.float64],
    threshold: float,
    furthest: float,
) -> SlicePosition | None:
    """Shift of a slice relative to its prediction, by least squares near an initial shift.

    Gauss-Newton steps (Lucas & Kanade 1981, "An iterative image registration technique with an
    application to stereo vision", section 4.3, with a factor of brightness).

    Parameters
    ----------
    measured, predicted
        ``(U, V)``; ``measured`` is NaN where missing.
    initial
        mm along both axes.
    spacing
        ``(2,)``, mm between voxels.
    threshold
        Intensity above which a prediction shows the head.
    furthest
        Largest distance from the initial shift, in mm.

    Returns
    -------
    Place or None
        None if the steps do not converge within that distance.
    """
    shift = start = np.array(initial)
    for _ in range(_MOST_STEPS):
        found = regress_on_prediction(
            measured, translate_slice(predicted, shift / spacing), spacing, threshold
        )
        if found is None or np.linalg.norm(shift - start) > furthest:
            return None
        shift = shift - _STEP * found.towards / found.factor
        if np.linalg.norm(found.towards) < _SETTLED_MM * found.factor:
            return SlicePosition(
                (float(shift[0]), float(shift[1])), found.factor, found.unexplained
            )
    return None


def regress_on_prediction(
    measured: Slice, predicted: Slice, spacing: NDArray[np.float64], threshold: float
) -> Regression | None:
    """Regress a slice on its prediction and the derivatives of that, by least squares.

    Parameters
    ----------
    measured, predicted
        Slices ``(U, V)``, as for `least_squares_shift`.
    spacing, threshold
        ``(2,)`` in mm, and an intensity, as for `least_squares_shift`.

    Returns
    -------
    Regression or None
        None if there is too little of the head, or if the factor is not within 1/8 to 8.
    """
    inside = np.isfinite(measured) & (predicted > threshold)
    if np.count_nonzero(inside) < _FEWEST_VOXELS:
        return None
    slopes = [np.gradient(predicted, step, axis=axis) for axis, step in enumerate(spacing.tolist())]
    regressors = np.stack([part[inside] for part in (predicted, *slopes)], axis=1)
    wanted = measured[inside].astype(np.float64)
    (factor, *towards), *_ = np.linalg.lstsq(regressors.astype(np.float64), wanted, rcond=None)
    if not 1 / LARGEST_FACTOR < factor < LARGEST_FACTOR:
        return None
    left = wanted - regressors @ [factor, *towards]
    unexplained = float(np.mean(left**2) / np.mean(wanted**2))
    return Regression(float(factor), np.array(towards), unexplained)


def _vertex(values: NDArray[np.float64]) -> float:
    """Vertex of the parabola through values at -1, 0 and 1; 0 if it has no maximum."""
    before, here, after = values.tolist()
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
