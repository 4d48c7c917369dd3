"""The entry point of the program, and the `RunConfig` that follows from its arguments.

No library that is slow to import is imported at the top of this module.
"""

from __future__ import annotations

import io
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..config import (
    CT_SUFFIX,
    LEVELS,
    MRI_SUFFIXES,
    NO_TEMPLATE,
    GroupSettings,
    ModelSettings,
    RunConfig,
    SpaceSettings,
)
from ..errors import UniResError, UnknownLevelError, UsageError
from ..run.devices import let_idle_threads_sleep
from .config_file import read_options
from .parser import Parser, build_parser

INTERRUPTED = 130


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
        if arguments[:1] == ["demo"]:
            return _run_demo(arguments[1:])
        if arguments[:1] == ["export"]:
            from .export import run_export

            return run_export(arguments[1:])
        if arguments[:1] == ["runner"]:
            from .runner import run_runner

            return run_runner(arguments[1:], parse_arguments)
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
    given = parser.parse(argv)
    if file := given.pop("config_file", None):
        from_file = read_options(file, parser)
        if "verbose" in given or "quiet" in given:
            # Verbose and quiet set the same value, so either one replaces both in the file.
            from_file.pop("verbose", None)
            from_file.pop("quiet", None)
        given = from_file | given
    return _run_config(given)


def _run_config(given: Mapping[str, Any]) -> RunConfig:
    """Make the configuration of a run, with the values that options imply for one another."""
    missing = [name for name in ("bids_dir", "output_dir", "level") if name not in given]
    if missing:
        raise UsageError(f"missing: {', '.join(missing)} (see bids_unires --help)")
    if given["level"] not in LEVELS:
        raise UnknownLevelError(
            f"the analysis level {given['level']!r} is unknown; "
            f"this version has: {', '.join(LEVELS)}"
        )
    if given["level"] == "group":
        _refuse_settings_of_the_fit(given)
    composed = {
        "participant_label": tuple(dict.fromkeys(given.get("participant_label", ()))),
        "session_label": tuple(dict.fromkeys(given.get("session_label", ()))),
        "modalities": _modalities(given),
        "verbosity": given.get("verbose", 0) - given.get("quiet", 0),
        "model": ModelSettings(**_fields(ModelSettings, {**given, **_method(given)})),
        "space": SpaceSettings(**_fields(SpaceSettings, {**_alignment(given), **given})),
        "group": GroupSettings(**_fields(GroupSettings, given)),
    }
    config = RunConfig(**_fields(RunConfig, {**given, **composed}))
    _refuse_options_without_effect(config)
    return config


def _fields(
    settings: type[RunConfig | ModelSettings | SpaceSettings | GroupSettings],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """The options that are fields of a class of settings."""
    return {field.name: given[field.name] for field in fields(settings) if field.name in given}


def _refuse_settings_of_the_fit(given: Mapping[str, Any]) -> None:
    """Refuse settings of the fit: the group level uses those of the participant level."""
    options = [
        _spelled(field.name, given[field.name])
        for field in fields(ModelSettings)
        if field.name in given and field.name != "voxel_size"
    ]
    if options:
        only = len(options) == 1
        raise UsageError(
            f"{', '.join(options)} {'is' if only else 'are'} for the participant level: the group "
            "level fits with the settings that each participant was reconstructed with, so leave "
            f"{'it' if only else 'them'} out, or run the participant level again"
        )


def _refuse_options_without_effect(config: RunConfig) -> None:
    """Refuse options that change nothing in this run, because their user expects an effect.

    Options that state the default value are allowed.
    """
    idle = [*_idle_at_the_participant_level(config), *_idle_anywhere(config)]
    if idle:
        option, purpose = idle[0]
        raise UsageError(f"{option} {purpose}, and would change nothing here: leave it out")


def _idle_at_the_participant_level(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Options without effect at the participant level, each with its purpose."""
    if config.level != "participant":
        return
    for name in _changed(config.group, GroupSettings()):
        option = "group_mode" if name == "mode" else name
        yield f"--{option.replace('_', '-')}", "is for the group level"
    changed = _changed(config.space, SpaceSettings())
    if "fov" in changed and not config.space.common_output:
        yield "--fov", "is for the grid of --common-output"
    if "template" in changed and config.space.align == "none":
        yield "--template", "is for an alignment, by --align or --common-output"


def _idle_anywhere(config: RunConfig) -> Iterator[tuple[str, str]]:
    if config.json and not (config.dry_run and config.level == "participant"):
        yield "--json", "is for --dry-run at the participant level"
    if config.cluster_args and config.cluster is None:
        yield "--cluster-args", "is for --cluster"
    changed = _changed(config.group, GroupSettings())
    if "grid_multiple" in changed and config.group.grid_policy != "multiple":
        yield "--grid-multiple", "is for --grid-policy multiple"
    if config.model.method == "linear":
        changed = _changed(config.model, ModelSettings())
        for name in ("reg_scale", "interleave_correction"):
            if name in changed:
                yield f"--{name.replace('_', '-')}", "is for a fit, which --linear does not make"


def _changed(
    settings: ModelSettings | SpaceSettings | GroupSettings,
    default: ModelSettings | SpaceSettings | GroupSettings,
) -> list[str]:
    return [name for name, value in vars(settings).items() if value != getattr(default, name)]


def _spelled(name: str, value: Any) -> str:
    if name == "method":
        return f"--{value}"
    return ("--no-" if value is False else "--") + name.replace("_", "-")


def _modalities(given: Mapping[str, Any]) -> tuple[str, ...]:
    """The selected suffixes in the spelling of BIDS, whatever the case of the letters typed.

    If none is given at the group level, it is empty: all images of the participant level are used.
    """
    if given["level"] == "group" and "modalities" not in given:
        return ()
    suffixes: Sequence[str] = given.get("modalities", MRI_SUFFIXES)
    spelling = {suffix.lower(): suffix for suffix in (*MRI_SUFFIXES, CT_SUFFIX)}
    chosen = [*suffixes, CT_SUFFIX] if given.get("ct", False) else suffixes
    return tuple(dict.fromkeys(spelling.get(suffix.lower(), suffix) for suffix in chosen))


def _method(given: Mapping[str, Any]) -> dict[str, Any]:
    """The voxel size along each axis and the method; size 0 and denoising imply each other."""
    implied: dict[str, Any] = {}
    if "voxel_size" in given:
        implied["voxel_size"] = _for_each_axis(given["voxel_size"])
        if implied["voxel_size"] == (0, 0, 0) and "method" not in given:
            implied["method"] = "denoise"
    elif given.get("method") == "denoise":
        implied["voxel_size"] = (0.0, 0.0, 0.0)
    return implied


def _for_each_axis(numbers: Sequence[float]) -> tuple[float, float, float]:
    if len(numbers) == 1:
        return numbers[0], numbers[0], numbers[0]
    if len(numbers) != 3:
        raise UsageError(f"--voxel-size takes one number or three, got {len(numbers)}")
    return numbers[0], numbers[1], numbers[2]


def _alignment(given: Mapping[str, Any]) -> dict[str, str]:
    """Alignment and field of view that the level and other options imply.

    A common grid and the group level imply a rigid alignment, because the grid contains the head
    only if the scans are aligned. The group level without a template implies the field of view
    ``head``, because only a template shows where the brain is.
    """
    implied = {}
    if given.get("common_output") or given["level"] == "group":
        implied["align"] = "rigid"
    if given["level"] == "group" and given.get("template") == NO_TEMPLATE:
        implied["fov"] = "head"
    return implied


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
