"""The part of a grid that shows the head, which is all that a fit has to solve.

The fields of view of clinical scans are larger than the head, and a grid that encloses several of
them is mostly air. What lies far from the head is interpolated instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ...config import Modality
from ...space.affines import Affine, apply_affine, translation
from ...space.grid import Grid, Shape, corners
from ...space.volume import Volume
from ..scanner.coverage import field_of_view, measured_voxels
from ..scanner.observation import Observation
from ..scanner.resampling import linear_images
from .result import Fit, Reconstruction
from .scans import PlacedContrast, PlacedScan, StartImages

# A block within a slice belongs to the head if its mean exceeds air by this share of the contrast.
# Low, since far from a surface coil tissue is dark; blocks are so wide (mm) that noise hardly moves
# their means.
_LEAST_BRIGHTNESS = 0.1
_BLOCK_MM = 4.0
# Skin and what surrounds it that the images still show as the fit makes them, in mm.
_MARGIN_MM = 12.0
# Scans are kept this far beyond the part, in mm: voxels beside it are measured from there, too.
_REACH_MM = 4.0
# A part with more of the grid than this share is not worth the seam.
_LARGEST_SHARE = 0.85
# Sd of the Gaussian (mm) within slices that smooths air about as the fit does.
_AIR_SMOOTHING_MM = 1.5

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class HeadPart:
    """A box of a grid that contains the head.

    Parameters
    ----------
    lattice
        The whole grid.
    box
        Voxels of the box along each axis of the whole grid.
    """

    lattice: Grid
    box: Box

    @classmethod
    def whole(cls, lattice: Grid) -> HeadPart:
        """All of a grid."""
        return cls(lattice, _box(np.zeros(3), np.array(lattice.shape)))

    @property
    def grid(self) -> Grid:
        """The box as a grid of its own."""
        if self.is_whole:
            return self.lattice
        first = [axis.start for axis in self.box]
        return Grid(_shape(self.box), self.lattice.affine @ translation(first))

    @property
    def is_whole(self) -> bool:
        """Whether the box is all of the grid."""
        return _shape(self.box) == self.lattice.shape

    def start(self, images: StartImages | None) -> StartImages | None:
        """The images of a fit to start from, within the box."""
        if images is None or self.is_whole:
            return images
        return replace(images, images=images.images[(slice(None), *self.box)])

    def around(self, contrasts: Sequence[PlacedContrast]) -> tuple[PlacedContrast, ...]:
        """The scans without rows and columns far from the box; all slices are kept."""
        if self.is_whole:
            return tuple(contrasts)
        return tuple(
            replace(contrast, scans=tuple(_near(scan, self.grid) for scan in contrast.scans))
            for contrast in contrasts
        )

    def with_surroundings(
        self, solved: Reconstruction, contrasts: Sequence[PlacedContrast]
    ) -> Reconstruction:
        """Images of the whole grid: interpolated and smoothed scans around what was solved.

        Parameters
        ----------
        solved
            The reconstruction on `grid`.
        contrasts
            The whole scans.
        """
        if self.is_whole:
            return solved
        # The images may have been moved, so that the first scan keeps its pose.
        moved = solved.grid.affine @ np.linalg.inv(self.grid.affine)
        grid = self.lattice.moved(moved)
        scans = [
            [
                _observed(scan, pose, contrast.modality)
                for scan, pose in zip(contrast.scans, poses, strict=True)
            ]
            for contrast, poses in zip(contrasts, solved.poses, strict=True)
        ]
        smoothed = [[_smoothed(scan) for scan in own] for own in scans]
        images = linear_images(smoothed, grid, torch.device("cpu")).numpy()
        images[(slice(None), *self.box)] = solved.images
        covered = np.stack([field_of_view(own, grid) for own in scans]).all(axis=0)
        known = np.stack([measured_voxels(own, grid) for own in scans])
        return replace(
            solved,
            images=images,
            grid=grid,
            coverage=np.asarray(covered),
            fit=self._fit_of_all(solved.fit, contrasts, known),
        )

    def _fit_of_all(
        self, fit: Fit | None, contrasts: Sequence[PlacedContrast], known: NDArray[np.bool_]
    ) -> Fit | None:
        """The maps of a fit on the whole grid; ``known`` are voxels that were measured."""
        if fit is None:
            return None
        measured, uncertainty = fit.measured, fit.uncertainty
        if measured is not None:
            measured = known * self._extended(measured)
        if uncertainty is not None:
            sds = self._extended(uncertainty.sds)
            for c, contrast in enumerate(contrasts):
                sds[c][~known[c]] = max(scan.noise.contrast for scan in contrast.scans)
            uncertainty = replace(uncertainty, sds=sds)
        return replace(fit, measured=measured, uncertainty=uncertainty)

    def _extended(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Maps ``(C, X, Y, Z)`` of the box on the whole grid, with the values of its faces."""
        sides = zip(self.box, self.lattice.shape, strict=True)
        around = [(axis.start, side - axis.stop) for axis, side in sides]
        return np.pad(maps, [(0, 0), *around], mode="edge")


