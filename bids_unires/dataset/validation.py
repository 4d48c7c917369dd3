"""Check the folders before a run, and validate the input dataset with the BIDS validator."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..config import CT_SUFFIX, RunConfig
from ..errors import InvalidDatasetError, MissingInputError, OutputError, UsageError
from .encoding import decode
from .entities import IMAGE_EXTENSIONS
from .metadata import SidecarError, load_object, read_object

logger = logging.getLogger("bids_unires")

VALIDATOR = "bids-validator-deno"
# Damaged images. They are reported when they are read, so that one incomplete scan does not
# prevent the processing of the other participants.
CONTENT_CODES = frozenset({"EMPTY_FILE", "NIFTI_HEADER_UNREADABLE", "SYMLINK_BROKEN"})
# Sidecars that are no JSON or hold a value of the wrong type. Reading ignores such values with a
# warning.
SIDECAR_CODES = frozenset({"JSON_INVALID", "JSON_NOT_AN_OBJECT", "JSON_SCHEMA_VALIDATION_ERROR"})
# Files in another encoding than UTF-8. This program reads them, but the validator takes them for
# empty, so that its other errors about them are ignored too.
ENCODING_CODES = frozenset({"INVALID_JSON_ENCODING", "INVALID_FILE_ENCODING"})
# Files that do not belong to BIDS, such as the log of a scheduler or a .bak copy. They are errors
# only if their names are those of scans or sidecars that this run would read.
STRAY_CODES = frozenset({"NOT_INCLUDED", "EXTENSION_MISMATCH"})
READ_EXTENSIONS = (*IMAGE_EXTENSIONS, ".json")
# Top-level files and folders without information about the images.
UNUSED_TABLES = frozenset({"participants", "samples", "sessions", "phenotype"})
MESSAGES_SHOWN = 3


def check_folders(config: RunConfig) -> None:
    """Check the input and output folders quickly, without creating anything.

    Raises
    ------
    MissingInputError
        If the dataset does not exist.
    InvalidDatasetError
        If it is no BIDS dataset.
    UsageError
        If an output would be taken for raw data because of its place in the input dataset.
    OutputError
        If the output folder cannot be created, or holds the dataset of another program.
    """
    _check_bids_dir(config.bids_dir)
    _check_outside(config.output_dir, config.bids_dir, "the output folder", or_derivatives=True)
    if config.bids_database_dir is not None:
        _check_outside(config.bids_database_dir, config.bids_dir, "the index database")
    _check_labels(config)
    _check_creatable(config.output_dir)
    _check_owner(config.output_dir)


def validate_dataset(config: RunConfig, participants: Sequence[str]) -> None:
    """Run the BIDS validator on the input.

    Errors end the run. Errors in sidecars, and in files that the run does not read (other
    participants, other kinds of data, tables), are only logged.

    Raises
    ------
    InvalidDatasetError
        If a file that this run depends on is not valid BIDS.
    """
    issues = [issue for issue in _validator_errors(config.bids_dir) if not _is_ct(issue)]
    undecoded = {_location(issue) for issue in issues if issue.get("code") in ENCODING_CODES}
    concerning = [
        issue
        for issue in issues
        if issue.get("code") not in CONTENT_CODES
        and _location(issue) not in undecoded
        and not _is_sidecar_error(issue)
        and not _is_stray(issue, config.modalities)
        and _is_used(_location(issue), participants, config.modalities)
    ]
    if concerning:
        shown = "; ".join(_describe(issue) for issue in concerning[:MESSAGES_SHOWN])
        more = len(concerning) - MESSAGES_SHOWN
        raise InvalidDatasetError(
            f"{config.bids_dir} is not valid BIDS: {shown}"
            + (f"; and {more} more" if more > 0 else "")
            + f" (see them all with: {VALIDATOR} {config.bids_dir}; "
            "go on regardless with --skip-bids-validation)"
        )
    if issues:
        logger.warning(
            "the BIDS validator found %d error%s that need not stop this run, such as %s",
            len(issues),
            "s" if len(issues) > 1 else "",
            _describe(issues[0]),
        )


def _check_bids_dir(bids_dir: Path) -> None:
    if not os.path.exists(bids_dir):
        raise MissingInputError(f"the dataset {bids_dir} does not exist")
    if not bids_dir.is_dir():
        raise InvalidDatasetError(f"{bids_dir} is not a folder: name the root of a BIDS dataset")
    description = bids_dir / "dataset_description.json"
    if not os.path.lexists(description):
        raise InvalidDatasetError(
            f"{bids_dir} has no dataset_description.json: name the root of a BIDS dataset (for a "
            "folder of DICOM: bids_unires dicom; for images: bids_unires files)"
        )
    try:
        fault = read_object(description).fault
    except SidecarError as error:
        raise InvalidDatasetError(f"{description} is not readable JSON: {error}") from error
    if fault:
        logger.warning("%s: %s", description, fault)


def _check_outside(
    folder: Path, bids_dir: Path, what: str, *, or_derivatives: bool = False
) -> None:
    folder_there, bids_there = _resolved(folder), bids_dir.resolve()
    if not folder_there.is_relative_to(bids_there):
        return
    if or_derivatives:
        if folder_there.relative_to(bids_there).parts[:1] == ("derivatives",):
            return
        place = f"outside of it, or {bids_dir / 'derivatives' / 'bids_unires'}"
    else:
        place = "outside of it"
    raise UsageError(
        f"{what} {folder} lies in the dataset {bids_dir}, where it would be taken for raw data: "
        f"choose a place {place}"
    )


def _resolved(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{folder} cannot be created: its links lead in circles") from error


def _check_labels(config: RunConfig) -> None:
    if config.labels is None:
        return
    if not config.labels.is_dir():
        raise MissingInputError(f"the dataset of labels {config.labels} does not exist")
    if config.output_dir.resolve() == config.labels.resolve():
        raise UsageError(
            f"{config.output_dir} holds the label images: choose another output folder, "
            "or the results would be taken for labels the next time"
        )


def _check_creatable(folder: Path) -> None:
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        if existing.is_symlink():
            raise OutputError(f"{folder} cannot be created: {existing} is a broken link")
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{folder} cannot be created: {existing} is not a folder")
    # Tested for the effective user of this process, which in a container can differ from the user
    # who started it.
    effective = os.access in os.supports_effective_ids
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=effective):
        raise OutputError(f"{folder} cannot be written to: no permission in {existing}")


def _check_owner(output_dir: Path) -> None:
    """Raise an error if the output folder holds the dataset of another program."""
    description = output_dir / "dataset_description.json"
    if not os.path.lexists(description):
        return
    try:
        pipelines = load_object(description).get("GeneratedBy")
    except SidecarError as error:
        raise OutputError(f"{description} is there but not readable JSON: {error}") from error
    listed = pipelines if isinstance(pipelines, list) else []
    names = [item.get("Name") for item in listed if isinstance(item, dict)]
    if "bids_unires" not in names:
        owner = ", ".join(str(name) for name in names) or "another program"
        raise OutputError(
            f"{output_dir} already holds a dataset of {owner}: choose another output folder"
        )


def _validator_errors(bids_dir: Path) -> list[dict[str, Any]]:
    """Errors that the BIDS validator reports; empty if it cannot run."""
    executable = find_validator()
    if executable is None:
        logger.warning("%s is not installed: the input is not validated", VALIDATOR)
        return []
    # Image headers are left out here. Reading the images checks them and gives better advice.
    command = [executable, "--json", "--ignoreWarnings", "--ignoreNiftiHeaders", str(bids_dir)]
    environment = {**os.environ, "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, check=False)
        report = json.loads(done.stdout)
    except (OSError, ValueError) as error:
        # The validator crashes on tables in UTF-16. Its message comes before its stack trace.
        said = decode(done.stderr).content.strip() if isinstance(error, ValueError) else str(error)
        logger.warning(
            "the BIDS validator could not run (%s): the input is not validated",
            " ".join((said or str(error)).splitlines()[0].split()),
        )
        return []
    issues: list[dict[str, Any]] = report["issues"]["issues"]
    return [issue for issue in issues if issue.get("severity") == "error"]


def find_validator() -> str | None:
    """Path of the validator: beside this Python, which need not be in PATH, or else in PATH."""
    beside = Path(sys.executable).parent / VALIDATOR
    return str(beside) if os.access(beside, os.X_OK) else shutil.which(VALIDATOR)


def _location(issue: Mapping[str, Any]) -> str:
    """Path of the file of an issue, from the root of the dataset; empty if it is about no file."""
    return str(issue.get("location") or "")


def _is_ct(issue: Mapping[str, Any]) -> bool:
    """Whether an issue is about CT, which the BIDS schema does not define."""
    path = PurePosixPath(_location(issue))
    return CT_SUFFIX in path.parts or path.name.split(".", 1)[0].endswith(f"_{CT_SUFFIX}")


def _is_sidecar_error(issue: Mapping[str, Any]) -> bool:
    is_description = PurePosixPath(_location(issue)).name == "dataset_description.json"
    return issue.get("code") in SIDECAR_CODES and not is_description


def _is_stray(issue: Mapping[str, Any], modalities: Sequence[str]) -> bool:
    """Whether an issue is about a file that does not belong to BIDS and that no run reads."""
    name = PurePosixPath(_location(issue)).name
    stem, dot, extension = name.partition(".")
    is_read = dot + extension in READ_EXTENSIONS and stem.rsplit("_", 1)[-1] in modalities
    return issue.get("code") in STRAY_CODES and not is_read


def _is_used(location: str, participants: Sequence[str], modalities: Sequence[str]) -> bool:
    """Whether a run depends on a file, given by its path from the root of the dataset."""
    parts = PurePosixPath(location).parts[1:]
    if not parts:
        return True
    stem = parts[-1].split(".", 1)[0]
    suffix = stem.rsplit("_", 1)[-1]
    if not parts[0].startswith("sub-"):
        return (
            stem not in UNUSED_TABLES
            and parts[0] not in UNUSED_TABLES
            and ("_" not in stem or suffix in modalities or stem == "dataset_description")
        )
    return parts[0][4:] in participants and suffix in modalities


def _describe(issue: Mapping[str, Any]) -> str:
    what = " ".join(str(issue[key]) for key in ("code", "subCode") if issue.get(key))
    return f"{what} in {issue['location']}" if issue.get("location") else what
