"""Find the scans of a run in a BIDS dataset, and group them into contrasts and repeats."""

from __future__ import annotations

import logging
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import RunConfig
from ..errors import InvalidDatasetError, NothingSelectedError
from .content import awaits_download, unavailable
from .entities import (
    ENTITY_KEYS,
    LABEL,
    contrast_entities,
    contrast_name,
    listing,
    natural_key,
    parse_name,
)
from .filters import modality_queries, unfiltered_query
from .ignored import IGNORE_FILE, IgnoredFiles, ignored_files
from .labels import attach_labels
from .layout import LABEL_SUFFIX, index_images
from .metadata import SidecarReader
from .modalities import images_there, tell_of_absent_modalities
from .scans import Contrast, LabelImage, ParticipantPlan, Scan, contrast_order, datatype_of
from .slice_labels import resembles_orientation

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

__all__ = [
    "Contrast",
    "LabelImage",
    "ParticipantPlan",
    "Scan",
    "describe_plan",
    "known_participants",
    "known_sessions",
    "plan_participants",
    "select_participants",
]

logger = logging.getLogger("bids_unires")

# Values of ImageType with which scanners mark phase images.
PHASE_IMAGE_TYPES = frozenset({"P", "PHASE", "PHASE MAP"})
MAGNITUDE_IMAGE_TYPES = frozenset({"M", "MAGNITUDE"})
_ENTITY_NAMES = {key: name for name, key in ENTITY_KEYS.items()}


def known_participants(bids_dir: Path) -> tuple[str, ...]:
    """Labels of the participants that have a folder, in natural order."""
    return _folder_labels(bids_dir, "sub-")


def known_sessions(bids_dir: Path, participants: Iterable[str]) -> tuple[str, ...]:
    """Labels of the sessions of some participants, in natural order."""
    labels = {
        label
        for participant in participants
        for label in _folder_labels(bids_dir / f"sub-{participant}", "ses-")
    }
    return tuple(sorted(labels, key=natural_key))


def _folder_labels(folder: Path, prefix: str) -> tuple[str, ...]:
    """Labels of the folders with a prefix, without those that are not valid in BIDS."""
    labels = []
    for path in folder.glob(f"{prefix}*"):
        label = path.name.removeprefix(prefix)
        if LABEL.fullmatch(label) and path.is_dir():
            labels.append(label)
        else:
            logger.debug("%s is skipped: no folder, or its label is no BIDS label", path)
    return tuple(sorted(labels, key=natural_key))


def select_participants(config: RunConfig) -> tuple[str, ...]:
    """Labels of the participants of a run.

    Raises
    ------
    InvalidDatasetError
        If the dataset has no participant.
    NothingSelectedError
        If a selected participant or session does not exist; the message lists those that do.
    """
    known = known_participants(config.bids_dir)
    if not known:
        raise InvalidDatasetError(f"{config.bids_dir} has no participant (no sub-* folder)")
    unknown = [label for label in config.participant_label if label not in known]
    if unknown:
        raise NothingSelectedError(
            f"{config.bids_dir} has no participant {listing(unknown)}; it has {listing(known)}"
        )
    selected = tuple(
        label
        for label in known
        if not config.participant_label or label in config.participant_label
    )
    sessions = known_sessions(config.bids_dir, selected)
    unknown = [label for label in config.session_label if label not in sessions]
    if unknown:
        there = f"there are {listing(sessions)}" if sessions else "there are no sessions"
        raise NothingSelectedError(
            f"{config.bids_dir} has no session {listing(unknown)} of the selected participants; "
            f"{there}"
        )
    return selected


def plan_participants(config: RunConfig) -> tuple[ParticipantPlan, ...]:
    """Find the scans of a run and group them into contrasts and repeats.

    Each session is a separate unit of work. Scans are of the same contrast if their suffixes and
    entities are the same, apart from those that number repeats or name the slice orientation.

    Raises
    ------
    NothingSelectedError
        If no image matches the labels and filters.
    InvalidDatasetError
        If the dataset cannot be indexed, or an image exists twice.
    UsageError
        If the filter file or the database of the index cannot be used for this run, or if a
        modality is no suffix of BIDS and no participant of the dataset has an image of it.
    """
    participants = select_participants(config)
    queries = modality_queries(config)
    everyone = len(participants) == len(known_participants(config.bids_dir))
    layout = index_images(
        config.bids_dir,
        {*config.modalities, LABEL_SUFFIX},
        () if everyone else participants,
        config.bids_database_dir,
    )
    ignored = ignored_files(config.bids_dir.absolute())
    paths, left_out = _find_images(layout, config, participants, queries, ignored)
    scans = attach_labels(config, layout, _read_scans(paths, config.bids_dir.absolute()), ignored)
    if not scans:
        raise NothingSelectedError(
            f"no image of {', '.join(config.modalities)} in {config.bids_dir} "
            f"fits the labels and filters given{images_there(config.bids_dir, participants)}"
            + (f"; .bidsignore leaves out {_count(len(left_out), 'image')}" if left_out else "")
        )
    plans = _group(scans)
    told = {plan.participant for plan in plans} | {_participant_of(path) for path in left_out}
    without = sorted(set(participants) - told, key=natural_key)
    if without:
        logger.warning("no image was selected for participant %s", listing(without))
    _warn_of_missing_content(plans, config.bids_dir)
    return plans


