"""Find the segmentations of a run, and the scan on which each of them was drawn."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import RunConfig
from .entities import ENTITY_KEYS, IMAGE_EXTENSIONS, FileName, listing, natural_key, parse_name
from .ignored import IGNORE_FILE, IgnoredFiles, ignored_files
from .layout import LABEL_SUFFIX, index_images
from .metadata import SidecarReader
from .scans import LabelImage, Scan

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

logger = logging.getLogger("bids_unires")

# Labels of ``space`` that mean the space of the scan itself.
OWN_SPACES = frozenset({"orig", "individual", "scanner"})
# Fields that name the scan on which a label image was drawn, the most specific first.
SOURCE_FIELDS = ("SpatialReference", "Sources", "RawSources")
_ACQUIRED_KEYS = frozenset(ENTITY_KEYS.values()) - {"sub", "ses"}


def attach_labels(
    config: RunConfig, layout: BIDSLayout, scans: Sequence[Scan], ignored: IgnoredFiles
) -> list[Scan]:
    """Find the label images of a run and attach each to the scan on which it was drawn.

    These are the ``_dseg`` images beside the scans and those of the dataset ``config.labels``. A
    label image that matches no scan, or more than one, is left out with a warning. Label images
    that a ``.bidsignore`` names are also left out.

    Parameters
    ----------
    config
        The configuration of the run.
    layout
        Index of the raw dataset.
    scans
        Scans without labels.
    ignored
        Files that the ``.bidsignore`` of the raw dataset leaves out.

    Raises
    ------
    InvalidDatasetError
        If the dataset of label images cannot be indexed.
    """
    found = _label_images(layout, "raw", scans, ignored)
    if config.labels is not None and config.labels.resolve() != config.bids_dir.resolve():
        participants = sorted({scan.entities["subject"] for scan in scans}, key=natural_key)
        index = index_images(config.labels, [LABEL_SUFFIX], participants)
        ignored = ignored_files(config.labels.absolute())
        from_dataset = _label_images(index, "labels", scans, ignored)
        if not from_dataset:
            logger.warning(
                "%s has no label image (sub-*_dseg.nii.gz) of the selected participants",
                config.labels,
            )
        found += from_dataset
    units: dict[tuple[str, str | None], list[Scan]] = defaultdict(list)
    for scan in scans:
        units[scan.entities["subject"], scan.entities.get("session")].append(scan)
    labels: dict[str, list[LabelImage]] = defaultdict(list)
    for label in found:
        candidates = units.get((label.entities["sub"], label.entities.get("ses")), [])
        try:
            labels[match_label(label, candidates).uri].append(label)
        except LookupError as error:
            logger.warning("%s is not carried along: %s", label.path, error)
    return [
        replace(scan, labels=tuple(labels[scan.uri])) if scan.uri in labels else scan
        for scan in scans
    ]


def match_label(label: LabelImage, scans: Sequence[Scan]) -> Scan:
    """Find the scan of a unit of work on which a label image was drawn.

    If the sidecar names the scan, it decides. Otherwise, the entities by which scans differ
    (``acq``, ``ce``, ``run``, ...) have to be the same as those of the scan, and ``space`` may
    name the suffix of the scan, as in ``sub-01_space-FLAIR_desc-lesion_dseg.nii.gz``.

    Raises
    ------
    LookupError
        If no scan or more than one matches; the message says what is missing.
    """
    space = label.entities.get("space")
    suffixes = {scan.entities["suffix"] for scan in scans}
    if space is not None and space not in OWN_SPACES | suffixes:
        raise LookupError(f"it is in the space {space!r}, not in that of a scan")
    named = _named_scans(label, scans)
    if named is not None:
        candidates = named
        missing = "its sidecar names no scan of this run as its source"
    else:
        acquired = _acquired(parse_name(label.path.name))
        candidates = [s for s in scans if _acquired(parse_name(s.path.name)) == acquired]
        missing = "no scan of this run has the same acq, ce, rec, run and echo"
    if space in suffixes:
        candidates = [scan for scan in candidates if scan.entities["suffix"] == space]
    if not candidates:
        raise LookupError(f"{missing}; name the scan in Sources of its sidecar")
    if len(candidates) > 1:
        names = listing(scan.path.name for scan in candidates)
        raise LookupError(
            f"it may have been drawn on each of {names}; name one as SpatialReference, "
            "or as the only one of Sources, in its sidecar"
        )
    return candidates[0]


def _label_images(
    layout: BIDSLayout, dataset: str, scans: Sequence[Scan], ignored: IgnoredFiles
) -> list[LabelImage]:
    root = Path(layout.root)
    sessions = {(scan.entities["subject"], scan.entities.get("session")) for scan in scans}
    reader = SidecarReader(root)
    images = []
    paths = layout.get(
        suffix=LABEL_SUFFIX, extension=list(IMAGE_EXTENSIONS), return_type="filename"
    )
    for path in map(Path, sorted(paths, key=natural_key)):
        if ignored.leaves_out(path.relative_to(root)):
            logger.info("%s is left out by %s", path, root / IGNORE_FILE)
            continue
        try:
            name = parse_name(path.name)
        except ValueError as error:
            logger.warning("%s is skipped: no BIDS name (%s)", path, error)
            continue
        unit = (name.entities.get("sub"), name.entities.get("ses"))
        if path.relative_to(root).parts[:-2] != _folders(name):
            logger.warning("%s is skipped: not in the folder its name tells", path)
        elif unit in sessions:
            images.append(_label_image(path, root, dataset, name.entities, reader))
    return images


def _label_image(
    path: Path, root: Path, dataset: str, entities: Mapping[str, str], reader: SidecarReader
) -> LabelImage:
    tables = reader.applicable(path, ".tsv")
    return LabelImage(
        path=path,
        entities=entities,
        metadata=reader.metadata(path),
        uri=f"bids:{dataset}:{path.relative_to(root).as_posix()}",
        lookup=tables[-1] if tables else None,
    )


def _folders(name: FileName) -> tuple[str, ...]:
    keys = [key for key in ("sub", "ses") if key in name.entities]
    return tuple(f"{key}-{name.entities[key]}" for key in keys)


def _acquired(name: FileName) -> dict[str, str | int]:
    return {key: label for key, label in name.comparable.items() if key in _ACQUIRED_KEYS}


def _named_scans(label: LabelImage, scans: Sequence[Scan]) -> list[Scan] | None:
    """Scans that the sidecar of a label image names; None if it names no file."""
    names_any = False
    for field in SOURCE_FIELDS:
        value = label.metadata.get(field)
        entries = value if isinstance(value, list) else [value]
        files = {
            Path(entry).name for entry in entries if isinstance(entry, str) and "sub-" in entry
        }
        named = [scan for scan in scans if scan.path.name in files]
        if named:
            return named
        names_any = names_any or bool(files)
    return [] if names_any else None
