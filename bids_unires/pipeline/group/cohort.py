"""Find the participants of the group level: their images, and the scans of these images."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ...config import MRI_SUFFIXES, ModelSettings, RunConfig
from ...dataset.content import unavailable
from ...dataset.derivatives import IMAGE_KINDS, ParticipantResult, ResultImage, find_results
from ...dataset.entities import listing, natural_key
from ...dataset.naming import SPACE, aligned_space, resolution_label, transform_path
from ...dataset.query import known_participants, known_sessions, plan_participants
from ...dataset.reading import grid_of
from ...dataset.scans import Contrast, Datatype, ParticipantPlan, Scan, contrast_order
from ...dataset.transforms import read_transform
from ...errors import InvalidDatasetError, MissingInputError, NothingSelectedError, UsageError
from ...records.image import ImageRecord
from ...records.poses import is_one_place
from ...records.work_record import changed_since, unfinished

logger = logging.getLogger("bids_unires")


# An image shows enough of the head for the alignment if it shows at least this fraction of what the
# image with the largest part of the head shows.
_MOST_OF_THE_HEAD = 0.9


def head_share(image: ResultImage) -> float:
    """Share of the head, 0 to 1, that the scans of an image measured; 1 if it is not recorded."""
    share = ImageRecord.of_sidecar(image.metadata).head_share
    return share if share is not None and 0 <= share <= 1 else 1.0


@dataclass(frozen=True)
class Member:
    """A participant or session that has images.

    Parameters
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    result
        Results of the participant level on one grid.
    known
        All its images that can be used, one of each contrast, in the order of contrasts.
    images
        Those of ``known`` that this run uses.
    refused
        Reasons why other images cannot be used, by contrast.
    plan
        The scans from which ``images`` were made; None if they cannot be used.
    obstacle
        The reason why the images cannot be reconstructed again from the scans; empty if they can.
    """

    participant: str
    session: str | None
    result: ParticipantResult
    known: tuple[ResultImage, ...]
    images: tuple[ResultImage, ...]
    refused: Mapping[str, str]
    plan: ParticipantPlan | None
    obstacle: str

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return self.result.label

    @property
    def aligned(self) -> ResultImage:
        """The image by which the participant is aligned, whichever images this run uses.

        It is the first image that shows about as much of the head as any other.
        """
        enough = _MOST_OF_THE_HEAD * max(head_share(image) for image in self.known)
        return next(image for image in self.known if head_share(image) >= enough)

    @property
    def shared_datatype(self) -> Datatype:
        """Folder of files that belong to no single contrast."""
        return self.result.shared_datatype

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of its results, relative to the output folder."""
        unit = Path(*self.label.split("_"))
        names = {self.shared_datatype, *(image.path.parent.name for image in self.known)}
        return tuple(unit / name for name in sorted(names))

    @property
    def model(self) -> ModelSettings:
        """Settings with which the images were made, as far as their sidecars record them."""
        return ImageRecord.of_sidecar(self.known[0].metadata).model

    @cached_property
    def records(self) -> tuple[ImageRecord, ...]:
        """Records of the images that this run uses."""
        return tuple(ImageRecord.of_sidecar(image.metadata) for image in self.images)


