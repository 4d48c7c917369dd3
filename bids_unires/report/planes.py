"""Where the pictures of a report cut through the head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..space.affines import Affine, scaling, translation, voxel_size
from ..space.grid import Grid, inside
from ..space.volume import Volume

Values = NDArray[np.float32]
Order = Literal[0, 1]

WIDTH = 1080
"""Pixels that three planes fill together, without what separates them."""

_SEPARATION = 10
# Pixels to the right end of a plane, for a letter.
_LETTER = 20
_FINEST_PIXEL_MM = 0.4
# Around the head.
_MARGIN_MM = 6.0
# Of the brightest voxels: what is darker is air, or hardly worth a picture.
_HEAD_SHARE = 0.12
_BRIGHTEST = 99.5
# Only Hounsfield units of air are this negative.
_AIR_TO_WATER_HU = -500.0
# A slice belongs to the head if this share of its voxels does.
_LEAST_SHARE_OF_SLICE = 0.02
# From the top of an adult's head to the middle of the brain; a neck would draw it down.
_TOP_TO_MIDDLE_MM = 80.0
# Every other voxel along each axis is enough to find the head.
_STRIDE = 2
# A volume to leaf through: small enough to be part of a page.
_LARGEST_BRICK = 1_800_000
_BRICK_COLUMNS = 12


@dataclass(frozen=True, eq=False)
class HeadBox:
    """The part of the images that the head fills.

    Parameters
    ----------
    affine
        ``(4, 4)``, voxel -> world mm, with axes closest to right, anterior and superior.
    low, high
        Voxel coordinates of its faces, ``(3,)``.
    centre
        Voxel coordinates of the middle of the head, ``(3,)``, whole numbers.
    """

    affine: Affine
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    centre: NDArray[np.float64]

    @property
    def extent(self) -> NDArray[np.float64]:
        """Sides in mm, ``(3,)``."""
        return np.asarray((self.high - self.low) * voxel_size(self.affine))


@dataclass(frozen=True, eq=False)
class Plane:
    """One plane of pixels in world space.

    Parameters
    ----------
    grid
        The pixels: rows, columns and a single layer, the upper left one first.
    left, right
        Letters of the directions at either side.
    """

    grid: Grid
    left: str
    right: str


@dataclass(frozen=True)
class Mark:
    """A letter over a picture, where it begins as a share of the width."""

    letter: str
    left: float


@dataclass(frozen=True, eq=False)
class View:
    """Three planes side by side.

    Parameters
    ----------
    planes
        Axial, coronal and sagittal.
    pixel_mm
        Side of a pixel.
    """

    planes: tuple[Plane, ...]
    pixel_mm: float

    @property
    def height(self) -> int:
        """Pixels of the tallest plane."""
        return max(plane.grid.shape[0] for plane in self.planes)

    @property
    def width(self) -> int:
        """Pixels from the first plane to the last."""
        return sum(p.grid.shape[1] for p in self.planes) + _SEPARATION * (len(self.planes) - 1)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Letters of the directions beside the planes."""
        marks, at = [], 0
        for plane in self.planes:
            width = plane.grid.shape[1]
            for letter, x in ((plane.left, at), (plane.right, at + width - _LETTER)):
                marks.append(Mark(letter, x / self.width))
            at += width + _SEPARATION
        return tuple(marks)

    def sample(self, volume: Volume, pose: Affine, order: Order) -> Values:
        """Intensities of a volume in the planes, ``(height, width)``; NaN where it has none.

        Parameters
        ----------
        volume
            Where to look.
        pose
            ``(4, 4)``, world mm of the volume -> world mm of the planes.
        order
            0 takes the nearest voxel, 1 interpolates linearly.
        """
        canvas = np.full((self.height, self.width), np.nan, dtype=np.float32)
        at = 0
        for plane in self.planes:
            rows, columns, _ = plane.grid.shape
            above = (self.height - rows) // 2
            part = _resampled(volume, pose, plane.grid, order)[..., 0]
            canvas[above : above + rows, at : at + columns] = part
            at += columns + _SEPARATION
        return canvas


@dataclass(frozen=True, eq=False)
class Brick:
    """A volume coarse enough to be part of a page, as one picture of all of its slices.

    Parameters
    ----------
    grid
        Its voxels, all sides equal; axes closest to right, anterior and superior.
    """

    grid: Grid

    @property
    def columns(self) -> int:
        """Slices beside each other."""
        return min(_BRICK_COLUMNS, self.grid.shape[2])

    def sheet(self, volume: Volume) -> Values:
        """Axial slices in rows from the lowest slice, each with its first row at the back.

        Parameters
        ----------
        volume
            In the world of the brick.
        """
        values = _resampled(volume, np.eye(4), self.grid, 1)
        across, along, count = values.shape
        rows = math.ceil(count / self.columns)
        filled = np.full((across, along, rows * self.columns), np.nan, dtype=np.float32)
        filled[..., :count] = values
        tiles = filled.reshape(across, along, rows, self.columns)
        return np.ascontiguousarray(
            tiles.transpose(2, 1, 3, 0).reshape(rows * along, self.columns * across)
        )


