"""Noise of an image, measured where its anatomy is smooth.

Small square blocks of every plane are transformed to frequencies. The blocks with the least
energy at low frequencies are those with the least anatomy; the noise is measured at their high
frequencies. Selecting them does not bias this, since the coefficients of white noise in an
orthogonal transform are independent (the idea of Ponomarenko et al. 2003, "An automatic approach
to lossy compression of AVIRIS images").
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Blocks = NDArray[np.float32]

_SIDES = (8, 4)
_FEWEST_BLOCKS = {8: 60, 4: 8}
_MOST_CANDIDATES = 32_768
# Noise is measured in the smoothest blocks, the first share of all. Its spectrum is measured in the
# second share: of fewer blocks, the selection would lower the power at low frequencies too much.
_SMOOTHEST = 0.03
_SMOOTH = 0.1
_FEWEST_SMOOTH = 20
_MOST_GROWTH = 1.25
MAD_TO_SD = 1.482602218505602
_LARGEST_STEP = 4

# Soft tissue of CT is nearly uniform, so that more of its blocks are smooth.
_SMOOTH_IN_CT = 0.3
# Below this ratio of the variances of differences, noise counts as white. The largest correlation
# of neighbours that can be told from anatomy.
_COLOURED, _MOST_CORRELATED = 1.1, 0.95

INTERPOLATED = 0.2
"""Interpolation removes nearly all noise at the highest frequencies. An axis counts as interpolated
if the amplitude there is below this fraction of that at about a third of those frequencies."""


@dataclass(frozen=True)
class HighPassNoise:
    """Noise of the smoothest blocks, in units of intensity.

    Parameters
    ----------
    sd
        Standard deviation of the values of voxels.
    floor
        Lower bound of the noise, from the very highest frequencies; 0 where ``sd`` may be due to
        anatomy alone.
    """

    sd: float
    floor: float


@dataclass(frozen=True)
class _PlaneNoise:
    """Noise in one orientation of planes, and its `whiteness` along their two axes, by axis."""

    noise: HighPassNoise
    whiteness: Mapping[int, float]


def high_pass_noise(
    data: NDArray[np.float32],
    low: float,
    high: float,
    missing: Sequence[float],
    whiteness: float = INTERPOLATED,
) -> HighPassNoise | None:
    """Noise of the tissue whose intensities lie between two bounds.

    Of the three orientations of planes, the one with the least noise is taken: in planes across
    thick slices, anatomy has power at all frequencies. Along an axis that was interpolated, only
    every second or fourth voxel is used, which does not change the variance.

    Parameters
    ----------
    data
        ``(X, Y, Z)``.
    low, high
        Bounds of the mean intensity of a block.
    missing
        Values that hold no signal. Blocks with one of them, or with a value that is not finite,
        are not used.
    whiteness
        Amplitude of noise at the highest frequencies along an axis over that at lower ones, below
        which neighbours count as correlated.

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
            for axis, ratio in quietest.whiteness.items()
            if ratio < whiteness and steps[axis] < _LARGEST_STEP
        ]
        if not correlated:
            return found
        for axis in correlated:
            steps[axis] *= 2


@dataclass(frozen=True)
class ColouredNoise:
    """Noise that a Gaussian kernel colours within slices.

    Parameters
    ----------
    sd
        Standard deviation of the values of voxels.
    kernel
        Standard deviation of the kernel in voxels along each axis; 0 across slices, and where noise
        is white.
    """

    sd: float
    kernel: tuple[float, float, float]


