"""Which scans of a BIDS dataset belong together, and what each says about itself."""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import MRI_SUFFIXES, RunConfig
from ..errors import InvalidDatasetError, NothingSelectedError, OutputError, UsageError
from .entities import (
    ENTITY_KEYS,
    IMAGE_EXTENSIONS,
    contrast_entities,
    contrast_name,
    listing,
    natural_key,
)
from .filters import modality_queries

if TYPE_CHECKING:
    from bids.layout import BIDSLayout

logger = logging.getLogger("bids_unires")


@dataclass(frozen=True)
class Scan:
    """One image as acquired.

    Parameters
    ----------
    path
        The NIfTI file.
    entities
        pybids' entity names and their values, as written in the file name.
    metadata
        The sidecar, with inherited values filled in.
    uri
        BIDS URI of the file, in the dataset that derivatives link to as ``raw``.
    """

    path: Path
    entities: Mapping[str, str]
    metadata: Mapping[str, Any]
    uri: str


@dataclass(frozen=True)
class Contrast:
    """Scans (repeats) of one contrast.

    Parameters
    ----------
    name
        What sets the contrast apart in a file name, such as ``ce-gad_T1w``.
    entities
        The entities behind ``name``, ``suffix`` among them.
    scans
        The repeats, in natural order of their names.
    """

    name: str
    entities: Mapping[str, str]
    scans: tuple[Scan, ...]


@dataclass(frozen=True)
class ParticipantPlan:
    """One unit of work: a participant, or one session of a participant.

    The first scan of the first contrast is the reference of the coregistration.
    Labels are without ``sub-`` and ``ses-``.
    """

    participant: str
    session: str | None
    contrasts: tuple[Contrast, ...]

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def folder(self) -> Path:
        """Relative folder of the unit: ``sub-01``, or ``sub-01/ses-a``."""
        return Path(*self.label.split("_"))

    @property
    def scans(self) -> tuple[Scan, ...]:
        """All scans of all contrasts, in order."""
        return tuple(scan for contrast in self.contrasts for scan in contrast.scans)


def known_participants(bids_dir: Path) -> tuple[str, ...]:
    """Labels of the participants that have a folder, in natural order."""
    labels = (path.name[4:] for path in bids_dir.glob("sub-*") if path.is_dir())
    return tuple(sorted(labels, key=natural_key))


def known_sessions(bids_dir: Path, participants: Iterable[str]) -> tuple[str, ...]:
    """Labels of the sessions of some participants, in natural order."""
    labels = {
        path.name[4:]
        for participant in participants
        for path in (bids_dir / f"sub-{participant}").glob("ses-*")
        if path.is_dir()
    }
    return tuple(sorted(labels, key=natural_key))


def select_participants(config: RunConfig) -> tuple[str, ...]:
    """Labels of the participants a run is about.

    Raises
    ------
    InvalidDatasetError
        If the dataset has no participant at all.
    NothingSelectedError
        If a participant or a session was asked for that is not there; the
        message lists those that are.
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

    Each session is a unit of work of its own. A contrast is everything in a file
    name that says more than which repeat or which slice orientation it is.

    Raises
    ------
    NothingSelectedError
        If labels and filters leave no image.
    InvalidDatasetError
        If the dataset cannot be indexed, or one image is there twice.
    UsageError
        If the filter file or the index database does not fit.
    """
    participants = select_participants(config)
    queries = modality_queries(config)
    layout = _index(config, participants)
    scans = _find_scans(layout, config, participants, queries)
    if not scans:
        raise NothingSelectedError(
            f"no image of {', '.join(config.modalities)} in {config.bids_dir} "
            "fits the labels and filters given"
        )
    plans = _group(scans)
    without = sorted(set(participants) - {plan.participant for plan in plans}, key=natural_key)
    if without:
        logger.warning("no image was selected for participant %s", listing(without))
    return plans


def describe_plan(plans: Sequence[ParticipantPlan]) -> str:
    """Say what will be done, in plain lines: contrasts and repeats of every unit."""
    total = sum(len(plan.scans) for plan in plans)
    lines = [f"{_count(total, 'scan')} in {_count(len(plans), 'unit')} of work"]
    for plan in plans:
        lines.append(plan.label)
        for contrast in plan.contrasts:
            lines.append(f"  {contrast.name}: {_count(len(contrast.scans), 'scan')}")
            lines += [f"    {scan.path.name}" for scan in contrast.scans]
    return "\n".join(lines)


