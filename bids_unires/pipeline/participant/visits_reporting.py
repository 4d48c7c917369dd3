"""Write the page that shows the visits of a participant beside each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...config import RunConfig
from ...dataset.derivatives import MAX_RESULT_SIDECAR_BYTES
from ...dataset.metadata import SidecarError, load_object
from ...dataset.naming import derivative_path, sidecar_path
from ...dataset.reading import grid_of, load_labels, load_volume
from ...dataset.scans import Contrast, ParticipantPlan
from ...dataset.sidecar import derivative_uri
from ...dataset.visits import Visits
from ...records.visits import VisitsRecord
from ...report import (
    ComparedContrast,
    VisitImage,
    VisitRow,
    VisitsReport,
    page_path,
    visits_page_path,
    write_visits_report,
)
from ...report.motion import motion_of
from ...space.grid import Grid
from ...work.allotment import Allotment
from .derivatives import DESC
from .reporting import dataset_name, may_fail
from .visits import VisitsOutcome


@dataclass(frozen=True)
class VisitsPage:
    """A unit of work: show the visits of a participant beside each other.

    Parameters
    ----------
    visits
        The visits.
    grid_path
        Mask on the grid of all visits.
    images
        The images of each contrast, by session; contrasts that fewer than two visits have are left
        out.
    """

    visits: Visits
    grid_path: Path
    images: Mapping[str, Mapping[str, Path]]

    @property
    def label(self) -> str:
        """``sub-01``."""
        return self.visits.label

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return "visits-page"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of BIDS files that are written to: none."""
        return ()

    @property
    def inputs(self) -> Iterator[tuple[str, Path]]:
        """The images, and where their scans lie."""
        yield self.grid_path.name, sidecar_path(self.grid_path)
        for of_visits in self.images.values():
            for path in of_visits.values():
                yield path.name, path

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Empty: the page depends on no other data."""
        return {}

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The name of the dataset, which the page shows."""
        return {"dataset": dataset_name(config.bids_dir)}


def visits_pages(visits: Sequence[Visits], config: RunConfig) -> Iterator[VisitsPage]:
    """The pages of participants of whom images of several visits are on their shared grid.

    Images that an earlier run left elsewhere are not shown.
    """
    for each in visits:
        grid_path = each.grid_path(config)
        images: dict[str, dict[str, Path]] = {}
        for plan in each.plans:
            for contrast in plan.contrasts:
                path = _image_path(plan, contrast, grid_path, config)
                if _is_on(grid_path, path, config):
                    images.setdefault(contrast.name, {})[str(plan.session)] = path
        several = {name: own for name, own in images.items() if len(own) > 1}
        if several and grid_path.is_file():
            yield VisitsPage(each, grid_path, several)


def show_visits(unit: VisitsPage, config: RunConfig, allotment: Allotment) -> VisitsOutcome:
    """Write the page; if that fails, the results are complete without it."""
    began = time.perf_counter()
    written: tuple[Path, ...] = ()
    with may_fail(unit.label):
        written = write_visits_report(_content(unit, config), config.output_dir)
    missing = () if written else (visits_page_path(config.output_dir, unit.label),)
    return VisitsOutcome(
        unit.label, written, time.perf_counter() - began, tuple(map(str, missing)), missing
    )


def _image_path(
    plan: ParticipantPlan, contrast: Contrast, grid_path: Path, config: RunConfig
) -> Path:
    return derivative_path(
        config.output_dir,
        plan,
        contrast,
        desc=DESC[config.model.method],
        voxel_size=config.model.voxel_size,
        space=grid_path.name.partition("_space-")[2].partition("_")[0],
    )


def _is_on(grid_path: Path, image: Path, config: RunConfig) -> bool:
    """Whether an image exists and lies on a shared grid."""
    try:
        stated = load_object(sidecar_path(image), MAX_RESULT_SIDECAR_BYTES)
    except SidecarError:
        return False
    refers = stated.get("SpatialReference") == derivative_uri(config.output_dir, grid_path)
    grid = grid_of(image)
    return refers and grid is not None and grid == grid_of(grid_path)


def _content(unit: VisitsPage, config: RunConfig) -> VisitsReport:
    record = VisitsRecord.read(sidecar_path(unit.grid_path))
    seen = load_labels(unit.grid_path)
    contrasts = []
    for name, of_visits in unit.images.items():
        images = tuple(
            VisitImage(
                session,
                load_volume(path).data,
                path,
                record.brightness.get(session, {}).get(name, None if number else 1.0),
            )
            for number, (session, path) in enumerate(of_visits.items())
        )
        contrasts.append(ComparedContrast(name, images))
    return VisitsReport(
        label=unit.label,
        dataset=dataset_name(config.bids_dir),
        reference=record.reference or config.subject_anatomical_reference,
        grid=seen.grid,
        seen=(seen.data > 0).astype(np.float32),
        contrasts=tuple(contrasts),
        visits=tuple(_row(plan, unit, seen.grid, config) for plan in unit.visits.plans),
    )


def _row(plan: ParticipantPlan, unit: VisitsPage, grid: Grid, config: RunConfig) -> VisitRow:
    page = page_path(config.output_dir, plan.label)
    placed = VisitsRecord.read(sidecar_path(unit.grid_path)).poses
    motion = motion_of(placed.get(plan.scans[0].uri, np.eye(4)), grid)
    return VisitRow(str(plan.session), page.name if page.is_file() else "", motion)
