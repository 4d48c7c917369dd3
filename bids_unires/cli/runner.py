"""The command ``bids_unires runner``, which writes what other runners of BIDS Apps need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..config import RunConfig
from ..errors import UsageError
from ..export.files import TextFile, write_files
from .babs import babs_configuration
from .given_options import GivenOption, given_options
from .job import Job
from .nipoppy import nipoppy_bundle
from .parser import Parser, build_parser

RUNNERS = ("babs", "nipoppy")
# What the runner itself gives to the program.
_OF_THE_RUNNER = frozenset(
    {"participant_label", "session_label", "work_dir", "omp_nthreads", "mem_mb", "nprocs"}
    | {"skip_bids_validation", "config_file", "cluster", "scheduler", "dry_run", "json"}
)
_ANYWHERE = ("BIDS", "OUT", "participant")

Parse = Callable[[Sequence[str]], RunConfig]


def runner_parser() -> Parser:
    """Make the parser of the command."""
    job = Job()
    parser = Parser(
        prog="bids_unires runner",
        usage="%(prog)s {babs,nipoppy} output [options] [-- options of bids_unires]",
        description="Write the files by which BABS or Nipoppy runs this program, with the options "
        "of bids_unires that follow --.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runner",
        choices=RUNNERS,
        help="babs: a configuration in YAML; nipoppy: a folder of descriptor, invocation, "
        "configuration, tracker and resources",
    )
    parser.add_argument("output", type=Path, help="file (babs) or folder (nipoppy) to write")
    parser.add_argument("--bids", metavar="FOLDER", help="babs: folder or URL of the raw dataset")
    parser.add_argument(
        "--per-session",
        action="store_true",
        help="babs: a job for each session (babs init --processing-level session), not for each "
        "participant",
    )
    parser.add_argument(
        "--no-sessions", action="store_true", help="nipoppy: participants have no sessions"
    )
    for name, value, what in (
        ("--cores", job.cores, "cores of a job"),
        ("--memory-gb", job.memory_gb, "memory of a job in GB"),
        ("--hours", job.hours, "longest duration of a job in hours"),
    ):
        parser.add_argument(
            name, type=int, default=value, metavar="N", help=f"{what} (default: {value})"
        )
    parser.add_argument("--gpu", action="store_true", help="jobs have a GPU")
    parser.add_argument("--overwrite", action="store_true", help="replace files that differ")
    return parser


def run_runner(argv: Sequence[str], parse: Parse) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Arguments after ``bids_unires runner``.
    parse
        Function that makes the configuration of a run from arguments, and refuses bad ones.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    UniResError
        If an option is not possible, or a file cannot be written.
    """
    arguments, passed = _divided(argv)
    given = runner_parser().parse(arguments)
    config, options = _options(passed, parse)
    job = Job(given["cores"], given["memory_gb"], given["hours"], given["gpu"], given.get("bids"))
    output: Path = given["output"]
    if given["runner"] == "babs":
        text = babs_configuration(options, job, per_session=given["per_session"])
        folder, files = output.parent, [TextFile(Path(output.name), text)]
    else:
        bundle = nipoppy_bundle(
            build_parser(), options, config, job, sessions=not given["no_sessions"]
        )
        folder, files = output, [TextFile(path, text) for path, text in bundle.items()]
    write_files(folder, files, (), overwrite=given["overwrite"])
    print(f"{output} written for bids_unires {' '.join(passed)}".rstrip())
    return 0


def _divided(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Arguments of the command, and those behind ``--``, which are for the program."""
    arguments = list(argv)
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _options(passed: Sequence[str], parse: Parse) -> tuple[RunConfig, list[GivenOption]]:
    """The configuration that options of the program lead to, and the options."""
    parser = build_parser()
    given: dict[str, Any] = parser.parse([*_ANYWHERE, *passed])
    for option in given_options(parser, given):
        if option.identity in _OF_THE_RUNNER:
            raise UsageError(f"{option.flag} is for the runner to give: leave it out behind --")
    return parse([*_ANYWHERE, *passed]), list(given_options(parser, given))
