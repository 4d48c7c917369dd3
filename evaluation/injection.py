"""Lesions put into a head without any, so that what becomes of them can be measured in every head.

They are ellipsoids at random places where the head is smooth, as its white matter is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Radii in voxels around a place within which the head has to be smooth.
_SMOOTH_WITHIN = 3
# Places are taken from this share of the head, the smoothest.
_SMOOTHEST = 0.25
# Places have at least this distance in voxels from each other.
_APART = 9
# Voxels around a lesion that its blurred border may reach.
_BORDER = 3
_TRIES = 50


@dataclass(frozen=True)
class InjectionParameters:
    """How many lesions are put into a head, and what they look like.

    Parameters
    ----------
    count
        Number of lesions, if there is room.
    volumes
        Smallest and largest volume in mm3; their logarithms are uniform between.
    differences
        Smallest and largest difference from the median intensity of the places, as a share of it.
    brighter
        Whether lesions are brighter than the head around them, as in FLAIR, or darker, as in T1w.
    blur
        Standard deviation in voxels of the Gaussian that blurs their borders.
    seed
        Seed of places and looks.
    """

    count: int = 120
    volumes: tuple[float, float] = (5.0, 150.0)
    differences: tuple[float, float] = (0.2, 0.5)
    brighter: bool = True
    blur: float = 0.5
    seed: int = 1


def inject(head: Image, inside: Mask, parameters: InjectionParameters) -> tuple[Image, Mask]:
    """Put lesions into a head.

    Parameters
    ----------
    head
        Intensities ``(X, Y, Z)``, 1 mm voxels; they do not change.
    inside
        Bool ``(X, Y, Z)``, true in the head.
    parameters
        How many lesions, and what they look like.

    Returns
    -------
    tuple
        The head with lesions ``(X, Y, Z)`` float32, and the mask of lesions ``(X, Y, Z)``.

    Examples
    --------
    >>> head = np.full((40, 40, 40), 100, dtype=np.float32)
    >>> ill, mask = inject(head, head > 0, InjectionParameters(count=3))
    >>> ndimage.label(mask, np.ones((3, 3, 3)))[1], bool((ill >= head).all())
    (3, True)
    """
    rng = np.random.default_rng(parameters.seed)
    places = _places(head, inside, parameters.count, rng)
    usual = float(np.median(head[tuple(places.T)])) if len(places) else 0.0
    sign = 1 if parameters.brighter else -1
    added, mask = np.zeros(head.shape, np.float32), np.zeros(head.shape, dtype=bool)
    for place in places:
        volume = np.exp(rng.uniform(*np.log(parameters.volumes)))
        shape = _ellipsoid(float(volume), rng)
        reach = (shape.shape[0] - 1) // 2
        box = tuple(slice(at - reach, at + reach + 1) for at in place)
        mask[box] |= shape
        difference = sign * usual * rng.uniform(*parameters.differences)
        soft = ndimage.gaussian_filter(shape.astype(np.float32), parameters.blur)
        added[box] += np.float32(difference) * soft
    return head + added, mask


def _places(head: Image, inside: Mask, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Voxels ``(N, 3)`` apart from each other in smooth parts of the head."""
    size = 2 * _SMOOTH_WITHIN + 1
    mean = ndimage.uniform_filter(head.astype(np.float64), size)
    variance = ndimage.uniform_filter(head.astype(np.float64) ** 2, size) - mean**2
    room = np.zeros(head.shape, dtype=bool)
    room[(slice(_APART, -_APART),) * 3] = True
    room &= ndimage.binary_erosion(inside, iterations=_APART)
    if not room.any():
        return np.zeros((0, 3), dtype=np.int64)
    candidates = np.argwhere(room & (variance <= np.quantile(variance[inside], _SMOOTHEST)))
    chosen: list[NDArray[np.int64]] = []
    for place in rng.permutation(candidates)[: _TRIES * count]:
        if all(np.abs(place - other).max() >= _APART for other in chosen):
            chosen.append(place)
        if len(chosen) == count:
            break
    return np.array(chosen, dtype=np.int64).reshape(-1, 3)


def _ellipsoid(volume: float, rng: np.random.Generator) -> Mask:
    """An ellipsoid of a volume in voxels at a random angle, in the middle of a cube."""
    axes = rng.uniform(0.7, 1.4, 3)
    axes *= (volume * 3 / (4 * np.pi) / axes.prod()) ** (1 / 3)
    reach = int(np.ceil(axes.max())) + _BORDER
    steps = np.arange(-reach, reach + 1)
    at = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    turned = (at - rng.uniform(-0.5, 0.5, 3)) @ Rotation.random(rng=rng).as_matrix()
    return np.asarray(((turned / axes) ** 2).sum(axis=-1) <= 1)
