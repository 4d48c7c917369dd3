"""Check that earlier results were made from the raw dataset of a run, and update their link."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ..dataset.description import raw_link, relink_raw
from ..dataset.metadata import SidecarError, load_object
from ..errors import OutputError
from .fingerprint import Fingerprint
from .work_record import recorded_inputs

logger = logging.getLogger("bids_unires")

_RAW = "bids:raw:"

# Fingerprints of input files, by name.
_Inputs = Mapping[str, Fingerprint]


def follow_raw(output_dir: Path, bids_dir: Path, replaced: Collection[str] = ()) -> None:
    """Update the link ``raw`` of a derivative dataset if its raw dataset is now in another folder.

    A dataset that was moved, or that a container mounts in another folder, still holds the scans
    from which the results were made. If these scans are missing or have other content, it may be
    another dataset; its results would then overwrite those of participants with the same labels.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset, with its description.
    bids_dir
        The raw dataset of this run.
    replaced
        Labels of the units of work whose results this run would replace.

    Raises
    ------
    OutputError
        If the results were made from another dataset.
    """
    link = raw_link(output_dir, bids_dir)
    if link is None:
        return
    stored, before = link
    recorded = recorded_inputs(output_dir)
    there = 0
    for path, unchanged in _compared(recorded, bids_dir):
        there += 1
        if not unchanged:
            raise OutputError(
                f"{_made_of(output_dir, stored)}, and {path} is another file than there: "
                f"{_choose(output_dir, bids_dir, 'only that file was replaced and the dataset')}"
            )
    if there:
        relink_raw(output_dir, bids_dir)
        logger.info("the raw dataset is in %s now, was in %s", bids_dir, stored)
        return
    if difference := _difference(before, bids_dir, recorded, replaced):
        raise OutputError(
            f"{_made_of(output_dir, stored)}, and {difference}: "
            f"{_choose(output_dir, bids_dir, 'it is the same dataset and')}"
        )
    # This happens if each job has a copy of the dataset with only its own participant.
    logger.warning(
        "%s links to %s as its raw dataset, and no scan that a result was made of is in %s: "
        "the link stays",
        output_dir / "dataset_description.json",
        stored,
        bids_dir,
    )


def _made_of(output_dir: Path, stored: str) -> str:
    return f"results in {output_dir} were made of the dataset in {stored}"


def _choose(output_dir: Path, bids_dir: Path, unless: str) -> str:
    return (
        f"choose another output folder for {bids_dir}; or, if {unless} moved, name the new place "
        f"in {output_dir / 'dataset_description.json'} (DatasetLinks, raw)"
    )


def _difference(
    before: Path, bids_dir: Path, recorded: Mapping[str, _Inputs], replaced: Collection[str]
) -> str:
    """Evidence, in words, that a dataset is not the one of the results; empty if there is none.

    It is needed if the dataset holds none of the scans from which the results were made.
    """
    for label in replaced:
        # `lexists` also counts links to content that DataLad has not fetched yet.
        if label in recorded and not any(map(os.path.lexists, _paths(recorded[label], bids_dir))):
            return f"none of the scans that those of {label} were made of is in {bids_dir}"
    with suppress(SidecarError):
        described = load_object(before / "dataset_description.json")
        if described != load_object(bids_dir / "dataset_description.json"):
            return f"that one is still there, with another description than {bids_dir}"
    return ""


def _paths(inputs: _Inputs, bids_dir: Path) -> Iterator[Path]:
    """Paths that the inputs from the raw dataset would have in another dataset."""
    for name in inputs:
        if name.startswith(_RAW):
            yield bids_dir / name.removeprefix(_RAW)


def _compared(recorded: Mapping[str, _Inputs], bids_dir: Path) -> Iterator[tuple[Path, bool]]:
    """Files with the names of recorded inputs, and whether their content is the recorded one."""
    for inputs in recorded.values():
        for name, fingerprint in inputs.items():
            path = bids_dir / name.removeprefix(_RAW)
            if not name.startswith(_RAW) or not path.is_file():
                continue
            try:
                yield path, fingerprint.is_of(path)
            except OSError:
                continue