@dataclass(frozen=True)
class Absentee:
    """A participant or session without images.

    Parameters
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    reason
        The reason why there are none.
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
    """All participants of a group level.

    Parameters
    ----------
    members
        Participants and sessions of this run that have images.
    absentees
        Participants and sessions of this run that have no images.
    others
        Participants and sessions with images that were not selected for this run.
    """

    members: tuple[Member, ...]
    absentees: tuple[Absentee, ...]
    others: tuple[Member, ...] = ()


def find_cohort(config: RunConfig) -> Cohort:
    """Find the participants of a run, and their images.

    Raises
    ------
    MissingInputError
        If there is no image of the participant level.
    NothingSelectedError
        If a selected participant or session does not exist.
    UsageError
        If images have different voxel sizes and no option chooses one of them.
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
    everyone = {
        label: _member(result, plans.get(label), config, _left_behind(result))
        for label, result in chosen.items()
        if result.images
    }
    members = [member for member in everyone.values() if member.images]
    if not members:
        raise NothingSelectedError(
            f"no image in {config.output_dir} fits the labels and modalities given; there are "
            f"images of {listing(dict.fromkeys(result.label for result in found if result.images))}"
            + "".join(f"; {label}: {_absence(member)}" for label, member in [*everyone.items()][:3])
        )
    _refuse_mixed_voxels(members)
    without = [member for member in everyone.values() if not member.images]
    absentees = [
        *(_without_images(result) for result in chosen.values() if not result.images),
        *(Absentee(each.participant, each.session, _absence(each)) for each in without),
        *(
            Absentee(plan.participant, plan.session, "the participant level left no image of it")
            for plan in plans.values()
            if plan.label not in chosen
        ),
    ]
    _name_whatever_is_missing(members, absentees, config)
    outside = [*(member for member in without if member.known), *_unselected(found, config)]
    return Cohort(tuple(members), tuple(absentees), tuple(outside))


def _without_images(result: ParticipantResult) -> Absentee:
    reason = listing(result.problems, separator="; ")
    return Absentee(result.participant, result.session, reason)


def _name_whatever_is_missing(
    members: Sequence[Member], absentees: Sequence[Absentee], config: RunConfig
) -> None:
    begun = unfinished(config.output_dir)
    for member in members:
        if member.label in begun:
            logger.warning(
                "%s: the participant level began on it and has not finished; images may be "
                "missing, or of two runs: run that on it again, and then this",
                member.label,
            )
    for absentee in absentees:
        logger.warning("%s takes no part: %s", absentee.label, absentee.reason)
    for member in members:
        for contrast, reason in member.refused.items():
            logger.warning("%s: its %s takes no part: %s", member.label, contrast, reason)


def first_visit_of(member: Member, everybody: Iterable[Member]) -> Member | None:
    """The first visit of a participant whose visits share a space; None if that is the member.

    Parameters
    ----------
    member
        One of the visits.
    everybody
        All participants and sessions that have images.
    """
    together = [
        other
        for other in everybody
        if other.participant == member.participant
        and _grid_reference(other) is not None
        and _grid_reference(other) == _grid_reference(member)
    ]
    first = min(together, key=lambda other: natural_key(other.label), default=member)
    return None if first.label == member.label else first


def _grid_reference(member: Member) -> str | None:
    """URI of the image that defines the grid of the images of a participant, if it is stated."""
    stated = member.result.images[0].metadata.get("SpatialReference")
    return stated if isinstance(stated, str) else None


def in_order(images: Iterable[ResultImage]) -> tuple[str, ...]:
    """Names of the contrasts of images, in the order of `contrast_order`."""
    return tuple(
        dict.fromkeys(
            i.contrast for i in sorted(images, key=lambda image: contrast_order(image.entities))
        )
    )


def describe_cohort(cohort: Cohort) -> str:
    """Text that lists the participants and their images."""
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


def _unselected(found: Sequence[ParticipantResult], config: RunConfig) -> Iterator[Member]:
    """Participants with images that were not selected; of several results, the most suitable."""
    units: dict[str, list[ParticipantResult]] = defaultdict(list)
    for result in found:
        if result.images and not _is_selected(result, config):
            units[result.label].append(result)
    for results in units.values():
        # This run makes nothing from their images, so these need not be checked.
        yield _member(_fitting(results, config)[0], None, config, refused={})


def _absence(member: Member) -> str:
    """The reason why this run uses none of the images of a participant."""
    contrasts = listing([image.contrast for image in member.known])
    asked = [f"of the modalities asked for it has none, but {contrasts}"] if member.known else []
    return "; ".join([*member.refused.values(), *asked])


