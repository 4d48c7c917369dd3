"""The positions of all visits of a head in one space: that of the first, or of their mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..config import AnatomicalReference
from ..space.affines import Affine
from ..space.rigid import mean_pose
from .between_visits import VisitMotion, VisitScan, motion_between
from .rigid import steadied

# Rounds in which positions are adapted to the motions between all pairs, and the largest change
# of an element of a matrix in the last one.
_MOST_ROUNDS = 200
_SETTLED = 1e-10

Motions = Mapping[tuple[int, int], Affine]
"""Motions ``(4, 4)`` by the pair (i, j) of visits: world mm of visit j -> world mm of visit i."""


@dataclass(frozen=True, eq=False)
class VisitPosition:
    """Where a visit lies in the space that all visits share.

    Parameters
    ----------
    pose
        ``(4, 4)``, world mm of the visit -> world mm of the space.
    by_contrast
        The same for the contrasts that another visit has as well.
    brightness
        Median ratio of intensities to those of the first visit that has the contrast, for contrasts
        of which both visits were compared.
    """

    pose: Affine
    by_contrast: Mapping[str, Affine]
    brightness: Mapping[str, float]

    def of(self, contrast: str) -> Affine:
        """Pose ``(4, 4)`` of the scans of a contrast."""
        return self.by_contrast.get(contrast, self.pose)


def visit_positions(
    visits: Sequence[Sequence[VisitScan]], reference: AnatomicalReference, *, threads: int
) -> tuple[VisitPosition, ...]:
    """Align the visits of a head.

    Parameters
    ----------
    visits
        Scans of each visit. At least two visits, with at least one scan each.
    reference
        ``first-lex`` aligns every visit to the first one, which stays. ``unbiased`` compares all
        pairs of visits, and puts the visits around their mean position.
    threads
        Number of threads to use.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or visits do not overlap in any pose tried.
    """
    indices = range(len(visits))
    pairs = [(0, k) for k in indices[1:]] if reference == "first-lex" else combinations(indices, 2)
    motions = {(i, j): motion_between(visits[i], visits[j], threads=threads) for i, j in pairs}
    together = _positions({pair: motion.pose for pair, motion in motions.items()}, len(visits))
    if reference == "unbiased":
        to_mean = np.linalg.inv(mean_pose(together))
        together = [to_mean @ pose for pose in together]
    names = dict.fromkeys(name for motion in motions.values() for name in motion.by_contrast)
    alone = {name: _of_contrast(name, motions, together, reference) for name in names}
    return tuple(
        VisitPosition(
            steadied(together[k]),
            {name: steadied(poses[k]) for name, poses in alone.items() if k in poses},
            dict(_brightness(k, motions)),
        )
        for k in indices
    )


def _brightness(
    visit: int, motions: Mapping[tuple[int, int], VisitMotion]
) -> Iterator[tuple[str, float]]:
    """Contrasts of a visit, and their brightness relative to the first visit that has each."""
    for name in dict.fromkeys(name for motion in motions.values() for name in motion.brightness):
        first = min(i for (i, _), motion in motions.items() if name in motion.brightness)
        if first < visit and name in motions[first, visit].brightness:
            yield name, motions[first, visit].brightness[name]


def _of_contrast(
    name: str,
    motions: Mapping[tuple[int, int], VisitMotion],
    together: Sequence[Affine],
    reference: AnatomicalReference,
) -> dict[int, Affine]:
    """Poses of the visits that have a contrast, by this contrast.

    With ``first-lex`` the first visit stays; else the poses lie around those by all contrasts.
    """
    own = {pair: m.by_contrast[name] for pair, m in motions.items() if name in m.by_contrast}
    members = sorted({index for pair in own for index in pair})
    place = {index: at for at, index in enumerate(members)}
    renumbered = {(place[i], place[j]): pose for (i, j), pose in own.items()}
    poses = _positions(renumbered, len(members))
    if reference == "first-lex":
        return dict(zip(members, poses, strict=True))
    pairs = zip(members, poses, strict=True)
    shift = mean_pose([together[index] @ np.linalg.inv(pose) for index, pose in pairs])
    return {index: shift @ pose for index, pose in zip(members, poses, strict=True)}


def _positions(motions: Motions, count: int) -> list[Affine]:
    """Poses in the space of the first visit that agree best with the motions between pairs."""
    between = dict(motions)
    between |= {(j, i): np.asarray(np.linalg.inv(pose)) for (i, j), pose in motions.items()}
    poses = [np.eye(4), *(between[0, k] for k in range(1, count))]
    for _ in range(_MOST_ROUNDS if len(motions) >= count else 0):
        before = np.stack(poses)
        for k in range(1, count):
            poses[k] = mean_pose([poses[i] @ between[i, k] for i in range(count) if i != k])
        if np.abs(np.stack(poses) - before).max() < _SETTLED:
            break
    return poses
