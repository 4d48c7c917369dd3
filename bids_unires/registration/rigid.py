"""Rigid alignment of two scans by mutual information, from many starting poses.

Scans of one session can lie far apart (the patient turned over) and may show only part of the
head. Gradient ascent finds the right pose only from nearby. Therefore a coarse search scores many
poses on small smooth images. The best of them are refined on these images, and only the winner is
refined on finer images.

This search requires a large overlap of the two scans. Scans that overlap little, such as stations
of one series, are aligned from their headers. The pose near the headers is chosen if the scans
match in it at least as well as in the best other pose, however little they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
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
from .pyramid import COARSE, FINEST_MM, Mask, Pyramid, affine_of, build_pyramid, finest_level

Level = tuple[int, int, float]
# For each level: how many candidates are refined, and the smallest step in voxels of the finest
# level. Coarse levels only have to come close to the solution.
LEVELS: tuple[Level, ...] = ((COARSE, 6, 0.1), (2, 2, 0.025), (1, 1, 0.001))
COARSE_SAMPLES = 8_000
# Poses closer than this are the same; mean distance in voxels of the finest level.
SAME_POSE = 4.0
TILTS_DEGREES = (-30.0, 0.0, 30.0)
OVERLAP_BY_HEADER = 0.1
"""Smallest fraction of the head that two scans must share to be compared: about 15 mm."""
# Between this overlap and `OVERLAP_BY_HEADER`, the pose near the headers must be much better than
# any other pose. Few samples have high mutual information by chance; asking for twice that of the
# best pose excludes such chance.
_LEAST_OVERLAP = 0.02
_AS_GOOD_IN_A_STRIP = 2.0
# Wrong poses near a wrong header had up to 0.8 of the information of the right pose.
_AS_GOOD = 0.95
CLEARLY_BETTER = 1.02
"""Least gain in information, as a factor, for which a scan moves away from its header.

A small part of the head hardly determines a pose, so a smaller gain may be chance.
"""
FAR_DEGREES, FAR_MM = 45.0, 50.0
"""Limits beyond which a pose is far from the headers: patients move less between scans."""
# Threads add up in varying order, which changes a pose by about 1e-9 mm and 1e-11 rad. The result
# must not depend on this, so its parameters are rounded to these decimals of mm and rad (a scale
# to as many decimals as rad). The matrix computed from them is rounded again.
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
        larger is better. For the reference it is its information with itself, over all voxels.
    start
        Name of the starting pose from which this pose was found.
    uncertainty
        Standard deviation of the pose: root mean square displacement in mm at 70 mm from the
        middle of a human head; None if it was not estimated.
    """

    pose: Affine
    metric: float
    start: str
    uncertainty: float | None = None


