"""A unit of work from files that are in no BIDS dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import CT_SUFFIX, MRI_SUFFIXES, Modality
from ..errors import MissingInputError, UsageError
from .content import unavailable
from .entities import image_stem
from .metadata import metadata_beside
from .scans import Contrast, LabelImage, ParticipantPlan, Scan

# What names of results begin with, as those of the original tool do.
PREFIX = "ur_"
# Words in the name of a file that tell its contrast. Where a name has several, the first here is
# right: a FLAIR is often called T2_FLAIR.
_WORDS = (
    ("FLAIR", r"\w*flair\w*|\w*darkfluid\w*"),
    ("T2starw", r"t2(star|s)\w*"),
    ("T2w", r"t2(?!\d)\w*"),
    ("PDw", r"pdw?[a-z]?\d*"),
    ("T1w", r"t1(?!\d)\w*|\w*mprage\w*"),
    (CT_SUFFIX, r"ct"),
)


@dataclass(frozen=True)
class PlainContrast:
    """The files of one contrast.

    Parameters
    ----------
    name
        What the contrast is called; its result has this name.
    paths
        Its scans (repeats).
    modality
        MR or CT; a contrast that is called ``ct`` is CT.
    """

    name: str
    paths: tuple[Path, ...]
    modality: Modality = "MR"

    @classmethod
    def from_text(cls, text: str, modality: Modality = "MR") -> PlainContrast:
        """Read ``FILE``, ``FILE,FILE`` for repeats, or either with its name, ``NAME=FILE``.

        A file whose own name has a comma or an equals sign is found if it exists.

        Examples
        --------
        >>> PlainContrast.from_text("in/T1a.nii.gz,in/T1b.nii.gz").name
        'T1a'
        >>> PlainContrast.from_text("T1w=scan_003.nii").name
        'T1w'
        """
        name, told, files = text.partition("=")
        if os.path.lexists(text) or not told or "/" in name:
            told, files = "", text
        parts = [files] if os.path.lexists(files) else files.split(",")
        if not all(parts) or (told and not name):
            raise UsageError(f"{text!r} is neither FILE, FILE,FILE nor NAME=FILE")
        paths = tuple(map(Path, parts))
        name = name if told else image_stem(paths[0])
        return cls(name, paths, "CT" if _suffix_in(name) == CT_SUFFIX else modality)


@dataclass(frozen=True)
class PlainLabels:
    """A label image, and what the user calls the scan on which it was drawn.

    Parameters
    ----------
    path
        The label image.
    scan
        Path, name of the file with or without extension, or name of the contrast; None for the
        only scan.
    """

    path: Path
    scan: str | None

    @classmethod
    def from_text(cls, text: str) -> PlainLabels:
        """Read ``FILE`` or ``FILE=SCAN``."""
        file, told, scan = text.partition("=")
        if os.path.lexists(text) or not told:
            return cls(Path(text), None)
        return cls(Path(file), scan)


@dataclass(frozen=True)
class FilesRequest:
    """Plain files, and where their results go.

    Parameters
    ----------
    contrasts
        The scans.
    labels
        Label images of some of them.
    folder
        Folder of the results; None for that of the first scan given.
    prefix
        What the names of the results begin with.
    overwrite
        Whether results that exist are replaced.
    """

    contrasts: tuple[PlainContrast, ...]
    labels: tuple[PlainLabels, ...] = ()
    folder: Path | None = None
    prefix: str = PREFIX
    overwrite: bool = False

    @property
    def scans_folder(self) -> Path:
        """Folder of the first scan."""
        return self.contrasts[0].paths[0].parent

    @property
    def results_folder(self) -> Path:
        """Folder of the results."""
        return self.scans_folder if self.folder is None else self.folder


@dataclass(frozen=True)
class FilesPlan(ParticipantPlan):
    """A unit of work that is called like its first contrast, since no participant has a name."""

    @property
    def label(self) -> str:
        """Name of the first contrast."""
        return self.contrasts[0].name

    @property
    def folder(self) -> Path:
        """Folder of the unit, relative to a derivative dataset."""
        return Path(f"sub-{self.participant}")


def plan_files(request: FilesRequest) -> FilesPlan:
    """Group plain files into a unit of work.

    The contrasts are in the order of a BIDS dataset (T1w, T2w, PDw, FLAIR, T2starw, others, CT),
    so that the images are those that the same scans give there, whatever the order of the files.
    A JSON file of the same name beside a scan is its sidecar. Sources are named relative to the
    folder of the results.

    Raises
    ------
    MissingInputError
        If a file does not exist, or has no content here.
    UsageError
        If a file is given twice or is a folder, two contrasts have one name, or a label image
        belongs to no scan or to several.
    """
    _refuse_missing([path for contrast in request.contrasts for path in contrast.paths])
    _refuse_missing([label.path for label in request.labels])
    _refuse_twice(request.contrasts)
    ordered = sorted(request.contrasts, key=_order)
    drawn = _drawn_on(request.labels, ordered)
    identifiers = list(_identifiers([contrast.name for contrast in ordered]))
    planned = [
        _planned(contrast, identifier, drawn, request.results_folder)
        for contrast, identifier in zip(ordered, identifiers, strict=True)
    ]
    return FilesPlan(identifiers[0], None, tuple(planned))


def _planned(
    contrast: PlainContrast, identifier: str, drawn: Mapping[PlainLabels, Path], results: Path
) -> Contrast:
    """A contrast with its scans, under an identifier that no other contrast has."""
    entities = {"suffix": identifier}
    if contrast.modality == "CT":
        entities = {"acquisition": identifier, "suffix": CT_SUFFIX}
    scans = []
    for number, path in enumerate(contrast.paths, 1):
        run = {"run": str(number)} if len(contrast.paths) > 1 else {}
        labels = [_label_image(label, results) for label, scan in drawn.items() if scan == path]
        scans.append(
            Scan(
                path,
                {**run, **entities},
                metadata_beside(path),
                _source(path, results),
                tuple(labels),
            )
        )
    return Contrast(contrast.name, entities, tuple(scans))


def _source(path: Path, results: Path) -> str:
    return Path(os.path.relpath(path.absolute(), results.absolute())).as_posix()


def _label_image(label: PlainLabels, results: Path) -> LabelImage:
    lookup = label.path.with_name(f"{image_stem(label.path)}.tsv")
    return LabelImage(
        label.path,
        {},
        metadata_beside(label.path),
        _source(label.path, results),
        lookup if lookup.is_file() else None,
    )


def _order(contrast: PlainContrast) -> tuple[bool, int]:
    suffix = _suffix_in(contrast.name)
    rank = MRI_SUFFIXES.index(suffix) if suffix in MRI_SUFFIXES else len(MRI_SUFFIXES)
    return contrast.modality == "CT", rank


def _suffix_in(name: str) -> str | None:
    """BIDS suffix of the contrast that a name tells; None if it tells none."""
    words = re.split(r"[^0-9a-z]+", name.lower())
    return next(
        (suffix for suffix, word in _WORDS if any(re.fullmatch(word, each) for each in words)),
        None,
    )


def _identifiers(names: Sequence[str]) -> Iterator[str]:
    """Names reduced to letters and digits, with a number where two would be the same."""
    taken = {CT_SUFFIX}
    for name in names:
        plain = re.sub(r"[^0-9A-Za-z]", "", name) or "scan"
        identifier = plain
        number = 2
        while identifier in taken:
            identifier, number = f"{plain}n{number}", number + 1
        taken.add(identifier)
        yield identifier


def _refuse_missing(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.is_dir():
            raise UsageError(
                f"{path} is a folder: name the images in it, or give a folder of DICOM files to "
                "bids_unires dicom"
            )
        if not os.path.lexists(path):
            raise MissingInputError(f"{path} does not exist")
        if reason := unavailable(path):
            raise MissingInputError(f"{path} cannot be read: {reason}")


def _refuse_twice(contrasts: Sequence[PlainContrast]) -> None:
    files: set[Path] = set()
    names: dict[str, PlainContrast] = {}
    for contrast in contrasts:
        for path in contrast.paths:
            if path.resolve() in files:
                raise UsageError(f"{path} is given twice: give every scan once")
            files.add(path.resolve())
        if other := names.get(contrast.name):
            raise UsageError(
                f"{other.paths[0]} and {contrast.paths[0]} would both be called {contrast.name}: "
                "join repeats of one contrast by a comma (FILE,FILE), or give a contrast another "
                "name (NAME=FILE)"
            )
        names[contrast.name] = contrast


def _drawn_on(
    labels: Sequence[PlainLabels], contrasts: Sequence[PlainContrast]
) -> dict[PlainLabels, Path]:
    """The scan on which each label image was drawn."""
    scans = [path for contrast in contrasts for path in contrast.paths]
    names = {each.name: each.paths[0] for each in contrasts if len(each.paths) == 1}
    found = {}
    for label in labels:
        wanted = label.scan
        fitting = [
            scan
            for scan in scans
            if wanted is None
            or wanted in (str(scan), scan.name, image_stem(scan))
            or names.get(wanted) == scan
        ]
        if len(fitting) != 1:
            which = "several scans" if fitting else "no scan"
            raise UsageError(
                f"--labels {label.path}: {wanted or 'it'} fits {which}; name one of "
                f"{', '.join(scan.name for scan in scans)} as --labels {label.path}=SCAN"
            )
        found[label] = fitting[0]
    return found
