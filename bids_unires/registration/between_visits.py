"""Rigid motion of a head between two visits, by pairs of scans of the same contrast.

Mutual information of one pair finds the motion roughly. Least squares then refine it on all pairs,
with two properties that make it fit to compare visits (Reuter, Rosas and Fischl 2010, *Highly
accurate inverse consistent registration: a robust approach*):

- It is robust: where a pair differs by more than most of the head does, as in a new lesion, its
  weight is small, or 0 (Tukey's biweight).
- It is symmetric: both scans are interpolated half-way between the visits, so that the motion from
  the first visit to the second is the inverse of that from the second to the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..space.affines import Affine, apply_affine, scaling, translation
from ..space.grid import Grid, corners
from ..space.rigid import rigid_matrix, rigid_parameters
from ..space.volume import Volume
from .coregistration import fullest_scan
from .masks import AIR_HOUNSFIELD, head_mask
from .pyramid import FINEST_MM, finest_level
from .rigid import align_rigid, steadied

# Steps of the lattices on which scans are compared, in units of the finest level of pyramids.
_LATTICES = (2, 1)
# Standard deviation of the blur that makes scans alike in resolution, in units of their largest
# voxel side. Smaller than 0.5, a slice would remain visible as a step.
_BLUR = 0.6
# Threshold of Tukey's biweight in standard deviations: 95 % of the efficiency of least squares
# where the differences are Gaussian.
_TUKEY = 4.685
# Standard deviation in mm of the field by which the brightness of two scans may differ.
_FIELD_MM = 40.0
# Rounds in which this field is found without what differs more than the rest of the head.
_FIELD_ROUNDS = 3
# A motion that moves no point of the head by more than this (mm) is the last one.
_SMALLEST_STEP_MM = 0.002
_HEAD_RADIUS_MM = 80.0
_MOST_STEPS = 40
# Largest distance in mm by which scans of one contrast may lie from where all scans of the visit
# together have them. It is more than the error of an alignment within a visit.
_LARGEST_DIFFERENCE_MM = 5.0
# Least share of voxels in the head that a contrast needs to be placed on its own.
_LEAST_SHARE = 0.3
# Darkest values that are no air outside of the field of view of CT, and brightest bone.
_BRIGHTEST_HOUNSFIELD = 1500.0
_MEASURED = 0.9
_MAD_TO_SD = 1.4826
# Differences of noise-free copies are 0; in units of the largest intensity.
_LEAST_SD = 1e-6

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class VisitScan:
    """A scan of a visit.

    Parameters
    ----------
    contrast
        Name of its contrast. Scans of the same contrast are compared between visits.
    volume
        The scan.
    pose
        ``(4, 4)``, world mm of the scan -> world mm of the visit.
    """

    contrast: str
    volume: Volume
    pose: Affine

    @cached_property
    def is_ct(self) -> bool:
        """Whether intensities are in Hounsfield units."""
        return bool(np.nanmin(self.volume.data) < AIR_HOUNSFIELD / 2)

    @property
    def affine(self) -> Affine:
        """Affine ``(4, 4)``, voxel index -> world mm of the visit."""
        return np.asarray(self.pose @ self.volume.affine)

    @property
    def slice_normal(self) -> NDArray[np.float64]:
        """Unit vector along the axis of the largest voxel side, in the visit, ``(3,)``."""
        axis = int(np.argmax(self.volume.grid.voxel_size))
        column = self.affine[:3, axis]
        return np.asarray(column / np.linalg.norm(column))


@dataclass(frozen=True, eq=False)
class VisitMotion:
    """How a head lies at a visit, relative to another one.

    Parameters
    ----------
    pose
        ``(4, 4)`` float64, world mm of the visit -> world mm of the other one, from all contrasts
        that both visits have.
    by_contrast
        The same for each of these contrasts alone. A head moves between the scans of a visit, so
        that these poses differ by fractions of a mm.
    brightness
        Median ratio of intensities, this visit to the other one, for each of these contrasts.
    """

    pose: Affine
    by_contrast: Mapping[str, Affine]
    brightness: Mapping[str, float]


def motion_between(
    reference: Sequence[VisitScan], moving: Sequence[VisitScan], *, threads: int
) -> VisitMotion:
    """Find the rigid motion of a head between two visits.

    Parameters
    ----------
    reference, moving
        Scans of the two visits, at least one each. Without a contrast that both have, the scans
        that show most of the head are aligned by mutual information.
    threads
        Number of threads to use.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or the visits do not overlap in any pose tried.
    """
    couples = list(_couples(reference, moving))
    if not couples:
        one, other = (
            scans[fullest_scan([scan.volume for scan in scans], threads=threads)]
            for scans in (reference, moving)
        )
        return VisitMotion(steadied(_roughly(one, other, threads)), {}, {})
    fullest = fullest_scan([one.volume for one, _ in couples], threads=threads)
    pose = _roughly(*couples[fullest], threads)
    finest = finest_level([scan.volume for couple in couples for scan in couple])
    pairs = [_Pair.of(one, other, finest) for one, other in couples]
    pose = _aligned(pose, pairs, finest)
    views = {pair: _View.of(pair, pose, finest) for pair in pairs}
    most = max(view.count for view in views.values())
    poses, brightness = {}, {}
    for name in dict.fromkeys(pair.contrast for pair in pairs):
        own = [pair for pair in pairs if pair.contrast == name]
        enough = max(views[pair].count for pair in own) > _LEAST_SHARE * most
        alone = _aligned(pose, own, finest) if enough else pose
        moved = _displacement(alone @ np.linalg.inv(pose), views[own[0]].centre)
        near = moved < _LARGEST_DIFFERENCE_MM * finest / FINEST_MM
        poses[name] = steadied(alone if near else pose)
        brightness[name] = float(np.median([views[pair].brightness for pair in own]))
    return VisitMotion(steadied(pose), poses, brightness)


def _couples(
    reference: Sequence[VisitScan], moving: Sequence[VisitScan]
) -> Iterator[tuple[VisitScan, VisitScan]]:
    """Scans of the same contrast, each with the one whose slices are cut most alike."""
    left = list(moving)
    for one in reference:
        alike = [other for other in left if other.contrast == one.contrast]
        if alike:
            along = [abs(float(one.slice_normal @ other.slice_normal)) for other in alike]
            closest = alike[int(np.argmax(along))]
            left.remove(closest)
            yield one, closest


def _roughly(reference: VisitScan, moving: VisitScan, threads: int) -> Affine:
    """Pose ``(4, 4)`` of the moving visit in the reference visit, by mutual information."""
    found = align_rigid(reference.volume, moving.volume, threads=threads)
    return np.asarray(reference.pose @ found.pose @ np.linalg.inv(moving.pose))


@dataclass(frozen=True, eq=False)
class _Blurred:
    """A scan with about the same resolution along all axes.

    Parameters
    ----------
    image
        Intensities, ``(X, Y, Z)``, at least 0.
    measured
        Share of each voxel that was measured, ``(X, Y, Z)``; None if all was.
    affine
        ``(4, 4)``, voxel index -> world mm of the visit.
    """

    image: Image
    measured: Image | None
    affine: Affine

    @classmethod
    def of(cls, scan: VisitScan, sd: float) -> _Blurred:
        data, sizes = scan.volume.data, scan.volume.grid.voxel_size
        missing = ~np.isfinite(data)
        if scan.is_ct:
            data = np.clip(data, AIR_HOUNSFIELD, _BRIGHTEST_HOUNSFIELD) - np.float32(AIR_HOUNSFIELD)
        else:
            missing |= data == 0
        blur = np.sqrt(np.maximum(sd**2 - (0.5 * sizes) ** 2, 0)) / sizes
        if not missing.any():
            return cls(ndimage.gaussian_filter(data, blur), None, scan.affine)
        known = (~missing).astype(np.float32)
        share = ndimage.gaussian_filter(known, blur)
        total = ndimage.gaussian_filter(np.where(missing, np.float32(0), data), blur)
        image = np.divide(total, share, out=np.zeros_like(total), where=share > 1e-3)
        return cls(image, known, scan.affine)

    def at(self, lattice: Grid, pose: Affine) -> Image:
        """Intensities on a lattice; ``pose``: world mm of the visit -> that of the lattice."""
        return _interpolated(self.image, self._into(lattice, pose), lattice, "nearest")

    def measured_at(self, lattice: Grid, pose: Affine) -> Mask:
        """Voxels of a lattice that the scan measured; ``pose`` as for `at`."""
        known = np.ones_like(self.image) if self.measured is None else self.measured
        share = _interpolated(known, self._into(lattice, pose), lattice, "constant")
        return np.asarray(share > _MEASURED)

    def _into(self, lattice: Grid, pose: Affine) -> Affine:
        return np.asarray(np.linalg.inv(pose @ self.affine) @ lattice.affine)


def _interpolated(image: Image, into: Affine, lattice: Grid, outside: str) -> Image:
    values = ndimage.affine_transform(
        image, into, output_shape=lattice.shape, output=np.float32, order=1, mode=outside
    )
    return np.asarray(values)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two scans of one contrast, one from each visit."""

    contrast: str
    is_ct: bool
    reference: _Blurred
    moving: _Blurred
    head: Grid

    @classmethod
    def of(cls, reference: VisitScan, moving: VisitScan, finest: float) -> _Pair:
        sides = (scan.volume.grid.voxel_size.max() for scan in (reference, moving))
        sd = max(_BLUR * max(sides), finest / 2)
        return cls(
            reference.contrast,
            reference.is_ct,
            _Blurred.of(reference, sd),
            _Blurred.of(moving, sd),
            _box_of_head(reference),
        )


