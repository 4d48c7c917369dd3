"""Find the sidecars of scans by the BIDS inheritance principle, and read and check them."""

from __future__ import annotations

import json
import logging
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .content import unavailable
from .encoding import Text, decode
from .entities import FileName, image_stem, parse_name

logger = logging.getLogger("bids_unires")

# Largest size that is read. Sidecars that hold a whole DICOM header are much smaller.
MAX_SIDECAR_BYTES = 4 * 2**20
# A value may be a list of lists or an object of lists. No deeper value is used.
MAX_NESTING = 2

_UNUSABLE = object()


class SidecarError(ValueError):
    """A JSON file cannot be used; the message gives the reason but does not name the file."""


@dataclass(frozen=True)
class JsonObject:
    """The JSON object in a file.

    Parameters
    ----------
    content
        Fields of the object.
    fault
        Message about the encoding of the file, if it is not UTF-8; else None.
    """

    content: dict[str, Any]
    fault: str | None


def load_object(path: Path, most_bytes: int = MAX_SIDECAR_BYTES) -> dict[str, Any]:
    """Read the JSON object in a file, in any encoding; see `read_object`."""
    return read_object(path, most_bytes).content


def read_object(path: Path, most_bytes: int = MAX_SIDECAR_BYTES) -> JsonObject:
    """Read the JSON object in a file.

    Parameters
    ----------
    path
        The file.
    most_bytes
        Largest size in bytes; larger files are refused.

    Raises
    ------
    SidecarError
        If the file does not hold a JSON object, is no regular file or is too large.
    """
    text = _read_text(path, most_bytes)
    try:
        content = json.loads(text.content)
    except json.JSONDecodeError as error:
        raise SidecarError(
            f"it is not JSON (line {error.lineno}, column {error.colno}: {error.msg})"
        ) from error
    except RecursionError as error:
        raise SidecarError("it is nested too deeply") from error
    except ValueError as error:
        raise SidecarError(f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise SidecarError(f"it holds a JSON {type(content).__name__}, not an object")
    return JsonObject(content, text.fault)


def _read_text(path: Path, most_bytes: int) -> Text:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SidecarError("it is no regular file")
        if status.st_size > most_bytes:
            raise SidecarError(f"it has {status.st_size / 2**20:.0f} MiB")
        return decode(path.read_bytes())
    except OSError as error:
        raise SidecarError(unavailable(path) or str(error.strerror or error)) from error


def metadata_beside(image: Path) -> dict[str, Any]:
    """Metadata in the JSON file of the same name beside an image; empty if there is none.

    Nothing is inherited from other folders. A sidecar that cannot be used is named in a warning.

    Parameters
    ----------
    image
        The image; the name of its sidecar ends in ``.json`` in place of ``.nii``, ``.nii.gz`` or
        any other extension that `image_stem` knows.
    """
    sidecar = image.with_name(f"{image_stem(image)}.json")
    return _usable_content(sidecar) if os.path.lexists(sidecar) else {}


class SidecarReader:
    """Finds and reads the metadata of the images of one dataset.

    Each sidecar is read once, also if it applies to several images. A sidecar that cannot be used
    is named in one warning, and its images are used without it.

    Parameters
    ----------
    root
        Root of the dataset, absolute.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, list[tuple[FileName, Path]]] = {}
        self._inherited: dict[Path, dict[str, Any]] = {}

    def metadata(self, image: Path) -> dict[str, Any]:
        """Metadata of an image; a value in a lower folder replaces one in a higher folder."""
        merged: dict[str, Any] = {}
        for sidecar in self.applicable(image, ".json"):
            if sidecar.parent == image.parent:
                merged.update(_usable_content(sidecar))
                continue
            if sidecar not in self._inherited:
                self._inherited[sidecar] = _usable_content(sidecar)
            merged.update(self._inherited[sidecar])
        return merged

    def applicable(self, image: Path, extension: str) -> list[Path]:
        """Files of an extension that apply to an image, the most general first.

        A file applies if it has the suffix of the image, is in the folder of the image or above,
        and all its entities are entities of the image.
        """
        name = parse_name(image.name)
        entities = name.comparable.items()
        found = []
        for folder in self._folders_down_to(image):
            fitting = [
                (len(other.entities), path)
                for other, path in self._listing(folder)
                if other.suffix == name.suffix
                and other.extension == extension
                and other.comparable.items() <= entities
            ]
            found += [path for _, path in sorted(fitting)]
        return found

    def _folders_down_to(self, image: Path) -> list[Path]:
        steps = image.relative_to(self._root).parts[:-1]
        return [self._root.joinpath(*steps[:count]) for count in range(len(steps) + 1)]

    def _listing(self, folder: Path) -> list[tuple[FileName, Path]]:
        """Files in a folder that may apply to images, with the parts of their names."""
        if folder not in self._listings:
            listing = []
            for name in os.listdir(folder):
                if name.endswith((".json", ".tsv")):
                    try:
                        listing.append((parse_name(name), folder / name))
                    except ValueError:
                        logger.debug("%s is no BIDS name", folder / name)
            self._listings[folder] = listing
        return self._listings[folder]


def _usable_content(sidecar: Path) -> dict[str, Any]:
    """Values of a sidecar that can be used; the others are named in a warning."""
    try:
        read = read_object(sidecar)
    except SidecarError as error:
        logger.warning(
            "%s is not used: %s. Its images are taken to have no metadata of their own: "
            "slices along the axis of the largest voxels, without gaps",
            sidecar,
            error,
        )
        return {}
    if read.fault:
        logger.warning("%s: %s", sidecar, read.fault)
    present = {key: value for key, value in read.content.items() if value is not None}
    usable = {key: _usable(value, MAX_NESTING) for key, value in present.items()}
    dropped = sorted(key for key, value in usable.items() if value is _UNUSABLE)
    if dropped:
        logger.warning(
            "%s: %s not used (no finite number, or nested too deeply)",
            sidecar,
            ", ".join(repr(key) for key in dropped),
        )
    return {key: value for key, value in usable.items() if value is not _UNUSABLE}


def _usable(value: Any, levels: int) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else _UNUSABLE
    if isinstance(value, str):
        # JSON can contain a lone surrogate, which cannot be encoded in UTF-8.
        return (
            value
            if value.isascii() or value == value.encode("utf-8", "ignore").decode()
            else _UNUSABLE
        )
    if not isinstance(value, list | dict):
        return value
    if levels == 0:
        return _UNUSABLE
    inner = value.values() if isinstance(value, dict) else value
    if any(_usable(item, levels - 1) is _UNUSABLE for item in inner):
        return _UNUSABLE
    return value
