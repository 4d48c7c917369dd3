"""Figures of all programs on all cases, kept in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.peers.running import Run

RESULTS = Path(__file__).with_name("results.json")
"""The figures that the documentation shows."""


@dataclass(frozen=True)
class Row:
    """What one program made of one case.

    Parameters
    ----------
    case, method
        What tables call them.
    program, settings
        Program with its version, and what it was told.
    run
        What it took.
    resampled
        Whether its image had to be interpolated to be compared.
    values
        The measures of the image.
    """

    case: str
    method: str
    program: str
    settings: str
    run: Run
    resampled: bool
    values: Mapping[str, float]


def load(path: Path) -> tuple[Row, ...]:
    """Read the figures; none if the file is not there."""
    if not path.is_file():
        return ()
    return tuple(
        Row(**{**row, "run": Run(**row["run"])}) for row in json.loads(path.read_text("utf-8"))
    )


def save(rows: Iterable[Row], path: Path) -> None:
    """Write the figures; the file is there as a whole, or as it was."""
    written = path.with_suffix(".part")
    written.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", "utf-8")
    written.replace(path)


def merged(before: Sequence[Row], after: Sequence[Row]) -> tuple[Row, ...]:
    """Rows of both; the later one of a program on a case takes the place of the earlier one."""
    found = {(row.case, row.method): row for row in before}
    found |= {(row.case, row.method): row for row in after}
    return tuple(found.values())
