"""The grid that all participants share, which contains all brains or heads, and its record."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import RunConfig
from ...dataset.metadata import SidecarError
from ...dataset.naming import STUDY_SPACE, resolution_text, sidecar_path, study_grid_path
from ...dataset.sidecar import derivative_uri
from ...dataset.writing import write_json, write_mask
from ...errors import UsageError
from ...records.study import Extent, GridSettingsRecord, StudyGridRecord
from ...space.boxes import box_between, network_grid, reaches, with_margin
from ...space.grid import Grid

logger = logging.getLogger("bids_unires")

LARGEST_SIDE = 256
_AXES = ("x (left to right)", "y (back to front)", "z (bottom to top)")


@dataclass(frozen=True, eq=False)
class StudyGrid:
    """The shared grid.

    Parameters
    ----------
    grid
        Its shape, and its affine to world mm of the study.
    path
        The image that defines it.
    members
        Labels of the participants whose images are on it or will be brought to it.
    """

    grid: Grid
    path: Path
    members: tuple[str, ...]

    def halvings(self) -> int:
        """How many times all sides (in voxels) can be halved without remainder."""
        return halvings(self.grid)


def halvings(grid: Grid) -> int:
    """How many times all sides of a grid (in voxels) can be halved without remainder.

    Examples
    --------
    >>> halvings(Grid((192, 256, 48), np.eye(4)))
    4
    """
    return min((side & -side).bit_length() - 1 for side in grid.shape)


def find_grid(
    extents: Mapping[str, Extent], config: RunConfig, others: Mapping[str, Extent] | None = None
) -> StudyGrid:
    """Find the grid that contains all participants; an earlier grid is kept if it is large enough.

    Parameters
    ----------
    extents
        Bounding box of the brain or head of each participant, by label.
    others
        Boxes of the participants that are not part of this run. If there are any, the grid of an
        earlier run is kept if possible, even if ``config.resume`` is off.
    config
        The configuration: field of view, margin, voxel size and policy of the grid.

    Raises
    ------
    UsageError
        If no grid that the policy allows is large enough. The message names the participant that
        enlarges it most.
    """
    path = study_grid_path(config.output_dir, voxel_size=config.model.voxel_size)
    run, others = extents, others or {}
    extents = {**others, **run}
    low, high = union(extents.values())
    margin = config.group.grid_margin
    before = _earlier(config) if config.resume or others else None
    if before is not None and reaches(before, low - margin, high + margin):
        logger.info("the grid of the earlier run still holds: %s", _described(before))
        return StudyGrid(before, path, tuple(run))
    box = with_margin(box_between(low, high, config.model.voxel_size), margin)
    grid = network_grid(box, config.group.grid_policy, config.group.grid_multiple)
    if config.group.grid_policy != "multiple" and max(grid.shape) > LARGEST_SIDE:
        raise UsageError(_too_large(box, grid, extents, others, config))
    if before is not None:
        logger.warning(
            "the grid of the earlier run (%s) no longer holds, it is too small for %s: a larger "
            "one takes its place",
            _described(before),
            ", ".join(_outside(before, extents, margin)),
        )
    logger.info("the shared grid: %s", _described(grid))
    return StudyGrid(grid, path, tuple(run))


def write_grid(study: StudyGrid, sources: Sequence[Path], config: RunConfig) -> list[Path]:
    """Write the shared grid as an image, with a record of how it was made in its sidecar.

    Parameters
    ----------
    study
        The grid.
    sources
        Transforms of the participants to the space of the study.
    config
        The configuration of the run.
    """
    grid = study.grid
    record = StudyGridRecord(
        shape=grid.shape,
        affine=grid.affine,
        settings=GridSettingsRecord.of_run(config),
        participants=study.members,
        halvings=study.halvings(),
        divisible_by=2 ** study.halvings(),
    )
    content = {
        "Type": "ROI",
        "Description": (
            "Grid that all participants share: 1 in every voxel. Smallest box that the policy "
            f"allows and that holds every {config.space.fov} with a margin"
        ),
        "Sources": [derivative_uri(config.output_dir, path) for path in sources],
        "SpatialReference": derivative_uri(config.output_dir, study.path),
        "Resolution": resolution_text(config.model.voxel_size),
    }
    inside = np.ones(grid.shape, dtype=bool)
    return [
        write_json(sidecar_path(study.path), record.in_sidecar(content)),
        write_mask(study.path, inside, grid.affine),
    ]


@dataclass(frozen=True, eq=False)
class Frame:
    """The existing shared grid, and its space.

    Parameters
    ----------
    grid
        Its shape, and its affine to world mm of the study.
    align, template
        Kind of alignment and name of the template that define the space.
    """

    grid: Grid
    align: str
    template: str


def read_frame(config: RunConfig) -> Frame | None:
    """Read the shared grid of the requested voxel size, whatever its other settings."""
    record = read_grid_record(config)
    settings = record.settings
    if record.grid is None or settings is None:
        return None
    if settings.align is None or settings.template is None:
        return None
    return Frame(record.grid, settings.align, settings.template)


def read_grid_record(config: RunConfig) -> StudyGridRecord:
    """Read the record of the shared grid of the requested voxel size."""
    path = study_grid_path(config.output_dir, voxel_size=config.model.voxel_size)
    try:
        return StudyGridRecord.read(sidecar_path(path))
    except SidecarError:
        return StudyGridRecord()


def _earlier(config: RunConfig) -> Grid | None:
    """The grid of an earlier run; None if its settings were not the same."""
    record = read_grid_record(config)
    return record.grid if record.settings == GridSettingsRecord.of_run(config) else None


def union(extents: Collection[Extent]) -> Extent:
    """Lower and upper corner of the smallest box around one or more boxes."""
    low = np.min([extent[0] for extent in extents], axis=0)
    return low, np.max([extent[1] for extent in extents], axis=0)


def _outside(grid: Grid, extents: Mapping[str, Extent], margin: float) -> list[str]:
    return [
        label
        for label, (low, high) in extents.items()
        if not reaches(grid, low - margin, high + margin)
    ]


def _too_large(
    box: Grid,
    grid: Grid,
    extents: Mapping[str, Extent],
    others: Mapping[str, Extent],
    config: RunConfig,
) -> str:
    """Message that names the participant that makes the grid too large, and what to do."""
    axis = int(np.argmax(grid.shape))
    low, high = union(extents.values())
    forcing, gain = max(
        ((label, _gain(label, extents, axis)) for label in extents), key=lambda pair: pair[1]
    )
    size = float(config.model.voxel_size[axis])
    leave_out = (
        f"by removing its *_space-{STUDY_SPACE}_* files"
        if forcing in others
        else "by --participant-label"
    )
    needed = np.ceil(100 * box.shape[axis] * size / LARGEST_SIDE) / 100
    return (
        f"the {config.space.fov}s of {len(extents)} participants reach over "
        f"{high[axis] - low[axis]:.0f} mm along {_AXES[axis]}, which with the margin takes "
        f"{box.shape[axis]} voxels of {size:g} mm where the grid may have {LARGEST_SIDE}; "
        f"{forcing} forces it (without it {gain:.0f} mm less): look at its alignment and leave it "
        f"out {leave_out}, or use --voxel-size {needed:g} or --grid-policy multiple"
    )


def _gain(label: str, extents: Mapping[str, Extent], axis: int) -> float:
    """By how many mm the box of all becomes smaller along one axis without a participant."""
    low, high = union(extents.values())
    others = [extent for name, extent in extents.items() if name != label]
    if not others:
        return float(high[axis] - low[axis])
    other_low, other_high = union(others)
    return float((high - low)[axis] - (other_high - other_low)[axis])


def _described(grid: Grid) -> str:
    return (
        f"{' x '.join(map(str, grid.shape))} voxels of "
        f"{resolution_text(grid.voxel_size.tolist())}, "
        f"divisible by {2 ** halvings(grid)}"
    )
