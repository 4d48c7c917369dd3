"""The classes for scans, contrasts (groups of repeated scans) and units of work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..config import CT_SUFFIX, MRI_SUFFIXES, Modality, RunConfig
from .entities import contrast_name, natural_key

Datatype = Literal["anat", "ct"]


def datatype_of(suffix: str) -> Datatype:
    """Folder (BIDS datatype) of images with a suffix."""
    # BIDS does not define CT yet; its folder has the name of the suffix.
    return "ct" if suffix == CT_SUFFIX else "anat"


def contrast_order(
    entities: Mapping[str, str],
) -> tuple[bool, int, str, int, list[tuple[int, int, str]]]:
    """Sort key of contrasts: T1w, T2w, PDw, FLAIR, T2starw, other MRI by alphabet, then CT.

    Among contrasts of one suffix, the one with the fewest entities comes first. The reference of
    the coregistration is a scan of the first contrast.

    Parameters
    ----------
    entities
        Entities of the contrast, including ``suffix``.

    Examples
    --------
    >>> contrasts = [{"suffix": "ct"}, {"ceagent": "gad", "suffix": "T1w"}, {"suffix": "T1w"}]
    >>> [contrast_name(entities) for entities in sorted(contrasts, key=contrast_order)]
    ['T1w', 'ce-gad_T1w', 'ct']
    """
    suffix = entities["suffix"]
    rank = MRI_SUFFIXES.index(suffix) if suffix in MRI_SUFFIXES else len(MRI_SUFFIXES)
    plainness = len(entities), natural_key(contrast_name(entities))
    return suffix == CT_SUFFIX, rank, suffix, *plainness


@dataclass(frozen=True)
class LabelImage:
    """A segmentation that was drawn on one scan.

    Parameters
    ----------
    path
        The NIfTI file, on the grid of the scan.
    entities
        BIDS keys of its name (``seg``, ``atlas``, ``label``, ``desc``, ...) and their labels.
    metadata
        Values of its sidecar and of the sidecars that it inherits from; they may include
        ``LabelMap``.
    uri
        BIDS URI of the file, in the dataset that is linked as ``labels`` or ``raw``.
    lookup
        Table of the labels (``_dseg.tsv``); None if there is none.
    """

    path: Path
    entities: Mapping[str, str]
    metadata: Mapping[str, Any]
    uri: str
    lookup: Path | None


@dataclass(frozen=True)
class Scan:
    """One acquired image.

    Parameters
    ----------
    path
        The NIfTI file.
    entities
        Entities by their names in pybids, with their values as written in the file name.
    metadata
        Values of its sidecar and of the sidecars that it inherits from.
    uri
        BIDS URI of the file, in the dataset that the derivatives link to as ``raw``.
    labels
        Segmentations that were drawn on this scan.
    """

    path: Path
    entities: Mapping[str, str]
    metadata: Mapping[str, Any]
    uri: str
    labels: tuple[LabelImage, ...] = ()

    @property
    def datatype(self) -> Datatype:
        """Folder (BIDS datatype) of the scan and of its derivatives."""
        return datatype_of(self.entities["suffix"])


@dataclass(frozen=True)
class Contrast:
    """Scans (repeats) of one contrast.

    Parameters
    ----------
    name
        The part of the file names that identifies the contrast, such as ``ce-gad_T1w``.
    entities
        The entities of ``name``, including ``suffix``.
    scans
        The repeats, in natural order of their names.
    """

    name: str
    entities: Mapping[str, str]
    scans: tuple[Scan, ...]

    @property
    def datatype(self) -> Datatype:
        """Folder (BIDS datatype) of the results of this contrast."""
        return datatype_of(self.entities["suffix"])

    @property
    def modality(self) -> Modality:
        """Magnetic resonance or computed tomography, which differ in noise and units."""
        return "CT" if self.datatype == "ct" else "MR"


@dataclass(frozen=True)
class ParticipantPlan:
    """One unit of work: a participant, or one session of a participant.

    The first scan of the first contrast is the reference of the coregistration. Labels have no
    ``sub-`` or ``ses-`` prefix.

    Parameters
    ----------
    participant, session
        Labels; ``session`` is None if there are no sessions.
    contrasts
        Its scans, by contrast.
    shared_placement
        Sidecar with the poses of the scans of all visits and the grid that the visits share; None
        if this unit has a space of its own.
    """

    participant: str
    session: str | None
    contrasts: tuple[Contrast, ...]
    shared_placement: Path | None = None

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")

    @property
    def folder(self) -> Path:
        """Folder of the unit, relative to the dataset: ``sub-01`` or ``sub-01/ses-a``."""
        return Path(*self.label.split("_"))

    @property
    def scans(self) -> tuple[Scan, ...]:
        """All scans of all contrasts, in the order of the contrasts."""
        return tuple(scan for contrast in self.contrasts for scan in contrast.scans)

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of files that belong to no single contrast: ``ct`` for a unit without MR."""
        has_only_ct = self.contrasts and all(c.modality == "CT" for c in self.contrasts)
        return "ct" if has_only_ct else "anat"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that results are written to, relative to the output folder."""
        datatypes = {self.shared_datatype, *(contrast.datatype for contrast in self.contrasts)}
        return tuple(self.folder / datatype for datatype in sorted(datatypes))

    @property
    def stage(self) -> str:
        """Name of the stage: the analysis level."""
        return "participant"

    @property
    def inputs(self) -> Iterator[tuple[str, Path]]:
        """Names and paths of the files that the results depend on."""
        for scan in self.scans:
            yield scan.uri, scan.path
            for label in scan.labels:
                yield label.uri, label.path
                if label.lookup is not None:
                    yield f"the table of {label.uri}", label.lookup
        if self.shared_placement is not None:
            yield self.shared_placement.name, self.shared_placement

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of the scans and label images, by their URIs."""
        content = {scan.uri: dict(scan.metadata) for scan in self.scans}
        for scan in self.scans:
            content |= {label.uri: dict(label.metadata) for label in scan.labels}
        return content

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """The settings that the results depend on, without those that affect only the speed."""
        settings = asdict(config.model) | asdict(config.space)
        if self.shared_placement is not None:
            settings["subject_anatomical_reference"] = config.subject_anatomical_reference
        if config.level == "participant":
            if config.looks_for_damage and not config.model.robust:
                settings["robust"] = "auto"
            if config.looks_for_uneven_slices and not config.model.interleave_correction:
                settings["interleave_correction"] = "auto"
            settings |= {
                "detectability": config.detectability,
                "measured_map": config.measured_map,
            }
        return settings | {"reset_origin": config.reset_origin}
