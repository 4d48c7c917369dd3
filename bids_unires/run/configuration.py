"""The options of a run, written to a TOML file with which the run can be repeated."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from .. import __version__
from ..config import ModelSettings, RunConfig

_POSITIONAL = ("bids_dir", "output_dir", "level")
# Options whose absence does not mean that they are off.
_SWITCHES = (
    "coregister",
    "unified_rigid",
    "learned_detail",
    "interleave_correction",
    "robust",
    "resume",
    "detectability",
    "measured_map",
)
# What is decided by a look at the scans if the option is not given.
_LOOKS = ("looks_for_damage", "looks_for_uneven_slices")


def write_options(path: Path, config: RunConfig) -> None:
    """Write the options from which the same configuration can be made again.

    Paths become absolute.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    heading = f"# bids_unires {__version__}; repeat with: bids_unires --config-file {path.name}\n"
    text = heading + tomli_w.dumps(options_of(config))
    path.write_text(text, "utf-8", errors="surrogateescape")


def options_of(config: RunConfig) -> dict[str, Any]:
    """The options that make a configuration, by long name, without those that have no effect.

    The values have types of TOML: text, numbers, true and false, and lists of these.
    """
    fields = {
        name: value
        for name, value in vars(config).items()
        if name not in ("model", "space", "group", "verbosity", *_LOOKS)
    }
    if config.level == "group":
        group = asdict(config.group)
        # The group level takes the other settings of the model from the participant level.
        fields |= {"voxel_size": config.model.voxel_size, "group_mode": group.pop("mode")} | group
        # It makes images on another grid, and says nothing more of the scans.
        del fields["detectability"], fields["measured_map"]
    else:
        fields |= _model_options(config.model)
        if config.looks_for_damage and not config.model.robust:
            # What a look at the slices decides is no option.
            fields.pop("robust")
        if config.looks_for_uneven_slices and not config.model.interleave_correction:
            fields.pop("interleave_correction")
    fields |= asdict(config.space)
    fields |= {
        "verbose": max(config.verbosity, 0) or None,
        "quiet": max(-config.verbosity, 0) or None,
    }
    return {
        name if name in _POSITIONAL else name.replace("_", "-"): _plain(value)
        for name, value in fields.items()
        if name in _SWITCHES or not (value is None or value is False or value in ((), ""))
    }


def _model_options(model: ModelSettings) -> dict[str, Any]:
    fields = asdict(model)
    method = fields.pop("method")
    return fields | {"denoise": method == "denoise", "linear": method == "linear"}


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return str(Path(value).absolute())
    return list(value) if isinstance(value, tuple) else value
