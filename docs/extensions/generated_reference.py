"""Directives that write the reference from the program itself, so that it cannot be out of date.

``program-options``
    The options of a command, from its parser.
``record``
    The entries of a record in a sidecar or log, from the class that writes and reads it.
``table-columns``
    The columns of the table of the group level.
``exit-codes``
    The exit codes of a run, from the exceptions.
``layers``
    The packages and who may import whom, from the contract that ``make check`` enforces.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import re
import textwrap
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path

from docutils import nodes
from numpydoc.docscrape import NumpyDocString
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bids_unires import errors
from bids_unires.cli import dicom, files
from bids_unires.cli.export import export_parser
from bids_unires.cli.parser import build_parser
from bids_unires.cli.runner import runner_parser
from bids_unires.pipeline.group.table import COLUMNS
from bids_unires.records.entries import SCHEMA_KEY, VersionedRecord, list_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "bids_unires"

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "bids_unires": build_parser,
    "files": files.build_parser,
    "dicom": dicom.build_parser,
    "export": export_parser,
    "runner": runner_parser,
}

TYPES = {
    "affine": "4 x 4 matrix",
    "flag": "true or false",
    "nested": "object",
    "number": "number",
    "numbers": "list of numbers",
    "positive": "number above 0",
    "settings": "object",
    "text": "text",
    "texts": "list of text",
    "vector": "list of numbers",
    "whole": "whole number",
    "whole_numbers": "list of whole numbers",
}
"""Function that checks an entry of a record -> what it lets through."""


class Generated(SphinxDirective, ABC):
    """A directive whose content is Markdown that the program makes.

    What stands in it on a page is for readers of the file itself, where nothing is generated.
    """

    has_content = True
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse what the subclass writes, at every build, since the program may have changed."""
        self.env.note_reread()
        name = self.arguments[0] if self.arguments else ""
        text = "\n".join(self.lines(name))
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    @abstractmethod
    def lines(self, name: str) -> Iterator[str]:
        """Lines of Markdown; ``name`` is the argument of the directive."""


class ProgramOptions(Generated):
    """The options of one command, group by group."""

    def lines(self, name: str) -> Iterator[str]:
        """Headings for the groups; below each the options with their help."""
        parser = PARSERS[name]()
        usage = textwrap.dedent(" " * 7 + parser.format_usage().removeprefix("usage: ")).rstrip()
        yield from ("### Usage", "", "```text", usage, "```", "")
        # What it does comes first; how to ask for help, last.
        arguments, about, *others = parser._action_groups
        for group in (arguments, *others, about):
            actions = [own for own in group._group_actions if own.help != argparse.SUPPRESS]
            if not actions:
                continue
            yield from (f"### {str(group.title).capitalize().replace('Ct', 'CT')}", "")
            for action in actions:
                yield from (f":::{{option}} {_signature(action)}", _escaped(action.help or ""))
                yield from (":::", "")


