"""Compare the scans of a participant, and rank them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...config import RunConfig
from ...dataset.entities import listing
from ...dataset.scans import Contrast, ParticipantPlan, Scan
from ...errors import UniResError
from ...space.affines import apply_affine
from .expense import Expense, expense
from .information import Told, information
from .measures import MeasuredScan, measure

# Side in mm of the boxes in which the head is counted; at least the distance of slices.
_BOX_MM = 6.0
# Share of the head below which a scan is a slab, or shows a part of it for another reason.
_LEAST_COVERAGE = 0.7
# A localiser has few slices.
_FEW_SLICES = 10
# Heads of one person differ by less than these factors in volume, unless a part is missing.
_LEAST_VOLUME, _MOST_VOLUME = 0.5, 2.0
# Headers place the heads of one session within this many mm, but for a head that moved far.
_FAR_MM = 60.0
# Intensities within a head vary by more than this share of their mean.
_LEAST_VARIATION = 0.1
_NOISY = 10.0
# A scan adds little if it adds less than the first share, and tells less than the second one of
# what the most telling scan of its contrast tells. Of many good repeats each adds little, too.
_LITTLE, _POOR = 0.02, 0.7


@dataclass(frozen=True, eq=False)
class InspectedScan:
    """A scan, as compared with the others of its participant.

    Parameters
    ----------
    scan
        Its file and metadata.
    contrast
        Name of its contrast.
    measured
        What was measured of it; None if it cannot be used.
    coverage
        Share of the head, as all scans show it where their headers place them, that it measured.
    told
        What it tells of the image, alone and in addition to the others of its contrast.
    remarks
        What looks wrong, or should be known, in words.
    """

    scan: Scan
    contrast: str
    measured: MeasuredScan | None
    coverage: float
    told: Told
    remarks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Inspection:
    """The scans of one participant or session, the most useful of each contrast first.

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    scans
        The scans.
    expense
        What their fit will take; None if it could not start, or is none.
    """

    label: str
    scans: tuple[InspectedScan, ...]
    expense: Expense | None = None


def inspect(plan: ParticipantPlan, config: RunConfig, unit: float | None = None) -> Inspection:
    """Read, measure, compare and rank the scans of a participant, and estimate time and memory.

    Scans are compared where their headers place them; nothing is aligned.

    Parameters
    ----------
    plan
        The scans. One that cannot be used has a remark that says why.
    config
        The configuration of the run.
    unit
        As for `expense`.
    """
    outcomes = [
        (scan, contrast, _measured(scan, contrast))
        for contrast in plan.contrasts
        for scan in contrast.scans
    ]
    usable = [found for _, _, found in outcomes if isinstance(found, MeasuredScan)]
    coverages = dict(zip(map(id, usable), _coverages(usable), strict=True))
    told = _told(usable, coverages)
    inspected = []
    for scan, contrast, found in outcomes:
        if isinstance(found, str):
            nothing = Told(0.0, 0.0)
            inspected.append(InspectedScan(scan, contrast.name, None, 0.0, nothing, (found,)))
            continue
        remarks = (*_remarks(found, usable, coverages), *_on_its_use(found, usable, told))
        inspected.append(
            InspectedScan(
                scan, contrast.name, found, coverages[id(found)], told[id(found)], remarks
            )
        )
    order = {contrast.name: number for number, contrast in enumerate(plan.contrasts)}
    inspected.sort(key=lambda each: (order[each.contrast], -each.told.adds, -each.told.alone))
    cost = expense(plan, usable, config, unit)
    return Inspection(plan.label, tuple(inspected), cost)


def _measured(scan: Scan, contrast: Contrast) -> MeasuredScan | str:
    try:
        return measure(scan, contrast)
    except UniResError as error:
        return f"cannot be used: {error}"


def _coverages(scans: Sequence[MeasuredScan]) -> list[float]:
    """Share of the head that each scan measured, where the headers place them."""
    if not scans:
        return []
    side = max([_BOX_MM, *(float(max(scan.volume.grid.voxel_size)) for scan in scans)])
    boxes = [_boxes(scan, side) for scan in scans]
    everything = np.unique(np.concatenate(boxes), axis=0)
    if not len(everything):
        return [1.0] * len(scans)
    centres = np.asarray((everything + 0.5) * side, dtype=np.float64)
    return [float(np.mean(_is_measured(scan, centres))) for scan in scans]


def _boxes(scan: MeasuredScan, side: float) -> NDArray[np.int64]:
    """Boxes of the world that hold a part of the head, ``(N, 3)``."""
    places = apply_affine(scan.volume.affine, np.argwhere(scan.head))
    return np.unique(np.floor(places / side).astype(np.int64), axis=0)


def _is_measured(scan: MeasuredScan, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    voxels = np.rint(apply_affine(np.linalg.inv(scan.volume.affine), points)).astype(np.int64)
    inside = np.all((voxels >= 0) & (voxels < scan.volume.grid.shape), axis=-1)
    seen = np.zeros(len(points), dtype=bool)
    seen[inside] = scan.measured[tuple(voxels[inside].T)]
    return seen


def _told(scans: Sequence[MeasuredScan], coverages: Mapping[int, float]) -> dict[int, Told]:
    """What each scan tells, by its identity."""
    told: dict[int, Told] = {}
    for name in dict.fromkeys(scan.contrast for scan in scans):
        own = [scan for scan in scans if scan.contrast == name]
        each = information([scan.sampling(coverages[id(scan)]) for scan in own])
        told |= dict(zip(map(id, own), each, strict=True))
    return told


def _remarks(
    scan: MeasuredScan, everybody: Sequence[MeasuredScan], coverages: Mapping[int, float]
) -> Iterator[str]:
    yield from _on_the_head(scan, everybody, coverages)
    yield from _on_the_slices(scan)
    if scan.signal_to_noise < _NOISY:
        yield f"noisy: the head is {scan.signal_to_noise:.1f} times as bright as the noise"


def _on_its_use(
    scan: MeasuredScan, everybody: Sequence[MeasuredScan], told: Mapping[int, Told]
) -> Iterator[str]:
    own = told[id(scan)]
    best = max(told[id(each)].alone for each in everybody if each.contrast == scan.contrast)
    if own.adds < _LITTLE and own.alone < _POOR * best:
        yield "adds little to the other scans of its contrast"


def _on_the_head(
    scan: MeasuredScan, everybody: Sequence[MeasuredScan], coverages: Mapping[int, float]
) -> Iterator[str]:
    """What looks wrong with what the scan shows."""
    coverage = coverages[id(scan)]
    if scan.slice_count < _FEW_SLICES:
        yield f"a localiser? It has {scan.slice_count} slices"
    if coverage < _LEAST_COVERAGE:
        yield f"shows {100 * coverage:.0f} % of the head that the scans show together"
    if scan.variation < _LEAST_VARIATION:
        yield "a phantom? It is nearly uniform inside"
    whole = [each for each in everybody if coverages[id(each)] >= _LEAST_COVERAGE]
    if len(everybody) < 2:
        return
    away = float(np.linalg.norm(scan.head_centre - _usual_centre(scan, everybody)))
    if away > _FAR_MM:
        yield f"its header places the head {away:.0f} mm from where the other scans have it"
    volumes = [each.head_litres for each in whole if each is not scan]
    if scan in whole and volumes and np.median(volumes) > 0:
        ratio = scan.head_litres / float(np.median(volumes))
        if not _LEAST_VOLUME < ratio < _MOST_VOLUME:
            yield (
                f"another head, or with the skull removed? Its head has {ratio:.1f} times the "
                "volume that the other scans show"
            )


def _usual_centre(scan: MeasuredScan, everybody: Sequence[MeasuredScan]) -> NDArray[np.float64]:
    centres = [each.head_centre for each in everybody if each is not scan]
    return np.asarray(np.nanmedian(centres, axis=0))


def _on_the_slices(scan: MeasuredScan) -> Iterator[str]:
    look = scan.look
    if look is None:
        return
    if look.damaged:
        yield f"damaged slices? {listing(map(str, look.damaged), most=8)}, from 0: see --robust"
    if look.seems_moved:
        yield "slices seem to have moved against each other: see --slice-motion"
    if look.interleave:
        percent = 100 * (np.exp(2 * abs(look.interleave)) - 1)
        yield f"even and odd slices differ by {percent:.0f} %: see --interleave-correction"
