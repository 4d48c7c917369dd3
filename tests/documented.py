"""Commands of the documentation, taken from its text, so that tests run what readers copy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from tests.paths import ROOT

PAGES = (
    "README.md",
    "docs/running.md",
    "docs/files.md",
    "docs/dicom.md",
    "docs/next-tools.md",
    "docs/before-computing.md",
    "docs/visits.md",
)
SHELL = frozenset({"", "sh", "bash"})
# Blocks that begin with these show what is printed or written.
_SHOWN = ("participant ", "OUT/", "sub-")
# Within a list, fences and what they hold are indented.
_FENCED = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
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


def demo_gains() -> dict[tuple[str, str], float]:
    """Gains on cubic interpolation in dB that the README shows, by participant and contrast."""
    rows = re.findall(
        r"^sub-(\w+) +(\w+) +[\d. ]+ \+(\d+\.\d+)$",
        (ROOT / "README.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return {(label, contrast): float(gain) for label, contrast, gain in rows}
