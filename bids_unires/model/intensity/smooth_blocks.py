"""Noise of an image where its anatomy is smooth.

Small square blocks of every plane are taken apart into their frequencies. In white noise
the coefficients of an orthogonal transform are independent: the blocks with the least
energy at low frequencies are those with the least anatomy, and choosing them says nothing
about the noise at high frequencies, which is then measured (the idea of Ponomarenko et
al. 2003, "An automatic approach to lossy compression of AVIRIS images").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.float32]

_SIDES = (8, 4)
_FEWEST_BLOCKS = {8: 60, 4: 8}
_MOST_CANDIDATES = 32_768
# Noise is measured in the first share of the blocks, its spectrum in the second: the
# fewer there are, the more the choice lowers what is left at the lower frequencies.
_SMOOTHEST = 0.03
_SMOOTH = 0.1
_FEWEST_SMOOTH = 20
_MOST_GROWTH = 1.25
MAD_TO_SD = 1.482602218505602
_LARGEST_STEP = 4

INTERPOLATED = 0.2
"""Between neighbours that were interpolated, next to no noise is left at the highest
frequencies: amplitudes below this fraction of those at a third of them are leakage."""


@dataclass(frozen=True)
class HighPassNoise:
    """Noise of the smoothest blocks, in units of intensity.

    Parameters
    ----------
    sd
        Standard deviation of the values of voxels.
    floor
        What the noise is at least, from the very highest frequencies; 0 where ``sd``
        may be all anatomy.
    """

    sd: float
    floor: float


@dataclass(frozen=True)
class _PlaneNoise:
    noise: HighPassNoise
    whiteness: tuple[float, float]
    axes: tuple[int, int]


def high_pass_noise(
    data: NDArray[np.float32],
    low: float,
    high: float,
    missing: Sequence[float],
    whiteness: float = INTERPOLATED,
) -> HighPassNoise | None:
    """Noise of the tissue whose intensities lie between two bounds.

    All three orientations of planes are tried and the least noise is believed: thick
    slices leave anatomy at all frequencies in the planes across them. Along an axis that
    was interpolated, only every second voxel is used, or every fourth, which leaves the
    variance as it was.

    Parameters
    ----------
    data
        ``(X, Y, Z)``.
    low, high
        Bounds of the mean intensity of a block.
    missing
        Values that hold no signal; no block contains them, nor values that are not finite.
    whiteness
        Amplitude of noise at the highest frequencies along an axis, relative to lower
        ones, below which neighbours are taken to be correlated.

    Returns
    -------
    HighPassNoise or None
        None if too few blocks lie in the tissue.
    """
    steps = [1, 1, 1]
    found: HighPassNoise | None = None
    while True:
        thinned = data[:: steps[0], :: steps[1], :: steps[2]]
        planes = _noise_of_planes(thinned, low, high, missing)
        if not planes:
            return found
        quietest = min(planes, key=lambda plane: plane.noise.sd)
        found = quietest.noise
        correlated = [
            axis
            for axis, ratio in zip(quietest.axes, quietest.whiteness, strict=True)
            if ratio < whiteness and steps[axis] < _LARGEST_STEP
        ]
        if not correlated:
            return found
        for axis in correlated:
            steps[axis] *= 2


def _noise_of_planes(
    data: NDArray[np.float32], low: float, high: float, missing: Sequence[float]
) -> list[_PlaneNoise]:
    """Noise in each orientation with enough blocks, of the largest side there is."""
    for side in _SIDES:
        planes = []
        for normal in range(3):
            stack = np.moveaxis(data, normal, 0)
            blocks = _blocks_between(stack, side, low, high, missing)
            if len(blocks) >= _FEWEST_BLOCKS[side]:
                first, second = (axis for axis in range(3) if axis != normal)
                planes.append(_noise_of_blocks(blocks, (first, second)))
        if planes:
            return planes
    return []


def _blocks_between(
    stack: NDArray[np.float32], side: int, low: float, high: float, missing: Sequence[float]
) -> Blocks:
    """Blocks ``(N, side, side)`` of a stack of planes ``(S, A, B)`` with a mean in bounds."""
    if min(stack.shape[1:]) < side or stack.shape[0] == 0:
        return np.zeros((0, side, side), dtype=np.float32)
    # As many as the limit allows: overlapping ones in small images, some planes of large ones.
    steps = [step for step in (side, side // 2, side // 4) if step > 0]
    for step in steps:
        tiles = _tiles(stack, side, step)
        if tiles.shape[0] * tiles.shape[1] * tiles.shape[2] * 4 > _MOST_CANDIDATES:
            break
    every = max(1, round(math.prod(tiles.shape[:3]) / _MOST_CANDIDATES))
    tiles = tiles[(tiles.shape[0] - 1) % every // 2 :: every]
    with np.errstate(invalid="ignore", over="ignore"):
        means = tiles.mean(axis=(3, 4))
        blocks = tiles[(means > low) & (means < high)]
    complete = np.ones(len(blocks), dtype=bool)
    for value in missing:
        complete &= (blocks != np.float32(value)).all(axis=(1, 2))
    return np.asarray(blocks[complete])


def _tiles(stack: NDArray[np.float32], side: int, step: int) -> NDArray[np.float32]:
    """View of the squares of all planes, centred, ``(S, rows, columns, side, side)``."""
    offsets = [(length - side) % step // 2 for length in stack.shape[1:]]
    windows = np.lib.stride_tricks.sliding_window_view(stack, (side, side), axis=(1, 2))
    return np.asarray(windows[:, offsets[0] :: step, offsets[1] :: step])


def _noise_of_blocks(blocks: Blocks, axes: tuple[int, int]) -> _PlaneNoise:
    side = blocks.shape[-1]
    half, top = side // 2, side * 3 // 4
    basis = _cosine_basis(side)
    coefficients = basis @ (blocks - blocks.mean(axis=(1, 2), keepdims=True)) @ basis.T
    anatomy = (coefficients[:, :half, :half] ** 2).sum(axis=(1, 2))
    order = np.argsort(anatomy)[: _share(len(blocks), _SMOOTH)]
    size = np.abs(coefficients[order])
    high_pass = np.ones((side, side), dtype=bool)
    high_pass[:half, :half] = False
    sd_of_smooth = MAD_TO_SD * float(np.median(size[:, high_pass]))
    smoothest = size[: _share(len(blocks), _SMOOTHEST)]
    sd = MAD_TO_SD * float(np.median(smoothest[:, high_pass]))
    corner = MAD_TO_SD * float(np.median(smoothest[:, top:, top:]))
    # Noise is the same however many blocks are looked at; anatomy grows with their share.
    floor = min(sd, corner) if sd_of_smooth <= _MOST_GROWTH * sd else 0.0
    power = np.median(size, axis=0) ** 2
    middle, along = slice(side // 4, half), slice(1, half)
    first = power[top:, along].mean() / max(power[middle, along].mean(), 1e-30)
    second = power[along, top:].mean() / max(power[along, middle].mean(), 1e-30)
    return _PlaneNoise(HighPassNoise(sd, floor), (math.sqrt(first), math.sqrt(second)), axes)


def _share(count: int, share: float) -> int:
    return min(count, max(_FEWEST_SMOOTH, math.ceil(share * count)))


@cache
def _cosine_basis(side: int) -> NDArray[np.float32]:
    """Orthonormal cosine transform, ``(side, side)``, one frequency per row."""
    frequency, place = np.arange(side)[:, None], np.arange(side)[None, :]
    basis = np.cos(np.pi * (place + 0.5) * frequency / side) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    return np.asarray(basis, dtype=np.float32)
