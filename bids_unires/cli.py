"""The command line: arguments in, `RunConfig` out. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__
from .config import LEVELS, MRI_SUFFIXES, ModelSettings, RunConfig
from .errors import UniResError, UnknownLevelError, UsageError

INTERRUPTED = 130
_DEFAULTS = ModelSettings()


class _Parser(argparse.ArgumentParser):
    """Leaves the exit code to `main`."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code; every error is one line on standard error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["demo"]:
            return _run_demo(arguments[1:])
        config = parse_arguments(arguments)
        from .app import run

        return run(config)
    except UniResError as error:
        if any(re.fullmatch(r"-v+|--verbose", argument) for argument in arguments):
            traceback.print_exc()
        print(f"bids_unires: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("bids_unires: interrupted", file=sys.stderr)
        return INTERRUPTED


def parse_arguments(argv: Sequence[str]) -> RunConfig:
    """Turn arguments into the configuration of a run.

    Raises
    ------
    UsageError
        If an argument is unknown, missing or out of range.
    UnknownLevelError
        If the analysis level is not one of this version's.
    """
    options = build_parser().parse_args(list(argv))
    if options.level not in LEVELS:
        raise UnknownLevelError(
            f"the analysis level {options.level!r} is unknown; "
            f"this version has: {', '.join(LEVELS)}"
        )
    return RunConfig(
        bids_dir=options.bids_dir,
        output_dir=options.output_dir,
        level=options.level,
        participant_label=_labels(options.participant_label, "sub-"),
        session_label=_labels(options.session_label, "ses-"),
        bids_filter_file=options.bids_filter_file,
        modalities=_modalities(options.modalities),
        skip_bids_validation=options.skip_bids_validation,
        bids_database_dir=options.bids_database_dir,
        device=options.device,
        nprocs=options.nprocs,
        omp_nthreads=options.omp_nthreads,
        mem_mb=options.mem_mb,
        dry_run=options.dry_run,
        stop_on_first_crash=options.stop_on_first_crash,
        verbosity=options.verbose - options.quiet,
        model=ModelSettings(
            voxel_size=_voxel_size(options.voxel_size),
            reg_scale=options.reg_scale,
            tolerance=options.tolerance,
            max_iter=options.max_iter,
        ),
    )


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the BIDS App command line."""
    parser = _Parser(
        prog="bids_unires",
        description="Super-resolve thick-slice brain scans of a BIDS dataset.",
        epilog="bids_unires demo OUTPUT_DIR makes a small BIDS dataset and runs on it.",
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", type=Path, help="root folder of the BIDS dataset")
    parser.add_argument("output_dir", type=Path, help="where the results go, a BIDS dataset too")
    parser.add_argument("level", metavar="{" + ",".join(LEVELS) + "}", help="analysis level")
    parser.add_argument("--version", action="version", version=f"bids_unires {__version__}")
    _add_selection(parser.add_argument_group("which images"))
    _add_model(parser.add_argument_group("model"))
    _add_resources(parser.add_argument_group("resources"))
    _add_control(parser.add_argument_group("control"))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--participant-label",
        "--participant_label",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="participants to process, with or without sub- (default: all)",
    )
    group.add_argument(
        "--session-label",
        "--session_label",
        "--session-id",
        nargs="+",
        action="extend",
        default=[],
        metavar="LABEL",
        help="sessions to process, with or without ses- (default: all)",
    )
    group.add_argument(
        "-m",
        "--modalities",
        nargs="+",
        default=list(MRI_SUFFIXES),
        metavar="SUFFIX",
        help=f"BIDS suffixes of the images to use (default: {' '.join(MRI_SUFFIXES)})",
    )
    group.add_argument(
        "--bids-filter-file",
        type=Path,
        metavar="FILE",
        help='JSON file of pybids filters per modality: {"t1w": {"acquisition": null}}; '
        'null stands for "absent" and "*" for any value',
    )
    group.add_argument(
        "--skip-bids-validation",
        "--skip_bids_validation",
        "--skip_bids_validator",
        action="store_true",
        help="do not run the BIDS validator on the input",
    )
    group.add_argument(
        "--bids-database-dir",
        type=Path,
        metavar="FOLDER",
        help="keep the index of the dataset here and use it again; delete the folder when the "
        "dataset has changed (default: index in memory)",
    )


def _add_model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--voxel-size",
        "--vx",
        nargs="+",
        type=float,
        default=list(_DEFAULTS.voxel_size),
        metavar="MM",
        help="voxel size of the results in mm, one number or three (default: 1)",
    )
    group.add_argument(
        "--reg-scale",
        "--reg_scl",
        type=float,
        default=_DEFAULTS.reg_scale,
        metavar="NUMBER",
        help="strength of the prior; larger is smoother (default: %(default)g)",
    )
    group.add_argument(
        "--max-iter",
        type=int,
        default=_DEFAULTS.max_iter,
        metavar="N",
        help="most outer iterations of the fit (default: %(default)s)",
    )
    group.add_argument(
        "--tolerance",
        "--tol",
        type=float,
        default=_DEFAULTS.tolerance,
        metavar="NUMBER",
        help="stop when an iteration lowers the objective by less than this fraction of it "
        "(default: %(default)g)",
    )


def _add_resources(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device",
        type=_device,
        default="auto",
        metavar="{auto,cpu,cuda,cuda:N}",
        help="where to compute; auto takes a usable GPU, else the CPU (default: auto)",
    )
    group.add_argument(
        "--nprocs",
        "--n-cpus",
        "--n_cpus",
        "--ncpus",
        type=_positive,
        default=1,
        metavar="N",
        help="participants to process at once (default: 1)",
    )
    group.add_argument(
        "--omp-nthreads",
        type=_positive,
        metavar="N",
        help="threads per participant (default: the usable cores shared out among --nprocs)",
    )
    group.add_argument(
        "--mem-mb",
        type=_positive,
        metavar="MB",
        help="refuse participants that would need more memory than this, in MB",
    )


def _add_control(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry-run", action="store_true", help="print what would be done and stop there"
    )
    group.add_argument(
        "--stop-on-first-crash",
        action="store_true",
        help="start no other participant after one has failed",
    )
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more; tracebacks of errors too"
    )
    group.add_argument("-q", "--quiet", action="count", default=0, help="say less")


def _run_demo(argv: Sequence[str]) -> int:
    parser = _Parser(
        prog="bids_unires demo",
        description="Make a small BIDS dataset of two participants, super-resolve it and "
        "compare the results with the truth.",
        allow_abbrev=False,
    )
    parser.add_argument("output_dir", type=Path, help="folder for the dataset and the results")
    options = parser.parse_args(list(argv))
    from .demo import run_demo

    return run_demo(options.output_dir)


def _labels(labels: Sequence[str], prefix: str) -> tuple[str, ...]:
    bare = dict.fromkeys(label.removeprefix(prefix) for label in labels)
    for label in bare:
        if not re.fullmatch(r"[0-9A-Za-z+]+", label):
            raise UsageError(f"{label!r} is no BIDS label: labels have letters and digits only")
    return tuple(bare)


def _modalities(suffixes: Sequence[str]) -> tuple[str, ...]:
    """Suffixes in BIDS' own spelling, whatever the case they were typed in."""
    spelling = {suffix.lower(): suffix for suffix in MRI_SUFFIXES}
    chosen = dict.fromkeys(spelling.get(suffix.lower(), suffix) for suffix in suffixes)
    for suffix in chosen:
        if not re.fullmatch(r"[0-9A-Za-z]+", suffix):
            raise UsageError(f"{suffix!r} is no BIDS suffix, such as T1w")
    return tuple(chosen)


def _voxel_size(numbers: Sequence[float]) -> tuple[float, float, float]:
    if len(numbers) == 1:
        return numbers[0], numbers[0], numbers[0]
    if len(numbers) != 3:
        raise UsageError(f"--voxel-size takes one number or three, got {len(numbers)}")
    return numbers[0], numbers[1], numbers[2]


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:N")
    return text


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number
