"""Simulated cases: heads, stacks, contrasts, slices and noise."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.dataset.acquisition import acquisition_from_sidecar
from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import (
    Motion,
    Plane,
    Protocol,
    add_rician_noise,
    scan_grid,
    thick_slices,
)
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.space.affines import Affine, translation
from bids_unires.space.volume import Volume

HeadName = Literal["ICBM152", "Colin27"]
Kind = Literal["one stack", "three stacks", "three contrasts"]

COLIN27 = Path("/usr/share/mricron/templates/ch2.nii.gz")
"""Holmes et al. 1998, average of 27 scans of one head; Debian's package mricron-data."""

# Every scan has a motion: without one, its voxels could coincide with those of the truth, and no
# interpolation would be needed.
MOTIONS = (
    Motion((0.4, 0.3, 0.2), (4.0, -3.0, 5.0)),
    Motion((2.3, -1.4, 3.1), (3.0, -2.0, 4.0)),
    Motion((-1.7, 2.6, 1.2), (-4.0, 3.0, 2.0)),
)
PLANES: tuple[Plane, ...] = ("sagittal", "transverse", "coronal")
_OTSU_BINS = 256


@dataclass(frozen=True)
class Case:
    """One simulated examination.

    Parameters
    ----------
    kind
        One T1w stack; three orthogonal T1w stacks; or one stack each of T1w, T2w and FLAIR, in
        different planes.
    slice_thickness, gap
        Slice thickness, and gap between slices, in mm.
    noise
        Standard deviation of the noise in each complex channel, as a fraction of the largest
        intensity.
    head
        Head to simulate.
    plane
        Plane of the first stack; further stacks have the next planes of `PLANES`.
    """

    kind: Kind
    slice_thickness: float = 4.0
    gap: float = 0.0
    noise: float = 0.01
    head: HeadName = "ICBM152"
    plane: Plane = "sagittal"

    def __str__(self) -> str:
        """The case in one line."""
        gap = f" + {self.gap:g} mm gap" if self.gap else ""
        plane = "" if self.plane == PLANES[0] else f", {self.plane}"
        return (
            f"{self.head}, {self.kind}{plane}, {self.slice_thickness:g} mm{gap}, "
            f"noise {100 * self.noise:g} %"
        )


CASES = (
    *(Case("one stack", thickness) for thickness in (3.0, 4.0, 5.0, 6.0)),
    Case("one stack", gap=1.0),
    *(Case("one stack", noise=noise) for noise in (0.03, 0.05)),
    *(Case("three stacks", noise=noise) for noise in (0.01, 0.03, 0.05)),
    Case("three stacks", gap=1.0),
    *(Case("three contrasts", thickness) for thickness in (3.0, 4.0, 5.0, 6.0)),
    Case("three contrasts", gap=1.0),
    *(Case("three contrasts", noise=noise) for noise in (0.03, 0.05)),
    *(Case("one stack", head="Colin27", plane=plane) for plane in PLANES),
    Case("one stack", noise=0.03, head="Colin27"),
    Case("three stacks", head="Colin27"),
)


@dataclass(frozen=True, eq=False)
class Examination:
    """The simulated images of a case.

    Parameters
    ----------
    truths
        True image of each contrast, all on the same grid.
    head
        Mask of the head, bool ``(X, Y, Z)``.
    scans
        Scans of each contrast.
    poses
        ``(4, 4)`` of each scan: world of the scan to world of the truth, mm.
    gaps
        Slice gap of each scan, as a fraction of the slice spacing, from its sidecar.
    """

    truths: tuple[Volume, ...]
    head: NDArray[np.bool_]
    scans: tuple[tuple[Volume, ...], ...]
    poses: tuple[tuple[Affine, ...], ...]
    gaps: tuple[tuple[float, ...], ...]

    def middle(self, side: int) -> Examination:
        """The same scans, with truth and head restricted to a box of ``side`` voxels per axis."""
        grid = self.truths[0].grid
        low = [max(0, (whole - side) // 2) for whole in grid.shape]
        box = tuple(slice(start, start + side) for start in low)
        affine = grid.affine @ translation(low)
        truths = [Volume(np.ascontiguousarray(truth.data[box]), affine) for truth in self.truths]
        return replace(self, truths=tuple(truths), head=self.head[box])


def examine(case: Case) -> Examination:
    """Simulate a case; the result is the same every time."""
    contrasts = range(3) if case.kind == "three contrasts" else range(1)
    stacks = range(3) if case.kind == "three stacks" else range(1)
    truths = tuple(_truth(case.head, contrast) for contrast in contrasts)
    scans, poses, gaps = [], [], []
    first = PLANES.index(case.plane)
    for contrast in contrasts:
        numbers = [(first + contrast + stack) % len(PLANES) for stack in stacks]
        own = [_scan(case, contrast, number) for number in numbers]
        scans.append(tuple(own))
        poses.append(tuple(MOTIONS[number].scanner_to_head for number in numbers))
        sidecar = _protocol(case, contrast, 0).sidecar()
        gaps.append(tuple(acquisition_from_sidecar(sidecar, scan.affine).gap for scan in own))
    return Examination(truths, _head(case.head), tuple(scans), tuple(poses), tuple(gaps))


def _protocol(case: Case, contrast: int, number: int) -> Protocol:
    return replace(
        PROTOCOLS[contrast],
        plane=PLANES[number],
        slice_thickness=case.slice_thickness,
        slice_spacing=case.slice_thickness + case.gap,
        noise=case.noise,
    )


def _scan(case: Case, contrast: int, number: int) -> Volume:
    protocol = _protocol(case, contrast, number)
    thickness, spacing = protocol.slice_thickness, protocol.slice_spacing
    clean = _clean_scan(case.head, contrast, number, thickness, spacing)
    truth = _truth(case.head, contrast)
    rng = np.random.default_rng([contrast, number])
    noisy = add_rician_noise(clean.data, case.noise * float(truth.data.max()), rng)
    return Volume(noisy, clean.affine)


@functools.lru_cache(maxsize=8)
def _clean_scan(
    head: HeadName, contrast: int, number: int, thickness: float, spacing: float
) -> Volume:
    truth = _truth(head, contrast)
    grid = scan_grid(truth.grid, PLANES[number], spacing)
    pose = MOTIONS[number].scanner_to_head
    return Volume(thick_slices(truth, grid, thickness, pose), grid.affine)


@functools.cache
def _truth(head: HeadName, contrast: int) -> Volume:
    if head == "ICBM152":
        anatomy = build_anatomy(load_icbm152(), PARTICIPANTS[0])
        protocol = PROTOCOLS[contrast]
        image = anatomy.image(protocol.intensities, protocol.texture_gain)
        return Volume(image.astype(np.float32), anatomy.grid.affine)
    image = nib.load(COLIN27)
    return Volume(np.asarray(image.get_fdata(dtype=np.float32)), np.asarray(image.affine))


@functools.cache
def _head(head: HeadName) -> NDArray[np.bool_]:
    if head == "ICBM152":
        return np.asarray(build_anatomy(load_icbm152(), PARTICIPANTS[0]).head)
    data = _truth(head, 0).data
    return np.asarray(ndimage.binary_fill_holes(data > 0.1 * np.percentile(data, 98)))
