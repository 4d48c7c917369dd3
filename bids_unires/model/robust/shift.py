"""How far a slice lies from where it is expected in its plane, and moving it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Slice = NDArray[np.float32]

LARGEST_SHIFT_MM = 5.0
"""`correlation_shift` looks no further."""

LARGEST_FACTOR = 8.0
"""No slice is taken to be brighter or darker by more than this."""

# Mirrored around a slice before it is moved, so that one side does not come in at the other.
_RIM = 16

# Whole steps go too far, since differences of neighbours are less steep than slopes.
_STEP = 0.6
_MOST_STEPS = 60
_SETTLED_MM = 0.02
_FEWEST_VOXELS = 50


class Regression(NamedTuple):
    """Factors on a prediction and on its slopes, per mm, and the share of energy they leave."""

    factor: float
    towards: NDArray[np.float64]
    unexplained: float


class SlicePosition(NamedTuple):
    """Where a slice lies: its shift in mm, and as for `Regression` there."""

    shift: tuple[float, float]
    factor: float
    unexplained: float


def translate_slice(image: Slice, voxels: NDArray[np.float64]) -> Slice:
    """A slice ``(U, V)`` moved by so many voxels along both axes, by its Fourier transform."""
    padded = np.pad(image, _RIM, mode="symmetric")
    u, v = (np.fft.fftfreq(side) for side in padded.shape)
    phase = np.exp(-2j * np.pi * (u[:, None] * voxels[0] + v * voxels[1]))
    result = np.fft.ifft2(np.fft.fft2(padded) * phase).real
    return result[_RIM:-_RIM, _RIM:-_RIM].astype(np.float32)


def correlation_shift(
    measured: Slice, predicted: Slice, spacing: NDArray[np.float64]
) -> tuple[float, float] | None:
    """How far about a slice was moved from its prediction, by their cross-correlation.

    Its brightness does not matter. All around a slice its mean intensity is assumed, whose step at
    the frame correlates best without a shift: where a prediction tells little of the place, as near
    the ends of a stack, so does this; and where it tells much, shifts come out up to a third
    too small.

    Parameters
    ----------
    measured, predicted
        ``(U, V)``; NaN where missing.
    spacing
        ``(2,)``, mm between voxels.

    Returns
    -------
    tuple of float or None
        mm along both axes; None where the correlation has no maximum within 5 mm.
    """
    rims = [int(np.ceil(LARGEST_SHIFT_MM / step)) + 1 for step in spacing]
    first, second = (
        np.fft.fft2(np.pad(np.nan_to_num(image - np.nanmean(image)), [(rim, rim) for rim in rims]))
        for image in (measured.astype(np.float64), predicted.astype(np.float64))
    )
    correlation = np.fft.ifft2(first * second.conj()).real
    offsets = [
        np.fft.fftfreq(side) * side * step
        for side, step in zip(correlation.shape, spacing, strict=True)
    ]
    near = np.hypot(offsets[0][:, None], offsets[1]) <= LARGEST_SHIFT_MM
    peak = np.unravel_index(np.argmax(np.where(near, correlation, -np.inf)), correlation.shape)
    around = [
        np.take(
            np.moveaxis(correlation, axis, 0)[:, peak[1 - axis]],
            peak[axis] + np.arange(-1, 2),
            mode="wrap",
        )
        for axis in range(2)
    ]
    if any(values[1] < max(values[0], values[2]) for values in around):
        return None
    u, v = (
        float(offset[index]) + step * _vertex(values)
        for offset, index, step, values in zip(offsets, peak, spacing, around, strict=True)
    )
    return u, v


def least_squares_shift(
    measured: Slice,
    predicted: Slice,
    roughly: tuple[float, float],
    spacing: NDArray[np.float64],
    threshold: float,
    furthest: float,
) -> SlicePosition | None:
    """How far about a slice was moved from its prediction, by least squares near another shift.

    Gauss-Newton steps (Lucas & Kanade 1981, "An iterative image registration technique with an
    application to stereo vision", section 4.3, with a factor of brightness).

    Parameters
    ----------
    measured, predicted
        ``(U, V)``; what is measured may be NaN where missing.
    roughly
        mm along both axes: where to start.
    spacing
        ``(2,)``, mm between voxels.
    threshold
        Intensity above which a prediction shows the head.
    furthest
        mm from where it started, beyond which it is lost.

    Returns
    -------
    Place or None
        None where it does not settle.
    """
    shift = start = np.array(roughly)
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
    """Explain a slice by its prediction and the slopes of that, by least squares.

    Parameters
    ----------
    measured, predicted, spacing, threshold
        As for `least_squares_shift`.

    Returns
    -------
    Regression or None
        None where there is too little of the head, or the factor is beyond all reason.
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
    """Where the parabola through values at -1, 0 and 1 is highest."""
    before, here, after = values.tolist()
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
