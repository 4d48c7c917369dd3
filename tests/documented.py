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


def demo_gains() -> dict[tuple[str, str], float]:
    """Gains on cubic interpolation in dB that are shown, by participant and contrast."""
    rows = re.findall(
        r"^sub-(\w+) +(\w+) +[\d. ]+ \+(\d+\.\d+)$",
        (ROOT / "docs/start/first-run.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return {(label, contrast): float(gain) for label, contrast, gain in rows}
