"""Give files that an earlier version wrote their present names, and follow them in records."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..dataset.entities import listing
from ..dataset.naming import STUDY_SPACE, present_study_name
from ..dataset.writing import write_text
from ..errors import OutputError
from .work_record import follow_renamed

logger = logging.getLogger("bids_unires")


def adopt_template_names(output_dir: Path) -> None:
    """Rename the grid and the means of a study that version 0.1.0 wrote, as BIDS 1.11 has them.

    References to them in sidecars are replaced, and the records of the units of work are adapted.
    If the run is interrupted, the next one does the rest.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.

    Raises
    ------
    OutputError
        If a file cannot be renamed.
    """
    moves = dict(_moves(output_dir))
    if not moves:
        return
    sizes = dict(_with_present_references(output_dir, moves))
    names = {former: Path(present).name for former, present in moves.items()}
    follow_renamed(output_dir, names, sizes)
    # Sidecars come after their images: they are what says that a grid is there.
    for former in sorted(moves, key=lambda name: name.endswith(".json")):
        path = output_dir / moves[former]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(output_dir / former, path)
        except OSError as error:
            raise OutputError(
                f"{output_dir / former} cannot be renamed to {path}: {error.strerror or error}"
            ) from error
    logger.info(
        "%d files that an earlier version wrote have the names of BIDS 1.11 now, such as %s in "
        "place of %s",
        len(moves),
        next(iter(moves.values())),
        next(iter(moves)),
    )


def _moves(output_dir: Path) -> Iterator[tuple[str, str]]:
    """Former names in the root of the dataset, and their present paths."""
    both = []
    for path in sorted(output_dir.glob(f"*space-{STUDY_SPACE}_*")):
        present = present_study_name(path.name)
        if present is None:
            continue
        if (output_dir / present).exists():
            both.append(path.name)
        else:
            yield path.name, present
    if both:
        logger.warning(
            "%s of an earlier version are there as well as the files that took their places in "
            "tpl-%s: remove them, since no run uses them any more",
            listing(both),
            STUDY_SPACE,
        )


def _with_present_references(
    output_dir: Path, moves: Mapping[str, str]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Replace references in all sidecars; give former and present size of those that changed."""
    uris = {f'"bids::{former}"': f'"bids::{present}"' for former, present in moves.items()}
    for pattern in ("*.json", "sub-*/**/*.json"):
        for path in sorted(output_dir.glob(pattern)):
            # Files of users may be in any encoding.
            before = path.read_text("utf-8", errors="surrogateescape")
            after = before
            for former, present in uris.items():
                after = after.replace(former, present)
            if after != before:
                size = path.stat().st_size
                write_text(path, after)
                relative = path.relative_to(output_dir).as_posix()
                yield relative, (size, path.stat().st_size)
