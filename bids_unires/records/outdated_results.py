"""Find and remove files of earlier runs that do not belong to the results of a new run.

A run overwrites the files that it writes again. Other files of an earlier run (an image of a
contrast that is no longer selected, a map that was not requested, the transform of a scan that was
removed) would stay beside the new results. Their names would wrongly suggest that they belong to
them, because the space ``individual`` is that of the reference scan of each run. The names of
transforms to this space have no resolution. Results with another voxel size are therefore kept only
if the poses of the same scans are the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from ..config import ModelSettings
from ..dataset.entities import IMAGE_EXTENSIONS, FileName, parse_name
from ..dataset.layout import LABEL_SUFFIX
from ..dataset.metadata import SidecarError
from ..dataset.naming import MEASURED, STD, sidecar_path
from ..space.affines import Affine
from ..space.grid import Grid
from .poses import is_one_place

logger = logging.getLogger("bids_unires")

# What is said of images changes no place, like the settings of the model.
_STATEMENTS = frozenset({"detectability", "measured_map"})
_MODEL_SETTINGS = frozenset(field.name for field in fields(ModelSettings)) | _STATEMENTS


@dataclass(frozen=True)
class Results:
    """The results of one run for a unit of work.

    In JSON: ``Inputs``, ``Settings`` and ``Outputs``.

    Parameters
    ----------
    inputs
        Checksums of the input files, by name.
    settings
        Settings that the results depend on, as in the record of the unit.
    outputs
        Paths of the output files, relative to the output folder.
    """

    inputs: Mapping[str, str]
    settings: Mapping[str, Any]
    outputs: tuple[str, ...]

    @classmethod
    def from_json(cls, content: object) -> Results | None:
        """Read the results of a run; None if the content is not valid."""
        stated = content if isinstance(content, Mapping) else {}
        inputs, settings, outputs = map(stated.get, ("Inputs", "Settings", "Outputs"))
        if not (isinstance(inputs, Mapping) and isinstance(settings, Mapping)):
            return None
        if not isinstance(outputs, list):
            return None
        return cls(dict(inputs), dict(settings), tuple(map(str, outputs)))

    def to_json(self) -> dict[str, Any]:
        """The results in the types of JSON."""
        return {
            "Inputs": dict(self.inputs),
            "Settings": dict(self.settings),
            "Outputs": list(self.outputs),
        }

    @cached_property
    def grids(self) -> frozenset[tuple[str, str]]:
        """Labels of space and resolution of the images."""
        return frozenset(
            (name.entities["space"], name.entities["res"])
            for _, name in self._named_images()
            if {"space", "res"} <= name.entities.keys()
        )

    @cached_property
    def kinds(self) -> frozenset[str]:
        """How the images were made: ``sr``, ``denoised``, ``resliced``."""
        names = (parse_name(PurePosixPath(output).name) for output in self.images)
        return frozenset(
            name.entities["desc"].removesuffix(STD).removesuffix(MEASURED) for name in names
        )

    @cached_property
    def transforms(self) -> frozenset[str]:
        """The outputs that are transforms."""
        return frozenset(name for name in self.outputs if name.endswith("_xfm.txt"))

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The outputs that are images or maps beside them, not masks or labels."""
        return tuple(
            output
            for output, name in self._named_images()
            if "desc" in name.entities and name.suffix not in (LABEL_SUFFIX, "mask")
        )

    def _named_images(self) -> Iterator[tuple[str, FileName]]:
        for output in self.outputs:
            with suppress(ValueError):
                name = parse_name(PurePosixPath(output).name)
                if name.extension in IMAGE_EXTENSIONS:
                    yield output, name

    def gives_way_to(self, new: Results, output_dir: Path) -> bool:
        """Whether these results have to be removed because of newer ones.

        Results on another grid are kept, unless the new results have transforms of the same names
        with other poses. Results of another method are kept for comparison, such as ``resliced``
        beside ``sr``, if they were made from the same scans with the same poses on the same grid.
        """
        if self.grids.isdisjoint(new.grids):
            shared = not self.transforms.isdisjoint(new.transforms)
            return shared and not self._has_scans_where(new, output_dir)
        is_other_method = bool(self.kinds) and self.kinds.isdisjoint(new.kinds)
        return not (
            is_other_method
            and self.lies_like(new)
            # Both results share the mask of the field of view and the transforms of the scans.
            and self.grid(output_dir) == new.grid(output_dir)
            and self._has_scans_where(new, output_dir)
        )

    def lies_like(self, other: Results) -> bool:
        """Whether both have the same inputs, and the same settings of the space of the images."""
        return self.inputs == other.inputs and _placement(self.settings) == _placement(
            other.settings
        )

    def _has_scans_where(self, other: Results, output_dir: Path) -> bool:
        """Whether the poses of the scans of both agree; without poses, settings are compared."""
        grid = self.grid(output_dir)
        poses, others = self.poses(output_dir), other.poses(output_dir)
        if grid is None or not poses or not others:
            return self.lies_like(other)
        # Poses apply to the scan after its origin was reset, so they can be compared only if both
        # or neither were.
        key = "reset_origin"
        return self.settings.get(key) == other.settings.get(key) and all(
            is_one_place(poses[scan], others[scan], grid) for scan in poses.keys() & others.keys()
        )

    def grid(self, output_dir: Path) -> Grid | None:
        """The grid of the images; None if no image can be read."""
        return next(filter(None, (_grid_of(output_dir / name) for name in self.images)), None)

    def poses(self, output_dir: Path) -> dict[str, Affine]:
        """Poses of the scans, ``(4, 4)``, in the sidecars of the images; see `ScanRecord`."""
        # Imported here, because it loads the model, which is slow and seldom needed.
        from .image import ImageRecord

        poses: dict[str, Affine] = {}
        for name in self.images:
            with suppress(SidecarError):
                poses |= ImageRecord.read(sidecar_path(output_dir / name)).poses
        return poses


