"""Content of the report of a cohort, without its layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import ModelSettings
from ..records.study import GridSettingsRecord
from ..space.grid import Grid
from .outliers import Outlier


@dataclass(frozen=True)
class Reach:
    """How far the participants extend towards one face of the shared grid.

    Parameters
    ----------
    direction
        Direction of the face: ``left``, ``right``, ``back``, ``front``, ``bottom`` or ``top``.
    position
        World coordinate in mm to which the outermost participant extends.
    face
        World coordinate of the face in mm.
    label
        Label of the outermost participant.
    gain
        Distance in mm by which this participant extends further than all others; None if there
        are no others.
    """

    direction: str
    position: float
    face: float
    label: str
    gain: float | None

    @property
    def room(self) -> float:
        """Distance to the face in mm; negative if the grid cuts off part of the participant."""
        return (self.face - self.position) * (1 if self.direction in _TOWARDS_PLUS else -1)


_TOWARDS_PLUS = ("right", "front", "top")


@dataclass(frozen=True, eq=False)
class SharedGrid:
    """The grid that all participants share, and what determined it.

    Parameters
    ----------
    path
        Image that defines the grid.
    grid
        The grid.
    divisible_by
        Number of voxels by which all sides can be divided.
    settings
        Settings that determined the grid besides the participants, from its sidecar.
    members
        Labels of the participants for whom the grid was made.
    reaches
        Extents towards each face: left and right, back and front, bottom and top. Empty if no
        extent of a participant is known.
    """

    path: Path
    grid: Grid
    divisible_by: int
    settings: GridSettingsRecord
    members: tuple[str, ...]
    reaches: tuple[Reach, ...]


@dataclass(frozen=True)
class MemberPicture:
    """The image that shows one participant, or session, on the page.

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    contrast
        Contrast of the image.
    image
        NIfTI file of the image, on the shared grid.
    mask
        Mask on the shared grid whose outline is drawn; None without a mask.
    mask_name
        Kind of mask: ``brain`` or ``head``; empty without a mask.
    """

    label: str
    contrast: str
    image: Path
    mask: Path | None
    mask_name: str


@dataclass(frozen=True)
class MeanPicture:
    """The mean image of one contrast.

    Parameters
    ----------
    contrast
        Name of the contrast.
    image
        NIfTI file of the mean image, on the shared grid.
    participants
        Number of images averaged.
    """

    contrast: str
    image: Path
    participants: int


@dataclass(frozen=True, eq=False)
class GroupReport:
    """Content of the page of a cohort.

    Parameters
    ----------
    dataset
        Name of the raw dataset, from its description.
    shared
        Grid that all participants share; None if there is none.
    means
        Mean images, in the order of contrasts.
    members
        Images of the participants on the shared grid, in the order of the table.
    columns
        Data dictionary of the table, by name of column.
    rows
        Rows of the table.
    outliers
        Values of the table far from the median of their contrast.
    settings
        Settings of the model, by name; more than one value if the images differ.
    devices
        Number of images computed on each device.
    versions
        Number of images made by each version of this program.
    model
        Settings of the participants' own images, for the methods text.
    methods
        Number of images brought to the shared grid by each method, ``refit`` or ``reslice``.
    """

    dataset: str
    shared: SharedGrid | None
    means: tuple[MeanPicture, ...]
    members: tuple[MemberPicture, ...]
    columns: Mapping[str, Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]
    outliers: tuple[Outlier, ...]
    settings: Mapping[str, tuple[Any, ...]]
    devices: Mapping[str, int]
    versions: Mapping[str, int]
    model: ModelSettings
    methods: Mapping[str, int]
