"""CT heads with a known truth, and thick axial slices of them with noise as CT has it.

The noise of CT is white across slices. Within them it is white, or coloured by the kernel that
images are reconstructed with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion, thick_slices
from bids_unires.demo.score import psnr, resample
from bids_unires.demo.study import PARTICIPANTS
from bids_unires.space.affines import Affine, apply_affine
from bids_unires.space.grid import Grid, corners
from bids_unires.space.volume import Volume
from evaluation.cases import COLIN27

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]
Colour = Literal["white", "coloured"]

AIR_HU = -1000.0
KERNEL_SD = 0.45
"""Standard deviation in mm of the Gaussian that colours noise within slices. It gives neighbours at
0.49 mm a correlation of 0.74, as the brain of a real head CT shows with a soft kernel."""

TURNED = Motion((1.3, -0.7, 0.9), (11.0, 3.0, 6.0))
"""A head that is turned and tilted in the scanner."""

_COLIN27_BRAIN = COLIN27.with_name("ch2bet.nii.gz")
_TISSUE_HU: Mapping[str, float] = {
    "grey": 38.0,
    "white": 29.0,
    "fluid": 8.0,
    "lesion": 22.0,
    "muscle": 55.0,
    "bone": 1000.0,
    "scalp": -60.0,
}
# Texture of the template, and of bone with the sd in voxels of its grain, in HU.
_TEXTURE, _BONE_TEXTURE, _BONE_GRAIN = 60.0, 150.0, 1.0
# T1w of Colin27 over that of its white matter, and the HU that stand for it.
_BRAIN_T1 = (0.3, 0.75, 1.0, 1.3)
_BRAIN_HU = (6.0, 38.0, 28.0, 20.0)
_OTHER_T1 = (0.05, 0.25, 0.45, 0.9, 1.5)
_SKULL_HU = (1200.0, 800.0, 60.0, -60.0, -90.0)
_FACE_HU = (20.0, 40.0, 50.0, -60.0, -90.0)
# The skull lies within this distance in mm of the brain.
_SKULL = 12.0
# In the head, CT is above this; in bone, above the second.
_HEAD_HU, _BONE_HU = -300.0, 300.0
_SOFT_HU = (-20.0, 100.0)
# Where vessels are all there is, the head is what lies within so many voxels of them.
_NEAR_VESSELS = 3
# Deep soft tissue has no other within so many voxels.
_DEEP = 3


@dataclass(frozen=True, eq=False)
class CTHead:
    """A CT at full resolution.

    Attributes
    ----------
    name
        What tables call it.
    truth
        Hounsfield units without noise.
    inside
        Bool ``(X, Y, Z)``, the head.
    """

    name: str
    truth: Volume
    inside: Mask

    def cropped(self, low: tuple[int, int, int], sides: tuple[int, int, int]) -> CTHead:
        """The part of the head in a box that starts at voxel ``low``."""
        box = tuple(slice(start, start + side) for start, side in zip(low, sides, strict=True))
        affine = self.truth.affine.copy()
        affine[:3, 3] = apply_affine(self.truth.affine, np.array([low], dtype=float))[0]
        data = np.ascontiguousarray(self.truth.data[box])
        return CTHead(self.name, Volume(data, affine), self.inside[box])


@dataclass(frozen=True)
class CTCase:
    """How a head is scanned, and which images are wanted.

    Parameters
    ----------
    thickness
        Thickness of axial slices in mm; there are no gaps.
    noise
        Standard deviation of the noise in HU.
    colour
        Whether noise is white or coloured within slices.
    in_plane
        Voxel size within slices in mm; None for that of the truth.
    wanted
        Voxel size of the images in mm; None for that of the truth within slices.
    turned
        Whether the head lies turned and tilted in the scanner.
    """

    thickness: float = 5.0
    noise: float = 8.0
    colour: Colour = "coloured"
    in_plane: float | None = None
    wanted: float | None = 1.0
    turned: bool = False

    def __str__(self) -> str:
        """The case in one line."""
        sizes = "in-plane size" if self.wanted is None else f"{self.wanted:g} mm"
        fine = "" if self.in_plane is None else f" of {self.in_plane:g} mm voxels"
        turned = ", turned" if self.turned else ""
        return (
            f"{self.thickness:g} mm slices{fine}, {self.noise:g} HU {self.colour}{turned}, "
            f"at {sizes}"
        )


@dataclass(frozen=True, eq=False)
class CTExamination:
    """A scan, and the image that is wanted of it.

    Attributes
    ----------
    scan
        Axial slices with noise.
    pose
        ``(4, 4)``, world of the scan to world of the truth, mm.
    truth
        Hounsfield units on the grid of the image.
    regions
        Where images are compared, bool ``(X, Y, Z)`` each: head, bone and soft tissue,
        and soft tissue away from all other.
    """

    scan: Volume
    pose: Affine
    truth: Volume
    regions: Mapping[str, Mask]

    def psnr(self, image: Image) -> dict[str, float]:
        """PSNR in dB in each region, all with the peak of the head."""
        peak = float(self.truth.data[self.regions["head"]].max())
        return {
            name: psnr(image, self.truth.data, region)
            + 20 * math.log10(peak / float(self.truth.data[region].max()))
            for name, region in self.regions.items()
            if region.any()
        }


@functools.cache
def icbm152() -> CTHead:
    """A head made of the tissue maps of ICBM152, with bone of uneven density."""
    anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
    air = 1 - np.sum(list(anatomy.fractions.values()), axis=0)
    image = _TEXTURE * anatomy.texture + AIR_HU * air
    for tissue, fraction in anatomy.fractions.items():
        image += np.float32(_TISSUE_HU[tissue]) * fraction
    grain = np.random.default_rng(152).standard_normal(image.shape, dtype=np.float32)
    grain = ndimage.gaussian_filter(grain, _BONE_GRAIN)
    image += anatomy.fractions["bone"] * np.float32(_BONE_TEXTURE / grain.std()) * grain
    return CTHead("ICBM152", Volume(image.astype(np.float32), anatomy.grid.affine), anatomy.head)


@functools.cache
def colin27() -> CTHead:
    """A head whose T1w intensities stand for Hounsfield units, with all the detail of the T1w.

    Brain, skull and scalp are told apart by a mask of the brain, distance from it and intensity.
    """
    image = nib.load(COLIN27)
    t1w = np.asarray(image.get_fdata(dtype=np.float32))
    brain = np.asarray(nib.load(_COLIN27_BRAIN).dataobj) > 0
    t1w /= np.percentile(t1w[brain], 80)
    inside = ndimage.binary_fill_holes(ndimage.gaussian_filter(t1w, 1.0) > 0.1)
    near = ndimage.distance_transform_edt(~brain) < _SKULL
    hounsfield = np.where(
        near, np.interp(t1w, _OTHER_T1, _SKULL_HU), np.interp(t1w, _OTHER_T1, _FACE_HU)
    )
    soft = ndimage.gaussian_filter(brain.astype(np.float32), 0.5)
    hounsfield += soft * (np.interp(t1w, _BRAIN_T1, _BRAIN_HU) - hounsfield)
    share = ndimage.gaussian_filter(inside.astype(np.float32), 0.5)
    hounsfield = share * hounsfield + (1 - share) * AIR_HU
    truth = Volume(hounsfield.astype(np.float32), np.asarray(image.affine))
    return CTHead("Colin27", truth, np.asarray(inside))


def vessels(name: str, path: Path) -> CTHead:
    """An angiogram in which air, brain and bone are 0, and vessels alone are left.

    Parameters
    ----------
    name
        What tables call it.
    path
        Its NIfTI file.
    """
    image = nib.load(path)
    data = np.asarray(image.get_fdata(dtype=np.float32))
    inside = ndimage.binary_dilation(data > 0, iterations=_NEAR_VESSELS)
    return CTHead(name, Volume(data, np.asarray(image.affine)), np.asarray(inside))


def examine(head: CTHead, case: CTCase) -> CTExamination:
    """Scan a head; the result is the same every time."""
    sizes = head.truth.grid.voxel_size
    pose = TURNED.scanner_to_head if case.turned else np.eye(4)
    fine = (sizes[0], sizes[1]) if case.in_plane is None else (case.in_plane, case.in_plane)
    grid = _grid_over(head.truth.grid, (fine[0], fine[1], case.thickness), pose)
    scan = thick_slices(head.truth, grid, case.thickness, pose)
    scan += np.float32(case.noise) * noise(grid, case.colour, np.random.default_rng(0))
    wanted = (fine[0], fine[1], fine[0]) if case.wanted is None else (case.wanted,) * 3
    truth = Volume(*_on(head.truth, _grid_over(head.truth.grid, wanted, np.eye(4))))
    inside = _share(head.inside, head.truth, truth.grid) > 0.5
    ones = Volume(np.ones(grid.shape, np.float32), grid.affine)
    inside &= resample(ones, truth.grid, np.linalg.inv(pose), 1, mode="constant") > 0.99
    return CTExamination(Volume(scan, grid.affine), pose, truth, _regions(truth.data, inside))


def noise(grid: Grid, colour: Colour, rng: np.random.Generator) -> Image:
    """Noise of variance 1, ``(X, Y, Z)``; slices are the last axis."""
    values = rng.standard_normal(grid.shape, dtype=np.float32)
    if colour == "white":
        return values
    sds = [KERNEL_SD / size for size in grid.voxel_size[:2]]
    values = ndimage.gaussian_filter(values, [*sds, 0.0], mode="wrap")
    return np.asarray(values / values.std())


def _regions(truth: Image, inside: Mask) -> dict[str, Mask]:
    """Head, bone and soft tissue; where vessels alone are left, bright and faint ones."""
    if truth.min() > AIR_HU / 2:
        return {
            "head": inside,
            "bone": inside & (truth > _BONE_HU),
            "soft": inside & (truth > 0) & (truth < _BONE_HU),
        }
    low, high = _SOFT_HU
    head, soft = truth > _HEAD_HU, (truth > low) & (truth < high)
    return {
        "head": inside & head,
        "bone": inside & (truth > _BONE_HU),
        "soft": inside & soft,
        "deep": inside & ndimage.binary_erosion(soft, iterations=_DEEP),
    }


def _grid_over(box: Grid, sizes: tuple[float, float, float], pose: Affine) -> Grid:
    """A grid with voxels of these sizes in mm over a box, whose centre it shares.

    Its axes are those of the world before ``pose`` takes it to the world of the box.
    """
    places = apply_affine(np.linalg.inv(pose) @ box.affine, corners(box.shape, edge=0.5))
    low, high = places.min(axis=0), places.max(axis=0)
    shape = np.maximum(np.floor((high - low) / sizes + 1e-3).astype(int), 1)
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = (low + high) / 2 - np.array(sizes) * (shape - 1) / 2
    return Grid(tuple(shape.tolist()), affine)


def _on(volume: Volume, grid: Grid) -> tuple[Image, Affine]:
    return resample(volume, grid, np.eye(4), 3), grid.affine


def _share(mask: Mask, like: Volume, grid: Grid) -> Image:
    return resample(Volume(mask.astype(np.float32), like.affine), grid, np.eye(4), 1)