def _grid_of(image: Path) -> Grid | None:
    # Imported here, because it is slow to load and seldom needed.
    from ..dataset.reading import grid_of

    return grid_of(image)


def remove_superseded(
    earlier: Sequence[Results], new: Results, output_dir: Path
) -> tuple[Results, ...]:
    """Remove the files of earlier results that give way to new ones.

    Parameters
    ----------
    earlier
        Results of earlier runs for the same unit of work.
    new
        The new results; their files are kept.
    output_dir
        The output folder.

    Returns
    -------
    tuple of Results
        The earlier results that are kept. Their files are kept, also those that belong to removed
        results as well. Results of which a file could not be removed are among them.
    """
    staying = [results for results in earlier if not results.gives_way_to(new, output_dir)]
    needed = {*new.outputs}.union(*(results.outputs for results in staying))
    removed = 0
    for results in earlier:
        if results in staying:
            continue
        replaced = [name for name in results.outputs if name not in needed]
        gone = [name for name in replaced if _remove(name, output_dir)]
        removed += len(gone)
        _name_elsewhere(results, new, gone)
        if left := tuple(name for name in replaced if os.path.lexists(output_dir / name)):
            staying.append(replace(results, outputs=left))
    if removed:
        logger.info("%d files of an earlier run removed, which this one replaces", removed)
    return tuple(
        results
        for results in staying
        if any(os.path.lexists(output_dir / name) for name in results.outputs)
    )


def _name_elsewhere(results: Results, new: Results, gone: Sequence[str]) -> None:
    """Warn about removed images of another resolution or method, which users may want to keep."""
    images = [PurePosixPath(name).name for name in results.images if name in gone]
    if images and (results.grids.isdisjoint(new.grids) or results.kinds.isdisjoint(new.kinds)):
        logger.warning(
            "%s of an earlier run removed: this run, whose transforms have the same names, has "
            "other scans or has them elsewhere (an output folder of its own would keep both)",
            ", ".join(images),
        )


def _placement(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the space of the images, without those of the model."""
    return {name: value for name, value in settings.items() if name not in _MODEL_SETTINGS}


def _remove(name: str, output_dir: Path) -> bool:
    """Remove a file, and its folder if it becomes empty; return whether a file was removed."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return False
    path = output_dir / relative
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        logger.warning(
            "%s is of an earlier run, belongs to no result any more and cannot be removed (%s): "
            "remove it before the group level is run",
            path,
            error.strerror or error,
        )
        return False
    with suppress(OSError):
        path.parent.rmdir()
    return True
