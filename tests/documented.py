"""Commands of the documentation, taken from its text, so that tests run what readers copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from tests.paths import ROOT

SHELL = frozenset({"", "sh", "bash"})
# Blocks that begin with these show what is printed or written.
_SHOWN = ("participant ", "OUT/", "sub-")
# Within a list, fences and what they hold are indented. What stands in braces is for Sphinx.
_FENCED = re.compile(r"^ *```([\w{}-]*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(^|\s+)# .*$")


def blocks(page: str, languages: frozenset[str]) -> list[str]:
    """Contents of the fenced blocks of a page in some languages."""
    text = (ROOT / page).read_text("utf-8")
    found = [match.groups() for match in _FENCED.finditer(text)]
    return [
        content
        for language, content in found
        if language in languages and not content.startswith(_SHOWN)
    ]


def commands(page: str) -> list[str]:
    """Commands of a page, one for each line that a reader would type, without comments."""
    lines = "\n".join(blocks(page, SHELL)).replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := " ".join(_COMMENT.sub("", line).split()))]


def pages() -> list[str]:
    """Pages that tell a reader to type something, relative to the root of the repository."""
    written = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    names = sorted(str(path.relative_to(ROOT)) for path in written if "_build" not in path.parts)
    return [name for name in names if commands(name)]


def documented(page: str, beginning: str, stand_ins: Mapping[str, str | Path] | None = None) -> str:
    """Give the one command of a page that begins like this.

    Parameters
    ----------
    page
        The page.
    beginning
        Enough of the command to tell it from the others.
    stand_ins
        Text that stands for something of the reader's, to what it is in a test.

    Returns
    -------
    str
        The command, for a shell.
    """
    (command,) = (command for command in commands(page) if command.startswith(beginning))
    for text, here in (stand_ins or {}).items():
        assert text in command, f"{text!r} is not in: {command}"
        command = command.replace(text, str(here))
    return command


def table(page: str, heading: str) -> dict[str, dict[str, str]]:
    """Cells of a table of a page, by the first cell of their row and the title of their column.

    Parameters
    ----------
    page
        The page.
    heading
        The section whose first table is read.
    """
    _, _, section = (ROOT / page).read_text("utf-8").partition(f"## {heading}\n")
    lines = section[section.index("\n|") + 1 :].splitlines()
    titles, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in takewhile(lambda line: line.startswith("|"), lines)
    )
    return {first: dict(zip(titles[1:], cells, strict=True)) for first, *cells in rows}


def find_table(*titles: str, row: str = "") -> dict[str, dict[str, str]]:
    """Cells as of `table`, of the one table with these titles, on whatever page it is.

    Parameters
    ----------
    titles
        Some of its columns.
    row
        Part of the first cell of one of its rows.
    """
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = []
    for page in pages:
        for block in re.findall(r"(?:^\|.*\n)+", page.read_text("utf-8"), re.MULTILINE):
            head, _, *rows = (
                [cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines()
            )
            if set(titles) <= set(head) and any(row in first for first, *_ in rows):
                cells = ((first, dict(zip(head[1:], rest, strict=True))) for first, *rest in rows)
                found.append(dict(cells))
    assert len(found) == 1, f"{len(found)} tables have the columns {titles}"
    return found[0]


def demo_scores() -> dict[tuple[str, str], list[float]]:
    """PSNR in dB that a page shows of the demo, by participant and contrast.

    Of linear interpolation, of cubic interpolation and of the result, and the gain on cubic.
    """
    shown = {}
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for label, contrast, figures in re.findall(
            r"^sub-(\w+) +(\w+) +([\d. ]+ \+\d+\.\d+)$", page.read_text("utf-8"), re.MULTILINE
        ):
            shown[label, contrast] = [float(figure) for figure in figures.split()]
    return shown


def demo_gains() -> dict[tuple[str, str], float]:
    """Gains on cubic interpolation in dB that a page shows, by participant and contrast."""
    return {unit: gain for unit, (*_, gain) in demo_scores().items()}
