"""Place the scans of all visits of a participant in one space, on one grid.

Only poses are found here. Every visit is then reconstructed from its own scans, as without other
visits, so that a change between them is neither hidden nor made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...config import RunConfig
from ...dataset.naming import resolution_text, sidecar_path
from ...dataset.scans import ParticipantPlan
from ...dataset.sidecar import derivative_uri
from ...dataset.visits import Visits
from ...dataset.writing import remove_leftovers, write_json, write_mask
from ...model.fit.placement import StartingPose, shared_space
from ...records.visits import PlacedScanRecord, VisitRecord, VisitsRecord
from ...space.affines import Affine
from ...space.grid import Grid, inside
from ...work.allotment import Allotment
from ...work.progress import listener
from .acquired import AcquiredContrast, AcquiredScan, acquire
from .alignment import matrices, onto_template, poses_within

if TYPE_CHECKING:
    from ...registration import VisitPosition

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True)
class VisitsOutcome:
    """Result of the placement of visits; see `ParticipantOutcome` for its fields."""

    label: str
    outputs: tuple[Path, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    missing: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class _Visit:
    """A visit in memory, with the poses of its scans.

    Parameters
    ----------
    plan
        Its scans.
    contrasts
        Its scans in memory.
    poses
        Pose of each scan in a space, (contrast, repeat).
    """

    plan: ParticipantPlan
    contrasts: tuple[AcquiredContrast, ...]
    poses: tuple[tuple[StartingPose, ...], ...]

    @property
    def scans(self) -> Iterator[tuple[str, AcquiredScan, StartingPose]]:
        """Name of the contrast, scan and pose, of every scan."""
        for each, poses in zip(self.contrasts, self.poses, strict=True):
            for scan, pose in zip(each.scans, poses, strict=True):
                yield each.contrast.name, scan, pose

    @property
    def grids(self) -> list[Grid]:
        """Grids of the scans in the space of the poses."""
        return [scan.volume.grid.moved(at.matrix) for _, scan, at in self.scans]

    def moved(self, motion_of: Callable[[str], Affine]) -> _Visit:
        """The visit with the scans of every contrast moved by a ``(4, 4)`` motion."""
        poses = (
            tuple(at.moved(motion_of(each.contrast.name)) for at in own)
            for each, own in zip(self.contrasts, self.poses, strict=True)
        )
        return replace(self, poses=tuple(poses))

    def seen(self, grid: Grid) -> NDArray[np.bool_]:
        """Voxels ``(X, Y, Z)`` within the field of view of every contrast."""
        seen = np.ones(grid.shape, dtype=bool)
        for each, poses in zip(self.contrasts, self.poses, strict=True):
            own = zip(each.scans, poses, strict=True)
            seen &= np.any([inside(grid, s.volume.grid.moved(at.matrix)) for s, at in own], axis=0)
        return seen


def place_visits(unit: Visits, config: RunConfig, allotment: Allotment) -> VisitsOutcome:
    """Find the poses of all scans of all visits in one space, and a grid that holds them all.

    Parameters
    ----------
    unit
        The visits of a participant.
    config
        The configuration of the run.
    allotment
        Device, threads and memory that the unit may use.

    Raises
    ------
    UniResError
        If a scan cannot be used or aligned, or an output cannot be written.
    """
    began = time.perf_counter()
    tell = listener()
    tell.phase(unit.label, "reading")
    visits = [_read(plan, config, allotment.memory) for plan in unit.plans]
    tell.phase(unit.label, "alignment of visits")
    positions = _positions(visits, config, allotment.threads)
    aligned = [visit.moved(at.of) for visit, at in zip(visits, positions, strict=True)]
    first = aligned[0]
    space = onto_template(first.contrasts, matrices(first.poses), config, allotment.threads)
    placed = [visit.moved(lambda _: space.motion) for visit in aligned]
    grid = space.grid
    if grid is None:
        on_first = config.subject_anatomical_reference == "first-lex"
        grids = [visit.grids for visit in placed]
        grid = shared_space(grids, config.model.voxel_size, on_first=on_first)
    tell.phase(unit.label, "writing")
    record = VisitsRecord(
        reference=config.subject_anatomical_reference,
        space=space.label,
        shape=grid.shape,
        affine=grid.affine,
        template=space.template,
        visits=tuple(map(_record, placed, positions)),
    )
    seen = np.all([visit.seen(grid) for visit in placed], axis=0)
    outputs = _written(unit, record, seen, grid, config)
    return VisitsOutcome(unit.label, outputs, time.perf_counter() - began)


def _read(plan: ParticipantPlan, config: RunConfig, memory: int) -> _Visit:
    """Read the scans of a visit, and align them to each other."""
    contrasts = acquire(plan, config.model, memory, reset_origin=config.reset_origin)
    return _Visit(plan, tuple(contrasts), poses_within(contrasts, config))


def _positions(
    visits: Sequence[_Visit], config: RunConfig, threads: int
) -> tuple[VisitPosition, ...]:
    """The positions of the visits; those of the headers if scans are not to be aligned."""
    # These load slowly, and only several visits need them.
    from ...registration import VisitPosition, VisitScan, visit_positions

    if not config.model.coregister:
        return tuple(VisitPosition(np.eye(4), {}, {}) for _ in visits)
    logger.info("aligning %d visits to each other", len(visits))
    scans = [
        [VisitScan(name, scan.volume, at.matrix) for name, scan, at in v.scans] for v in visits
    ]
    return visit_positions(scans, config.subject_anatomical_reference, threads=threads)


def _record(visit: _Visit, position: VisitPosition) -> VisitRecord:
    return VisitRecord(
        session=visit.plan.session,
        scans=tuple(
            PlacedScanRecord(scan.scan.uri, at.matrix, at.uncertainty)
            for _, scan, at in visit.scans
        ),
        brightness={name: round(ratio, 4) for name, ratio in position.brightness.items()} or None,
    )


def _written(
    unit: Visits, record: VisitsRecord, seen: NDArray[np.bool_], grid: Grid, config: RunConfig
) -> tuple[Path, ...]:
    """Write the mask of what all visits show, which defines the grid, after its sidecar."""
    path = unit.grid_path(config)
    remove_leftovers(path.parent)
    content = {
        "Type": "ROI",
        "Description": (
            "Voxels in the field of view of every contrast at every visit; its grid is that of the "
            "images of all visits"
        ),
        "Sources": [scan.uri for plan in unit.plans for scan in plan.scans],
        "SpatialReference": derivative_uri(config.output_dir, path),
        "Resolution": resolution_text(grid.voxel_size.tolist()),
    }
    return (
        write_json(sidecar_path(path), record.in_sidecar(content)),
        write_mask(path, seen, grid.affine),
    )