def _box_of_head(scan: VisitScan) -> Grid:
    """Box of voxels around the head, in the visit."""
    head = head_mask(scan.volume.data, scan.volume.affine)
    box = ndimage.find_objects((head if head.any() else np.ones_like(head)).astype(np.uint8))[0]
    low = np.array([part.start for part in box])
    shape = tuple(int(part.stop - part.start) for part in box)
    return Grid((shape[0], shape[1], shape[2]), scan.affine @ translation(low))


def _aligned(pose: Affine, pairs: Sequence[_Pair], finest: float) -> Affine:
    """Refine a pose from coarse to fine; ``finest`` is the finest level of pyramids in mm."""
    for step in _LATTICES:
        pose = _refined(pose, pairs, step * finest)
    return pose


def _refined(pose: Affine, pairs: Sequence[_Pair], step: float) -> Affine:
    """Refine a pose on lattices of a step in mm, by iteratively reweighted least squares."""
    views = [_View.of(pair, pose, step) for pair in pairs]
    centre = views[0].centre
    for _ in range(_MOST_STEPS):
        compared = [_compared(view, pose, centre) for view in views]
        hessian = sum((each.hessian for each in compared), np.zeros((6, 6)))
        gradient = sum((each.gradient for each in compared), np.zeros(6))
        change = -np.linalg.pinv(hessian, rcond=1e-9, hermitian=True) @ gradient
        half, motion = _half(pose), _motion(change, centre)
        pose = half @ motion @ half
        if _displacement(motion, centre) < _SMALLEST_STEP_MM * step / FINEST_MM:
            break
    return np.asarray(pose)


