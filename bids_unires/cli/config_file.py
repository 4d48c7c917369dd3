"""Read options from a TOML file."""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import MissingInputError, UsageError
from .parser import Parser

# Options that are not allowed in a file, because they are about a single call of the program.
_NOT_IN_A_FILE = ("help", "version", "config-file", "bids-exec-spec")


def read_options(path: Path, parser: Parser) -> dict[str, Any]:
    """Read options from a file.

    Keys are the long names of options, with dashes or underscores, and the names of the positional
    arguments. Values are checked as on the command line.

    Parameters
    ----------
    path
        The TOML file.
    parser
        The parser of the command line, which defines the options.

    Returns
    -------
    dict
        The options in the file, under the names that ``parser.parse`` uses.

    Raises
    ------
    MissingInputError
        If the file does not exist.
    UsageError
        If the file is not TOML, or the command line does not accept a key or a value.
    """
    actions = _actions(parser)
    positional: dict[str, Any] = {}
    arguments = []
    for key, value in _load(path).items():
        name = key.replace("_", "-")
        if name not in actions:
            raise UsageError(f"{path}: unknown key {key!r}{_nearest(name, actions)}")
        action = actions[name]
        if action.option_strings:
            arguments += _as_arguments(action, name, value, path)
        else:
            text = _as_text(value, name, path)
            positional[action.dest] = text if name == "level" else Path(text)
    try:
        return positional | parser.parse(arguments)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _load(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8", errors="surrogateescape")
    except FileNotFoundError:
        raise MissingInputError(f"the configuration file {path} does not exist") from None
    except OSError as error:
        raise UsageError(f"the configuration file {path} cannot be read: {error}") from error
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the configuration file {path} is not TOML: {error}") from error


def _actions(parser: Parser) -> dict[str, argparse.Action]:
    """The actions of the parser, by their long names, with dashes."""
    actions: dict[str, argparse.Action] = {}
    for action in parser._actions:
        names = [text[2:] for text in action.option_strings if text.startswith("--")]
        if isinstance(action, argparse.BooleanOptionalAction):
            names = [name for name in names if not name.startswith("no-")]
        for name in names or [action.dest]:
            actions[name.replace("_", "-")] = action
    return {name: action for name, action in actions.items() if name not in _NOT_IN_A_FILE}


def _nearest(name: str, actions: Mapping[str, argparse.Action]) -> str:
    close = difflib.get_close_matches(name, actions, n=1, cutoff=0.0)
    return f"; the nearest option is {close[0]!r}" if close else ""


def _as_arguments(action: argparse.Action, name: str, value: Any, path: Path) -> list[str]:
    """Turn a key and its value into arguments of the command line."""
    option, *_ = (text for text in action.option_strings if text.startswith("--"))
    if isinstance(action, argparse.BooleanOptionalAction):
        return [option if _as_truth(value, name, path) else f"--no-{option[2:]}"]
    if isinstance(action, argparse._CountAction):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f"{path}: {name} must be a number of times, got {value!r}")
        return [option] * value
    if action.nargs == 0:
        return [option] if _as_truth(value, name, path) else []
    if action.nargs == "+":
        values = value if isinstance(value, list) else [value]
        return [option, *(_as_text(item, name, path) for item in values)]
    return [f"{option}={_as_text(value, name, path)}"]


def _as_truth(value: Any, name: str, path: Path) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{path}: {name} must be true or false, got {value!r}")
    return value


def _as_text(value: Any, name: str, path: Path) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{path}: {name} must be text or a number, got {value!r}")
    return str(value)
