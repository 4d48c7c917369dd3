"""Who takes part in the group level: images of the participant level, and their scans."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..config import MRI_SUFFIXES, ModelSettings, RunConfig
from ..dataset.content import unavailable
from ..dataset.derivatives import ParticipantResult, ResultImage, find_results
from ..dataset.entities import listing, natural_key
from ..dataset.naming import SPACE, aligned_space, resolution_label, transform_path
from ..dataset.query import plan_participants
from ..dataset.scans import Contrast, Datatype, ParticipantPlan, Scan
from ..errors import (
    InvalidDatasetError,
    MissingInputError,
    NothingSelectedError,
    UsageError,
)

logger = logging.getLogger("bids_unires")

# Of several kinds of images of one participant the first of these is used.
_KINDS = ("sr", "denoised", "resliced")


@dataclass(frozen=True)
class Member:
    """A participant, or a session, that has images.

    Parameters
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    result
        What the participant level wrote, on one grid.
    images
        The images of it that take part, one of each contrast; the first is aligned.
    plan
        The scans these were made of, if all of them are there.
    obstacle
        Why the images cannot be reconstructed again from scans; empty if they can.
    """

    participant: str
    session: str | None
    result: ParticipantResult
    images: tuple[ResultImage, ...]
    plan: ParticipantPlan | None
    obstacle: str

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return self.result.label

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of what belongs to no single contrast."""
        return self.result.shared_datatype

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of its results, relative to that of all results."""
        unit = Path(*self.label.split("_"))
        names = {self.shared_datatype, *(image.path.parent.name for image in self.images)}
        return tuple(unit / name for name in sorted(names))

    @property
    def model(self) -> ModelSettings:
        """Settings that the images were made with, as far as their sidecars know."""
        return _model_settings(self.images[0].metadata)


@dataclass(frozen=True)
class Absentee:
    """A participant, or a session, without images.

    Parameters
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    reason
        Why there are none.
    """

    participant: str
    session: str | None
    reason: str

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")


@dataclass(frozen=True)
class Cohort:
    """All participants of a group level, with and without images."""

    members: tuple[Member, ...]
    absentees: tuple[Absentee, ...]

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Names of all contrasts that anybody has."""
        images = sorted((i for m in self.members for i in m.images), key=_contrast_order)
        return tuple(dict.fromkeys(image.contrast for image in images))


def find_cohort(config: RunConfig) -> Cohort:
    """Find out who takes part, and with which images.

    Raises
    ------
    MissingInputError
        If the participant level has left no image.
    NothingSelectedError
        If a participant or a session was asked for that nobody knows.
    UsageError
        If images have voxels of different sizes and nothing says which to take.
    """
    found = find_results(config.output_dir)
    if not any(result.images for result in found):
        raise MissingInputError(
            f"{config.output_dir} holds no reconstructed image: run the participant level "
            "before the group level"
        )
    selected = [result for result in found if _is_selected(result, config)]
    plans = _plans(config, selected)
    units: dict[str, list[ParticipantResult]] = defaultdict(list)
    for result in selected:
        units[result.label].append(result)
    chosen = {label: _choose(results, config) for label, results in units.items()}
    with_images = {label: result for label, result in chosen.items() if result.images}
    if not with_images:
        raise NothingSelectedError(
            f"no image in {config.output_dir} fits the labels given; there are images of "
            f"{listing(dict.fromkeys(result.label for result in found if result.images))}"
        )
    _refuse_mixed_voxels(with_images)
    absentees = [
        Absentee(result.participant, result.session, listing(result.problems, separator="; "))
        for result in chosen.values()
        if not result.images
    ] + [
        Absentee(plan.participant, plan.session, "the participant level left no image of it")
        for plan in plans.values()
        if plan.label not in chosen
    ]
    for absentee in absentees:
        logger.warning("%s takes no part: %s", absentee.label, absentee.reason)
    members = (
        _member(result, plans.get(label), config.output_dir)
        for label, result in with_images.items()
    )
    return Cohort(tuple(members), tuple(absentees))


def describe_cohort(cohort: Cohort) -> str:
    """Say what will be done, in plain lines: participants and their images."""
    lines = [f"{len(cohort.members)} participants and sessions with images"]
    for member in cohort.members:
        names = ", ".join(image.contrast for image in member.images)
        lines.append(f"{member.label}: {names}, space {member.result.space}, {member.result.res}")
    lines += [f"{absentee.label}: left out, {absentee.reason}" for absentee in cohort.absentees]
    return "\n".join(lines)


def _is_selected(result: ParticipantResult, config: RunConfig) -> bool:
    return (not config.participant_label or result.participant in config.participant_label) and (
        not config.session_label or result.session in config.session_label
    )


def _plans(config: RunConfig, results: Sequence[ParticipantResult]) -> dict[str, ParticipantPlan]:
    """Scans of all participants, also of those contrasts that are not asked for by default."""
    suffixes = (image.entities["suffix"] for result in results for image in result.images)
    modalities = tuple(dict.fromkeys([*config.modalities, *suffixes]))
    try:
        plans = plan_participants(replace(config, modalities=modalities))
    except (NothingSelectedError, InvalidDatasetError) as error:
        if not results:
            raise
        logger.warning("the scans are out of reach: %s", error)
        return {}
    return {plan.label: plan for plan in plans}