def _signature(action: argparse.Action) -> str:
    """Spellings of an option; what it takes stands behind the first."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    formatter = argparse.HelpFormatter("")
    # The name under which values are listed: the metavar, or the choices.
    taken = "" if action.nargs == 0 else formatter._format_args(action, action.dest.upper())
    first, *others = action.option_strings
    return ", ".join([f"{first} {taken}".strip(), *others])


class RecordEntries(Generated):
    """The entries of a record: key, type and meaning."""

    required_arguments = 1
    optional_arguments = 0

    def lines(self, name: str) -> Iterator[str]:
        """A table; records inside the record have tables of their own."""
        module, _, class_name = name.rpartition(".")
        record = getattr(importlib.import_module(f"bids_unires.records.{module}"), class_name)
        meanings = {
            each.strip(): " ".join(parameter.desc)
            for parameter in NumpyDocString(record.__doc__)["Parameters"]
            for each in (parameter.name or parameter.type).split(",")
        }
        yield from ("| entry | type | meaning |", "|---|---|---|")
        if issubclass(record, VersionedRecord):
            version = f"Version of these entries, at present {record.schema_version}."
            yield f"| `{SCHEMA_KEY}` | {TYPES['whole']} | {version} |"
        for own in dataclasses.fields(record):
            key, read = own.metadata["key"], own.metadata["read"]
            if key is not None:
                kind = TYPES.get(read.__name__, _other_type(read))
                # What is None in Python is null in JSON.
                meaning = re.sub(r"\bNone\b", "`null`", _cell(meanings[own.name]))
                yield f"| `{key}` | {kind} | {meaning} |"


def _other_type(read: Callable[[object], object]) -> str:
    return "list of objects" if read.__qualname__.startswith(list_of.__name__) else "object"


class TableColumns(Generated):
    """The columns of ``group_unires.tsv``."""

    def lines(self, name: str) -> Iterator[str]:
        """A table of the columns, with the meaning of their levels."""
        yield from ("| column | unit | meaning |", "|---|---|---|")
        for column, about in COLUMNS.items():
            levels = "; ".join(
                f"`{level}`: {text}" for level, text in about.get("Levels", {}).items()
            )
            meaning = ". ".join(filter(None, (about["Description"], levels)))
            yield f"| `{column}` | {about.get('Units', '')} | {_cell(meaning)} |"


class ExitCodes(Generated):
    """The exit codes of a run."""

    def lines(self, name: str) -> Iterator[str]:
        """A table by code; codes of the program's own exceptions are read off these."""
        meaning = {
            0: "Done.",
            errors.UniResError.exit_code: "Anything that is not listed here, such as a process "
            "that was killed for lack of memory, or got too few threads. Also if participants "
            "failed with different codes.",
            130: "Interrupted (Ctrl-C).",
        }
        for error in errors.UniResError.__subclasses__():
            meaning[error.exit_code] = str(error.__doc__)
        yield from ("| code | meaning |", "|---|---|")
        for code, text in sorted(meaning.items()):
            yield f"| {code} | {_cell(text)} |"


class Layers(Generated):
    """The packages, top floor first, and what each is for."""

    optional_arguments = 1

    def lines(self, name: str) -> Iterator[str]:
        """A table of the floors of a package."""
        contract = next(one for one in contracts() if one["id"] == (name or "layers"))
        folder = ROOT / str(contract["containers"][0]).replace(".", "/")
        yield from ("| floor | package | what it does |", "|---|---|---|")
        floors = contract["layers"]
        for number, floor in zip(range(len(floors), 0, -1), floors, strict=True):
            for module in floor.split(" | "):
                yield f"| {number} | `{module}` | {_cell(_summary(folder, module))} |"


def contracts() -> list[dict[str, object]]:
    """The contracts on imports that ``make check`` enforces."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["tool"]["importlinter"]["contracts"]


def _summary(folder: Path, module: str) -> str:
    """First sentence of the docstring of a module or package."""
    path = folder / module / "__init__.py"
    path = path if path.is_file() else folder / f"{module}.py"
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.split("\n\n")[0]


def _cell(text: str) -> str:
    """Text of a docstring as one cell of a table in Markdown."""
    plain = " ".join(textwrap.dedent(text).split()).replace("|", "\\|")
    # Docstrings write code in two backticks and cross references in one; here both are code.
    return re.sub(r"`+([^`]+)`+", r"`\1`", plain)


def _escaped(text: str) -> str:
    """Plain text in Markdown."""
    return re.sub(r"([\\*_`<>\[\]{}|#])", r"\\\1", " ".join(text.split()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("program-options", ProgramOptions)
    app.add_directive("record", RecordEntries)
    app.add_directive("table-columns", TableColumns)
    app.add_directive("exit-codes", ExitCodes)
    app.add_directive("layers", Layers)
    return {"parallel_read_safe": True}
