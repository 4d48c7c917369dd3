"""Spell the options of a command line again, as files for other programs state them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class GivenOption:
    """One option and its value.

    Parameters
    ----------
    flag
        Its long name, with the leading dashes.
    value
        None for an option without a value; else a number, a string or a list of these.
    """

    flag: str
    value: Any = None

    @property
    def identity(self) -> str:
        """Its name in a Boutiques descriptor."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def text(self) -> str:
        """Its value as it is typed; empty if it has none."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return " ".join(_typed(value) for value in values if value is not None)


def given_options(
    parser: argparse.ArgumentParser, given: Mapping[str, Any]
) -> Iterator[GivenOption]:
    """The options that were given, in the order of the parser.

    Parameters
    ----------
    parser
        The parser.
    given
        What it made of the command line, by destination.
    """
    for action in parser._actions:
        long = [name for name in action.option_strings if name.startswith("--")]
        if not long or action.dest not in given:
            continue
        value = given[action.dest]
        if isinstance(action, argparse.BooleanOptionalAction):
            negation = next(name for name in long if name.startswith("--no-"))
            yield GivenOption(long[0] if value else negation)
        elif action.nargs == 0:
            # Several options with one destination are told apart by what they store.
            if action.const in (None, value):
                yield GivenOption(long[0])
        else:
            yield GivenOption(long[0], _plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _typed(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