def describe_plan(plans: Sequence[ParticipantPlan]) -> str:
    """Text that lists the contrasts and repeats of every participant or session."""
    total = sum(len(plan.scans) for plan in plans)
    lines = [f"{_count(total, 'scan')} of {_units(plans)}"]
    for plan in plans:
        lines.append(plan.label)
        for contrast in plan.contrasts:
            lines.append(f"  {contrast.name}: {_count(len(contrast.scans), 'scan')}")
            lines += _note_on_label(contrast, plan)
            for scan in contrast.scans:
                lines.append(f"    {scan.path.name}")
                lines += [f"      label image {label.path.name}" for label in scan.labels]
    return "\n".join(lines)


def _units(plans: Sequence[ParticipantPlan]) -> str:
    """How many participants, and how many sessions of others, get images of their own."""
    sessions = sum(plan.session is not None for plan in plans)
    numbers = ((len(plans) - sessions, "participant"), (sessions, "session"))
    units = " and ".join(_count(number, noun) for number, noun in numbers if number)
    return f"{units}, each with images of its own" if len(plans) > 1 else units


def _note_on_label(contrast: Contrast, plan: ParticipantPlan) -> list[str]:
    """Note that an ``acq-`` label resembles a slice orientation but was not taken for one."""
    label, suffix = contrast.entities.get("acquisition", ""), contrast.entities["suffix"]
    alike = [other for other in plan.contrasts if other.entities["suffix"] == suffix]
    if len(alike) < 2 or not resembles_orientation(label, suffix):
        return []
    return [
        f"    (acq-{label} is not taken for the orientation of its slices, so that it makes a "
        f"contrast of its own, not repeats of another {suffix})"
    ]


def _find_images(
    layout: BIDSLayout,
    config: RunConfig,
    participants: Sequence[str],
    queries: Mapping[str, Mapping[str, Any]],
    ignored: IgnoredFiles,
) -> tuple[list[Path], list[Path]]:
    """Images that labels and filters select, and those of them that .bidsignore leaves out."""
    labels: dict[str, Any] = {"subject": list(participants)}
    if config.session_label:
        labels["session"] = list(config.session_label)
    found = {suffix: _files(layout, query, labels) for suffix, query in queries.items()}
    _warn_of_filters(layout, config, found, labels)
    tell_of_absent_modalities(config, found, participants, known_participants(config.bids_dir))
    root = config.bids_dir.absolute()
    paths = [Path(path) for path in sorted({*chain(*found.values())}, key=natural_key)]
    left_out = [path for path in paths if ignored.leaves_out(path.relative_to(root))]
    if left_out:
        logger.info(
            "%s leaves out %s: %s",
            root / IGNORE_FILE,
            _count(len(left_out), "image"),
            listing(path.name for path in left_out),
        )
    return [path for path in paths if path not in set(left_out)], left_out


def _participant_of(image: Path) -> str | None:
    """Label of the participant in the name of an image; None if there is none."""
    try:
        return parse_name(image.name).entities.get("sub")
    except ValueError:
        return None


def _read_scans(paths: Sequence[Path], root: Path) -> list[Scan]:
    """The scans among some images, with their metadata."""
    reader = SidecarReader(root)
    scans = []
    for path in paths:
        relative = path.relative_to(root)
        try:
            entities = raw_entities(relative)
            metadata = reader.metadata(path)
            _refuse_phase(metadata)
        except ValueError as error:
            logger.warning("%s is skipped: %s", relative, error)
            continue
        scans.append(Scan(path, entities, metadata, f"bids:raw:{relative.as_posix()}"))
    _refuse_duplicates(scans)
    return scans


def _warn_of_filters(
    layout: BIDSLayout,
    config: RunConfig,
    found: Mapping[str, Sequence[str]],
    labels: Mapping[str, list[str]],
) -> None:
    """Warn about modalities of which the filter file excludes all scans."""
    # If no scan of any modality is left, an error is raised elsewhere.
    if config.bids_filter_file is None or not any(found.values()):
        return
    for suffix in (suffix for suffix, paths in found.items() if not paths):
        if there := _files(layout, unfiltered_query(suffix), labels):
            logger.warning(
                "%s: the filter of %s leaves none of %s; labels are without sub-, ses-, acq- and "
                "the like",
                config.bids_filter_file,
                suffix,
                _count(len(there), "scan"),
            )


