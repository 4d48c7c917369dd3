"""Alignment of all scans of one head to each other.

Most scans are aligned to one scan that shows much of the head. The stations of a series (parts
of a head or of a spine that were acquired one after the other) are placed next to each other, as
their headers say.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..space.affines import Affine
from ..space.volume import Volume
from .across_contrasts import across_contrasts
from .matching import Matcher, shared_head
from .pyramid import Pyramid, build_pyramid, finest_level
from .rigid import (
    CLEARLY_BETTER,
    FAR_DEGREES,
    FAR_MM,
    LEVELS,
    OVERLAP_BY_HEADER,
    RigidAlignment,
    align_pyramids,
    away,
    near_header,
    refined,
    relative_size,
    self_information,
    steadied,
)

logger = logging.getLogger("bids_unires")

# Largest motion of a station against its header. Stations of one series are acquired directly
# after each other, while the patient lies still.
_STATION_DEGREES, _STATION_MM = 15.0, 15.0
# Fraction of the tissue volume of the scan that shows most tissue. If the first scan shows less
# than this, it is too small a part of the head to align all others to.
_SMALL_PART = 0.5
# Largest gap in mm between slabs that count as side by side: they were planned together, so their
# headers should agree.
_SIDE_BY_SIDE_MM = 20.0


def coregister(
    volumes: Sequence[Volume],
    *,
    threads: int,
    series: Sequence[Hashable] | None = None,
    contrasts: Sequence[Hashable] | None = None,
) -> tuple[RigidAlignment, ...]:
    """Align every scan to the first one.

    Parameters
    ----------
    volumes
        Scans of one head, of any contrast. At least one.
    threads
        Number of threads to use.
    series
        For each scan, the series to which it belongs as a station. Scans of one series lie next
        to each other as their headers say, apart from small motions. An entry is None if the
        scan belongs to no series. The argument is None if no scan belongs to a series.

    Returns
    -------
    tuple of RigidAlignment
        One for each scan, in the same order; the first pose is the identity. Each metric is that
        of the two scans that were compared.

    Raises
    ------
    BadDataError
        If a scan has no contrast, or does not overlap with the others.

    Notes
    -----
    If the first scan shows little of the head (a slab, a localiser), all scans are aligned to the
    scan that shows most of the head, the hub. A scan that does not overlap with the hub according
    to the headers is aligned to another scan with which it overlaps. Finally all poses are
    expressed relative to the first scan.
    """
    own_series = series or [None] * len(volumes)
    finest = finest_level(volumes)
    pyramids = [build_pyramid(volume, threads, finest=finest) for volume in volumes]
    hub = _fullest(pyramids)
    placed = _place_all(pyramids, hub, own_series, threads)
    if contrasts is not None:
        whole = [
            None if one is not None else contrast
            for contrast, one in zip(contrasts, own_series, strict=True)
        ]
        unit = relative_size(pyramids[hub])
        placed |= across_contrasts(volumes, placed, hub, whole, unit, threads)
    if hub == 0:
        return tuple(placed[index] for index in range(len(volumes)))
    return tuple(_relative_to(placed[0], placed[index]) for index in range(len(volumes)))


def _place_all(
    pyramids: Sequence[Pyramid], hub: int, series: Sequence[Hashable], threads: int
) -> dict[int, RigidAlignment]:
    """Place all scans relative to the hub: single ones first, then stations."""
    itself = RigidAlignment(np.eye(4), self_information(pyramids[hub], threads), "reference")
    placed = {hub: itself}
    alone = [index for index, one in enumerate(series) if one is None and index != hub]
    while alone:
        index, neighbour = _next(alone, hub, placed, pyramids)
        placed[index] = _placed_by(neighbour, index, placed, pyramids, threads)
        alone.remove(index)
        _say_placed(index, placed, pyramids)
    stations: dict[Hashable, list[int]] = defaultdict(list)
    for index, one in enumerate(series):
        if one is not None:
            stations[one].append(index)
    # The series of the hub comes first, so that its stations are there as neighbours for others.
    for own in sorted(stations.values(), key=lambda own: hub not in own):
        _place_stations(own, placed, pyramids, hub, threads)
    return placed


def _say_placed(
    index: int, placed: Mapping[int, RigidAlignment], pyramids: Sequence[Pyramid]
) -> None:
    """Log that a scan is placed, since the next may take long."""
    name = Path(pyramids[index].name).name
    logger.info("%s is aligned (%d of %d scans)", name, len(placed), len(pyramids))


def _relative_to(first: RigidAlignment, other: RigidAlignment) -> RigidAlignment:
    """The other scan relative to the first, whose pose is then the identity."""
    pose = steadied(np.linalg.inv(first.pose) @ other.pose)
    if first is other or None in (first.uncertainty, other.uncertainty):
        both = None
        if first is not other and other.start == "reference":
            both = first.uncertainty
    else:
        both = round(math.hypot(first.uncertainty or 0.0, other.uncertainty or 0.0), 3)
    return replace(other, pose=pose, uncertainty=both)


def fullest_scan(volumes: Sequence[Volume], *, threads: int) -> int:
    """Index of the scan to align to: the first, unless it shows too small a part of the head.

    Parameters
    ----------
    volumes
        Scans of one head. At least one.
    threads
        Number of threads to use.

    Raises
    ------
    BadDataError
        If a scan has no contrast.
    """
    if len(volumes) == 1:
        return 0
    return _fullest([build_pyramid(volume, threads) for volume in volumes])


def _fullest(pyramids: Sequence[Pyramid]) -> int:
    tissue = [pyramid.tissue for pyramid in pyramids]
    return 0 if tissue[0] >= _SMALL_PART * max(tissue) else int(np.argmax(tissue))


def _next(
    alone: Sequence[int],
    hub: int,
    placed: Mapping[int, RigidAlignment],
    pyramids: Sequence[Pyramid],
) -> tuple[int, int]:
    """The next scan to align, and the placed scan to align it to; a pair that overlaps if any."""
    for index in alone:
        shared = {
            other: shared_head(pyramids[other], pyramids[index], np.eye(4)) for other in placed
        }
        if shared[hub] >= OVERLAP_BY_HEADER:
            return index, hub
        closest = max(shared, key=lambda other: shared[other])
        if shared[closest] >= OVERLAP_BY_HEADER:
            return index, closest
    return alone[0], hub


def _placed_by(
    neighbour: int,
    index: int,
    placed: Mapping[int, RigidAlignment],
    pyramids: Sequence[Pyramid],
    threads: int,
) -> RigidAlignment:
    """Align a scan to a neighbour that is already placed."""
    found = align_pyramids(pyramids[neighbour], pyramids[index], threads)
    _say_if_far(pyramids[neighbour], pyramids[index], found.pose)
    if placed[neighbour].start == "reference":
        return found
    return replace(found, pose=steadied(placed[neighbour].pose @ found.pose))


def _place_stations(
    stations: Sequence[int],
    placed: dict[int, RigidAlignment],
    pyramids: Sequence[Pyramid],
    hub: int,
    threads: int,
) -> None:
    """Place the stations of one series, each next to its nearest station already placed."""
    there = [index for index in stations if index in placed]
    rest = sorted(set(stations) - set(there), key=lambda index: -pyramids[index].tissue)
    if not there:
        first, neighbour = _next(rest, hub, placed, pyramids)
        placed[first] = _placed_by(neighbour, first, placed, pyramids, threads)
        there = [first]
        rest.remove(first)
        _say_placed(first, placed, pyramids)
    while rest:
        gaps = {
            (one, other): np.linalg.norm(pyramids[one].centre - pyramids[other].centre)
            for one in there
            for other in rest
        }
        neighbour, index = min(gaps, key=lambda pair: float(gaps[pair]))
        placed[index] = _beside(placed[neighbour].pose, pyramids[index], placed, pyramids, threads)
        there.append(index)
        rest.remove(index)
        _say_placed(index, placed, pyramids)


def _beside(
    expected: Affine,
    station: Pyramid,
    placed: Mapping[int, RigidAlignment],
    pyramids: Sequence[Pyramid],
    threads: int,
) -> RigidAlignment:
    """Place a station near the pose that its neighbour and its header give.

    It is compared with the placed scan that overlaps with it most. It keeps the expected pose if
    no scan overlaps enough, or if a motion hardly improves the match.
    """
    into_station = np.linalg.inv(expected)
    shared = {
        index: shared_head(pyramids[index], station, into_station @ alignment.pose)
        for index, alignment in placed.items()
    }
    closest = max(shared, key=lambda index: shared[index])
    reference, pose = pyramids[closest], placed[closest].pose
    start = into_station @ pose
    unmoved = Matcher(reference, station, LEVELS[-1][0], threads).information(start)
    found = (
        near_header(reference, station, start, threads)
        if shared[closest] >= OVERLAP_BY_HEADER
        else None
    )
    if found is not None:
        found = refined(found, reference, station, LEVELS[-1:], threads)
        turned, moved = away(reference, found.pose, start)
        is_near = turned < _STATION_DEGREES and moved < _STATION_MM * relative_size(reference)
        if is_near and found.information >= CLEARLY_BETTER * unmoved:
            settled = steadied(pose @ np.linalg.inv(found.pose))
            return RigidAlignment(settled, found.information, "header")
    return RigidAlignment(expected, unmoved, "header")


def _say_if_far(reference: Pyramid, moving: Pyramid, pose: Affine) -> None:
    """Warn if a pose is far from the headers, and the headers let the scans overlap or touch."""
    margin = _SIDE_BY_SIDE_MM * relative_size(reference)
    if not (reference.seen(moving.head, margin).any() or moving.seen(reference.head, margin).any()):
        return
    turned, moved = away(moving, pose, np.eye(4))
    if turned > FAR_DEGREES or moved > FAR_MM * relative_size(reference):
        logger.warning(
            "%s was turned by %.0f degrees and moved by %.0f mm against its header to match %s: "
            "look whether they agree; if the headers are right, use --no-coregister",
            Path(moving.name).name,
            turned,
            moved,
            Path(reference.name).name,
        )
