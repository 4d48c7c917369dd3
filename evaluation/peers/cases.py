"""Cases of the comparison: one stack of thick slices each of a head whose truth is known.

The slices of a case fill the field of view of its truth exactly, and its in-plane voxels lie on
those of the truth. So the grid that divides every slice into voxels of 1 mm, which is the one grid
that ECLARE makes images on, is that of the truth, and no method gains from a kinder grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.demo.scanner import Plane, add_rician_noise, scan_grid, thick_slices
from bids_unires.demo.score import resample
from bids_unires.space.affines import Affine, translation
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume
from evaluation.injection import InjectionParameters
from evaluation.lesion_cases import (
    HeadWithLesions,
    head_with_injected,
    head_with_its_own,
)

# World axis (RAS+) across the slices of each plane.
_ACROSS: Mapping[Plane, int] = {"sagittal": 0, "coronal": 1, "transverse": 2}
# Sides in voxels of a box in the middle of a large head.
_SIDE = 120
# The noise is a share of this percentile of the head.
_BRIGHTEST = 99.9


@dataclass(frozen=True)
class Head:
    """A head at full resolution.

    Parameters
    ----------
    name
        What tables call it.
    files
        Its files, below the folder of example data.
    read
        Makes the head of these files.
    note
        What readers of the table have to know of it.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[str, Sequence[Path]], HeadWithLesions]
    note: str

    def missing(self, data: Path) -> list[Path]:
        """Files of the head that are not below ``data``."""
        return [data / file for file in self.files if not (data / file).is_file()]

    def load(self, data: Path) -> HeadWithLesions:
        """Read the head from the folder of example data; its own axes become those of the world."""
        head = self.read(self.name, [data / file for file in self.files])
        return replace(head, truth=Volume(head.truth.data, upright(head.truth.affine)))


def _with_its_own(name: str, files: Sequence[Path]) -> HeadWithLesions:
    return head_with_its_own(name, files[0], files[1])


def _with_bright_spots(name: str, files: Sequence[Path]) -> HeadWithLesions:
    return head_with_injected(name, files[0], InjectionParameters())


def _middle_with_dark_spots(name: str, files: Sequence[Path]) -> HeadWithLesions:
    dark = replace(InjectionParameters(), brighter=False)
    return middle(head_with_injected(name, files[0], dark), _SIDE)


