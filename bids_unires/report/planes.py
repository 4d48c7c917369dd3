"""Planes through the head in which a report shows images."""

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
"""Width of three planes together in pixels, without the separation between them."""

# Pixels between two planes.
_SEPARATION = 10
# Pixels at the right end of a plane that a letter takes.
_LETTER = 20
_FINEST_PIXEL_MM = 0.4
# Margin shown around the head.
_MARGIN_MM = 6.0
# Threshold for the head, as a fraction of the intensity of the brightest voxels. Darker voxels are
# air, or too dark to be seen in a picture.
_HEAD_SHARE = 0.12
# Percentile that gives the intensity of the brightest voxels.
_BRIGHTEST = 99.5
# Intensities below this value occur only in CT, in air.
_AIR_TO_WATER_HU = -500.0
# A slice belongs to the head if at least this fraction of its voxels does.
_LEAST_SHARE_OF_SLICE = 0.02
# Distance from the top of an adult's head to the middle of the brain. It limits how far a neck in
# the image shifts the middle downwards.
_TOP_TO_MIDDLE_MM = 80.0
# Every other voxel along each axis is enough to find the head.
_STRIDE = 2
# Most voxels of the volume whose slices the reader can browse: small enough to be part of a page.
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
        Voxel coordinates of the faces of the box, ``(3,)`` each.
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
        Grid of the pixels, ``(rows, columns, 1)``; the first is at the upper left.
    left, right
        Letters of the anatomical directions at the left and right side.
    """

    grid: Grid
    left: str
    right: str


@dataclass(frozen=True)
class Mark:
    """A letter over a picture.

    Parameters
    ----------
    letter
        The letter.
    left
        Position of its left side, as a fraction of the width of the picture.
    """

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
        Side of a pixel in mm.
    """

    planes: tuple[Plane, ...]
    pixel_mm: float

    @property
    def height(self) -> int:
        """Height of the tallest plane in pixels."""
        return max(plane.grid.shape[0] for plane in self.planes)

    @property
    def width(self) -> int:
        """Width of all planes in pixels, including the separation between them."""
        return sum(p.grid.shape[1] for p in self.planes) + _SEPARATION * (len(self.planes) - 1)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Letters of the anatomical directions at the sides of the planes."""
        marks, at = [], 0
        for plane in self.planes:
            width = plane.grid.shape[1]
            for letter, x in ((plane.left, at), (plane.right, at + width - _LETTER)):
                marks.append(Mark(letter, x / self.width))
            at += width + _SEPARATION
        return tuple(marks)

    def sample(self, volume: Volume, pose: Affine, order: Order) -> Values:
        """Intensities of a volume in the planes, ``(height, width)``; NaN outside the volume.

        Parameters
        ----------
        volume
            Volume to sample.
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
    """A volume coarse enough to be part of a page, as one picture of all its slices.

    Parameters
    ----------
    grid
        Grid of isotropic voxels, with axes closest to right, anterior and superior.
    """

    grid: Grid

    @property
    def columns(self) -> int:
        """Number of slices in a row of the picture."""
        return min(_BRICK_COLUMNS, self.grid.shape[2])

    def sheet(self, volume: Volume) -> Values:
        """Axial slices in rows, from the lowest slice to the highest.

        The first row of pixels of each slice is at the back of the head.

        Parameters
        ----------
        volume
            Volume to show, in the world of the brick.

        Returns
        -------
        ndarray
            ``(H, W)`` float32; NaN outside the volume.
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
    """Whether intensities are in Hounsfield units, as the values of air show; NaN is ignored.

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
        ``(X, Y, Z)`` each. The box contains the head in all images; its middle is that of the
        head in the first image.
    grid
        Grid of the images.
    margin_mm
        Margin around the head in mm; the box does not extend beyond the grid.
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
    """The box of a whole grid, with the middle of the grid as that of the head."""
    orientation = nib.orientations.io_orientation(grid.affine)
    affine = grid.affine @ nib.orientations.inv_ornt_aff(orientation, grid.shape)
    sides = np.empty(3)
    sides[orientation[:, 0].astype(int)] = grid.shape
    return HeadBox(affine, np.full(3, -0.5), sides - 0.5, np.floor((sides - 1) / 2))


def view_of(box: HeadBox, width: int = WIDTH) -> View:
    """Axial, coronal and sagittal planes through the middle of the head, with left on the left.

    Parameters
    ----------
    box
        Part of the images to show.
    width
        Largest width of the three planes together in pixels, without the separation between them.
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
        # Rows run downwards and columns to the right, from the top left corner.
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
    """First and last voxel of the head along each axis, and its middle, ``(3,)`` each.

    Along an axis where no head is found, the whole image counts as the head.
    """
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