def _files(
    layout: BIDSLayout, query: Mapping[str, Any], labels: Mapping[str, list[str]]
) -> list[str]:
    narrowed = _narrowed(query, labels)
    found = layout.get(**narrowed, invalid_filters="allow", return_type="filename")
    return [str(path) for path in found]


def _narrowed(query: Mapping[str, Any], labels: Mapping[str, list[str]]) -> dict[str, Any]:
    """Add the labels of the command line to a query, so that images have to meet both."""
    from bids.layout import Query

    narrowed = {**query}
    for entity, allowed in labels.items():
        wanted = query.get(entity, Query.ANY)
        if wanted is Query.ANY:
            narrowed[entity] = allowed
        elif wanted is not Query.NONE:
            values = wanted if isinstance(wanted, list) else [wanted]
            narrowed[entity] = [value for value in values if str(value) in allowed] or ["\0"]
    return narrowed


def raw_entities(relative: Path) -> dict[str, str]:
    """Entities of a raw image by their names in pybids, with suffix, datatype and extension.

    Parameters
    ----------
    relative
        Path of the image inside the dataset.

    Raises
    ------
    ValueError
        If the path or the name is not valid for a raw image in BIDS, or the ``part`` entity is not
        ``mag``.
    """
    name = parse_name(relative.name)
    strange = sorted(set(name.entities) - set(_ENTITY_NAMES))
    if strange:
        raise ValueError(f"no raw image by its name (the entity {listing(strange)})")
    folders = [f"{key}-{name.entities[key]}" for key in ("sub", "ses") if key in name.entities]
    datatype = datatype_of(name.suffix)
    if relative.parts[:-1] != (*folders, datatype):
        raise ValueError(f"its name belongs in the folder {'/'.join([*folders, datatype])}")
    if name.entities.get("part", "mag") != "mag":
        raise ValueError(f"part-{name.entities['part']} holds no intensities")
    entities = {_ENTITY_NAMES[key]: label for key, label in name.entities.items()}
    return {**entities, "suffix": name.suffix, "datatype": datatype, "extension": name.extension}


def _refuse_phase(metadata: Mapping[str, Any]) -> None:
    kinds = metadata.get("ImageType")
    words = {str(kind).upper() for kind in kinds} if isinstance(kinds, list) else set()
    if words & PHASE_IMAGE_TYPES and not words & MAGNITUDE_IMAGE_TYPES:
        raise ValueError("its sidecar calls it a phase image (ImageType)")


def _refuse_duplicates(scans: Sequence[Scan]) -> None:
    seen: dict[str, Path] = {}
    for scan in scans:
        stem = str(scan.path).removesuffix(".gz").removesuffix(".nii")
        if stem in seen:
            raise InvalidDatasetError(
                f"{seen[stem]} and {scan.path} have the same name: keep one of them"
            )
        seen[stem] = scan.path


def _group(scans: Sequence[Scan]) -> tuple[ParticipantPlan, ...]:
    units: dict[tuple[str, str | None], dict[str, list[Scan]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for scan in scans:
        unit = (scan.entities["subject"], scan.entities.get("session"))
        units[unit][contrast_name(scan.entities)].append(scan)
    plans = []
    for participant, session in sorted(
        units, key=lambda unit: (natural_key(unit[0]), natural_key(unit[1] or ""))
    ):
        contrasts = (
            Contrast(name, contrast_entities(repeats[0].entities), tuple(repeats))
            for name, repeats in units[participant, session].items()
        )
        ordered = sorted(contrasts, key=lambda contrast: contrast_order(contrast.entities))
        plans.append(ParticipantPlan(participant, session, tuple(ordered)))
    return tuple(plans)


def _warn_of_missing_content(plans: Sequence[ParticipantPlan], bids_dir: Path) -> None:
    """Warn about scans whose content is not here, because their participants will fail."""
    paths = [
        path
        for plan in plans
        for scan in plan.scans
        for path in (scan.path, *(label.path for label in scan.labels))
    ]
    reasons = {path: reason for path in paths if (reason := unavailable(path))}
    remote = [path for path in reasons if awaits_download(path)]
    if remote:
        relative = (os.path.relpath(path, bids_dir.absolute()) for path in remote)
        logger.warning(
            "the content of %s is not here; fetch it with: datalad -C %s get %s",
            _count(len(remote), "image"),
            shlex.quote(str(bids_dir)),
            listing(map(shlex.quote, relative), separator=" "),
        )
    broken = [f"{path} ({reason})" for path, reason in reasons.items() if path not in remote]
    if broken:
        logger.warning("%s cannot be read: %s", _count(len(broken), "image"), listing(broken))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
