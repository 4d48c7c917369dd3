"""Choose the images to hand over among the results of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..dataset.derivatives import IMAGE_KINDS, ParticipantResult, ResultImage, find_results
from ..dataset.description import PIPELINE_NAME
from ..dataset.entities import listing
from ..dataset.metadata import SidecarError, load_object
from ..dataset.naming import STUDY_SPACE
from ..dataset.scans import contrast_order
from ..errors import InvalidDatasetError, MissingInputError, NothingSelectedError, UsageError


@dataclass(frozen=True)
class Selection:
    """The images to hand over; an empty field selects all.

    Parameters
    ----------
    participants, sessions
        Labels without ``sub-`` and ``ses-``.
    contrasts
        Names of contrasts, such as ``T1w`` or ``ce-gad_T1w``.
    space
        Label of the space; if it is ``study``, images of the group level are selected, else those
        of the participant level.
    resolution
        Label of the resolution, such as ``1mm``.
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    contrasts: tuple[str, ...] = ()
    space: str | None = None
    resolution: str | None = None


@dataclass(frozen=True)
class SelectedUnit:
    """The selected images of one participant or session, all on one grid.

    Parameters
    ----------
    participant, session
        Labels without ``sub-`` and ``ses-``.
    space, resolution
        Labels of the space and the resolution of the grid.
    images
        Images by the names of their contrasts, in the order of contrasts.
    """

    participant: str
    session: str | None
    space: str
    resolution: str
    images: Mapping[str, ResultImage]

    @property
    def label(self) -> str:
        """``sub-01``, or ``sub-01_ses-a``."""
        return f"sub-{self.participant}" + (f"_ses-{self.session}" if self.session else "")


def select_images(results_dir: Path, selection: Selection) -> tuple[SelectedUnit, ...]:
    """Find the images of earlier runs that a selection names.

    Of an image that exists in several kinds, the first of ``sr``, ``denoised`` and ``resliced`` is
    taken.

    Parameters
    ----------
    results_dir
        Output folder of the runs.
    selection
        Which images.

    Returns
    -------
    tuple of SelectedUnit
        Participants and sessions with at least one image, in natural order.

    Raises
    ------
    MissingInputError
        If the folder does not exist.
    InvalidDatasetError
        If it holds no results of this program.
    NothingSelectedError
        If a participant, session or contrast does not exist, or no image is left.
    UsageError
        If the images of a participant exist in several spaces or resolutions.
    """
    _check_results(results_dir)
    found = find_results(results_dir, of_study=selection.space == STUDY_SPACE)
    _check_labels(found, selection, results_dir)
    wanted = [result for result in found if result.images and _is_selected(result, selection)]
    _refuse_several_grids(wanted)
    units = [_unit(result, selection.contrasts) for result in wanted]
    _check_contrasts(wanted, selection)
    if not any(unit.images for unit in units):
        raise NothingSelectedError(
            f"{results_dir} has no image of the space, resolution and labels given; "
            f"it has {_grids(found) or 'none at all: run the participant level first'}"
        )
    return tuple(unit for unit in units if unit.images)


def contrasts_of(units: Sequence[SelectedUnit]) -> tuple[str, ...]:
    """Names of all contrasts of some units, in the order T1w, T2w, PDw, FLAIR, others, CT."""
    entities = {name: image.entities for unit in units for name, image in unit.images.items()}
    return tuple(sorted(entities, key=lambda name: contrast_order(entities[name])))


def _check_results(results_dir: Path) -> None:
    if not results_dir.is_dir():
        raise MissingInputError(f"{results_dir} does not exist: name the output folder of a run")
    try:
        listed = load_object(results_dir / "dataset_description.json").get("GeneratedBy")
    except SidecarError as error:
        raise InvalidDatasetError(
            f"{results_dir} has no readable dataset_description.json ({error}): name the output "
            "folder of a run"
        ) from error
    names = [item.get("Name") for item in listed or () if isinstance(item, dict)]
    if PIPELINE_NAME not in names:
        raise InvalidDatasetError(
            f"{results_dir} holds no results of {PIPELINE_NAME}: name the output folder of a run"
        )


def _check_labels(
    found: Sequence[ParticipantResult], selection: Selection, results_dir: Path
) -> None:
    for what, chosen, known in (
        ("participant", selection.participants, [result.participant for result in found]),
        ("session", selection.sessions, [result.session for result in found]),
    ):
        there = list(dict.fromkeys(label for label in known if label))
        if unknown := [label for label in chosen if label not in there]:
            raise NothingSelectedError(
                f"{results_dir} has no results of {what} {listing(unknown)}; "
                f"it has {listing(there) or 'none'}"
            )


def _is_selected(result: ParticipantResult, selection: Selection) -> bool:
    return (
        (not selection.participants or result.participant in selection.participants)
        and (not selection.sessions or result.session in selection.sessions)
        and selection.space in (None, result.space)
        and selection.resolution in (None, result.res)
    )


def _refuse_several_grids(results: Sequence[ParticipantResult]) -> None:
    labels = [result.label for result in results]
    several = [result for result in results if labels.count(result.label) > 1]
    if several:
        raise UsageError(
            f"images of {several[0].label} are there in several spaces or resolutions: "
            f"{_grids(several)}; choose by --space and --res"
        )


def _grids(results: Sequence[ParticipantResult]) -> str:
    """Spaces and resolutions, in the form of file names."""
    grids = [f"space-{result.space}_res-{result.res}" for result in results if result.images]
    return listing(dict.fromkeys(grids))


def _unit(result: ParticipantResult, contrasts: Sequence[str]) -> SelectedUnit:
    ordered = sorted(
        result.images,
        key=lambda image: (contrast_order(image.entities), IMAGE_KINDS.index(image.desc)),
    )
    images: dict[str, ResultImage] = {}
    for image in ordered:
        if not contrasts or image.contrast in contrasts:
            images.setdefault(image.contrast, image)
    return SelectedUnit(result.participant, result.session, result.space, result.res, images)


def _check_contrasts(results: Sequence[ParticipantResult], selection: Selection) -> None:
    known = contrasts_of([_unit(result, ()) for result in results])
    unknown = [name for name in selection.contrasts if name not in known]
    if known and unknown:
        raise NothingSelectedError(
            f"no image of the contrast {listing(unknown)}; there are {listing(known)}"
        )
