"""Tell of modalities that were asked for and that nobody has."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..config import ANATOMICAL_SUFFIXES, CT_SUFFIX, MRI_SUFFIXES, RunConfig
from ..errors import UsageError
from .entities import listing, natural_key

logger = logging.getLogger("bids_unires")


def tell_of_absent_modalities(
    config: RunConfig,
    found: Mapping[str, Sequence[str]],
    participants: Sequence[str],
    known: Sequence[str],
) -> None:
    """Name the modalities that were asked for, and of which no selected participant has an image.

    Some participants of a dataset lack a contrast that others have, so that this is an error only
    if BIDS does not know the name and nobody has an image of it: then it is misspelt.

    Parameters
    ----------
    config
        The configuration of the run.
    found
        Suffix to the images that labels and filters select.
    participants, known
        Labels of the selected participants, and of all participants of the dataset.

    Raises
    ------
    UsageError
        If a name is misspelt, at the participant level.
    """
    # If no scan of any modality is left, an error is raised elsewhere.
    if not any(found.values()):
        return
    absent = [suffix for suffix in _asked_for(config) if suffix in found and not found[suffix]]
    there = set(_suffixes_there(config.bids_dir, participants)) if absent else set()
    absent = [suffix for suffix in absent if suffix not in there]
    for suffix in absent:
        # The group level also asks for what its images show, whose scans may be gone.
        if config.level == "participant" and suffix not in (*ANATOMICAL_SUFFIXES, CT_SUFFIX):
            _refuse_unknown_suffix(suffix, config.bids_dir, known)
    if absent:
        everybody = len(participants) == len(known) and not config.session_label
        logger.log(
            logging.WARNING if everybody else logging.INFO,
            "no image of %s was found%s",
            listing(absent),
            images_there(config.bids_dir, participants),
        )


def _asked_for(config: RunConfig) -> list[str]:
    """The modalities without those that are used by default wherever there are any."""
    usual = MRI_SUFFIXES if set(MRI_SUFFIXES) <= set(config.modalities) else ()
    return [suffix for suffix in config.modalities if suffix not in usual]


def _refuse_unknown_suffix(suffix: str, bids_dir: Path, known: Sequence[str]) -> None:
    """Raise an error unless a participant of the dataset has an image with this suffix."""
    there = _suffixes_there(bids_dir, known)
    if suffix in there:
        return
    spelling = {name.lower(): name for name in (*ANATOMICAL_SUFFIXES, CT_SUFFIX, *there)}
    close = difflib.get_close_matches(suffix.lower(), spelling, n=1)
    hint = f"did you mean {spelling[close[0]]}? " if close else ""
    raise UsageError(
        f"unknown suffix {suffix} (--modalities): {hint}{bids_dir} has images of {listing(there)}"
    )


def images_there(bids_dir: Path, participants: Iterable[str]) -> str:
    """Suffixes of the images of some participants, as the end of a message."""
    suffixes = _suffixes_there(bids_dir, participants)
    return f"; there are {listing(suffixes)}" if suffixes else ""


def _suffixes_there(bids_dir: Path, participants: Iterable[str]) -> list[str]:
    """Suffixes of the images of some participants, in natural order."""
    suffixes = {
        image.name.partition(".")[0].rpartition("_")[2]
        for participant in participants
        for datatype in ("anat", "ct")
        for image in (bids_dir / f"sub-{participant}").glob(f"**/{datatype}/*.nii*")
    }
    return sorted(suffixes, key=natural_key)
