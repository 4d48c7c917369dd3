"""A small dataset to run on: ``python -m tests.containers.dataset FOLDER [PARTICIPANT ...]``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.pipeline.conftest import scan_of_head, write_dataset

PARTICIPANTS = ("01", "02")


def write_small_dataset(root: Path, participants: tuple[str, ...] = PARTICIPANTS) -> Path:
    """Write a T1w and a FLAIR scan for each participant, slices in two planes.

    Parameters
    ----------
    root
        A folder that is not there yet.
    participants
        Labels.

    Returns
    -------
    Path
        The root.
    """
    scans = {}
    for seed, label in enumerate(participants):
        offset = (float(seed), 0.0, 0.0)
        scans[f"sub-{label}_T1w"] = scan_of_head(axis=2, offset=offset, seed=2 * seed)
        scans[f"sub-{label}_FLAIR"] = scan_of_head(axis=0, offset=offset, seed=2 * seed + 1)
    return write_dataset(root, scans)


if __name__ == "__main__":
    write_small_dataset(Path(sys.argv[1]), tuple(sys.argv[2:]) or PARTICIPANTS)
