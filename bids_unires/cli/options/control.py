"""Options for how a run goes and what it says."""

from __future__ import annotations

import argparse
from pathlib import Path

from .values import yes_or_no


def add_control(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how a run goes."""
    group.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="TOML file of options under their long names; options on the command line override "
        "it. Every run writes such a file to output_dir/logs",
    )
    group.add_argument(
        "--json", action="store_true", help="with --dry-run at the participant level: print JSON"
    )
    group.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="skip participants that an earlier run finished with the same inputs, settings "
        f"and version (default: {yes_or_no(True)})",
    )
    group.add_argument(
        "--stop-on-first-crash",
        action="store_true",
        help="do not start other participants after one has failed",
    )
    add_saying(group)


def add_saying(group: argparse._ArgumentGroup) -> None:
    """Add the options for what is said, and for saying only what would be done."""
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan, what each scan adds and what looks wrong with it; compute nothing",
    )
    group.add_argument(
        "-v", "--verbose", action="count", help="print more, and tracebacks of errors"
    )
    group.add_argument("-q", "--quiet", action="count", help="print less")