def _plans(config: RunConfig, results: Sequence[ParticipantResult]) -> dict[str, ParticipantPlan]:
    """Scans of all participants, by label, also of contrasts that are not selected by default.

    Participants whose scans cannot be found are left out, with a warning.
    """
    suffixes = (image.entities["suffix"] for result in results for image in result.images)
    modalities = tuple(dict.fromkeys([*(config.modalities or MRI_SUFFIXES), *suffixes]))
    config = replace(config, modalities=modalities)
    if not results:
        return {plan.label: plan for plan in plan_participants(config)}
    within_reach = _of_those_there(config)
    if within_reach is None:
        return {}
    try:
        plans = plan_participants(within_reach)
    except NothingSelectedError as error:
        logger.warning("the scans are out of reach: %s", error)
        return {}
    except InvalidDatasetError:
        plans = tuple(_plans_one_by_one(within_reach))
    return {plan.label: plan for plan in plans}


def _of_those_there(config: RunConfig) -> RunConfig | None:
    """Select only participants and sessions that are in the raw dataset; None if none is left."""
    known = known_participants(config.bids_dir)
    participants = tuple(label for label in config.participant_label if label in known)
    there = known_sessions(config.bids_dir, participants or known)
    sessions = tuple(label for label in config.session_label if label in there)
    for asked, found, what in (
        (config.participant_label, participants, "participant"),
        (config.session_label, sessions, "session"),
    ):
        if missing := [label for label in asked if label not in found]:
            logger.warning(
                "scans are out of reach: %s has no %s %s", config.bids_dir, what, listing(missing)
            )
    # Empty labels would select everybody.
    is_nobody = not known or (config.participant_label and not participants)
    if is_nobody or (config.session_label and not sessions):
        return None
    return replace(config, participant_label=participants, session_label=sessions)


def _plans_one_by_one(config: RunConfig) -> Iterator[ParticipantPlan]:
    """Plan each participant alone, so that a duplicate file affects only its own participant."""
    for label in config.participant_label or known_participants(config.bids_dir):
        try:
            yield from plan_participants(replace(config, participant_label=(label,)))
        except NothingSelectedError:
            # Some participants may have no image, or not the selected sessions.
            continue
        except InvalidDatasetError as error:
            logger.warning("the scans of sub-%s are out of reach: %s", label, error)


def _choose(results: Sequence[ParticipantResult], config: RunConfig) -> ParticipantResult:
    """The results of one participant on the most suitable grid."""
    fitting = _fitting(results, config)
    if len(fitting) > 1:
        sizes = " and ".join(result.res for result in fitting)
        raise UsageError(
            f"{fitting[0].label} has images with voxels of {sizes}, none of "
            f"{resolution_label(config.model.voxel_size)}: name one of these sizes by --voxel-size"
        )
    return fitting[0]


def _fitting(
    results: Sequence[ParticipantResult], config: RunConfig
) -> Sequence[ParticipantResult]:
    """Results in the most suitable space, and of the requested voxel size if there are any.

    Images that are already aligned to the template are preferred, as they need no alignment.
    """
    aligned = aligned_space(config.space.template, config.space.align)
    spaces = [result.space for result in results]
    space = next((name for name in (aligned, SPACE) if name in spaces), spaces[0])
    in_space = [result for result in results if result.space == space]
    wanted = resolution_label(config.model.voxel_size)
    return [result for result in in_space if result.res == wanted] or in_space


def _refuse_mixed_voxels(members: Sequence[Member]) -> None:
    first: dict[str, str] = {}
    for member in members:
        # Denoised images have the voxel sizes of their scans, which differ between participants.
        if any(image.desc != "denoised" for image in member.result.images):
            first.setdefault(member.result.res, member.label)
    if len(first) > 1:
        sizes = ", ".join(f"{res} ({label})" for res, label in first.items())
        raise UsageError(
            f"the participants' images have voxels of different sizes: {sizes}; run the "
            "participant level with one --voxel-size on all, or choose by --participant-label"
        )


