"""Tables in which the rows of earlier exports are kept."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..dataset.encoding import decode
from ..dataset.entities import natural_key

NOT_KNOWN = "n/a"

Row = Mapping[str, str]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table with tabs, in any encoding; none if there is no such file."""
    if not path.is_file():
        return []
    text = decode(path.read_bytes()).content
    reader = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [{key: value or NOT_KNOWN for key, value in row.items() if key} for row in reader]


def table_text(rows: Iterable[Row], before: Sequence[Row] = (), *, key: str) -> str:
    """The text of a table, sorted by its first column.

    Parameters
    ----------
    rows
        Rows of this export; columns that a row lacks are ``n/a``.
    before
        Rows of earlier exports, which are kept unless this export has a row with the same key.
    key
        Name of the first column, which identifies a row.
    """
    by_key = {row[key]: row for row in (*before, *rows) if key in row}
    columns = dict.fromkeys([key, *(name for row in by_key.values() for name in row)])
    lines = [
        [by_key[name].get(column, NOT_KNOWN) for column in columns]
        for name in sorted(by_key, key=natural_key)
    ]
    return "".join("\t".join(line) + "\n" for line in [list(columns), *lines])
