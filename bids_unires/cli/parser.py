"""The parser of the command line; the options are in `options`, by group.

The parsed result has no entry for an option that is not given. Defaults are therefore defined only
in `bids_unires.config`, and a configuration file can set the options that are not given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from ..config import LEVELS
from ..errors import UsageError
from .boutiques import PrintDescriptor
from .help import AllHelp, short_help
from .options.control import add_control
from .options.grid import add_ct, add_group, add_space
from .options.model import add_model
from .options.resources import add_cluster, add_resources
from .options.selection import add_selection

_OFTEN_USED = frozenset(
    {
        "ct",
        "device",
        "dry_run",
        "modalities",
        "nprocs",
        "participant_label",
        "robust",
        "session_label",
        "uncertainty",
        "verbose",
        "voxel_size",
    }
)
"""Options that the short help shows, by their names in the parsed result."""


class Parser(argparse.ArgumentParser):
    """Parser that raises errors rather than end the program, so that the caller exits.

    Attributes
    ----------
    often_used
        Options that the short help shows; all if there are none.
    """

    often_used: frozenset[str] = frozenset()

    def format_help(self) -> str:
        """Help on the options that are used often."""
        return short_help(self, self.often_used) if self.often_used else super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise a `UsageError` with the message."""
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """Parse arguments; folders and options may be in any order.

        Returns
        -------
        dict
            The arguments that were given, by name.

        Raises
        ------
        UsageError
            If an argument is unknown, or a value is not allowed.
        """
        given = vars(self.parse_intermixed_args(self._numbers_last(argv)))
        return {name: value for name, value in given.items() if value is not None}

    def _numbers_last(self, argv: Sequence[str]) -> list[str]:
        """Move options that take several numbers, with their numbers, behind all other arguments.

        Otherwise such an option would also take the names of files that follow its numbers.
        """
        others, moved, left = [], [], list(argv)
        while left and left[0] != "--":
            word = left.pop(0)
            action = self._option_string_actions.get(word)
            taken: list[str] = []
            if action is not None and action.type in (int, float) and action.nargs in ("+", "?"):
                most = len(left) if action.nargs == "+" else 1
                while len(taken) < most and left and _is_number(left[0], action.type):
                    taken.append(left.pop(0))
                # An option whose value is no number stays, for the message to name the value.
                if taken or action.nargs == "?":
                    moved += [word, *taken]
                    continue
            others.append(word)
        return [*others, *moved, *left]


def build_parser() -> Parser:
    """Make the parser of the BIDS App command line."""
    parser = Parser(
        prog="bids_unires",
        usage="%(prog)s bids_dir output_dir {" + ",".join(LEVELS) + "} [options]\n"
        "       %(prog)s --config-file FILE [options]\n"
        "       %(prog)s files T1.nii.gz T2.nii.gz ... [options]\n"
        "       %(prog)s dicom dicom_dir output_dir [options]\n"
        "       %(prog)s demo output_dir\n"
        "       %(prog)s export {raw,nnunet} results_dir output_dir [options]\n"
        "       %(prog)s runner {babs,nipoppy} output [options]",
        description="Super-resolve thick-slice brain scans of a BIDS dataset.",
        epilog="Scans in no BIDS dataset: bids_unires files, bids_unires dicom. A trial on "
        "simulated scans: bids_unires demo. Results for fMRIPrep, FreeSurfer, nnU-Net: "
        "bids_unires export. Files for BABS and Nipoppy: bids_unires runner. Each has its own "
        "--help.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for name, kind, text in (
        ("bids_dir", Path, "root folder of the BIDS dataset"),
        ("output_dir", Path, "folder for the results, which become a BIDS dataset too"),
        ("level", str, "analysis level: participant (reconstruct) or group (all on one grid)"),
    ):
        # Optional for the parser, since a configuration file can give them; checked afterwards.
        parser.add_argument(name, type=kind, nargs="?", default=None, help=text)
    parser.often_used = _OFTEN_USED
    parser.add_argument("--help-all", action=AllHelp, help="show all options and exit")
    parser.add_argument("--version", action="version", version=f"bids_unires {__version__}")
    parser.add_argument(
        "--bids-exec-spec",
        action=PrintDescriptor,
        help="print the Boutiques descriptor of this command and exit",
    )
    add_selection(parser.add_argument_group("which images"))
    add_model(parser.add_argument_group("model"))
    add_space(parser.add_argument_group("alignment and grid"))
    add_ct(parser.add_argument_group("CT"))
    add_group(parser.add_argument_group("group level"))
    add_resources(parser.add_argument_group("resources"))
    add_cluster(parser.add_argument_group("other machines"))
    add_control(parser.add_argument_group("control"))
    return parser


def _is_number(text: str, kind: Any) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
