"""Describe the command line as a Boutiques descriptor, which is made from the argument parser.

Platforms such as CBRAIN read descriptors (Glatard et al. 2018, https://doi.org/10.1093/gigascience/giy016)
to show a form and to build a command line. The descriptor follows version 0.5 of the schema, and
what ``bosh validate --bids`` requires of BIDS Apps.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from .. import __version__
from ..config import LEVELS
from ..errors import UniResError

SCHEMA_VERSION = "0.5"
# Folders that a run reads, so that a platform has to provide them. A run creates the other folders.
_INPUT_FOLDERS = frozenset({"bids_dir", "labels"})
# `bosh validate --bids` recognises BIDS Apps by these inputs.
_LEADING = ("bids_dir", "output_dir", "analysis_level", "participant_label", "session_label")


class PrintDescriptor(argparse.Action):
    """Option that prints the descriptor of its own parser and ends the program."""

    def __init__(self, option_strings: Sequence[str], dest: str, **others: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **others)

    def __call__(self, parser: argparse.ArgumentParser, *others: object) -> NoReturn:
        """Print the descriptor and exit."""
        print(json.dumps(descriptor(parser), indent=2))
        parser.exit()
        raise AssertionError("unreachable")


def descriptor(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Describe the command line of a BIDS App in the format of Boutiques.

    Parameters
    ----------
    parser
        The parser; its positional arguments are ``bids_dir``, ``output_dir`` and ``level``.

    Returns
    -------
    dict
        The descriptor, in types that can be written to JSON.
    """
    inputs = list(_inputs(parser))
    identities = [entry["id"] for entry in inputs]
    rest = [name for name in identities if name not in (*_LEADING, "output_dir_there")]
    keys = [_value_key(name) for name in (*_LEADING, *rest)]
    return {
        "name": parser.prog,
        "description": parser.description,
        "tool-version": __version__,
        "schema-version": SCHEMA_VERSION,
        "command-line": f"mkdir -p [OUTPUT_DIR]; {parser.prog} {' '.join(keys)}",
        "inputs": inputs,
        "groups": [_output_group(), *_exclusive_groups(parser)],
        "output-files": [
            {
                "id": "results",
                "name": "results",
                "description": "BIDS derivatives",
                "path-template": "[OUTPUT_DIR]",
            }
        ],
        "error-codes": _error_codes(),
        "tags": {"domain": ["neuroinformatics", "mri"]},
    }


def _inputs(parser: argparse.ArgumentParser) -> Iterator[dict[str, Any]]:
    for action in parser._actions:
        if isinstance(action, PrintDescriptor | argparse._HelpAction | argparse._VersionAction):
            continue
        if action.dest == "output_dir":
            yield from _output_folders(action)
        elif action.dest == "level":
            level = _described("analysis_level", action, "String")
            yield level | {"value-choices": list(LEVELS), "optional": False}
        elif not action.option_strings:
            yield _described(action.dest, action, "File") | {"optional": False}
        elif action.nargs == 0:
            yield from _flags(action)
        else:
            yield _option(action)


def _output_folders(action: argparse.Action) -> Iterator[dict[str, Any]]:
    """Two inputs for the output folder: a name, or an existing folder with earlier results."""
    yield _described("output_dir", action, "String")
    there = _described("output_dir_there", action, "File")
    there["description"] += "; one with the results of an earlier run"
    yield there | {"value-key": _value_key("output_dir")}


def _flags(action: argparse.Action) -> Iterator[dict[str, Any]]:
    """The flags of an option: two if it can be negated, else one."""
    long = [name for name in action.option_strings if name.startswith("--")]
    negations = [name for name in long if name.startswith("--no-")]
    flags = [long[0], *negations[:1]] if _is_negatable(action) else long[:1]
    for flag in flags:
        entry = _described(flag.lstrip("-").replace("-", "_"), action, "Flag")
        if flag in negations:
            entry["description"] = f"the opposite of {long[0]}"
        yield entry | {"command-line-flag": flag}


def _option(action: argparse.Action) -> dict[str, Any]:
    kind, details = _kind(action)
    flag = next(name for name in action.option_strings if name.startswith("--"))
    entry = _described(action.dest, action, kind)
    entry["id"] = flag.lstrip("-").replace("-", "_")
    entry["value-key"] = _value_key(entry["id"])
    entry |= {"command-line-flag": flag, **details}
    if action.choices is not None:
        entry["value-choices"] = list(action.choices)
    if action.nargs == "+":
        entry |= {"list": True, "min-list-entries": 1}
    return entry


def _kind(action: argparse.Action) -> tuple[str, dict[str, Any]]:
    """Type of an option in Boutiques, and further fields that this type needs."""
    converter: Any = action.type
    value = converter if isinstance(converter, type) else _returned(converter)
    if value is int:
        return "Number", {"integer": True}
    if value is float:
        return "Number", {}
    if value is Path and (action.metavar == "FILE" or action.dest in _INPUT_FOLDERS):
        return "File", {}
    return "String", {}


def _returned(converter: Any) -> Any:
    return str if converter is None else get_type_hints(converter).get("return", str)


def _described(identity: str, action: argparse.Action, kind: str) -> dict[str, Any]:
    return {
        "id": identity,
        "name": identity.replace("_", " "),
        "description": (action.help or "").replace("%%", "%"),
        "type": kind,
        "value-key": _value_key(identity),
        "optional": True,
    }


def _value_key(identity: str) -> str:
    return f"[{identity.upper()}]"


def _is_negatable(action: argparse.Action) -> bool:
    return isinstance(action, argparse.BooleanOptionalAction)


def _output_group() -> dict[str, Any]:
    return {
        "id": "output_folder",
        "name": "output folder",
        "members": ["output_dir", "output_dir_there"],
        "mutually-exclusive": True,
        "one-is-required": True,
    }


def _exclusive_groups(parser: argparse.ArgumentParser) -> Iterator[dict[str, Any]]:
    """Groups of options that exclude each other: those of the parser, and negations."""
    sets = [list(group._group_actions) for group in parser._mutually_exclusive_groups]
    sets += [[action] for action in parser._actions if _is_negatable(action)]
    for actions in sets:
        members = [
            entry["id"]
            for action in actions
            for entry in (_flags(action) if action.nargs == 0 else [_option(action)])
        ]
        yield {
            "id": "_or_".join(members),
            "name": " or ".join(member.replace("_", " ") for member in members),
            "members": members,
            "mutually-exclusive": True,
        }


def _error_codes() -> list[dict[str, Any]]:
    """Exit codes and their meanings, taken from the exceptions of the program."""
    return [
        {"code": error.exit_code, "description": _summary(error)}
        for error in sorted(UniResError.__subclasses__(), key=lambda error: error.exit_code)
    ]


def _summary(documented: type) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0].replace("``", "")