def head_part(contrasts: Sequence[PlacedContrast], lattice: Grid) -> HeadPart:
    """The box of a grid that contains what any scan shows of the head, with a margin of air.

    Parameters
    ----------
    contrasts
        All scans, at their poses.
    lattice
        The whole grid.

    Returns
    -------
    HeadPart
        The whole grid if no scan shows a head, or if the box would hardly be smaller.
    """
    points = [_head_points(scan) for contrast in contrasts for scan in contrast.scans]
    places = apply_affine(np.linalg.inv(lattice.affine), np.concatenate(points))
    if not len(places):
        return HeadPart.whole(lattice)
    margin = (_MARGIN_MM + _BLOCK_MM / 2) / lattice.voxel_size
    low = np.maximum(np.floor(places.min(axis=0) - margin), 0)
    high = np.minimum(np.ceil(places.max(axis=0) + margin) + 1, lattice.shape)
    if (high <= low).any() or np.prod((high - low) / lattice.shape) > _LARGEST_SHARE:
        return HeadPart.whole(lattice)
    return HeadPart(lattice, _box(low, high))


def _head_points(scan: PlacedScan) -> NDArray[np.float64]:
    """Centres of blocks within slices that show the head, ``(N, 3)`` mm in the world of images."""
    volume, noise = scan.volume, scan.noise
    across = scan.profile.slice_axis(volume.grid)
    block = np.maximum(np.rint(_BLOCK_MM / volume.grid.voxel_size), 1).astype(int)
    block[across] = 1
    air = np.float32(noise.background_mean)
    data = np.where(np.isfinite(volume.data), volume.data, air)
    # The last blocks are filled with air.
    missing = [(0, -side % n) for side, n in zip(data.shape, block, strict=True)]
    data = np.pad(data, missing, constant_values=air)
    x, y, z = (side // n for side, n in zip(data.shape, block, strict=True))
    means = data.reshape(x, block[0], y, block[1], z, block[2]).mean(axis=(1, 3, 5))
    head = means > noise.background_mean + _LEAST_BRIGHTNESS * noise.contrast
    centres = np.argwhere(head) * block + (block - 1) / 2
    return apply_affine(scan.pose @ volume.affine, centres)


def _near(scan: PlacedScan, grid: Grid) -> PlacedScan:
    """A scan without the rows and columns far from a grid."""
    volume = scan.volume
    reach = 0.5 + _REACH_MM / float(min(grid.voxel_size))
    into_scan = np.linalg.inv(scan.pose @ volume.affine) @ grid.affine
    places = apply_affine(into_scan, corners(grid.shape, reach))
    low = np.clip(np.floor(places.min(axis=0)), 0, np.array(volume.data.shape) - 1)
    high = np.clip(np.ceil(places.max(axis=0)) + 1, low + 1, volume.data.shape)
    across = scan.profile.slice_axis(volume.grid)
    low[across], high[across] = 0, volume.data.shape[across]
    box = _box(low, high)
    affine = volume.affine @ translation([axis.start for axis in box])
    return replace(scan, volume=Volume(volume.data[box], affine, volume.path))


def _observed(scan: PlacedScan, pose: Affine, modality: Modality) -> Observation:
    return Observation(
        scan.volume.data, scan.volume.affine, pose=pose, zero_is_missing=modality == "MR"
    )


def _smoothed(scan: Observation) -> Observation:
    """A scan smoothed within its slices; missing voxels stay missing."""
    sds = _AIR_SMOOTHING_MM / scan.grid.voxel_size
    sds[scan.slice_axis] = 0.0
    known = ~scan.missing
    share = ndimage.gaussian_filter(known.astype(np.float32), sds)
    total = ndimage.gaussian_filter(np.where(known, scan.data, np.float32(0)), sds)
    data = np.where(known, total / np.maximum(share, np.finfo(np.float32).tiny), np.float32(np.nan))
    return replace(scan, data=data)


def _box(low: NDArray[np.float64], high: NDArray[np.float64]) -> Box:
    x, y, z = (slice(int(first), int(end)) for first, end in zip(low, high, strict=True))
    return x, y, z


def _shape(box: Box) -> Shape:
    x, y, z = (axis.stop - axis.start for axis in box)
    return x, y, z
