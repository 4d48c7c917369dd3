"""Find and read the results of the participant level."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingInputError
from .content import unavailable
from .entities import (
    ENTITY_KEYS,
    IMAGE_EXTENSIONS,
    FileName,
    contrast_entities,
    contrast_name,
    natural_key,
    parse_name,
)
from .layout import DATATYPES, LABEL_SUFFIX
from .metadata import SidecarError, load_object
from .naming import STUDY_SPACE, sidecar_path
from .scans import Datatype, datatype_of

logger = logging.getLogger("bids_unires")

# Our sidecars hold records of residuals and are larger than those of scanners.
MAX_RESULT_SIDECAR_BYTES = 64 * 2**20
# ``desc`` of the images of the participant level. If an image exists in several kinds, the first
# kind in this order is used.
IMAGE_KINDS = ("sr", "denoised", "resliced")
_ENTITY_NAMES = {key: name for name, key in ENTITY_KEYS.items()}


@dataclass(frozen=True)
class ResultImage:
    """A reconstructed image.

    Parameters
    ----------
    contrast
        Name of the contrast, as in the plan: ``T1w``, ``ce-gad_T1w``.
    entities
        Entities of the contrast by their names in pybids, including ``suffix``.
    desc
        How the image was made: ``sr``, ``denoised`` or ``resliced``.
    path
        The NIfTI file.
    metadata
        Content of its sidecar; empty if the sidecar cannot be read.
    """

    contrast: str
    entities: Mapping[str, str]
    desc: str
    path: Path
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class ParticipantResult:
    """Results of one unit of work on one grid.

    A unit that was reconstructed with two voxel sizes or in two spaces has two such objects. A
    unit without images has one, with empty ``space`` and ``res``.

    Parameters
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    space, res
        Labels of the space and the resolution of the grid.
    images
        Reconstructed images, in natural order of their names.
    labels
        Label images (``_dseg``).
    fov_mask
        Mask of the field of view; None if it was not written.
    transforms
        Transforms from or to ``space``.
    problems
        Messages about missing or unreadable files; each names its file.
    """

    participant: str
    session: str | None
    space: str
    res: str
    images: tuple[ResultImage, ...]
    labels: tuple[Path, ...]
    fov_mask: Path | None
    transforms: tuple[Path, ...]
    problems: tuple[str, ...]

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of files that belong to no single contrast: ``ct`` for a unit without MR."""
        datatypes = {datatype_of(image.entities["suffix"]) for image in self.images}
        return "ct" if datatypes == {"ct"} else "anat"


def find_results(output_dir: Path, *, of_study: bool = False) -> tuple[ParticipantResult, ...]:
    """Find the results of one level in a derivative dataset.

    Missing and unreadable files are listed in ``problems`` and logged as warnings.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    of_study
        Find the images in the study space, which the group level makes, and no others; without
        it, those of the participant level.

    Returns
    -------
    tuple of ParticipantResult
        In natural order of participants, sessions, spaces and resolutions.

    Raises
    ------
    MissingInputError
        If the folder does not exist.
    """
    if not output_dir.is_dir():
        raise MissingInputError(
            f"{output_dir} does not exist: run the participant level before the group level"
        )
    results = []
    for participant, session, folder in _units(output_dir):
        files = list(_files(folder, participant, session))
        # Beside its sessions, a participant has files that place them, and no images.
        if session is None and any(folder.glob("ses-*/")) and not any(map(_is_image, files)):
            continue
        results += _results_of(participant, session, files, of_study)
    for result in results:
        for problem in result.problems:
            logger.warning("%s: %s", result.label, problem)
    return tuple(results)


_File = tuple[FileName, Path]


def _units(output_dir: Path) -> Iterator[tuple[str, str | None, Path]]:
    """Participants and sessions that have a folder."""
    for subject in sorted(output_dir.glob("sub-*"), key=lambda path: natural_key(path.name)):
        if not subject.is_dir():
            continue
        sessions = sorted(
            (path for path in subject.glob("ses-*") if path.is_dir()),
            key=lambda path: natural_key(path.name),
        )
        if not sessions or any((subject / datatype).is_dir() for datatype in DATATYPES):
            yield subject.name[4:], None, subject
        for session in sessions:
            yield subject.name[4:], session.name[4:], session


