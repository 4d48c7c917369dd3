"""One run on a folder of DICOM files: a raw BIDS dataset of them, then the participant level."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import RunConfig
from ..dicom.conversion import convert, find_converter
from ..dicom.headers import SeriesHeader, read_headers
from ..dicom.key import Key, folder_labels
from ..dicom.plan import PlannedImage, describe_dataset, plan_dataset
from ..dicom.raw_dataset import write_raw_dataset
from ..dicom.request import DicomRequest
from ..errors import BadDataError, MissingInputError, NothingSelectedError, OutputError, UsageError
from .app import run, say, scratch_folder, temporary_files_in
from .locking import sole_use
from .logs import logging_to_stderr

logger = logging.getLogger("bids_unires")

_SHOWN = 5


def run_dicom(request: DicomRequest, config: RunConfig) -> int:
    """Convert a folder of DICOM files and make images of its scans.

    Parameters
    ----------
    request
        The folder.
    config
        The options of the participant level, with the folders of the request.

    Returns
    -------
    int
        The exit code of the participant level.

    Raises
    ------
    UniResError
        If the folder holds no usable series, or an output cannot be created.
    """
    _check_places(request)
    find_converter()
    with logging_to_stderr(config.verbosity), temporary_files_in(config.work_dir):
        logger.info("reading the headers of the files in %s", request.folder)
        series = read_headers(request.folder)
        key = Key.read(request.key)
        labels = _labels(request, series, key)
        with scratch_folder() as scratch:
            logger.info("dcm2niix converts %d series", len(series))
            images = convert(request.folder, Path(scratch))
            planned = plan_dataset(series, images, labels, request.overruled)
            say(describe_dataset(planned))
            _refuse_nothing(planned, request.folder)
            if config.dry_run:
                if request.label_by == "hash" and not request.key.exists():
                    say("labels of participants are drawn anew by the first run that is not dry")
                return 0
            with sole_use(request.output / ".dicom.lock", str(request.bids)):
                key.with_patients(labels).write(request.key)
                write_raw_dataset(request.bids, planned, overwrite=request.overwrite)
        logger.info("raw dataset in %s; who is who in %s", request.bids, request.key)
    suffixes = tuple(dict.fromkeys(each.suffix for each in planned if each.suffix))
    return run(replace(config, modalities=suffixes))


def _labels(request: DicomRequest, series: Sequence[SeriesHeader], key: Key) -> Mapping[str, str]:
    if request.label_by == "hash":
        labels = key.hashed_labels(series)
    else:
        labels = folder_labels(series, request.folder)
    key.with_patients(labels)
    return labels


def _check_places(request: DicomRequest) -> None:
    """Refuse outputs within the folder of the scans, and a key within what is given to others."""
    folder, output = request.folder.resolve(), request.output.resolve()
    if not request.folder.exists():
        raise MissingInputError(f"{request.folder} does not exist: name a folder of DICOM files")
    if output.is_relative_to(folder) or request.key.resolve().is_relative_to(folder):
        raise UsageError(
            f"{request.output} lies in {request.folder}, which is only read: choose a place "
            "outside of it"
        )
    for shared in (request.bids, request.derivatives):
        if request.key.resolve().is_relative_to(shared.resolve()):
            raise UsageError(
                f"--key-file {request.key} lies in {shared}, which it must not be given away with: "
                "choose a place outside of it"
            )
    if output.exists() and not output.is_dir():
        raise OutputError(f"{request.output} cannot be created: it is not a folder")


def _refuse_nothing(planned: Sequence[PlannedImage], folder: Path) -> None:
    """Raise an error if no series is used."""
    if any(each.suffix for each in planned):
        return
    reasons = [f"{each.header.title}: {each.reason}" for each in planned]
    more = len(reasons) - _SHOWN
    told = "; ".join(reasons[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    if all(each.image is None for each in planned):
        raise BadDataError(f"dcm2niix could convert none of the DICOM files in {folder}")
    raise NothingSelectedError(
        f"{folder} holds no usable series ({told}): take one by --take SERIES=SUFFIX"
    )
