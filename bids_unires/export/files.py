"""Write files into a folder without replacing what is there, unless asked to."""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..dataset.description import linked_folder
from ..dataset.reading import load_volume
from ..dataset.writing import copy_file, link_file, write_scaled_integers, write_text
from ..errors import OutputError

# Folders of a raw dataset that programs do not search for scans.
_OUTSIDE_OF_RAW = (("derivatives",), ("sourcedata",))


@dataclass(frozen=True)
class Export:
    """Where results are handed over to, and how.

    Parameters
    ----------
    results_dir
        Output folder of the runs.
    folder
        Folder to write.
    link
        Make symbolic links to the images in place of copies.
    integers
        Write images as int16 with a slope in place of float32.
    overwrite
        Replace files that are there with other content.
    """

    results_dir: Path
    folder: Path
    link: bool = False
    integers: bool = False
    overwrite: bool = False


class ExportedFile(Protocol):
    """A file to write."""

    @property
    def path(self) -> Path:
        """Its path, relative to the folder of the export."""

    def is_there(self, path: Path) -> bool:
        """Whether an existing file has the content that would be written."""

    def write(self, path: Path) -> None:
        """Write it atomically."""


@dataclass(frozen=True)
class CopiedFile:
    """A copy of the file ``source``."""

    source: Path
    path: Path

    def is_there(self, path: Path) -> bool:
        """Whether an existing file, not a link to it, has the same bytes."""
        return not path.is_symlink() and filecmp.cmp(self.source, path, shallow=False)

    def write(self, path: Path) -> None:
        """Copy the file."""
        copy_file(self.source, path)


@dataclass(frozen=True)
class LinkedFile:
    """A relative symbolic link to the file ``source``."""

    source: Path
    path: Path

    def is_there(self, path: Path) -> bool:
        """Whether an existing link leads to the same file."""
        return path.is_symlink() and path.resolve() == self.source.resolve()

    def write(self, path: Path) -> None:
        """Make the link."""
        link_file(self.source, path)


@dataclass(frozen=True)
class IntegerImage:
    """The image ``source`` as int16 with a slope in its header."""

    source: Path
    path: Path

    def is_there(self, path: Path) -> bool:
        """Whether an existing file is this image."""
        if path.is_symlink():
            return False
        with tempfile.TemporaryDirectory() as folder:
            expected = Path(folder) / path.name
            self.write(expected)
            return filecmp.cmp(expected, path, shallow=False)

    def write(self, path: Path) -> None:
        """Convert the image."""
        volume = load_volume(self.source)
        write_scaled_integers(path, volume.data, volume.affine)


@dataclass(frozen=True)
class TextFile:
    """A text in UTF-8."""

    path: Path
    content: str

    def is_there(self, path: Path) -> bool:
        """Whether an existing file has this text."""
        return path.read_bytes() == self.content.encode("utf-8")

    def write(self, path: Path) -> None:
        """Write the text."""
        write_text(path, self.content)


@dataclass(frozen=True)
class Written:
    """Number of files that were written anew, were replaced, and were there already."""

    new: int
    replaced: int
    unchanged: int


def check_place(folder: Path, results_dir: Path) -> None:
    """Check that a folder can hold an export: it is no part of the results or of the scans.

    Raises
    ------
    OutputError
        If it is no folder, or its place is not possible.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"{folder} is no folder: name another one for the export")
    there, results = folder.resolve(), results_dir.resolve()
    if there.is_relative_to(results) or results.is_relative_to(there):
        raise OutputError(
            f"one of {folder} and {results_dir} lies in the other, where exported images and "
            "results would be mixed: name a folder beside the results"
        )
    raw = linked_folder(results_dir, "raw")
    in_raw = raw is not None and there.is_relative_to(raw)
    if in_raw and there.relative_to(str(raw)).parts[:1] not in _OUTSIDE_OF_RAW:
        raise OutputError(
            f"{folder} lies in the dataset {raw}, where its images would be taken for scans: "
            "name a folder outside of it"
        )


def write_files(
    folder: Path,
    files: Sequence[ExportedFile],
    shared: Sequence[ExportedFile],
    *,
    overwrite: bool,
) -> Written:
    """Write files; those that are there with the same content are kept.

    Parameters
    ----------
    folder
        Folder of the export; it need not exist.
    files
        Images and sidecars.
    shared
        Files that describe the whole folder. They are written first, so that a folder whose
        export was interrupted is recognised, and replace earlier ones.
    overwrite
        Replace images and sidecars that are there with other content.

    Returns
    -------
    Written
        The numbers of ``files``.

    Raises
    ------
    OutputError
        If a file is there with other content and is not to be replaced. Nothing is written then.
    UniResError
        If an image cannot be read, or a file cannot be written.
    """
    there = [file for file in files if os.path.lexists(folder / file.path)]
    unlike = [file for file in there if not _is_there(file, folder / file.path)]
    if unlike and not overwrite:
        more = f", and {len(unlike) - 1} more," if len(unlike) > 1 else ""
        raise OutputError(
            f"{folder / unlike[0].path}{more} would be replaced by another: name another folder, "
            "or replace them by --overwrite"
        )
    kept = {file.path for file in there} - {file.path for file in unlike}
    kept |= {file.path for file in shared if _is_there(file, folder / file.path)}
    for file in (*shared, *files):
        if file.path not in kept:
            file.write(folder / file.path)
    return Written(len(files) - len(there), len(unlike), len(there) - len(unlike))


def _is_there(file: ExportedFile, path: Path) -> bool:
    try:
        return path.is_file() and file.is_there(path)
    except OSError:
        return False


def image_file(source: Path, path: Path, *, link: bool, integers: bool) -> ExportedFile:
    """An image as a link, as integers, or (neither) as a copy."""
    if link:
        return LinkedFile(source, path)
    return IntegerImage(source, path) if integers else CopiedFile(source, path)