def coloured_noise(
    data: NDArray[np.float32],
    slice_axis: int,
    bounds: tuple[float, float],
    missing: Sequence[float],
) -> ColouredNoise | None:
    """Noise of tissue, and the kernel that colours it within slices.

    If white noise is filtered with a Gaussian of standard deviation s, voxels at a distance d have
    the correlation ``exp(-d^2 / (4 s^2))``. So differences between next but one voxels have
    ``1 + q + q^2 + q^3`` times the variance of those between neighbours, whose correlation is q.
    Differences hardly show anatomy that varies slowly.

    Parameters
    ----------
    data
        ``(X, Y, Z)``.
    slice_axis
        Axis across the slices, along which noise is independent.
    bounds
        Of the mean intensity of a block of tissue.
    missing
        Values that hold no signal, as for `high_pass_noise`.

    Returns
    -------
    ColouredNoise or None
        None where too little of the tissue is smooth.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(80, 80, 10)).astype(np.float32)
    >>> coloured_noise(noise, 2, (-5, 5), ()).kernel
    (0.0, 0.0, 0.0)
    """
    side = _SIDES[0]
    blocks = _blocks_between(np.moveaxis(data, slice_axis, 0), side, *bounds, missing)
    if len(blocks) < _FEWEST_BLOCKS[side]:
        return None
    halves = blocks.reshape(len(blocks), 2, side // 2, 2, side // 2).mean(axis=(2, 4))
    order = np.argsort(halves.var(axis=(1, 2)))[: _share(len(blocks), _SMOOTH_IN_CT)]
    along = [_along(blocks[order], axis) for axis in (1, 2)]
    kernel = [width for _, width in along]
    kernel.insert(slice_axis, 0.0)
    sd = math.sqrt(sum(variance for variance, _ in along) / 2)
    return ColouredNoise(sd, (kernel[0], kernel[1], kernel[2]))


def _along(blocks: Blocks, axis: int) -> tuple[float, float]:
    """Variance of noise, and width of its kernel in voxels, along an axis of blocks."""
    lines = np.moveaxis(blocks, axis, 0).astype(np.float64)
    # The median over blocks, since some show anatomy; the mean within them, since values are
    # rounded.
    near, far = (
        float(np.median(np.square(lines[step:] - lines[:-step]).mean(axis=(0, 2))))
        for step in (1, 2)
    )
    ratio = far / max(near, float(np.finfo(np.float32).tiny))
    if ratio < _COLOURED:
        return near / 2, 0.0
    correlation = np.linspace(0, _MOST_CORRELATED, 1000)
    known = 1 + correlation + correlation**2 + correlation**3
    q = float(np.interp(ratio, known, correlation))
    return near / (2 * (1 - q)), 0.5 / math.sqrt(-math.log(q))


def _noise_of_planes(
    data: NDArray[np.float32], low: float, high: float, missing: Sequence[float]
) -> list[_PlaneNoise]:
    """Noise in each orientation with enough blocks, of the largest side that gives enough."""
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
    """Blocks ``(N, side, side)`` of planes ``(S, A, B)`` whose mean lies within the bounds."""
    if min(stack.shape[1:]) < side or stack.shape[0] == 0:
        return np.zeros((0, side, side), dtype=np.float32)
    # In small images blocks overlap; in large ones, planes are left out.
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
    """View of the blocks of all planes, ``(S, rows, columns, side, side)``, centred."""
    offsets = [(length - side) % step // 2 for length in stack.shape[1:]]
    windows = np.lib.stride_tricks.sliding_window_view(stack, (side, side), axis=(1, 2))
    return np.asarray(windows[:, offsets[0] :: step, offsets[1] :: step])


def _noise_of_blocks(blocks: Blocks, axes: tuple[int, int]) -> _PlaneNoise:
    """Noise of blocks ``(N, side, side)``, whose sides lie along these axes of the scan."""
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
    # Noise is the same in any share of the blocks. Anatomy is more in a larger share.
    floor = min(sd, corner) if sd_of_smooth <= _MOST_GROWTH * sd else 0.0
    power = np.median(size, axis=0) ** 2
    middle, along = slice(side // 4, half), slice(1, half)
    first = power[top:, along].mean() / max(power[middle, along].mean(), 1e-30)
    second = power[along, top:].mean() / max(power[along, middle].mean(), 1e-30)
    whiteness = {axes[0]: math.sqrt(first), axes[1]: math.sqrt(second)}
    return _PlaneNoise(HighPassNoise(sd, floor), whiteness)


def _share(count: int, share: float) -> int:
    return min(count, max(_FEWEST_SMOOTH, math.ceil(share * count)))


@cache
def _cosine_basis(side: int) -> NDArray[np.float32]:
    """Orthonormal cosine transform, ``(side, side)``, one frequency in each row."""
    frequency, place = np.arange(side)[:, None], np.arange(side)[None, :]
    basis = np.cos(np.pi * (place + 0.5) * frequency / side) * math.sqrt(2 / side)
    basis[0] /= math.sqrt(2)
    return np.asarray(basis, dtype=np.float32)
