"""Heads with lesions, real or injected, in thick slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.demo.scanner import Motion, Plane, add_rician_noise, scan_grid, thick_slices
from bids_unires.demo.score import resample
from bids_unires.space.affines import translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume
from evaluation.cases import Examination
from evaluation.injection import InjectionParameters, inject

Mask = NDArray[np.bool_]

# Intensity above which a voxel belongs to the head, over the 98th percentile.
_HEAD = 0.1
# The noise is a share of this percentile of the head.
_BRIGHTEST = 99.9
_MARGIN = 4
# World axis (RAS+) across the slices of each plane.
_ACROSS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "transverse": 2}


@dataclass(frozen=True, eq=False)
class HeadWithLesions:
    """A head at full resolution, and its lesions.

    Attributes
    ----------
    name
        What tables call it.
    truth
        Intensities, 1 mm voxels.
    mask
        Bool ``(X, Y, Z)``, true in lesions.
    inside
        Bool ``(X, Y, Z)``, true in the head.
    """

    name: str
    truth: Volume
    mask: Mask
    inside: Mask


def head_with_its_own(name: str, image: Path, mask: Path) -> HeadWithLesions:
    """A head with real lesions.

    Parameters
    ----------
    name
        What tables call it.
    image, mask
        NIfTI files on one grid: the head, and a mask of its lesions.
    """
    truth = _read(image)
    lesions = np.asarray(nib.load(mask).get_fdata()) > 0
    return _cropped(HeadWithLesions(name, truth, lesions, _inside(truth)))


def head_with_injected(name: str, image: Path, parameters: InjectionParameters) -> HeadWithLesions:
    """A head that lesions are put into.

    Parameters
    ----------
    name
        What tables call it.
    image
        NIfTI file of the head.
    parameters
        How many lesions, and what they look like.
    """
    healthy = _read(image)
    inside = _inside(healthy)
    data, lesions = inject(healthy.data, inside, parameters)
    return _cropped(HeadWithLesions(name, Volume(data, healthy.affine), lesions, inside))


def scanned(
    head: HeadWithLesions, plane: Plane, thickness: float, noise: float, shift: float = 0.0
) -> Examination:
    """A head in thick slices, whose in-plane voxels lie on those of the truth.

    Parameters
    ----------
    head
        The head.
    plane
        Plane of the slices.
    thickness
        Thickness of the slices in mm; there are no gaps.
    noise
        Standard deviation of the noise in each complex channel, as a share of the 99.9th
        percentile of the head.
    shift
        How far the slices are shifted, as a share of their thickness.
    """
    offset = np.zeros(3)
    offset[_ACROSS[plane]] = shift * thickness
    pose = Motion((offset[0], offset[1], offset[2])).scanner_to_head
    grid = scan_grid(head.truth.grid, plane, thickness)
    clean = thick_slices(head.truth, grid, thickness, pose)
    sd = noise * float(np.percentile(head.truth.data[head.inside], _BRIGHTEST))
    scan = Volume(add_rician_noise(clean, sd, np.random.default_rng(0)), grid.affine)
    return Examination((head.truth,), head.inside, ((scan,),), ((pose,),), ((0.0,),))


def _read(path: Path) -> Volume:
    """A head in voxels of 1 mm along its own axes."""
    image = nib.load(path)
    head = Volume(np.asarray(image.get_fdata(dtype=np.float32)), np.asarray(image.affine))
    sides = np.asarray(head.grid.voxel_size)
    if np.allclose(sides, 1, atol=0.01):
        return head
    shape = np.floor(np.asarray(head.grid.shape) * sides).astype(int)
    grid = Grid(
        (int(shape[0]), int(shape[1]), int(shape[2])), head.affine @ np.diag([*1 / sides, 1])
    )
    return Volume(resample(head, grid, np.eye(4), 3), grid.affine)


def _inside(head: Volume) -> Mask:
    bright = head.data > _HEAD * np.percentile(head.data, 98)
    return np.asarray(ndimage.binary_fill_holes(bright))


def _cropped(head: HeadWithLesions) -> HeadWithLesions:
    """The same head in a box with a few voxels of air around it."""
    low, high = (limit(np.argwhere(head.inside), axis=0) for limit in (np.min, np.max))
    low = np.maximum(low - _MARGIN, 0)
    box = tuple(slice(a, b + 1 + _MARGIN) for a, b in zip(low, high, strict=True))
    affine = head.truth.affine @ translation(low)
    truth = Volume(np.ascontiguousarray(head.truth.data[box]), affine)
    return HeadWithLesions(head.name, truth, head.mask[box], head.inside[box])