def _half(pose: Affine) -> Affine:
    """The motion that, done twice, is the given one."""
    return rigid_matrix(rigid_parameters(pose) / 2)


def _inverse(pose: Affine) -> Affine:
    return np.asarray(np.linalg.inv(pose), dtype=np.float64)


def _motion(change: NDArray[np.float64], centre: NDArray[np.float64]) -> Affine:
    """Translation (mm) and rotation vector (rad) about a centre as a matrix ``(4, 4)``."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(change[3:]).as_matrix()
    return np.asarray(translation(centre + change[:3]) @ turn @ translation(-centre))


def _displacement(motion: Affine, centre: NDArray[np.float64]) -> float:
    """Largest distance in mm, about, by which a motion moves a head around a centre."""
    angle = float(Rotation.from_matrix(motion[:3, :3]).magnitude())
    shift = apply_affine(motion, centre) - centre
    return float(np.linalg.norm(shift) + _HEAD_RADIUS_MM * angle)


@dataclass(frozen=True, eq=False)
class _View:
    """Where a pair is compared: half-way between the visits.

    Parameters
    ----------
    pair
        The pair.
    lattice
        Isotropic voxels around the head.
    head
        Voxels of the head that both scans measured, ``(X, Y, Z)``.
    field
        Square root of the local ratio of brightness, moving to reference, ``(X, Y, Z)``; 1 in CT.
    """

    pair: _Pair
    lattice: Grid
    head: Mask
    field: Image

    @classmethod
    def of(cls, pair: _Pair, pose: Affine, step: float) -> _View:
        """Find the head at a pose near the final one, in voxels of a step in mm."""
        half = _half(pose)
        back = _inverse(half)
        lattice = _lattice(pair.head, back, step)
        first, second = pair.reference.at(lattice, back), pair.moving.at(lattice, half)
        head = head_mask(np.minimum(first, second), lattice.affine)
        head &= pair.reference.measured_at(lattice, back)
        head &= pair.moving.measured_at(lattice, half)
        if pair.is_ct:
            return cls(pair, lattice, head, np.ones_like(first))
        return cls(pair, lattice, head, _relative_field(first, second, head, step))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Centre of the lattice in world mm, ``(3,)``."""
        return apply_affine(self.lattice.affine, (np.array(self.lattice.shape) - 1) / 2)

    @property
    def count(self) -> int:
        """Number of voxels that are compared."""
        return int(self.head.sum())

    @property
    def brightness(self) -> float:
        """Median ratio of intensities, moving to reference."""
        return float(np.median(self.field[self.head] ** 2)) if self.head.any() else 1.0


