"""The images that the ``.bidsignore`` of a dataset leaves out."""

from __future__ import annotations

import logging
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from ..config import MRI_SUFFIXES
from .content import is_pointer, unavailable
from .encoding import decode
from .entities import ENTITY_KEYS, parse_name

logger = logging.getLogger("bids_unires")

IGNORE_FILE = ".bidsignore"
# Largest size that is read. It suffices for a list of scans that a script wrote.
MAX_BYTES = 2**22
# Labels of a participant and a session that exist in no dataset.
_NOBODY = {"sub": "0nobody0", "ses": "0never0"}
_RAW_KEYS = frozenset(ENTITY_KEYS.values())


@dataclass(frozen=True)
class IgnoredFiles:
    """The patterns of a ``.bidsignore``, which have the syntax of ``.gitignore``.

    Parameters
    ----------
    patterns
        The patterns. If several match a path, the last one decides.
    """

    patterns: GitIgnoreSpec

    def leaves_out(self, relative: Path) -> bool:
        """Whether the patterns leave out an image.

        BIDS does not define CT, segmentations beside the scans, and some other suffixes. Users
        list all such images in ``.bidsignore`` to satisfy the validator. A pattern that would
        match the image of any participant has this purpose only, and is not used here.

        Parameters
        ----------
        relative
            Path of the image inside the dataset.
        """
        if not self.patterns.match_file(relative.as_posix()):
            return False
        of_anybody = _of_anybody(relative)
        if of_anybody is None:
            return True
        telling = [
            pattern
            for pattern in self.patterns.patterns
            if not GitIgnoreSpec([pattern]).match_file(of_anybody.as_posix())
        ]
        return GitIgnoreSpec(telling).match_file(relative.as_posix())


def _of_anybody(relative: Path) -> Path | None:
    """Path that an image of the same kind would have for a participant who does not exist.

    None for kinds of images that BIDS defines.
    """
    try:
        name = parse_name(relative.name)
    except ValueError:
        return None
    if name.suffix in MRI_SUFFIXES:
        return None
    unit = {key: label for key, label in _NOBODY.items() if key in name.entities}
    kind = {key: label for key, label in name.entities.items() if key not in _RAW_KEYS}
    stem = "_".join([*(f"{key}-{label}" for key, label in (unit | kind).items()), name.suffix])
    folders = [f"{key}-{label}" for key, label in unit.items()]
    return Path(*folders, relative.parent.name, stem + name.extension)


def ignored_files(root: Path) -> IgnoredFiles:
    """Read the ``.bidsignore`` of a dataset; log a warning if it cannot be read.

    Parameters
    ----------
    root
        Root of the dataset.
    """
    path = root / IGNORE_FILE
    lines: list[str] = []
    if os.path.lexists(path):
        try:
            lines = _lines(path)
        except OSError as error:
            # Says more than the error for broken links and files of git-annex and git-lfs.
            reason = unavailable(path) or error.strerror or error
            logger.warning("%s: %s, so that nothing is left out by it", path, reason)
    with warnings.catch_warnings():
        # The warnings are about regular expressions that the library makes from the patterns, so
        # that the user cannot act on them.
        warnings.simplefilter("ignore", FutureWarning)
        return IgnoredFiles(GitIgnoreSpec.from_lines(_usable(lines, path)))


def _lines(path: Path) -> list[str]:
    if not path.is_file() or is_pointer(path):
        raise OSError("it is no regular file")
    with path.open("rb") as file:
        text = decode(file.read(MAX_BYTES))
    if text.fault:
        logger.warning("%s: %s", path, text.fault)
    return text.content.splitlines()


def _usable(lines: list[str], path: Path) -> list[str]:
    """The lines that are valid patterns; the others are logged as warnings."""
    usable = []
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):
            logger.warning("%s: line %d is no pattern (%r); it is skipped", path, number, line)
        else:
            usable.append(line)
    return usable
