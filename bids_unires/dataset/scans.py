"""What a run works on: scans, the contrasts they are repeats of, and units of work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..config import CT_SUFFIX, MRI_SUFFIXES, Modality, RunConfig
from .entities import contrast_name, natural_key

Datatype = Literal["anat", "ct"]


def datatype_of(suffix: str) -> Datatype:
    """Folder that images with a suffix lie in."""
    # In no BIDS schema yet; the folder has the name of the suffix.
    return "ct" if suffix == CT_SUFFIX else "anat"


def contrast_order(
    entities: Mapping[str, str],
) -> tuple[bool, int, str, int, list[tuple[int, int, str]]]:
    """Sort key of contrasts: T1w, T2w, PDw, FLAIR, T2starw, other MRI by alphabet, then CT.

    Of one suffix the plainest name comes first. The first contrast holds the reference of the
    coregistration.

    Parameters
    ----------
    entities
        Those of the contrast, ``suffix`` among them.

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
        Its sidecar, with inherited values filled in; ``LabelMap`` among them if it is there.
    uri
        BIDS URI of the file, in the dataset linked to as ``labels`` or ``raw``.
    lookup
        Table of the labels (``_dseg.tsv``), if there is one.
    """

    path: Path
    entities: Mapping[str, str]
    metadata: Mapping[str, Any]
    uri: str
    lookup: Path | None


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
    labels
        Segmentations drawn on this scan.
    """

    path: Path
    entities: Mapping[str, str]
    metadata: Mapping[str, Any]
    uri: str
    labels: tuple[LabelImage, ...] = ()

    @property
    def datatype(self) -> Datatype:
        """Folder the scan and what is made of it lie in."""
        return datatype_of(self.entities["suffix"])


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

    @property
    def datatype(self) -> Datatype:
        """Folder the results of this contrast lie in."""
        return datatype_of(self.entities["suffix"])

    @property
    def modality(self) -> Modality:
        """Magnetic resonance or computed tomography, which differ in noise and in units."""
        return "CT" if self.datatype == "ct" else "MR"


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

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of what belongs to no single contrast: ``ct`` for a unit without MR."""
        has_only_ct = self.contrasts and all(c.modality == "CT" for c in self.contrasts)
        return "ct" if has_only_ct else "anat"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Relative folders that results are written to."""
        datatypes = {self.shared_datatype, *(contrast.datatype for contrast in self.contrasts)}
        return tuple(self.folder / datatype for datatype in sorted(datatypes))

    @property
    def stage(self) -> str:
        """What is done with it, as the analysis level calls it."""
        return "participant"

    @property
    def inputs(self) -> Iterator[tuple[str, Path]]:
        """Names and paths of the files that results depend on."""
        for scan in self.scans:
            yield scan.uri, scan.path
            for label in scan.labels:
                yield label.uri, label.path
                if label.lookup is not None:
                    yield f"the table of {label.uri}", label.lookup

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the sidecars say, by the URI of their image."""
        content = {scan.uri: dict(scan.metadata) for scan in self.scans}
        for scan in self.scans:
            content |= {label.uri: dict(label.metadata) for label in scan.labels}
        return content

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """Everything of a configuration that results depend on; not how fast they are there."""
        settings = asdict(config.model) | asdict(config.space)
        return settings | {"reset_origin": config.reset_origin}