def _index(config: RunConfig, participants: Sequence[str]) -> BIDSLayout:
    """Index anatomical images only, and the sidecars that belong to them."""
    import bids
    from bids.layout import BIDSLayout, BIDSLayoutIndexer
    from sqlalchemy.exc import SQLAlchemyError

    root = config.bids_dir.absolute()
    kept = config.bids_database_dir is not None
    indexer = BIDSLayoutIndexer(
        validate=False,
        # A database outlives this run, so it holds everyone.
        ignore=_ignored(() if kept else participants),
        index_metadata=True,
        extension=[*IMAGE_EXTENSIONS, ".json"],
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layout = BIDSLayout(
                str(root),
                validate=False,
                derivatives=False,
                config=[_layout_config(root)],
                database_path=str(config.bids_database_dir) if kept else None,
                indexer=indexer,
            )
    except SQLAlchemyError as error:
        raise OutputError(
            f"the index database in {config.bids_database_dir} cannot be used "
            f"({str(error).splitlines()[0]}): name a writable folder or leave it out"
        ) from error
    except (OSError, ValueError, bids.exceptions.PyBIDSError) as error:
        raise InvalidDatasetError(
            f"{root} cannot be indexed: {' '.join(str(error).split())}"
        ) from error
    if Path(layout.root) != root:
        raise UsageError(
            f"{config.bids_database_dir} holds the index of {layout.root}, not of {root}: "
            "name another folder"
        )
    return layout


def _layout_config(root: Path) -> dict[str, Any]:
    """Take pybids' own entities, read off the path inside the dataset only.

    Its patterns look at the absolute path, so that a dataset kept below a
    folder such as ``sub-01/anat`` would get that participant and datatype.
    """
    source = resources.files("bids.layout") / "config" / "bids.json"
    config: dict[str, Any] = json.loads(source.read_text("utf-8"))
    for entity in config["entities"]:
        if entity["name"] != "extension":
            entity["pattern"] = f"^{re.escape(str(root))}(?=/).*?(?:{entity['pattern']})"
    return config


def _ignored(participants: Sequence[str]) -> list[re.Pattern[str]]:
    """Paths inside the dataset that are not worth a look; directories have no dot."""
    patterns = [
        r"^/(?!sub-)[^/.]+(?:/|$)",
        r"^/sub-[^/]+/(?:ses-[^/]+/)?(?!ses-|anat(?:/|$))[^/.]+(?:/|$)",
    ]
    if participants:
        labels = "|".join(re.escape(label) for label in participants)
        patterns.append(rf"^/sub-(?!(?:{labels})(?:[/_]|$))")
    return [re.compile(pattern) for pattern in patterns]


def _find_scans(
    layout: BIDSLayout,
    config: RunConfig,
    participants: Sequence[str],
    queries: Mapping[str, Mapping[str, Any]],
) -> list[Scan]:
    root = config.bids_dir.absolute()
    labels: dict[str, Any] = {"subject": list(participants)}
    if config.session_label:
        labels["session"] = list(config.session_label)
    found = {}
    for query in queries.values():
        for image in layout.get(**_narrowed(query, labels), invalid_filters="allow"):
            found[str(image.path)] = image
    scans = []
    for path in sorted(found, key=natural_key):
        entities = {name: str(value) for name, value in found[path].get_entities().items()}
        if _is_raw_image(Path(path).relative_to(root), entities):
            scans.append(_scan(Path(path), root, entities, dict(found[path].get_metadata())))
    _refuse_duplicates(scans)
    return scans


def _narrowed(query: Mapping[str, Any], labels: Mapping[str, list[str]]) -> dict[str, Any]:
    """Keep a query within the labels of the command line: both must hold."""
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


def _is_raw_image(relative: Path, entities: Mapping[str, str]) -> bool:
    """Whether a file lies where BIDS puts raw images, under a raw image's name."""
    folder = Path(f"sub-{entities['subject']}")
    if "session" in entities:
        folder /= f"ses-{entities['session']}"
    keys = [part.split("-", 1)[0] for part in relative.name.split("_")[:-1]]
    strange = sorted(set(keys) - set(ENTITY_KEYS.values()))
    if relative.parent != folder / "anat" or strange:
        why = f"the entity {listing(strange)}" if strange else "not in the anat folder"
        logger.warning("%s is passed over: no raw image by its name (%s)", relative, why)
        return False
    return True


def _scan(path: Path, root: Path, entities: Mapping[str, str], metadata: Mapping[str, Any]) -> Scan:
    uri = f"bids:raw:{path.relative_to(root).as_posix()}"
    return Scan(path, entities, metadata, uri)


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
        ordered = tuple(sorted(contrasts, key=_contrast_order))
        plans.append(ParticipantPlan(participant, session, ordered))
    return tuple(plans)


def _contrast_order(contrast: Contrast) -> tuple[int, str, int, list[tuple[int, int, str]]]:
    """T1w, T2w, PDw, FLAIR, T2starw, then by alphabet; the plainest name first."""
    suffix = contrast.entities["suffix"]
    rank = MRI_SUFFIXES.index(suffix) if suffix in MRI_SUFFIXES else len(MRI_SUFFIXES)
    return rank, suffix, len(contrast.entities), natural_key(contrast.name)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
