"""Files that the owner of a dataset has put into its ``.bidsignore``."""

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
# Patterns of a file that was made by hand, or by a script that lists scans.
MAX_BYTES = 2**22
# A participant and a session that no dataset has.
_NOBODY = {"sub": "0nobody0", "ses": "0never0"}
_RAW_KEYS = frozenset(ENTITY_KEYS.values())


@dataclass(frozen=True)
class IgnoredFiles:
    """What the patterns of a ``.bidsignore``, which are those of ``.gitignore``, leave out.

    Parameters
    ----------
    patterns
        The patterns, of which the last one that fits a path decides.
    """

    patterns: GitIgnoreSpec

    def leaves_out(self, relative: Path) -> bool:
        """Whether an image is not to be used.

        BIDS has no place for CT, for segmentations among the scans, and for images of some
        other suffixes, so that people list all of their kind to satisfy the validator. A
        pattern that would fit the image of anybody says no more than that.

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
    """Where the image of its kind of a participant would lie whom no dataset has.

    None for kinds that BIDS has a place for.
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
    """Read the ``.bidsignore`` of a dataset; one that cannot be read is told by a warning.

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
            # Links that lead nowhere and files that git keeps elsewhere are named as such.
            reason = unavailable(path) or error.strerror or error
            logger.warning("%s: %s, so that nothing is left out by it", path, reason)
    with warnings.catch_warnings():
        # Of the expressions that are made of patterns, which nobody wrote.
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
    """The lines that are patterns; others are told by a warning."""
    usable = []
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except (ValueError, re.error):
            logger.warning("%s: line %d is no pattern (%r); it is passed over", path, number, line)
        else:
            usable.append(line)
    return usable
