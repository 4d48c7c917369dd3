"""``bids_unires files``: images from plain files, without a BIDS dataset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import Modality, RunConfig
from ..dataset.plain_files import PREFIX, FilesRequest, PlainContrast, PlainLabels
from ..errors import UsageError
from ..run.devices import limit_threads, threads_each
from .options.control import add_saying
from .options.grid import add_reset_origin, add_space
from .options.model import add_model
from .options.resources import add_machine
from .parser import Parser
from .run_config import run_config


def main(argv: Sequence[str]) -> int:
    """Run ``bids_unires files`` with its arguments; return the exit code.

    Raises
    ------
    UniResError
        If an argument is wrong, or the run as a whole cannot start.
    """
    request, config = parse_arguments(argv)
    # Libraries read the number of threads when they are imported, as by the next line.
    limit_threads(threads_each(config, config.nprocs))
    from ..run.plain_files import run_files

    return run_files(request, config)


def build_parser() -> Parser:
    """Make the parser of ``bids_unires files``."""
    parser = Parser(
        prog="bids_unires files",
        usage="%(prog)s T1.nii.gz T2.nii.gz ... [-o FOLDER] [options]",
        description="Super-resolve the scans of one head that are in no BIDS dataset. The result "
        "of T1.nii.gz is ur_T1.nii.gz.",
        epilog="Where they are known, gap between slices and the like are read from a JSON file "
        "beside each scan (T1.json). Options of the original tool: docs/how-to/files.md.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    _add_files(parser.add_argument_group("files"))
    add_model(parser.add_argument_group("model"))
    add_space(parser.add_argument_group("alignment and grid"))
    add_machine(parser.add_argument_group("resources"))
    add_saying(parser.add_argument_group("control"))
    return parser


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "scans",
        nargs="*",
        default=None,
        metavar="SCAN",
        help="image of one contrast (.nii, .nii.gz, .img and .hdr, .mgz); FILE,FILE for repeats "
        "of one contrast; NAME=FILE to call the contrast, and its result, by another name",
    )
    group.add_argument(
        "-o",
        "--output",
        "--dir_out",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="where the results go (default: beside the first scan)",
    )
    group.add_argument(
        "--prefix", metavar="TEXT", help=f"what names of results begin with (default: {PREFIX})"
    )
    group.add_argument(
        "--overwrite", action="store_true", help="replace results that are there already"
    )
    group.add_argument(
        "--ct",
        nargs="?",
        const="",
        action="append",
        metavar="SCAN",
        help="a CT scan, given as SCAN is; --ct alone says that the only scan is CT",
    )
    add_reset_origin(group)
    group.add_argument(
        "--labels",
        action="append",
        metavar="FILE=SCAN",
        help="a label image that was drawn on a scan, and is carried over to the grid of the "
        "results; SCAN is its file or contrast, and left out if there is only one",
    )


def parse_arguments(argv: Sequence[str]) -> tuple[FilesRequest, RunConfig]:
    """Turn arguments into the files of a run and its options.

    Raises
    ------
    UsageError
        If an argument is unknown, missing or out of range.
    """
    given = build_parser().parse(argv)
    contrasts = _contrasts(given.pop("scans", []), given.pop("ct", []))
    prefix = given.pop("prefix", PREFIX)
    if "/" in prefix:
        raise UsageError(f"--prefix {prefix}: a folder is named by -o")
    request = FilesRequest(
        contrasts,
        tuple(map(PlainLabels.from_text, given.pop("labels", []))),
        given.pop("folder", None),
        prefix,
        given.pop("overwrite", False),
    )
    folders: dict[str, Any] = {
        "bids_dir": request.scans_folder,
        "output_dir": request.results_folder,
        "level": "participant",
    }
    return request, run_config(given | folders)


def _contrasts(scans: Sequence[str], ct: Sequence[str]) -> tuple[PlainContrast, ...]:
    named = [text for text in ct if text]
    modality: Modality = "MR"
    if len(named) < len(ct):
        if len(scans) != 1 or named:
            raise UsageError(
                "--ct alone is for a single scan: say which ones are CT by --ct FILE "
                "(see bids_unires files --help)"
            )
        modality = "CT"
    contrasts = [PlainContrast.from_text(text, modality) for text in scans]
    contrasts += [PlainContrast.from_text(text, "CT") for text in named]
    if not contrasts:
        raise UsageError("missing: the scans, such as T1.nii.gz (see bids_unires files --help)")
    return tuple(contrasts)