@dataclass(frozen=True, eq=False)
class _Compared:
    """Derivatives of the weighted squared differences of a pair, in units of their variance.

    Parameters
    ----------
    hessian, gradient
        By translation (mm) and rotation (rad), ``(6, 6)`` and ``(6,)``.
    """

    hessian: NDArray[np.float64]
    gradient: NDArray[np.float64]


def _compared(view: _View, pose: Affine, centre: NDArray[np.float64]) -> _Compared:
    """Compare a pair at a pose; motions turn about a centre in world mm, ``(3,)``."""
    if not view.count:
        return _Compared(np.zeros((6, 6)), np.zeros(6))
    half, head, lattice = _half(pose), view.head, view.lattice
    first = view.pair.reference.at(lattice, _inverse(half)) * view.field
    second = view.pair.moving.at(lattice, half) / view.field
    difference = (first - second)[head].astype(np.float64)
    sd = max(_MAD_TO_SD * float(np.median(np.abs(difference))), _LEAST_SD * float(first.max()))
    weight = np.maximum(1 - (difference / (_TUKEY * sd)) ** 2, 0) ** 2 / sd**2
    step = float(lattice.voxel_size[0])
    slopes = np.asarray(np.gradient((first + second) / 2, step))[:, head].T
    offsets = apply_affine(lattice.affine, np.argwhere(head)) - centre
    jacobian = np.concatenate([slopes, np.cross(offsets, slopes)], axis=1)
    weighted = jacobian * weight[:, None]
    return _Compared(jacobian.T @ weighted, weighted.T @ difference)


def _relative_field(first: Image, second: Image, head: Mask, step: float) -> Image:
    """Square root of the local ratio of brightness, second to first, ``(X, Y, Z)``.

    A lesion would pass for a brighter field, so that what differs much is left out.
    """
    usual, field = head, np.ones_like(first)
    for _ in range(_FIELD_ROUNDS):
        sums = [
            ndimage.gaussian_filter(np.where(usual, image, np.float32(0)), _FIELD_MM / step)
            for image in (first, second)
        ]
        known = (sums[0] > 0) & (sums[1] > 0)
        field = np.sqrt(np.divide(sums[1], sums[0], out=np.ones_like(first), where=known))
        difference = np.abs(first * field - second / field)
        sd = _MAD_TO_SD * np.median(difference[head]) if head.any() else 0.0
        usual = head & (difference < _TUKEY * sd)
    return np.asarray(field)


def _lattice(head: Grid, pose: Affine, step: float) -> Grid:
    """Voxels of a step in mm along the axes of the world, around a box moved by a pose."""
    points = apply_affine(pose @ head.affine, corners(head.shape, edge=0.5))
    low, high = points.min(axis=0), points.max(axis=0)
    shape = [max(2, math.ceil(length / step) + 1) for length in high - low]
    start = (low + high - step * (np.array(shape) - 1)) / 2
    return Grid((shape[0], shape[1], shape[2]), translation(start) @ scaling([step] * 3))
