"""Whether results were made of the dataset at hand, and the link from them to it."""

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

# By name.
_Inputs = Mapping[str, Fingerprint]


def follow_raw(output_dir: Path, bids_dir: Path, replaced: Collection[str] = ()) -> None:
    """Let the link ``raw`` of a derivative dataset follow its raw dataset to another place.

    A dataset that was moved, or is mounted elsewhere in a container, still holds the scans that
    results were made of. Where it does not, or a file of that name is another one, it may be
    another dataset, whose participants would replace others of their label.

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
        If the results were made of another dataset.
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
    # As where every job gets a copy of its participant alone.
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
    """What tells a dataset that has no scan of the results from theirs; empty if nothing does."""
    for label in replaced:
        # Links to content that is not there yet, as of DataLad, have its names.
        if label in recorded and not any(map(os.path.lexists, _paths(recorded[label], bids_dir))):
            return f"none of the scans that those of {label} were made of is in {bids_dir}"
    with suppress(SidecarError):
        described = load_object(before / "dataset_description.json")
        if described != load_object(bids_dir / "dataset_description.json"):
            return f"that one is still there, with another description than {bids_dir}"
    return ""


def _paths(inputs: _Inputs, bids_dir: Path) -> Iterator[Path]:
    """Where a dataset would have the inputs that come from the raw one."""
    for name in inputs:
        if name.startswith(_RAW):
            yield bids_dir / name.removeprefix(_RAW)


def _compared(recorded: Mapping[str, _Inputs], bids_dir: Path) -> Iterator[tuple[Path, bool]]:
    """Files named as inputs of results, and whether they are these."""
    for inputs in recorded.values():
        for name, fingerprint in inputs.items():
            path = bids_dir / name.removeprefix(_RAW)
            if not name.startswith(_RAW) or not path.is_file():
                continue
            try:
                yield path, fingerprint.is_of(path)
            except OSError:
                continue
