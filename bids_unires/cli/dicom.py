"""``bids_unires dicom``: from a folder of DICOM files to a BIDS dataset and images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from ..config import RunConfig
from ..dicom.request import DicomRequest, LabelSource, Overruled
from ..errors import UsageError
from ..run.devices import limit_threads, threads_each
from .options.control import add_saying
from .options.grid import add_reset_origin, add_space
from .options.model import add_model
from .options.resources import add_resources
from .options.selection import add_visits
from .parser import Parser
from .run_config import run_config


def main(argv: Sequence[str]) -> int:
    """Run ``bids_unires dicom`` with its arguments; return the exit code.

    Raises
    ------
    UniResError
        If an argument is wrong, or the run as a whole cannot start.
    """
    request, config = parse_arguments(argv)
    # Libraries read the number of threads when they are imported, as by the next line.
    limit_threads(threads_each(config, config.nprocs))
    from ..run.dicom import run_dicom

    return run_dicom(request, config)


def build_parser() -> Parser:
    """Make the parser of ``bids_unires dicom``."""
    parser = Parser(
        prog="bids_unires dicom",
        usage="%(prog)s dicom_dir output_dir [options]",
        description="Convert a folder of DICOM files into a BIDS dataset without names and dates "
        "(output_dir/bids) by dcm2niix, and super-resolve its scans (output_dir/derivatives).",
        epilog="Series are told apart by their headers; --dry-run says what each is taken for, "
        "and why.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for name, text in (
        ("dicom_dir", "folder of DICOM files, of one patient or several; it is only read"),
        ("output_dir", "where the dataset and the results go"),
    ):
        parser.add_argument(name, type=Path, nargs="?", default=None, help=text)
    _add_series(parser.add_argument_group("series and participants"))
    add_visits(parser.add_argument_group("visits"))
    add_model(parser.add_argument_group("model"))
    add_space(parser.add_argument_group("alignment and grid"))
    add_reset_origin(parser.add_argument_group("CT"))
    add_resources(parser.add_argument_group("resources"))
    add_saying(parser.add_argument_group("control"))
    return parser


def _add_series(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--take",
        action="append",
        metavar="SERIES=SUFFIX",
        help="take a series for this contrast (T1w, T2w, PDw, FLAIR, T2starw, ct); SERIES is its "
        "number or its description, or LABEL:NUMBER of one participant",
    )
    group.add_argument("--skip", action="append", metavar="SERIES", help="leave a series out")
    group.add_argument(
        "--label-by",
        choices=get_args(LabelSource),
        help="make labels of participants from a hash of the patient, or from the folders directly "
        "in dicom_dir (default: hash)",
    )
    group.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="file that says which patient each participant is (default: output_dir/key.json)",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the dataset in output_dir/bids where it is of other scans",
    )


def parse_arguments(argv: Sequence[str]) -> tuple[DicomRequest, RunConfig]:
    """Turn arguments into the folder of a run and its options.

    Raises
    ------
    UsageError
        If an argument is unknown, missing or out of range.
    """
    given = build_parser().parse(argv)
    missing = [name for name in ("dicom_dir", "output_dir") if name not in given]
    if missing:
        raise UsageError(f"missing: {', '.join(missing)} (see bids_unires dicom --help)")
    taken = tuple(map(Overruled.read_take, given.pop("take", [])))
    request = DicomRequest(
        given.pop("dicom_dir"),
        given.pop("output_dir"),
        Overruled(taken, tuple(given.pop("skip", []))),
        given.pop("label_by", "hash"),
        given.pop("key_file", None),
        given.pop("overwrite", False),
    )
    folders: dict[str, Any] = {
        "bids_dir": request.bids,
        "output_dir": request.derivatives,
        "level": "participant",
    }
    return request, run_config(given | folders)
