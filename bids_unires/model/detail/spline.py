"""Quintic B-splines through the samples of planes, which blur far less than straight lines between.

Unser, Aldroubi & Eden 1993, "B-spline signal processing: part I, theory". Beyond the borders of a
plane its outermost samples go on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import BSpline
from torch import Tensor

_ORDER = 5
# Coefficients on either side of a place that its value depends on.
_REACH = 3
# Samples on either side of a place whose weights are not negligible: the next ones add less than a
# thousandth.
_FELT = 8
_BASIS = BSpline.basis_element(np.arange(-_REACH, _REACH + 1), extrapolate=False)

Taps = tuple[tuple[int, float], ...]
"""Weights of values at whole offsets."""


@dataclass(frozen=True, eq=False)
class PlaneSplines:
    """Splines through the samples of planes.

    Parameters
    ----------
    coefficients
        ``(K, M + 2 * margin, N + 2 * margin)``, of the basis functions.
    margin
        Coefficients on each side of the samples.
    """

    coefficients: Tensor
    margin: int

    @classmethod
    def through(cls, planes: Tensor, farthest: int) -> PlaneSplines:
        """The splines through planes.

        Parameters
        ----------
        planes
            ``(K, M, N)``, finite.
        farthest
            Largest offset, in samples, that `moved` is asked for.
        """
        margin = farthest + _REACH + _FELT
        samples = np.pad(planes.cpu().numpy(), ((0, 0), (margin, margin), (margin, margin)), "edge")
        for axis in (1, 2):
            samples = ndimage.spline_filter1d(samples, _ORDER, axis, np.float32, "mirror")
        return cls(torch.from_numpy(samples).to(planes.device), margin)

    def moved(self, k: int, offset: tuple[float, float]) -> Tensor:
        """Values of plane ``k`` at an offset in samples from each of its samples, ``(M, N)``."""
        taps = tuple(_coefficient_taps(along) for along in offset)
        return _weighted(self.coefficients[k], taps, self.margin)


def weight_of(chosen: Tensor, offset: tuple[float, float]) -> Tensor:
    """Sum of absolute weights of chosen samples in each value of `PlaneSplines.moved`.

    Parameters
    ----------
    chosen
        ``(M, N)`` bool.
    offset
        As for `PlaneSplines.moved`.
    """
    taps = tuple(_sample_taps(along) for along in offset)
    margin = max(abs(tap) for along in taps for tap, _ in along)
    sides = (margin,) * 4
    samples = torch.nn.functional.pad(chosen[None].float(), sides, mode="replicate")[0]
    return _weighted(samples, taps, margin)


def _weighted(values: Tensor, taps: Iterable[Taps], margin: int) -> Tensor:
    """Weighted sums of values ``(M + 2 * margin, N + 2 * margin)`` at offsets along both axes."""
    for axis, along in enumerate(taps):
        count = values.shape[axis] - 2 * margin
        (first, weight), *others = along
        total = values.narrow(axis, margin + first, count) * weight
        for tap, weight in others:
            total.add_(values.narrow(axis, margin + tap, count), alpha=weight)
        values = total
    return values


@lru_cache(maxsize=256)
def _coefficient_taps(offset: float) -> Taps:
    """Weights of coefficients in a value at an offset."""
    taps = int(np.floor(offset)) + np.arange(1 - _REACH, 1 + _REACH)
    return _nonzero(taps, np.nan_to_num(_BASIS(offset - taps)))


@lru_cache(maxsize=256)
def _sample_taps(offset: float) -> Taps:
    """Absolute weights of samples in a value at an offset."""
    reach = _FELT + int(np.ceil(abs(offset)))
    coefficients = np.zeros(2 * reach + 4 * _FELT + 1)
    centre = len(coefficients) // 2
    coefficients[centre] = 1
    coefficients = ndimage.spline_filter1d(coefficients, _ORDER, mode="mirror")
    taps = np.arange(-reach, reach + 1)
    near = _coefficient_taps(offset)
    weights = [sum(w * coefficients[centre + tap - t] for tap, w in near) for t in taps.tolist()]
    return _nonzero(taps, np.abs(weights))


def _nonzero(taps: NDArray[np.int_], weights: NDArray[np.float64]) -> Taps:
    return tuple(
        (tap, weight)
        for tap, weight in zip(taps.tolist(), weights.tolist(), strict=True)
        if weight > np.finfo(np.float32).eps
    )