def _choose(results: Sequence[ParticipantResult], config: RunConfig) -> ParticipantResult:
    """Of one participant's results those on the grid that suits best.

    Images that are where the study wants them need no further alignment.
    """
    aligned = aligned_space(config.space.template, config.space.align)
    spaces = [result.space for result in results]
    space = next((name for name in (aligned, SPACE) if name in spaces), spaces[0])
    in_space = [result for result in results if result.space == space]
    wanted = resolution_label(config.model.voxel_size)
    fitting = [result for result in in_space if result.res == wanted] or in_space
    if len(fitting) > 1:
        sizes = " and ".join(result.res for result in fitting)
        raise UsageError(
            f"{fitting[0].label} has images with voxels of {sizes}, none of {wanted}: name one of "
            "these sizes by --voxel-size"
        )
    return fitting[0]


def _refuse_mixed_voxels(results: Mapping[str, ParticipantResult]) -> None:
    first: dict[str, str] = {}
    for label, result in results.items():
        # Denoised images have the voxels of their scans, which differ.
        if any(image.desc != "denoised" for image in result.images):
            first.setdefault(result.res, label)
    if len(first) > 1:
        sizes = ", ".join(f"{res} ({label})" for res, label in first.items())
        raise UsageError(
            f"the participants' images have voxels of different sizes: {sizes}; run the "
            "participant level with one --voxel-size on all, or choose by --participant-label"
        )


def _member(result: ParticipantResult, plan: ParticipantPlan | None, output_dir: Path) -> Member:
    kind = next(kind for kind in _KINDS if any(image.desc == kind for image in result.images))
    images = tuple(
        sorted((image for image in result.images if image.desc == kind), key=_contrast_order)
    )
    try:
        own = _scans_of(images, plan, result, output_dir)
    except ValueError as error:
        return Member(result.participant, result.session, result, images, None, str(error))
    return Member(result.participant, result.session, result, images, own, "")


def _scans_of(
    images: Sequence[ResultImage],
    plan: ParticipantPlan | None,
    result: ParticipantResult,
    output_dir: Path,
) -> ParticipantPlan:
    """The scans that images were made of; a `ValueError` says why they cannot be used."""
    if images[0].desc != "sr":
        raise ValueError("its images are not super-resolved")
    if plan is None:
        raise ValueError("its scans are not in the dataset")
    contrasts = {contrast.name: contrast for contrast in plan.contrasts}
    found = []
    for image in images:
        wanted = set(_scan_uris(image.metadata))
        contrast = contrasts.get(image.contrast)
        scans = [scan for scan in (contrast.scans if contrast else ()) if scan.uri in wanted]
        if contrast is None or not wanted or len(scans) < len(wanted):
            raise ValueError(f"not all scans behind {image.path.name} are in the dataset")
        _check_scans(scans, result, output_dir)
        found.append(Contrast(contrast.name, contrast.entities, tuple(scans)))
    return ParticipantPlan(plan.participant, plan.session, tuple(found))


def _check_scans(scans: Sequence[Scan], result: ParticipantResult, output_dir: Path) -> None:
    for scan in scans:
        if reason := unavailable(scan.path):
            raise ValueError(f"{scan.path} cannot be read: {reason}")
        transform = transform_path(output_dir, result, scan, space=result.space)
        if not transform.is_file():
            raise ValueError(f"{transform.name} is missing")


def _scan_uris(metadata: Mapping[str, Any]) -> Iterator[str]:
    """URIs of the scans of the image's own contrast."""
    unires = metadata.get("UniRes")
    scans = unires.get("Scans") if isinstance(unires, dict) else None
    for scan in scans if isinstance(scans, list) else ():
        if isinstance(scan, dict) and isinstance(scan.get("Source"), str):
            yield scan["Source"]


def _model_settings(metadata: Mapping[str, Any]) -> ModelSettings:
    unires = metadata.get("UniRes")
    stated = unires.get("Settings") if isinstance(unires, dict) else None
    stated = stated if isinstance(stated, dict) else {}
    names = {field.name for field in fields(ModelSettings)}
    known = {name: value for name, value in stated.items() if name in names}
    if "voxel_size" in known:
        known["voxel_size"] = tuple(known["voxel_size"])
    try:
        return ModelSettings(**known)
    except (UsageError, TypeError, ValueError):
        return ModelSettings()


def _contrast_order(image: ResultImage) -> tuple[bool, int, int, list[tuple[int, int, str]]]:
    """The order of contrasts in a plan: T1w first, CT last, the plainest name first."""
    suffix = image.entities["suffix"]
    rank = MRI_SUFFIXES.index(suffix) if suffix in MRI_SUFFIXES else len(MRI_SUFFIXES)
    return suffix == "ct", rank, len(image.entities), natural_key(image.contrast)
