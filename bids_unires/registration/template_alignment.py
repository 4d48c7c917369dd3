"""Alignment of a scan to a template: rigid, or rigid with one scale for all axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import BadDataError
from ..space.affines import Affine, apply_affine, scaling, translation
from ..space.volume import Volume
from .matching import Candidate, Matcher
from .pyramid import Mask, Pyramid, build_pyramid, compared_in
from .rigid import LEVELS, Level, search, starting_poses, steadied
from .template import Template

AlignmentKind = Literal["rigid", "similarity"]

SMALLEST_SCALE, LARGEST_SCALE = 0.8, 1.25
"""Limits of a plausible scale. Heads from an age of about two years are within these limits."""

USUAL_HEAD_SCALE = 0.92
"""Scale at which the search starts: size of a usual head relative to the MNI152 space."""

AIR_BELOW_HOUNSFIELD = -500.0
# Largest change of the logarithm of the scale from the fit of the head to that of the brain.
# Changes of up to 0.06 were seen in MR, and of 0.13 in a scan without a brain.
LARGEST_CHANGE_OF_SCALE = 0.09


@dataclass(frozen=True, eq=False)
class TemplateAlignment:
    """Where a scan lies relative to a template.

    Parameters
    ----------
    matrix
        ``(4, 4)`` float64, the scan's world mm to the template's world mm (RAS).
        ``matrix @ affine`` puts the scan onto the template.
    kind
        ``rigid`` or ``similarity``.
    scale
        Factor on lengths, without unit; 1 if rigid. Above 1 the template is larger than the head.
    metric
        Mattes mutual information of the best similarity, in nat; larger is better.
    """

    matrix: Affine
    kind: AlignmentKind
    scale: float
    metric: float


def align_to_template(
    volume: Volume,
    template: Template,
    *,
    kind: AlignmentKind,
    threads: int,
    measured: Mask | None = None,
) -> TemplateAlignment:
    """Find the pose that puts a scan of a head onto a template.

    Parameters
    ----------
    volume
        Scan of a head or of part of a head, of any contrast, resolution and orientation.
    template
        Template to align to.
    kind
        ``rigid`` keeps sizes; ``similarity`` also scales all axes by one factor.
    threads
        Number of threads to use.
    measured
        True for the voxels of the scan that were measured, ``(X, Y, Z)``; all others count as
        outside its field of view. None if all voxels were measured.

    Returns
    -------
    TemplateAlignment
        The best pose found.

    Raises
    ------
    BadDataError
        If the scan has no contrast, or does not match the template in any pose at a
        plausible scale, `SMALLEST_SCALE` to `LARGEST_SCALE`.

    Notes
    -----
    Templates are larger than most heads (the MNI152 space by about a tenth), and a rigid fit of
    heads of different size is ambiguous. Therefore the search is over similarities in both cases.
    ``rigid`` then keeps the rotation and the position of the middle of the brain. Once the pose
    is roughly known, only the brain is compared. Jaw, neck and scalp change more than the brain,
    with the position of a person and from person to person. CT, and images in which the brain is
    not found, are aligned by the whole head.
    """
    fixed = build_pyramid(template.image, threads)
    moving = build_pyramid(volume, threads, measured=measured)
    starts = starting_poses(fixed, moving, USUAL_HEAD_SCALE)
    head = search(fixed, moving, starts, Matcher.refine_scaled, levels=LEVELS[:-1], threads=threads)
    by_brain = _refined(head, compared_in(fixed, template.brain), moving, LEVELS[1:], threads)
    if _is_ct(volume) or not (_close(head, by_brain) or _better(by_brain, head, fixed, moving)):
        best = _refined(head, fixed, moving, LEVELS[-1:], threads)
    else:
        best = by_brain
    matrix = np.asarray(np.linalg.inv(best.pose), dtype=np.float64)
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
        raise BadDataError(
            f"{volume.path or 'a scan'} does not fit the template {template.name}: best with "
            f"its size times {scale:.2f}. Heads of newborns and of animals are aligned to each "
            "other at the group level by --template none, and nothing is aligned by --align none"
        )
    if kind == "rigid":
        matrix = without_scale(matrix, scale, template)
        scale = 1.0
    return TemplateAlignment(steadied(matrix), kind, scale, best.information)


def _refined(
    start: Candidate, fixed: Pyramid, moving: Pyramid, levels: Sequence[Level], threads: int
) -> Candidate:
    """Refine one candidate over similarities, level by level."""
    candidate = start
    for level, _, smallest_step in levels:
        candidate = Matcher(fixed, moving, level, threads).refine_scaled(candidate, smallest_step)
    return candidate


def _is_ct(volume: Volume) -> bool:
    """Whether intensities are in Hounsfield units, in which a brain has almost no contrast."""
    return bool(np.nanmin(volume.data) < AIR_BELOW_HOUNSFIELD)


def _close(head: Candidate, brain: Candidate) -> bool:
    """Whether a fit to the brain has about the scale of the fit to the head it started from.

    Head and brain scale together. If the scale changes much, the fit has not found the brain.
    """
    if brain.score == -math.inf:
        return False
    factor = np.cbrt(np.linalg.det(brain.pose[:3, :3]) / np.linalg.det(head.pose[:3, :3]))
    return bool(abs(np.log(factor)) < LARGEST_CHANGE_OF_SCALE)


def _better(brain: Candidate, head: Candidate, fixed: Pyramid, moving: Pyramid) -> bool:
    """Whether even the whole head matches better in the pose of the brain than in its own."""
    matcher = Matcher(fixed, moving, LEVELS[-2][0], threads=1)
    return brain.score > -math.inf and (
        matcher.information(brain.pose) > matcher.information(head.pose)
    )


def without_scale(matrix: Affine, scale: float, template: Template) -> Affine:
    """The rigid motion with the rotation of a similarity that agrees in the middle of the brain.

    Parameters
    ----------
    matrix
        ``(4, 4)`` similarity, world of an image -> world of the template, mm.
    scale
        Scale of the similarity, without unit.
    template
        Template whose brain mask gives the middle of the brain.
    """
    brain = template.brain
    middle = apply_affine(brain.affine, np.argwhere(brain.data > 0)).mean(axis=0)
    unscale = translation(middle) @ scaling([1 / scale] * 3) @ translation(-middle)
    return np.asarray(unscale @ matrix)
