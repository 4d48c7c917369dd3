"""What becomes of bleedings and infarcts in CT: how much of their contrast an image keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.space.volume import Volume
from evaluation.ct_cases import CTHead, Image, Mask
from evaluation.lesions import Lesions

BRAIN_HU = 35.0
"""Lesions lie within balls of this density, so that they differ from their surroundings alike."""

# Around a lesion, so many mm of brain have one density.
_UNIFORM_MM = 5.0
# Share of a ball that a voxel at its rim holds is found from so many points along each axis.
_POINTS = 4
_TRIES = 4000


@dataclass(frozen=True)
class LesionKind:
    """Balls of one density.

    Parameters
    ----------
    density
        Hounsfield units.
    diameters
        In mm.
    count
        Number of lesions of each diameter, if there is room.
    """

    density: float
    diameters: tuple[float, ...] = (3.0, 5.0, 7.0, 10.0)
    count: int = 14


BLEEDING, INFARCT = LesionKind(60.0), LesionKind(25.0)


@dataclass(frozen=True, eq=False)
class HeadWithBalls:
    """A CT head with lesions.

    Attributes
    ----------
    head
        The head with its lesions, 1 mm voxels.
    masks
        Bool ``(X, Y, Z)``: the lesions of each diameter in mm.
    """

    head: CTHead
    masks: Mapping[float, Mask]

    def kept(self, image: Image, like: Image) -> dict[float, float]:
        """Mean share of contrast that an image keeps, by diameter; ``like`` has no noise."""
        everything = np.any(list(self.masks.values()), axis=0)
        found = {}
        for diameter, mask in self.masks.items():
            lesions = Lesions(like, mask, self.head.inside & (mask | ~everything))
            found[diameter] = float(np.nanmean(lesions.kept(image)))
        return found


def with_balls(head: CTHead, kind: LesionKind, seed: int = 1) -> HeadWithBalls:
    """Put lesions into the brain of a head with 1 mm voxels.

    Parameters
    ----------
    head
        The head.
    kind
        Density, diameters and number of lesions.
    seed
        Seed of their places, which do not lie on voxels.
    """
    rng = np.random.default_rng(seed)
    data = head.truth.data.copy()
    soft = (data > 0) & (data < 60) & head.inside
    depth = ndimage.distance_transform_edt(soft)
    masks = {}
    taken: list[tuple[NDArray[np.float64], float]] = []
    for diameter in sorted(kind.diameters, reverse=True):
        mask, reach = np.zeros(data.shape, dtype=bool), diameter / 2 + _UNIFORM_MM
        for place in _places(depth, diameter / 2, kind.count, taken, rng):
            taken.append((place, reach))
            for radius, density in ((reach, BRAIN_HU), (diameter / 2, kind.density)):
                box, share = _ball(data.shape, place, radius)
                data[box] += share * (np.float32(density) - data[box])
            mask[box] |= share > 0.5
        masks[diameter] = mask
    truth = Volume(data, head.truth.affine)
    return HeadWithBalls(CTHead(head.name, truth, head.inside), masks)


def _places(
    depth: NDArray[np.float64],
    radius: float,
    count: int,
    taken: Sequence[tuple[NDArray[np.float64], float]],
    rng: np.random.Generator,
) -> list[NDArray[np.float64]]:
    """Centres of balls that lie in the brain and apart from others."""
    reach = radius + _UNIFORM_MM
    candidates = np.argwhere(depth > reach)
    inner = (candidates >= reach + 1) & (candidates < np.array(depth.shape) - reach - 1)
    candidates = rng.permutation(candidates[inner.all(axis=1)])[:_TRIES]
    chosen: list[NDArray[np.float64]] = []
    for candidate in candidates:
        place = candidate + rng.uniform(-0.5, 0.5, 3)
        others = [*taken, *((other, reach) for other in chosen)]
        if all(np.linalg.norm(place - other) > reach + apart for other, apart in others):
            chosen.append(place)
        if len(chosen) == count:
            break
    return chosen


def _ball(
    shape: tuple[int, ...], place: NDArray[np.float64], radius: float
) -> tuple[tuple[slice, ...], Image]:
    """The box of a ball, and the share of each of its voxels that the ball fills."""
    low = np.maximum(np.floor(place - radius - 1).astype(int), 0)
    high = np.minimum(np.ceil(place + radius + 2).astype(int), shape)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    parts = (np.arange(_POINTS) + 0.5) / _POINTS - 0.5
    share = np.zeros(high - low, dtype=np.float32)
    at = np.moveaxis(np.mgrid[box], 0, -1) - place
    for offset in np.stack(np.meshgrid(parts, parts, parts, indexing="ij"), -1).reshape(-1, 3):
        share += np.linalg.norm(at + offset, axis=-1) < radius
    return box, share / np.float32(_POINTS**3)
