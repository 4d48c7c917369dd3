"""Whether results were made of the dataset at hand, and the link from them to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from .completion import is_unchanged, recorded_inputs
from .dataset.description import raw_link, relink_raw
from .errors import OutputError

logger = logging.getLogger("bids_unires")

_RAW = "bids:raw:"


def follow_raw(output_dir: Path, bids_dir: Path) -> None:
    """Let the link ``raw`` of a derivative dataset follow its raw dataset to another place.

    A dataset that was moved, or is mounted elsewhere in a container, still holds the scans that
    results were made of. Where a file of that name is another one, it may be another dataset,
    whose participants would replace others of their label.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset, with its description.
    bids_dir
        The raw dataset of this run.

    Raises
    ------
    OutputError
        If the results were made of another dataset.
    """
    stored = raw_link(output_dir, bids_dir)
    if stored is None:
        return
    there = 0
    for path, unchanged in _compared(output_dir, bids_dir):
        there += 1
        if not unchanged:
            raise OutputError(
                f"results in {output_dir} were made of the dataset in {stored}, and {path} is "
                f"another file than there: choose another output folder for {bids_dir}; or, if "
                "only that file was replaced and the dataset moved, name the new place in "
                f"{output_dir / 'dataset_description.json'} (DatasetLinks, raw)"
            )
    if there:
        relink_raw(output_dir, bids_dir)
        logger.info("the raw dataset is in %s now, was in %s", bids_dir, stored)
        return
    # As where every job gets a copy of its participant alone.
    logger.warning(
        "%s links to %s as its raw dataset, and no scan that a result was made of is in %s: "
        "the link stays",
        output_dir / "dataset_description.json",
        stored,
        bids_dir,
    )


def _compared(output_dir: Path, bids_dir: Path) -> Iterator[tuple[Path, bool]]:
    """Files named as inputs of results, and whether they are these."""
    for name, fingerprint in recorded_inputs(output_dir):
        path = bids_dir / name.removeprefix(_RAW)
        if not name.startswith(_RAW) or not path.is_file():
            continue
        try:
            yield path, is_unchanged(fingerprint, path)
        except OSError:
            continue
