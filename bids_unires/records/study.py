"""Records of the grid, alignments and mean images of the group level, in their sidecars."""

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
from .template import TemplateRecord

Extent = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper corner of a box in world mm, ``(3,)`` each."""


@dataclass(frozen=True)
class GridSettingsRecord(Record):
    """The settings that the grid of the study depends on.

    Parameters
    ----------
    fov
        Region of every participant that the grid contains: ``brain`` or ``head``.
    template
        Name in TemplateFlow of the template to which participants are aligned, or ``none``.
    align
        Kind of alignment: ``none``, ``rigid`` or ``similarity``.
    voxel_size
        Voxel size in mm along x, y and z.
    grid_margin
        Margin around every brain or head, in mm.
    grid_policy
        Numbers of voxels allowed along its sides: ``pow23``, ``pow2`` or ``multiple``.
    grid_multiple
        Number of voxels for the policy ``multiple``.
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
        """The settings of a run."""
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
        """Whether all settings are known."""
        return all(value is not None for value in vars(self).values())


@dataclass(frozen=True, eq=False)
class StudyGridRecord(SidecarRecord):
    """How the grid that all participants share was made.

    Parameters
    ----------
    shape
        Number of voxels along each axis.
    affine
        ``(4, 4)``, voxel indices -> world mm of the study.
    settings
        Settings that it depends on.
    participants
        Labels of the participants whose images are on the grid or will be brought to it.
    halvings
        How many times all sides (in voxels) can be halved without remainder.
    divisible_by
        Number by which all sides (in voxels) can be divided.
    """

    shape: tuple[int, ...] | None = entry("Shape", whole_numbers)
    affine: Affine | None = entry("Affine", affine)
    settings: GridSettingsRecord | None = entry("Settings", GridSettingsRecord.nested)
    participants: tuple[str, ...] | None = entry("Participants", texts)
    halvings: int | None = entry("Halvings", whole)
    divisible_by: int | None = entry("DivisibleBy", whole)

    @property
    def grid(self) -> Grid | None:
        """The grid; None if it is not known."""
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
    """How a participant was aligned to the space of the study.

    Parameters
    ----------
    align
        Kind of alignment: ``none``, ``rigid`` or ``similarity``.
    template
        Name of the template in TemplateFlow, or ``none``.
    matrix
        ``(4, 4)``, world mm of the participant's images -> world mm of the study.
    extent
        Bounding boxes of ``brain`` and ``head`` there: lower and upper corner in world mm,
        ``(3,)`` each.
    template_source
        The head of the template; None if the participant was aligned to none.
    """

    align: str | None = entry("Align", text)
    template: str | None = entry("Template", text)
    matrix: Affine | None = entry("Matrix", affine)
    extent: Mapping[str, Extent] | None = entry("Extent", _extents)
    template_source: TemplateRecord | None = entry("TemplateSource", TemplateRecord.nested)


@dataclass(frozen=True)
class CohortMeanRecord(SidecarRecord):
    """How the mean image was made to which a cohort is aligned without a template.

    Parameters
    ----------
    participants
        Labels of the participants whose mean it is.
    rounds
        Number of times that the participants were aligned to the mean.
    """

    participants: tuple[str, ...] | None = entry("Participants", texts)
    rounds: int | None = entry("Rounds", whole)


@dataclass(frozen=True)
class StudyMeanRecord(SidecarRecord):
    """How the mean image of a contrast was made.

    Parameters
    ----------
    participants
        Number of images that were averaged.
    mean_intensity
        Mean intensity in the brain or head to which every MR image was scaled; 1 for CT, which
        keeps its Hounsfield units.
    """

    participants: int | None = entry("Participants", whole)
    mean_intensity: float | None = entry("MeanIntensity", number)
