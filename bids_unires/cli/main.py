"""The entry point of the program, and the `RunConfig` that follows from its arguments.

No library that is slow to import is imported at the top of this module.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..config import RunConfig
from ..dataset.entities import PLAIN_EXTENSIONS
from ..errors import UniResError, UsageError
from ..run.devices import let_idle_threads_sleep
from .config_file import read_options
from .parser import Parser, build_parser
from .run_config import run_config

INTERRUPTED = 130
_IMAGES = (*PLAIN_EXTENSIONS, *(f"{extension}.gz" for extension in PLAIN_EXTENSIONS))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv
        Arguments without the name of the program; by default, those of the process.

    Returns
    -------
    int
        The exit code. An error is printed as one line on standard error.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _secure_streams()
    let_idle_threads_sleep()
    try:
        if arguments and (command := _COMMANDS.get(arguments[0])):
            return command(arguments[1:])
        config = parse_arguments(arguments)
        from ..run.devices import limit_threads, threads_each

        # Libraries read the number of threads when they are imported, as by the next line.
        limit_threads(threads_each(config, config.nprocs))
        from ..run.app import run

        return run(config)
    except UniResError as error:
        _show_origin(arguments)
        _complain(f"error: {error}")
        return error.exit_code
    except Exception as error:
        _show_origin(arguments)
        _complain(f"error: {_unforeseen(error)}")
        return UniResError.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    finally:
        _give_up_unwritable_streams()


def _unforeseen(error: Exception) -> str:
    from ..work.outcome import failure
    from ..work.threads import is_lack_of_threads

    if is_lack_of_threads(error):
        return failure("", error).message
    return (
        f"{type(error).__name__}: {error}. This should not have happened: please report it, with "
        "what -v adds to this line"
    )


def _show_origin(arguments: Sequence[str]) -> None:
    if any(re.fullmatch(r"-v+|--verbose", argument) for argument in arguments):
        traceback.print_exc()


def _complain(text: str) -> None:
    with suppress(OSError):
        print(f"bids_unires: {text}", file=sys.stderr)


def _secure_streams() -> None:
    """Replace standard streams that are closed, and escape characters they cannot show."""
    # Otherwise, the next file to be opened would get the descriptor of a closed stream, and with it
    # all messages that native code writes to standard error.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _give_up_unwritable_streams() -> None:
    """Discard output that cannot be written, for example because the disk is full.

    Otherwise, flushing it when Python exits would change the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def parse_arguments(argv: Sequence[str]) -> RunConfig:
    """Turn arguments, and the options in a configuration file, into the configuration of a run.

    Raises
    ------
    UsageError
        If an argument is unknown, missing or out of range.
    MissingInputError
        If the configuration file does not exist.
    UnknownLevelError
        If the analysis level is not one of those that this version has.
    """
    parser = build_parser()
    _refuse_images(argv)
    given = parser.parse(argv)
    if file := given.pop("config_file", None):
        from_file = read_options(file, parser)
        if "verbose" in given or "quiet" in given:
            # Verbose and quiet set the same value, so either one replaces both in the file.
            from_file.pop("verbose", None)
            from_file.pop("quiet", None)
        given = from_file | given
    return run_config(given)


def _refuse_images(argv: Sequence[str]) -> None:
    """Point to the command for plain files where images are named in place of a dataset."""
    images = [text for text in argv if text.lower().endswith(_IMAGES) and not text.startswith("-")]
    if images and argv[0] == images[0] and not Path(images[0]).is_dir():
        raise UsageError(
            f"{images[0]} is an image and no BIDS dataset; for images: bids_unires files "
            f"{shlex.join(images)}"
        )


def _run_files(argv: Sequence[str]) -> int:
    from .files import main as run

    return run(argv)


def _run_dicom(argv: Sequence[str]) -> int:
    from .dicom import main as run

    return run(argv)


def _run_demo(argv: Sequence[str]) -> int:
    parser = Parser(
        prog="bids_unires demo",
        description="Make a small BIDS dataset of two participants, super-resolve it, bring all "
        "images to one grid and compare the results with the truth.",
        allow_abbrev=False,
    )
    parser.add_argument("output_dir", type=Path, help="folder for the dataset and the results")
    options = parser.parse_args(list(argv))
    from ..demo import run_demo

    return run_demo(options.output_dir)


def _run_export(argv: Sequence[str]) -> int:
    from .export import run_export

    return run_export(argv)


def _run_runner(argv: Sequence[str]) -> int:
    from .runner import run_runner

    return run_runner(argv, parse_arguments)


_COMMANDS = {
    "demo": _run_demo,
    "files": _run_files,
    "dicom": _run_dicom,
    "export": _run_export,
    "runner": _run_runner,
}