def _member(
    result: ParticipantResult,
    plan: ParticipantPlan | None,
    config: RunConfig,
    refused: Mapping[Path, str],
) -> Member:
    made = {image.desc for image in result.images}
    kind = next(kind for kind in IMAGE_KINDS if kind in made)
    found = sorted(
        (image for image in result.images if image.desc == kind),
        key=lambda image: contrast_order(image.entities),
    )
    known = tuple(image for image in found if image.path not in refused)
    reasons = {image.contrast: refused[image.path] for image in found if image.path in refused}
    images = tuple(
        image
        for image in known
        if not config.modalities or image.entities["suffix"] in config.modalities
    )
    own, obstacle = None, ""
    try:
        own = _scans_of(images, plan, result, config)
    except ValueError as error:
        obstacle = str(error)
    return Member(result.participant, result.session, result, known, images, reasons, own, obstacle)


def _left_behind(result: ParticipantResult) -> dict[Path, str]:
    """Images on another grid than the mask of the field of view, each with a message, by path.

    They are from an earlier run of the participant level, which had another grid and another pose
    of the head. Images that cannot be read are left out here; they are reported when they are used.
    """
    current = grid_of(result.fov_mask) if result.fov_mask is not None else None
    if current is None or result.fov_mask is None:
        return {}
    mask = result.fov_mask.name
    return {
        image.path: f"{image.path.name} lies on another grid than {mask}, an earlier run with "
        "other scans or settings left it: run the participant level on it again, or remove it"
        for image in result.images
        if (grid := grid_of(image.path)) is not None and grid != current
    }


def _scans_of(
    images: Sequence[ResultImage],
    plan: ParticipantPlan | None,
    result: ParticipantResult,
    config: RunConfig,
) -> ParticipantPlan:
    """The scans from which images were made; a `ValueError` says why they cannot be used."""
    if not images or images[0].desc != "sr":
        raise ValueError("its images are not super-resolved")
    if plan is None:
        raise ValueError("its scans are not in the dataset")
    contrasts = {contrast.name: contrast for contrast in plan.contrasts}
    found = []
    for image in images:
        wanted = set(ImageRecord.of_sidecar(image.metadata).scan_by_uri)
        contrast = contrasts.get(image.contrast)
        scans = [scan for scan in (contrast.scans if contrast else ()) if scan.uri in wanted]
        if contrast is None or not wanted or len(scans) < len(wanted):
            raise ValueError(f"not all scans behind {image.path.name} are in the dataset")
        _check_scans(scans, image, result, config.output_dir)
        found.append(Contrast(contrast.name, contrast.entities, tuple(scans)))
    own = ParticipantPlan(plan.participant, plan.session, tuple(found))
    _refuse_changed(own, images, config)
    return own


def _refuse_changed(
    plan: ParticipantPlan, images: Sequence[ResultImage], config: RunConfig
) -> None:
    """Raise a ValueError if scans have changed since the participant level.

    Its poses, weights and verdicts hold only for the scans that it used.
    """
    scans = {scan.uri: scan.path for scan in plan.scans}
    try:
        changed = {
            uri
            for image in images
            for uri in changed_since(plan, config, image.path, scans.items())
        }
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error
    if changed:
        names = listing(path.name for uri, path in scans.items() if uri in changed)
        raise ValueError(f"{names} changed since the participant level: run that on it again")


def _check_scans(
    scans: Sequence[Scan], image: ResultImage, result: ParticipantResult, output_dir: Path
) -> None:
    poses, grid = ImageRecord.of_sidecar(image.metadata).poses, grid_of(image.path)
    for scan in scans:
        if reason := unavailable(scan.path):
            raise ValueError(f"{scan.path} cannot be read: {reason}")
        transform = transform_path(output_dir, result, scan, space=result.space)
        if not transform.is_file():
            raise ValueError(f"{transform.name} is missing")
        try:
            pose = read_transform(transform)
        except (OSError, ValueError, LookupError) as error:
            raise ValueError(f"{transform.name} is no transform that can be read") from error
        # For CT, the transform includes the shift of the origin, but the pose in the sidecar does
        # not, so that the two cannot be compared.
        stated = poses.get(scan.uri) if scan.datatype != "ct" else None
        if stated is not None and grid is not None and not is_one_place(stated, pose, grid):
            raise ValueError(
                f"{transform.name} has the scan elsewhere than {image.path.name}, a later run with "
                "other scans or settings wrote it: run the participant level on it again"
            )
