"""Parse BIDS file names, and pick the entities that distinguish contrasts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .slice_labels import without_orientation

# Entities by which scans of one contrast may differ. ``chunk`` numbers parts of the body that were
# scanned one after the other.
REPEAT_ENTITIES = frozenset({"run", "chunk"})
# Entities that name the participant or the kind of file, not the contrast.
FILE_ENTITIES = frozenset({"subject", "session", "datatype", "extension", "suffix"})
# BIDS key of each entity that a raw anatomical image may have, in the order of file names.
ENTITY_KEYS = {
    "subject": "sub",
    "session": "ses",
    "sample": "sample",
    "task": "task",
    "acquisition": "acq",
    "ceagent": "ce",
    "staining": "stain",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "echo": "echo",
    "flip": "flip",
    "inv": "inv",
    "mt": "mt",
    "part": "part",
    "chunk": "chunk",
}
IMAGE_EXTENSIONS = (".nii", ".nii.gz")
# Extensions of images outside of BIDS datasets, compressed or not.
PLAIN_EXTENSIONS = (".nii", ".img", ".hdr", ".mgz", ".mgh")
# Keys whose labels are numbers: run-1 and run-01 are the same run.
INDEX_KEYS = frozenset({"run", "echo", "flip", "inv", "chunk"})
# Keys with a closed list of labels.
CLOSED_KEYS = {"part": frozenset({"mag", "phase", "real", "imag"}), "mt": frozenset({"on", "off"})}
LABEL = re.compile(r"[0-9A-Za-z+]+")


@dataclass(frozen=True)
class FileName:
    """The parts of a BIDS file name.

    Parameters
    ----------
    entities
        BIDS keys (``sub``, ``acq``, ...) and their labels, in the order of the name.
    suffix
        The part after the last entity, such as ``T1w``.
    extension
        The extension with its dots, such as ``.nii.gz``.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str

    @property
    def comparable(self) -> dict[str, str | int]:
        """Entities for the comparison of two names, with indices such as ``run`` as numbers."""
        return {
            key: int(label) if key in INDEX_KEYS else label for key, label in self.entities.items()
        }


def parse_name(name: str) -> FileName:
    """Split the name of a file into its parts.

    Raises
    ------
    ValueError
        If it is no valid BIDS name; the message says why.

    Examples
    --------
    >>> parse_name("sub-01_run-02_T1w.nii.gz")
    FileName(entities={'sub': '01', 'run': '02'}, suffix='T1w', extension='.nii.gz')
    """
    stem, dot, extension = name.partition(".")
    *pairs, suffix = stem.split("_")
    if not LABEL.fullmatch(suffix):
        raise ValueError(f"the suffix {suffix!r}")
    entities: dict[str, str] = {}
    for pair in pairs:
        key, _, label = pair.partition("-")
        if not (key.isascii() and key.isalpha() and LABEL.fullmatch(label)) or key in entities:
            raise ValueError(f"the part {pair!r}")
        is_number = label.isascii() and label.isdigit()
        if (key in INDEX_KEYS and not is_number) or label not in CLOSED_KEYS.get(key, {label}):
            raise ValueError(f"the value of {pair!r}")
        entities[key] = label
    return FileName(entities, suffix, dot + extension)


def image_stem(image: Path) -> str:
    """Name of an image without its extension.

    Examples
    --------
    >>> image_stem(Path("head.v2.nii.gz")), image_stem(Path("T1.mgz"))
    ('head.v2', 'T1')
    """
    name = image.name.removesuffix(".gz")
    for extension in PLAIN_EXTENSIONS:
        if name.lower().endswith(extension) and len(name) > len(extension):
            return name[: -len(extension)]
    return name


def contrast_entities(entities: Mapping[str, str]) -> dict[str, str]:
    """Pick the entities of a file name that identify its contrast, and its suffix.

    Examples
    --------
    >>> contrast_entities({"subject": "01", "acquisition": "sag2", "run": "1", "suffix": "T1w"})
    {'suffix': 'T1w'}
    """
    identity = {
        name: entities[name]
        for name in ENTITY_KEYS
        if name in entities and name not in FILE_ENTITIES | REPEAT_ENTITIES
    }
    if "acquisition" in identity:
        identity["acquisition"] = without_orientation(identity["acquisition"], entities["suffix"])
        if not identity["acquisition"]:
            del identity["acquisition"]
    return {**identity, "suffix": entities["suffix"]}


def contrast_name(entities: Mapping[str, str]) -> str:
    """Name of a contrast, in the form of a BIDS file name.

    Examples
    --------
    >>> contrast_name({"subject": "01", "ceagent": "gad", "run": "1", "suffix": "T1w"})
    'ce-gad_T1w'
    """
    identity = contrast_entities(entities)
    suffix = identity.pop("suffix")
    return "_".join([*(f"{ENTITY_KEYS[name]}-{value}" for name, value in identity.items()), suffix])


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``run-2`` comes before ``run-10``."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def listing(labels: Iterable[str], most: int = 20, separator: str = ", ") -> str:
    """Join at most ``most`` labels by ``separator``, and say how many more there are."""
    labels = list(labels)
    shown = separator.join(labels[:most])
    return shown + (f" and {len(labels) - most} more" if len(labels) > most else "")