def in_hounsfield_units(values: Values) -> bool:
    """Whether intensities show air as CT does; NaN is nothing.

    Examples
    --------
    >>> in_hounsfield_units(np.array([-1000, 40, np.nan])), in_hounsfield_units(np.array([-3, 40]))
    (True, False)
    """
    return bool((values < _AIR_TO_WATER_HU).any())


def head_box(images: Sequence[Values], grid: Grid, margin_mm: float = _MARGIN_MM) -> HeadBox:
    """Find the head in the images of a participant.

    Parameters
    ----------
    images
        ``(X, Y, Z)`` each; the box holds what any of them shows of the head, its middle is
        that of the first.
    grid
        Where they lie.
    margin_mm
        Space around the head, as far as the grid goes.
    """
    orientation = nib.orientations.io_orientation(grid.affine)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape)
    boxes = [_box_in(nib.orientations.apply_orientation(each, orientation)) for each in images]
    shape = np.array(nib.orientations.apply_orientation(images[0], orientation).shape)
    margin = margin_mm / voxel_size(affine)
    low = np.min([low for low, _, _ in boxes], axis=0) - 0.5 - margin
    high = np.max([high for _, high, _ in boxes], axis=0) + 0.5 + margin
    _, top, centre = boxes[0]
    centre[2] = max(centre[2], top[2] - _TOP_TO_MIDDLE_MM / voxel_size(affine)[2])
    return HeadBox(affine, np.maximum(low, -0.5), np.minimum(high, shape - 0.5), np.round(centre))


def grid_box(grid: Grid) -> HeadBox:
    """All of a grid, its middle taken for that of the head."""
    orientation = nib.orientations.io_orientation(grid.affine)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape)
    sides = np.empty(3)
    sides[orientation[:, 0].astype(int)] = grid.shape
    return HeadBox(affine, np.full(3, -0.5), sides - 0.5, np.floor((sides - 1) / 2))


def view_of(box: HeadBox, width: int = WIDTH) -> View:
    """Axial, coronal and sagittal planes through the middle of the head, its left on the left.

    Parameters
    ----------
    box
        What to show.
    width
        Most pixels of the three planes together, without what separates them.
    """
    sizes, extent = voxel_size(box.affine), box.extent
    pixel = max(_FINEST_PIXEL_MM, float(2 * extent[0] + extent[1]) / width)
    planes = []
    for across, up, through, left, right in (
        (0, 1, 2, "L", "R"),
        (0, 2, 1, "L", "R"),
        (1, 2, 0, "P", "A"),
    ):
        rows, columns = (max(1, round(extent[axis] / pixel)) for axis in (up, across))
        to_voxels = np.zeros((4, 4))
        # From the top left corner down and to the right.
        to_voxels[up, 0], to_voxels[across, 1] = -pixel / sizes[up], pixel / sizes[across]
        to_voxels[through, 2], to_voxels[3, 3] = 1, 1
        to_voxels[up, 3] = box.high[up] + to_voxels[up, 0] / 2
        to_voxels[across, 3] = box.low[across] + to_voxels[across, 1] / 2
        to_voxels[through, 3] = box.centre[through]
        planes.append(Plane(Grid((rows, columns, 1), box.affine @ to_voxels), left, right))
    return View(tuple(planes), pixel)


def brick_of(box: HeadBox) -> Brick:
    """The whole head on a coarse isotropic grid."""
    extent = box.extent
    sizes = voxel_size(box.affine)
    side = max(float(sizes.min()), float(np.cbrt(extent.prod() / _LARGEST_BRICK)))
    x, y, z = (max(1, math.ceil(length / side)) for length in extent)
    steps = side / sizes
    to_voxels = translation(box.low + steps / 2) @ scaling(steps)
    return Brick(Grid((x, y, z), box.affine @ to_voxels))


def _resampled(volume: Volume, pose: Affine, grid: Grid, order: Order) -> Values:
    placed = Grid(volume.grid.shape, pose @ volume.affine)
    to_voxels = np.linalg.inv(placed.affine) @ grid.affine
    values = ndimage.affine_transform(
        volume.data,
        to_voxels[:3, :3],
        to_voxels[:3, 3],
        grid.shape,
        np.float32,
        order=order,
        mode="nearest",
    )
    values[~inside(grid, placed)] = np.nan
    return np.asarray(values)


def _box_in(
    image: Values,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """First and last voxel of the head along each axis, and its middle; all if it is empty."""
    coarse = image[::_STRIDE, ::_STRIDE, ::_STRIDE]
    bright = float(np.percentile(coarse, _BRIGHTEST))
    head = coarse > (_AIR_TO_WATER_HU if in_hounsfield_units(coarse) else _HEAD_SHARE * bright)
    low, high = np.zeros(3), np.array(image.shape) - 1.0
    centre = high / 2
    for axis in range(3):
        counts = head.sum(axis=tuple(other for other in range(3) if other != axis))
        filled = np.flatnonzero(counts > _LEAST_SHARE_OF_SLICE * head.size / head.shape[axis])
        if filled.size:
            low[axis] = _STRIDE * filled[0]
            high[axis] = min(_STRIDE * (filled[-1] + 1) - 1, image.shape[axis] - 1)
            centre[axis] = _STRIDE * float(np.average(np.arange(counts.size), weights=counts))
    return low, high, centre