def _files(folder: Path, participant: str, session: str | None) -> Iterator[_File]:
    """BIDS files of one unit, without incomplete files, whose names are hidden."""
    unit = {"sub": participant} | ({"ses": session} if session else {})
    for datatype in DATATYPES:
        if not (folder / datatype).is_dir():
            continue
        for name in sorted(os.listdir(folder / datatype), key=natural_key):
            try:
                parsed = parse_name(name)
            except ValueError:
                continue
            if {key: parsed.entities.get(key) for key in unit} == unit:
                yield parsed, folder / datatype / name


def _results_of(
    participant: str, session: str | None, files: list[_File], of_study: bool
) -> list[ParticipantResult]:
    grids: dict[tuple[str, str], list[_File]] = defaultdict(list)
    for name, path in files:
        grid = name.entities.get("space", ""), name.entities.get("res", "")
        is_of_level = (grid[0] == STUDY_SPACE) is of_study
        if name.extension in IMAGE_EXTENSIONS and all(grid) and is_of_level:
            grids[grid].append((name, path))
    # A run that was killed before it wrote its first image leaves masks alone.
    reconstructed = {grid: found for grid, found in grids.items() if any(map(_is_image, found))}
    if not reconstructed:
        level = "group" if of_study else "participant"
        problem = f"no reconstructed image: run the {level} level on it again"
        return [ParticipantResult(participant, session, "", "", (), (), None, (), (problem,))]
    transforms = [(name, path) for name, path in files if name.suffix == "xfm"]
    return [
        _result(participant, session, grid, reconstructed[grid], transforms)
        for grid in sorted(reconstructed, key=lambda grid: natural_key("_".join(grid)))
    ]


def _result(
    participant: str,
    session: str | None,
    grid: tuple[str, str],
    files: list[_File],
    transforms: list[_File],
) -> ParticipantResult:
    space, res = grid
    problems: list[str] = []
    readable = []
    for name, path in files:
        if reason := unavailable(path):
            problems.append(f"{path} cannot be read: {reason}")
        else:
            readable.append((name, path))
    images = tuple(_image(*file, problems) for file in readable if _is_image(file))
    masks = [
        path
        for name, path in readable
        if name.suffix == "mask" and name.entities.get("desc") == "fov"
    ]
    if not masks:
        problems.append(f"no mask of the field of view (space-{space}_res-{res}_desc-fov_mask)")
    return ParticipantResult(
        participant=participant,
        session=session,
        space=space,
        res=res,
        images=images,
        labels=tuple(path for name, path in readable if name.suffix == LABEL_SUFFIX),
        fov_mask=masks[0] if masks else None,
        transforms=tuple(
            path
            for name, path in transforms
            if name.extension == ".txt"
            and space in (name.entities.get("from"), name.entities.get("to"))
        ),
        problems=tuple(problems),
    )


def _is_image(file: _File) -> bool:
    name = file[0]
    return name.suffix not in (LABEL_SUFFIX, "mask") and name.entities.get("desc") in IMAGE_KINDS


def _image(name: FileName, path: Path, problems: list[str]) -> ResultImage:
    entities = {
        _ENTITY_NAMES[key]: label for key, label in name.entities.items() if key in _ENTITY_NAMES
    }
    entities["suffix"] = name.suffix
    sidecar = sidecar_path(path)
    try:
        metadata = load_object(sidecar, MAX_RESULT_SIDECAR_BYTES)
    except SidecarError as error:
        problems.append(f"{sidecar} cannot be read: {error}")
        metadata = {}
    return ResultImage(
        contrast=contrast_name(entities),
        entities=contrast_entities(entities),
        desc=name.entities["desc"],
        path=path,
        metadata=metadata,
    )