def middle(head: HeadWithLesions, side: int) -> HeadWithLesions:
    """A box of so many voxels per side in the middle of a head, with the lesions in it.

    Lesions that its border cuts are part of the truth, but are not counted.
    """
    low = [max(0, (whole - side) // 2) for whole in head.truth.data.shape]
    box = tuple(slice(start, start + side) for start in low)
    truth = Volume(np.ascontiguousarray(head.truth.data[box]), head.truth.affine @ translation(low))
    labels, _ = ndimage.label(head.mask, np.ones((3, 3, 3)))
    outside = np.ones(labels.shape, dtype=bool)
    outside[box] = False
    whole = head.mask[box] & ~np.isin(labels[box], np.unique(labels[outside]))
    return HeadWithLesions(head.name, truth, whole, head.inside[box])


STROKE = Head(
    "T2w of a stroke",
    ("stroke/T2w.nii.gz",),
    _with_bright_spots,
    "a real T2w of 1 mm without its skull, into which 120 bright lesions were put; no setting was "
    "chosen on it, but T1w and FLAIR of the same head were looked at when it was decided "
    "how residuals are added back",
)
HEALTHY = Head(
    "T1w of a healthy head",
    ("contrasts/sub-01/anat/sub-01_T1w.nii.gz",),
    _middle_with_dark_spots,
    "a real T1w of 0.88 mm, at 1 mm here, into which 120 dark lesions were put; a box of 120 mm in "
    "the middle of it with the lesions that are whole there; how detail is learned was chosen on "
    "this head, among others",
)
FLAIR = Head(
    "MS FLAIR",
    ("ms-flair/FLAIR.nii.gz", "ms-flair/lesions.nii.gz"),
    _with_its_own,
    "a real 3-D FLAIR of 1 mm with the lesions that several raters agreed on (Lesjak et al. 2017); "
    "how residuals are added back was chosen on it",
)
HEADS = (FLAIR, HEALTHY, STROKE)


@dataclass(frozen=True)
class Case:
    """One stack of one head.

    Parameters
    ----------
    head
        The head.
    thickness, gap
        Thickness of the slices, and gap between them, in whole mm.
    plane
        Plane of the slices.
    shift
        How far the slices are shifted along their normal, in whole mm.
    noise
        Standard deviation of the noise in each complex channel, as a share of the 99.9th
        percentile of the head.
    """

    head: Head
    thickness: int
    gap: int = 0
    plane: Plane = "transverse"
    shift: int = 0
    noise: float = 0.012

    def __str__(self) -> str:
        """The case in one line."""
        gap = f" + {self.gap} mm gap" if self.gap else ""
        shift = f", shifted by {self.shift} mm" if self.shift else ""
        return f"{self.head.name}, {self.plane}, {self.thickness} mm{gap}{shift}"

    @property
    def folder(self) -> str:
        """Name of a folder for what is made of it."""
        return str(self).lower().replace(",", "").replace(" + ", "+").replace(" ", "-")

    @property
    def spacing(self) -> int:
        """Distance between the centres of neighbouring slices in mm."""
        return self.thickness + self.gap


CASES = (
    Case(FLAIR, 5),
    Case(FLAIR, 5, shift=2),
    *(Case(HEALTHY, thickness) for thickness in (3, 4, 5)),
    Case(HEALTHY, 4, gap=1),
    *(Case(STROKE, thickness) for thickness in (3, 4, 5)),
    Case(STROKE, 4, gap=1),
)


@dataclass(frozen=True, eq=False)
class Stack:
    """The simulated scan of a case, and the truth on the grid that images are compared on.

    Parameters
    ----------
    scan
        Thick slices; the third axis is across them.
    head
        Truth, lesions and head on the grid of `fine_grid`.
    """

    scan: Volume
    head: HeadWithLesions


def fine_grid(scan: Grid) -> Grid:
    """Grid of a stack whose slices are divided into voxels as small as they are in plane.

    It has ``round(slices * spacing)`` voxels across slices, spacing in units of the smaller
    in-plane voxel size, in the middle of the field of view.

    Parameters
    ----------
    scan
        Grid of thick slices; the third axis is across them.

    Examples
    --------
    >>> fine_grid(Grid((2, 2, 3), np.diag([1.0, 1.0, 4.0, 1.0]))).shape
    (2, 2, 12)
    """
    spacing = scan.voxel_size[2] / min(scan.voxel_size[:2])
    count = round(scan.shape[2] * spacing)
    first = (scan.shape[2] - 1) / 2 - (count - 1) / 2 / spacing
    affine = scan.affine @ translation([0, 0, first]) @ np.diag([1, 1, 1 / spacing, 1])
    return Grid((scan.shape[0], scan.shape[1], count), affine)


def upright(affine: Affine) -> Affine:
    """The affine ``(4, 4)`` of an oblique image, turned so that its axes are those of the world."""
    directions = nib.io_orientation(affine).astype(int)
    turned = np.eye(4)
    turned[:3, :3] = 0
    for axis, (world, sign) in enumerate(directions):
        turned[world, axis] = sign * np.linalg.norm(affine[:3, axis])
    turned[:3, 3] = affine[:3, 3]
    return turned


def stack_of(case: Case, head: HeadWithLesions) -> Stack:
    """Cut a head into the slices of a case; the result is the same every time.

    Parameters
    ----------
    case
        Slices and noise.
    head
        The head, with 1 mm voxels and axes along those of the world.
    """
    filled = _filled(case, head)
    grid = scan_grid(filled.truth.grid, case.plane, case.spacing)
    clean = thick_slices(filled.truth, grid, case.thickness, np.eye(4))
    sd = case.noise * float(np.percentile(filled.truth.data[filled.inside], _BRIGHTEST))
    scan = Volume(add_rician_noise(clean, sd, np.random.default_rng(0)), grid.affine)
    return Stack(scan, _on(filled, fine_grid(grid)))


def _filled(case: Case, head: HeadWithLesions) -> HeadWithLesions:
    """The head in a box that is a whole number of slices high; its border continues into it."""
    affine = head.truth.affine
    axis = int(np.argmax(np.abs(affine[_ACROSS[case.plane], :3])))
    widths = [(0, 0)] * 3
    widths[axis] = (case.shift, -(head.truth.data.shape[axis] + case.shift) % case.spacing)
    moved = affine @ translation([-low for low, _ in widths])
    return HeadWithLesions(
        head.name,
        Volume(np.pad(head.truth.data, widths, mode="edge"), moved),
        np.pad(head.mask, widths),
        np.pad(head.inside, widths),
    )


def _on(head: HeadWithLesions, grid: Grid) -> HeadWithLesions:
    """The head on another grid; a cubic spline, which changes nothing where voxels coincide."""
    return HeadWithLesions(
        head.name,
        Volume(resample(head.truth, grid, np.eye(4), 3), grid.affine),
        _mask_on(head.mask, head, grid),
        _mask_on(head.inside, head, grid),
    )


def _mask_on(mask: NDArray[np.bool_], head: HeadWithLesions, grid: Grid) -> NDArray[np.bool_]:
    volume = Volume(mask, head.truth.affine)
    return np.asarray(resample(volume, grid, np.eye(4), 0, mode="constant") > 0.5)
