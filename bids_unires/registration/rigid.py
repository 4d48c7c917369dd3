"""Rigid alignment of two scans by mutual information, from many starting poses.

Scans of one session can lie far apart (the patient turned over) and see only part of the
head, and gradient ascent finds the pose only from nearby. So a coarse search scores many
poses on small smooth images, the best are refined there, and only the winner is refined
on finer ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from ..errors import BadDataError
from ..space.affines import Affine, apply_affine, scaling, translation
from ..space.rigid import rigid_matrix, rigid_parameters
from ..space.volume import Volume
from .matching import HISTOGRAM_BINS, SMALLEST_OVERLAP, Candidate, Matcher, shared_head
from .pyramid import COARSE_MM, Pyramid, affine_of, build_pyramid

Level = tuple[float, int, float]
# For each level the voxel size of its images (mm), how many candidates are refined on it,
# and the smallest step (mm): coarse ones only have to come near.
LEVELS: tuple[Level, ...] = ((COARSE_MM, 6, 0.2), (4.0, 2, 0.05), (2.0, 1, 0.002))
COARSE_SAMPLES = 8_000
SAME_POSE_MM = 8.0
TILTS_DEGREES = (-30.0, 0.0, 30.0)
# The order in which threads add up moves a pose by some 1e-9 mm and 1e-11 rad, which must not
# show in the result: it is given to so many digits of mm and of rad (a scale to as many), and
# then its matrix, which is no rounder for that, to so many.
_MM_DIGITS, _RAD_DIGITS, _MATRIX_DIGITS = 4, 6, 7


@dataclass(frozen=True, eq=False)
class RigidAlignment:
    """Where a scan lies relative to a reference.

    Parameters
    ----------
    pose
        ``(4, 4)`` float64, the moving scan's world mm to the reference's world mm (RAS).
        ``pose @ affine`` puts the moving scan onto the reference.
    metric
        Mattes mutual information at the pose, in nat, over the samples of the finest level;
        larger is better. Of the reference itself: with itself, over all voxels.
    start
        Name of the starting pose that led here.
    """

    pose: Affine
    metric: float
    start: str


def coregister(volumes: Sequence[Volume], *, threads: int) -> tuple[RigidAlignment, ...]:
    """Align every scan to the first one.

    Parameters
    ----------
    volumes
        Scans of one head, of any contrast. At least one.
    threads
        Number of threads to use.

    Returns
    -------
    tuple of RigidAlignment
        One for each scan, in order; the first is the identity.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or does not overlap with the first one.
    """
    reference = build_pyramid(volumes[0], threads)
    first = RigidAlignment(np.eye(4), _self_information(reference, threads), "reference")
    others = [_align(reference, build_pyramid(volume, threads), threads) for volume in volumes[1:]]
    return (first, *others)


def align_rigid(reference: Volume, moving: Volume, *, threads: int) -> RigidAlignment:
    """Find the rigid pose that puts one scan onto another.

    Parameters
    ----------
    reference, moving
        Scans of one head. Contrasts, resolutions and fields of view may differ, and the
        headers may be wrong by any rotation; a head seen in part is enough.
    threads
        Number of threads to use.

    Returns
    -------
    RigidAlignment
        The best pose found.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or the two do not overlap in any pose tried.

    References
    ----------
    Mattes et al., *PET-CT image registration in the chest using free-form deformations*,
    2003 (the metric).
    """
    return _align(build_pyramid(reference, threads), build_pyramid(moving, threads), threads)


def _align(reference: Pyramid, moving: Pyramid, threads: int) -> RigidAlignment:
    winner = search(
        reference, moving, starting_poses(reference, moving), Matcher.refine, threads=threads
    )
    return RigidAlignment(steadied(np.linalg.inv(winner.pose)), winner.information, winner.start)


def steadied(pose: ArrayLike) -> Affine:
    """A pose, with or without a scale, to the digits that do not depend on threads.

    Examples
    --------
    >>> one, other = (rigid_matrix([1 + error, 0, 0, 0.2, 0, error]) for error in (0, 1e-9))
    >>> bool(np.all(one == other)), bool(np.all(steadied(one) == steadied(other)))
    (False, True)
    """
    rigid = np.array(pose, dtype=np.float64)
    scale = float(np.cbrt(np.linalg.det(rigid[:3, :3])))
    rigid[:3, :3] /= scale
    parameters = rigid_parameters(rigid)
    rounded = [*np.round(parameters[:3], _MM_DIGITS), *np.round(parameters[3:], _RAD_DIGITS)]
    steady = rigid_matrix(rounded)
    steady[:3, :3] *= np.round(scale, _RAD_DIGITS)
    return np.round(steady, _MATRIX_DIGITS)


def search(
    reference: Pyramid,
    moving: Pyramid,
    starts: Sequence[Candidate],
    climb: Callable[[Matcher, Candidate, float], Candidate],
    *,
    levels: Sequence[Level] = LEVELS,
    threads: int,
) -> Candidate:
    """Score all starts, refine the best few a little, and the best of these to the end.

    Parameters
    ----------
    reference, moving
        The scans.
    starts
        Poses to try, such as `starting_poses`.
    climb
        How to refine: `Matcher.refine` or `Matcher.refine_scaled`.
    levels
        What to refine on, from coarse to fine.
    threads
        Number of threads to use.

    Returns
    -------
    Candidate
        The best pose, from the reference's world to the moving scan's.

    Raises
    ------
    BadDataError
        If the scans do not overlap in any pose tried.
    """
    kept = _coarse_scores(reference, moving, starts)
    for level, count, smallest_step in levels:
        matcher = Matcher(reference, moving, level, threads)
        kept = [
            climb(matcher, start, smallest_step) for start in _best_apart(kept, reference, count)
        ]
    winner = max(kept, key=lambda one: one.score, default=None)
    if winner is None or winner.score == -math.inf:
        raise BadDataError(
            f"{moving.name} and {reference.name} do not overlap in any pose: are they of one head? "
            "Leave one of them out"
        )
    return winner


def starting_poses(reference: Pyramid, moving: Pyramid, scale: float = 1.0) -> list[Candidate]:
    """Poses to try: headers and centres of the heads, turned every way about these.

    Quarter turns and tilts together leave no rotation further than about 30 degrees
    from one of the starts. ``scale`` is that of the moving head, 1 for the same size.
    """
    to_centre = scaling([scale] * 3) @ translation(-reference.centre)
    by_header = translation(reference.centre)
    by_centre = translation(moving.centre)
    tilts = Rotation.from_euler("xyz", list(product(TILTS_DEGREES, repeat=3)), degrees=True)
    quarter_turns = Rotation.create_group("O")
    candidates = [
        Candidate(
            by_header @ _turn(tilt) @ to_centre, "header" if index == 13 else "header, tilted"
        )
        for index, tilt in enumerate(tilts)
    ]
    for quarter in quarter_turns:
        name = "centre" if quarter.magnitude() < 0.1 else "centre, turned"
        candidates += [
            Candidate(by_centre @ _turn(quarter * tilt) @ to_centre, name) for tilt in tilts
        ]
    return candidates


def _turn(rotation: Rotation) -> Affine:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.as_matrix()
    return matrix


def _coarse_scores(
    reference: Pyramid, moving: Pyramid, candidates: Sequence[Candidate]
) -> list[Candidate]:
    """Score hundreds of candidates on the smallest images, by nearest neighbours.

    A joint histogram here takes half a millisecond, where setting up SimpleITK's
    metric takes twenty.
    """
    fixed = _grey_bins(reference.images[COARSE_MM])
    compared = np.argwhere(np.ones(fixed.shape, dtype=bool))[:: 1 + fixed.size // COARSE_SAMPLES]
    fixed_bins = fixed[tuple(compared.T)]
    points = apply_affine(affine_of(reference.images[COARSE_MM]), compared)
    lookup = _grey_bins(moving.images[COARSE_MM])
    into_voxels = np.linalg.inv(affine_of(moving.images[COARSE_MM]))
    scored = []
    for candidate in candidates:
        voxels = np.rint(apply_affine(into_voxels @ candidate.pose, points)).astype(np.intp)
        inside = ((voxels >= 0) & (voxels < lookup.shape)).all(axis=1)
        pairs = HISTOGRAM_BINS * fixed_bins[inside] + lookup[tuple(voxels[inside].T)]
        joint = np.bincount(pairs, minlength=HISTOGRAM_BINS**2)
        shared = shared_head(reference, moving, candidate.pose)
        if shared >= SMALLEST_OVERLAP:
            information = _mutual_information(joint.reshape(HISTOGRAM_BINS, HISTOGRAM_BINS))
            scored.append(replace(candidate, information=information, score=shared * information))
    return scored


def _grey_bins(image: sitk.Image) -> NDArray[np.intp]:
    """Bin of the joint histogram for each voxel, axes in the order x, y, z."""
    data = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    share = (data - data.min()) / max(float(np.ptp(data)), float(np.finfo(np.float32).tiny))
    return np.asarray(np.minimum(share * HISTOGRAM_BINS, HISTOGRAM_BINS - 1), dtype=np.intp)


def _mutual_information(joint: NDArray[np.intp]) -> float:
    """Mutual information (nat) of a joint histogram of counts; 0 where it is empty."""
    total = joint.sum()
    if total == 0:
        return 0.0
    probability = joint / total
    independent = probability.sum(axis=1, keepdims=True) * probability.sum(axis=0, keepdims=True)
    seen = probability > 0
    return float((probability[seen] * np.log(probability[seen] / independent[seen])).sum())


def _best_apart(candidates: Sequence[Candidate], reference: Pyramid, count: int) -> list[Candidate]:
    """The highest scores, at most ``count`` of them, none a near copy of another."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: -one.score):
        if len(chosen) == count or candidate.score == -math.inf:
            break
        moved = apply_affine(candidate.pose, reference.head)
        if all(
            np.linalg.norm(moved - apply_affine(other.pose, reference.head), axis=1).mean()
            > SAME_POSE_MM
            for other in chosen
        ):
            chosen.append(candidate)
    return chosen


def _self_information(reference: Pyramid, threads: int) -> float:
    finest = Matcher(reference, reference, LEVELS[-1][0], threads)
    return finest.information(np.eye(4))