def align_rigid(
    reference: Volume, moving: Volume, *, threads: int, measured: Mask | None = None
) -> RigidAlignment:
    """Find the rigid pose that puts one scan onto another.

    Parameters
    ----------
    reference, moving
        Scans of one head. Contrasts, resolutions and fields of view may differ. The headers may
        be wrong by any rotation, and each scan may show only part of the head.
    threads
        Number of threads to use.
    measured
        True for the voxels of ``moving`` that were measured, ``(X, Y, Z)``; None for all.

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
    finest = finest_level([reference, moving])
    fixed = build_pyramid(reference, threads, finest=finest)
    return align_pyramids(
        fixed, build_pyramid(moving, threads, finest=finest, measured=measured), threads
    )


def align_pyramids(reference: Pyramid, moving: Pyramid, threads: int) -> RigidAlignment:
    """Align two scans given as pyramids; see `align_rigid`."""
    near = near_header(reference, moving, np.eye(4), threads)
    try:
        best = search(
            reference,
            moving,
            starting_poses(reference, moving),
            Matcher.refine,
            levels=LEVELS[:-1],
            threads=threads,
        )
    except BadDataError:
        if near is None:
            raise
        best = near
    if near is not None and _is_as_good(near, best, reference, moving):
        best = near
    winner = refined(best, reference, moving, LEVELS[-1:], threads)
    return RigidAlignment(steadied(np.linalg.inv(winner.pose)), winner.information, winner.start)


def near_header(
    reference: Pyramid, moving: Pyramid, expected: Affine, threads: int
) -> Candidate | None:
    """Refine the pose that the headers give two scans.

    Parameters
    ----------
    reference, moving
        The scans.
    expected
        ``(4, 4)``, world mm of the reference to world mm of the moving scan, from the headers.
    threads
        Number of threads to use.

    Returns
    -------
    Candidate or None
        The expected pose, unless a pose nearby is clearly better. None if the scans overlap too
        little to be compared, or if the refinement ends far from the expected pose.
    """
    if shared_head(reference, moving, expected) < _LEAST_OVERLAP:
        return None
    start = Candidate(expected, "header")
    found = refined(start, reference, moving, LEVELS[:-1], threads)
    unmoved = Matcher(reference, moving, LEVELS[-2][0], threads).information(expected)
    if found.information < CLEARLY_BETTER * unmoved:
        found = replace(start, information=unmoved)
    turned, moved = away(reference, found.pose, expected)
    is_near = turned < FAR_DEGREES and moved < FAR_MM * relative_size(reference)
    return found if is_near and shared_head(reference, moving, found.pose) > 0 else None


def _is_as_good(near: Candidate, best: Candidate, reference: Pyramid, moving: Pyramid) -> bool:
    """Whether the scans match as well near their headers as in the best other pose."""
    shared = shared_head(reference, moving, near.pose)
    needed = _AS_GOOD if shared >= OVERLAP_BY_HEADER else _AS_GOOD_IN_A_STRIP
    elsewhere = _distance(near.pose, best.pose, reference) > SAME_POSE * reference.finest
    return elsewhere and near.information >= needed * best.information


def refined(
    start: Candidate, reference: Pyramid, moving: Pyramid, levels: Iterable[Level], threads: int
) -> Candidate:
    """Refine one candidate over rigid motions, level by level."""
    candidate = start
    for level, _, smallest_step in levels:
        candidate = Matcher(reference, moving, level, threads).refine(candidate, smallest_step)
    return candidate


def away(head: Pyramid, pose: Affine, expected: Affine) -> tuple[float, float]:
    """Rotation in degrees, and shift of the head's centre in mm, between two poses.

    Parameters
    ----------
    head
        The scan that shows the head.
    pose, expected
        ``(4, 4)``, poses that are compared, mm.
    """
    motion = pose @ np.linalg.inv(expected)
    turned = float(np.rad2deg(Rotation.from_matrix(motion[:3, :3]).magnitude()))
    centre = head.centre
    return turned, float(
        np.linalg.norm(apply_affine(pose, centre) - apply_affine(expected, centre))
    )


def relative_size(reference: Pyramid) -> float:
    """Rough size of the head, relative to a human head."""
    return reference.finest / FINEST_MM


def steadied(pose: ArrayLike) -> Affine:
    """Round a pose ``(4, 4)``, with or without a scale, to digits that do not depend on threads.

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
    """Score all starting poses, refine the best few on coarse levels, and the best on all levels.

    Parameters
    ----------
    reference, moving
        The scans.
    starts
        Poses to try, for example from `starting_poses`.
    climb
        How to refine: `Matcher.refine` or `Matcher.refine_scaled`.
    levels
        Levels to refine on, from coarse to fine.
    threads
        Number of threads to use.

    Returns
    -------
    Candidate
        The best pose, from world mm of the reference to world mm of the moving scan.

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
            "Leave one of them out, or use --no-coregister if their headers are right"
        )
    return winner


def starting_poses(reference: Pyramid, moving: Pyramid, scale: float = 1.0) -> list[Candidate]:
    """Poses to try: from the headers, or with the centres of the heads aligned, both rotated.

    Quarter turns and tilts are combined, so that every rotation is within about 30 degrees of a
    starting pose. ``scale`` is the size of the moving head relative to the reference head.
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
    """Score hundreds of candidates on the coarsest images, with nearest-neighbour interpolation.

    The joint histogram computed here takes half a millisecond. Setting up the metric of SimpleITK
    takes twenty.
    """
    fixed = _grey_bins(reference.images[COARSE])
    compared = np.argwhere(np.ones(fixed.shape, dtype=bool))[:: 1 + fixed.size // COARSE_SAMPLES]
    points = apply_affine(affine_of(reference.images[COARSE]), compared)
    if reference.measured is not None:
        was_measured = reference.seen(points)
        compared, points = compared[was_measured], points[was_measured]
    fixed_bins = fixed[tuple(compared.T)]
    lookup = _grey_bins(moving.images[COARSE])
    into_voxels = np.linalg.inv(affine_of(moving.images[COARSE]))
    scored = []
    for candidate in candidates:
        voxels = np.rint(apply_affine(into_voxels @ candidate.pose, points)).astype(np.intp)
        inside = ((voxels >= 0) & (voxels < lookup.shape)).all(axis=1)
        if moving.measured is not None:
            inside &= moving.seen(apply_affine(candidate.pose, points))
        pairs = HISTOGRAM_BINS * fixed_bins[inside] + lookup[tuple(voxels[inside].T)]
        joint = np.bincount(pairs, minlength=HISTOGRAM_BINS**2)
        shared = shared_head(reference, moving, candidate.pose)
        if shared >= SMALLEST_OVERLAP:
            information = _mutual_information(joint.reshape(HISTOGRAM_BINS, HISTOGRAM_BINS))
            scored.append(replace(candidate, information=information, score=shared * information))
    return scored


def _grey_bins(image: sitk.Image) -> NDArray[np.intp]:
    """Bin of the joint histogram for each voxel, ``(X, Y, Z)``."""
    data = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    share = (data - data.min()) / max(float(np.ptp(data)), float(np.finfo(np.float32).tiny))
    return np.asarray(np.minimum(share * HISTOGRAM_BINS, HISTOGRAM_BINS - 1), dtype=np.intp)


def _mutual_information(joint: NDArray[np.intp]) -> float:
    """Mutual information in nat of a joint histogram of counts; 0 if the histogram is empty."""
    total = joint.sum()
    if total == 0:
        return 0.0
    probability = joint / total
    independent = probability.sum(axis=1, keepdims=True) * probability.sum(axis=0, keepdims=True)
    seen = probability > 0
    return float((probability[seen] * np.log(probability[seen] / independent[seen])).sum())


def _best_apart(candidates: Sequence[Candidate], reference: Pyramid, count: int) -> list[Candidate]:
    """The best candidates, at most ``count``, without any that nearly equal a better one."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: -one.score):
        if len(chosen) == count or candidate.score == -math.inf:
            break
        if all(
            _distance(candidate.pose, other.pose, reference) > SAME_POSE * reference.finest
            for other in chosen
        ):
            chosen.append(candidate)
    return chosen


def _distance(one: Affine, other: Affine, reference: Pyramid) -> float:
    """Mean distance in mm between the positions that two poses give the points of the head."""
    gaps = apply_affine(one, reference.head) - apply_affine(other, reference.head)
    return float(np.linalg.norm(gaps, axis=1).mean())


def self_information(reference: Pyramid, threads: int) -> float:
    """Mutual information of a scan with itself, in nat."""
    finest = Matcher(reference, reference, LEVELS[-1][0], threads)
    return finest.information(np.eye(4))
