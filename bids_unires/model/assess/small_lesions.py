"""Small lesions at random places of even tissue: what a fit is asked to draw (`detectability`).

They are balls. Their places are deep in the head, where it is smooth and about as bright as most
such places are: most of them are white matter, whatever the contrast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...space.grid import Grid

Mask = NDArray[np.bool_]

LesionLook = Literal["bright", "dark"]
"""Whether small lesions are brighter or darker than the tissue around them in a contrast."""

# Gaps of up to twice this width belong to the head, such as dark fluid between its folds.
_GAPS_MM = 8.0
# Even tissue lies at least so far from the border of the head, or, where less of it was measured,
# as far as this share of the deepest place: scalp and skull are excluded.
_DEEP_MM, _DEEP = 15.0, 0.4
# Depth is measured on voxels of about this size, with so many voxels of air around them.
_COARSE_MM, _AIR = 3.0, 4
# A place is as even as the head within this distance of it, and has to be among this share.
_EVEN_WITHIN_MM = 3.5
_MOST_EVEN = 0.4
# Its brightness is within so many standard deviations of the most frequent one.
_USUAL = 2.0
_BINS = 100
_MAD_TO_SD = 1.4826
# Balls are averaged over voxels from so many samples along each axis.
_SAMPLES = 5


@dataclass(frozen=True, order=True)
class LesionKind:
    """What a small lesion looks like.

    Parameters
    ----------
    diameter
        mm.
    contrast
        Its difference from the tissue around it, as a share of the intensity of that tissue in MR,
        and in HU in CT; without sign.
    """

    diameter: float
    contrast: float


@dataclass(frozen=True, eq=False)
class EvenTissue:
    """Places for small lesions in one image.

    Parameters
    ----------
    places
        Bool ``(X, Y, Z)``.
    intensity
        The most frequent intensity there.
    """

    places: Mask
    intensity: float


@dataclass(frozen=True, eq=False)
class SmallLesions:
    """Small lesions in one image.

    Parameters
    ----------
    kinds
        What each looks like.
    added
        ``(X, Y, Z)`` float32, what they add to the image.
    labels
        ``(X, Y, Z)`` int32: 1 to N in the voxels of which each fills at least half, or the most.
    """

    kinds: tuple[LesionKind, ...]
    added: NDArray[np.float32]
    labels: NDArray[np.int32]


def even_tissue(image: NDArray[np.float32], grid: Grid, threshold: float) -> EvenTissue:
    """Find even tissue deep in a head.

    Parameters
    ----------
    image
        Intensities ``(X, Y, Z)``.
    grid
        Its grid.
    threshold
        Intensity above which a voxel belongs to the head.
    """
    size = grid.voxel_size
    depth = _depth(image > threshold, size)
    if not depth.any():
        return EvenTissue(depth > 0, float("nan"))
    deep = depth >= min(_DEEP_MM, _DEEP * float(depth.max()))
    window = [2 * int(_EVEN_WITHIN_MM / float(side)) + 1 for side in size]
    # Differences from about the intensity of tissue: their squares lose nothing to rounding.
    values = image - np.float32(np.median(image[deep]))
    variance = ndimage.uniform_filter(values**2, window)
    variance -= ndimage.uniform_filter(values, window) ** 2
    even = deep & (variance <= np.quantile(variance[deep], _MOST_EVEN))
    counts, edges = np.histogram(image[even], _BINS)
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), 2.0)
    usual = float(edges[int(smooth.argmax())] + edges[int(smooth.argmax()) + 1]) / 2
    spread = _MAD_TO_SD * float(np.median(np.abs(image[even] - usual)))
    return EvenTissue(np.asarray(even & (np.abs(image - usual) <= _USUAL * spread)), usual)


def _depth(bright: Mask, voxel_size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance in mm of every voxel ``(X, Y, Z)`` of the head from its border; 0 outside."""
    every = tuple(max(1, round(_COARSE_MM / float(side))) for side in voxel_size)
    x, y, z = (slice(None, None, step) for step in every)
    # Around it is air, also where the head was measured up to the border of the image.
    coarse, size = np.pad(bright[x, y, z], _AIR), every * voxel_size
    if not coarse.any():
        return np.zeros(bright.shape)
    grown = ndimage.distance_transform_edt(~coarse, size) < _GAPS_MM
    closed = ndimage.distance_transform_edt(grown, size) > _GAPS_MM
    head = ndimage.binary_fill_holes(closed | coarse)
    depth = ndimage.distance_transform_edt(head, size)
    for axis, (side, step) in enumerate(zip(bright.shape, every, strict=True)):
        depth = depth.take(_AIR + np.arange(side) // step, axis)
    return np.asarray(depth)


def choose_places(
    tissues: Sequence[EvenTissue], apart: NDArray[np.int64], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Voxels for lesions of several images in turn, all of them apart from each other.

    Parameters
    ----------
    tissues
        Even tissue of each image, on one grid.
    apart
        ``(3,)``: least distance in voxels, along at least one axis.
    rng
        Random numbers.

    Returns
    -------
    list of ndarray
        ``(N, 3)`` for each image.
    """
    free = np.ones(tissues[0].places.shape, dtype=bool)
    inner = np.zeros_like(free)
    inner[tuple(slice(int(side), -int(side)) for side in apart)] = True
    orders = [rng.permutation(np.argwhere(tissue.places & inner)) for tissue in tissues]
    chosen: list[list[NDArray[np.int64]]] = [[] for _ in tissues]
    open_orders = set(range(len(tissues)))
    while open_orders:
        for number in sorted(open_orders):
            orders[number] = orders[number][free[tuple(orders[number].T)]]
            if not len(orders[number]):
                open_orders.discard(number)
                continue
            place = orders[number][0]
            chosen[number].append(place)
            around = zip(place, apart, strict=True)
            free[tuple(slice(int(at - side + 1), int(at + side)) for at, side in around)] = False
    return [np.array(places, dtype=np.int64).reshape(-1, 3) for places in chosen]


def put_lesions(
    places: NDArray[np.int64],
    kinds: Sequence[LesionKind],
    unit: float,
    grid: Grid,
    rng: np.random.Generator,
) -> SmallLesions:
    """Put a lesion at each place, its middle anywhere in the voxel.

    Parameters
    ----------
    places
        Voxels ``(N, 3)``, apart from each other.
    kinds
        What the lesions look like, in turn.
    unit
        What a contrast of 1 adds to the image; below 0 if lesions are dark.
    grid
        Grid of the image.
    rng
        Random numbers.
    """
    added = np.zeros(grid.shape, dtype=np.float32)
    labels = np.zeros(grid.shape, dtype=np.int32)
    of_each = tuple(kinds[number % len(kinds)] for number in range(len(places)))
    for number, (place, kind) in enumerate(zip(places, of_each, strict=True), start=1):
        share = _ball(kind.diameter / grid.voxel_size, rng.uniform(-0.5, 0.5, 3))
        low = place - (np.array(share.shape) - 1) // 2
        box = tuple(slice(int(at), int(at) + n) for at, n in zip(low, share.shape, strict=True))
        added[box] += np.float32(unit * kind.contrast) * share
        labels[box][share >= min(0.5, float(share.max()))] = number
    return SmallLesions(of_each, added, labels)


def _ball(diameters: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float32]:
    """Share of each voxel that a ball fills; ``diameters`` and ``middle`` in voxels, ``(3,)``."""
    axes = []
    for diameter, at in zip(diameters, middle, strict=True):
        reach = int(np.ceil(diameter / 2 + 0.5))
        samples = (np.arange((2 * reach + 1) * _SAMPLES) + 0.5) / _SAMPLES - 0.5 - reach
        axes.append(((samples - at) / (diameter / 2)) ** 2)
    x, y, z = axes
    filled = (x[:, None, None] + y[:, None] + z <= 1).astype(np.float32)
    sides = [side for axis in axes for side in (len(axis) // _SAMPLES, _SAMPLES)]
    return np.asarray(filled.reshape(sides).mean(axis=(1, 3, 5)))
