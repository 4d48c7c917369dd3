"""What the sidecars of the group level say of how grid, alignments and means came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ..config import RunConfig
from ..space.affines import Affine
from ..space.grid import Grid
from .entries import Record, affine, entry, number, text, texts, vector, whole, whole_numbers
from .sidecar import SidecarRecord

Extent = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Low and high end in world mm, ``(3,)`` each."""


@dataclass(frozen=True)
class GridSettingsRecord(Record):
    """What decides on the grid of the study besides the participants.

    Parameters
    ----------
    fov
        What it holds of everybody: ``brain`` or ``head``.
    template
        TemplateFlow's name of the template that everybody is aligned to, or ``none``.
    align
        How: ``none``, ``rigid`` or ``similarity``.
    voxel_size
        In mm along x, y and z.
    grid_margin
        Space around every brain, or head, in mm.
    grid_policy
        Which sides it may have: ``pow23``, ``pow2`` or ``multiple``.
    grid_multiple
        In voxels, for the policy ``multiple``.
    """

    has_all_keys: ClassVar[bool] = True

    fov: str | None = entry("fov", text)
    template: str | None = entry("template", text)
    align: str | None = entry("align", text)
    voxel_size: tuple[float, ...] | None = entry("voxel_size", vector)
    grid_margin: float | None = entry("grid_margin", number)
    grid_policy: str | None = entry("grid_policy", text)
    grid_multiple: int | None = entry("grid_multiple", whole)

    @classmethod
    def of_run(cls, config: RunConfig) -> Self:
        """Those of a run."""
        group = config.group
        return cls(
            config.space.fov,
            config.space.template,
            config.space.align,
            config.model.voxel_size,
            group.grid_margin,
            group.grid_policy,
            group.grid_multiple,
        )

    @property
    def is_complete(self) -> bool:
        """Whether all of them are known."""
        return all(value is not None for value in vars(self).values())


@dataclass(frozen=True, eq=False)
class StudyGridRecord(SidecarRecord):
    """How the grid that all participants share came about.

    Parameters
    ----------
    shape
        Voxels along each axis.
    affine
        ``(4, 4)``, voxel indices -> world mm of the study.
    settings
        What decided on it besides the participants.
    participants
        Labels of those whose images come to it, or are on it.
    halvings
        How often all sides can be halved without remainder.
    divisible_by
        What all sides can be divided by.
    """

    shape: tuple[int, ...] | None = entry("Shape", whole_numbers)
    affine: Affine | None = entry("Affine", affine)
    settings: GridSettingsRecord | None = entry("Settings", GridSettingsRecord.nested)
    participants: tuple[str, ...] | None = entry("Participants", texts)
    halvings: int | None = entry("Halvings", whole)
    divisible_by: int | None = entry("DivisibleBy", whole)

    @property
    def grid(self) -> Grid | None:
        """The grid; None where it is not known."""
        if self.shape is None or self.affine is None or len(self.shape) != 3:
            return None
        x, y, z = self.shape
        try:
            return Grid((x, y, z), self.affine)
        except ValueError:
            return None


def _extents(value: object) -> Mapping[str, Extent] | None:
    if not isinstance(value, Mapping):
        return None
    found = {}
    for name, ends in value.items():
        low, high = map(vector, ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
        if low is not None and high is not None and len(low) == len(high) == 3:
            found[name] = np.asarray(low), np.asarray(high)
    return found


@dataclass(frozen=True, eq=False)
class StudyPlacementRecord(SidecarRecord):
    """How a participant was put into the space of the study.

    Parameters
    ----------
    align
        How the participant was aligned: ``none``, ``rigid`` or ``similarity``.
    template
        TemplateFlow's name of the template, or ``none``.
    matrix
        ``(4, 4)``, world mm of the participant's images -> world mm of the study.
    extent
        How far ``brain`` and ``head`` reach there: low and high end in mm, ``(3,)`` each.
    """

    align: str | None = entry("Align", text)
    template: str | None = entry("Template", text)
    matrix: Affine | None = entry("Matrix", affine)
    extent: Mapping[str, Extent] | None = entry("Extent", _extents)


@dataclass(frozen=True)
class CohortMeanRecord(SidecarRecord):
    """How the mean came about that a cohort without a template is aligned to.

    Parameters
    ----------
    participants
        Labels of those that it is the mean of.
    rounds
        How often everybody was aligned to the mean so far.
    """

    participants: tuple[str, ...] | None = entry("Participants", texts)
    rounds: int | None = entry("Rounds", whole)


@dataclass(frozen=True)
class StudyMeanRecord(SidecarRecord):
    """How the mean image of a contrast came about.

    Parameters
    ----------
    participants
        How many images it is of.
    mean_intensity
        What every MR image was brought to in the brain, or the head; 1 for CT, whose Hounsfield
        units stay.
    """

    participants: int | None = entry("Participants", whole)
    mean_intensity: float | None = entry("MeanIntensity", number)
