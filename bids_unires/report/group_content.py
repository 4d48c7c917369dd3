"""What a report tells about a whole cohort, without how it is shown."""

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
    """How far the participants reach towards one face of the shared grid.

    Parameters
    ----------
    direction
        Where that is: ``left``, ``right``, ``back``, ``front``, ``bottom`` or ``top``.
    position
        World coordinate in mm of the outermost participant.
    face
        World coordinate in mm of the face.
    label
        Who that participant is.
    gain
        How much less in mm all others reach; None if there are none.
    """

    direction: str
    position: float
    face: float
    label: str
    gain: float | None

    @property
    def room(self) -> float:
        """Distance to the face in mm; negative if it is cut."""
        return (self.face - self.position) * (1 if self.direction in _TOWARDS_PLUS else -1)


_TOWARDS_PLUS = ("right", "front", "top")


@dataclass(frozen=True, eq=False)
class SharedGrid:
    """The grid that all participants share, and how it came about.

    Parameters
    ----------
    path
        The image that defines it.
    grid
        Its voxels.
    divisible_by
        What all sides can be divided by.
    settings
        What decided on it besides the participants, as its sidecar says.
    members
        Labels of those it was made for.
    reaches
        Towards each of its faces: left and right, back and front, bottom and top; empty if
        nobody's extent is known.
    """

    path: Path
    grid: Grid
    divisible_by: int
    settings: GridSettingsRecord
    members: tuple[str, ...]
    reaches: tuple[Reach, ...]


@dataclass(frozen=True)
class MemberPicture:
    """The image that stands for one participant, or session.

    Parameters
    ----------
    label
        ``sub-01`` or ``sub-01_ses-a``.
    contrast
        Of the image.
    image
        The NIfTI file, on the shared grid.
    mask
        Mask on the shared grid whose outline is drawn, if there is one.
    mask_name
        What it is of: ``brain`` or ``head``; empty without a mask.
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
        Its name.
    image
        The NIfTI file, on the shared grid.
    participants
        How many images it is of.
    """

    contrast: str
    image: Path
    participants: int


@dataclass(frozen=True, eq=False)
class GroupReport:
    """Everything that the page of a cohort shows.

    Parameters
    ----------
    dataset
        Name of the raw dataset, as its description gives it.
    shared
        The grid; None if there is none.
    means
        Mean images, in the order of contrasts.
    members
        Who is on the grid, in the order of the table.
    columns
        What the columns of the table mean, by name, as its data dictionary says.
    rows
        The table.
    outliers
        Values worth a second look.
    settings
        What the model was given, by name; more than one value where the images differ.
    devices
        Where images were computed, and how many on each.
    versions
        Versions of this program that made the images, and how many each.
    model
        What to say of the participants' own images in the methods.
    methods
        How images came to the grid, ``refit`` or ``reslice``, and how many each.
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
