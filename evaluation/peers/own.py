"""The model as a program: ``python -m evaluation.peers.own METHOD SCAN IMAGE --gap SHARE``.

It is started as the other programs are, so that its time and memory are counted as theirs are.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_unires.space.volume import Volume
from evaluation.cases import Examination
from evaluation.methods import METHODS
from evaluation.peers.cases import fine_grid
from evaluation.peers.peer import Job, Peer
from evaluation.peers.scans import read_scan, write_scan

OURS = "bids_unires"
"""What tables call the defaults of the program."""

PLAIN = "plain model"
"""What tables call the model of the articles."""


def own() -> tuple[Peer, ...]:
    """The defaults of the program, and the model of the articles, which stands for UniRes."""
    program = f"bids_unires {importlib.metadata.version('bids_unires')}"
    return (
        _own(OURS, program, "defaults", "the defaults"),
        _own(PLAIN, program, "plain model", "the model of the articles; stands for UniRes 0.3"),
    )


def _own(name: str, program: str, method: str, settings: str) -> Peer:
    def words(job: Job) -> list[str]:
        return [
            *(sys.executable, "-m", "evaluation.peers.own", method),
            *(str(job.scan), str(job.folder / "image.nii.gz")),
            *("--gap", str(job.case.gap / job.case.spacing)),
        ]

    return Peer(name, program, settings, None, words)


def main(words: Sequence[str] | None = None) -> None:
    """Make one image."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.peers.own", description=__doc__)
    parser.add_argument("method", choices=[*METHODS])
    parser.add_argument("scan", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--gap", type=float, default=0.0, help="as a share of the slice spacing")
    arguments = parser.parse_args(words)
    scan = read_scan(arguments.scan)
    grid = fine_grid(scan.grid)
    # The methods take the grid of their image from the truth; they see nothing else of it.
    unknown = Volume(np.zeros(grid.shape, np.float32), grid.affine)
    made = METHODS[arguments.method](
        Examination(
            (unknown,),
            np.ones(grid.shape, dtype=bool),
            ((scan,),),
            ((np.eye(4),),),
            ((arguments.gap,),),
        )
    )
    write_scan(Volume(made.images[0], grid.affine), arguments.image)


if __name__ == "__main__":
    main()
