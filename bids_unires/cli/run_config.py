"""Make the configuration of a run from the options that were given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
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
from ..errors import UnknownLevelError, UsageError


def run_config(given: Mapping[str, Any]) -> RunConfig:
    """Make the configuration of a run, with the values that options imply for one another.

    Parameters
    ----------
    given
        Values of the options, by the names that `parser` gives them; an option that is missing
        has its default.

    Raises
    ------
    UsageError
        If a value is out of range, or options contradict each other or have no effect.
    UnknownLevelError
        If the analysis level is not one of those that this version has.
    """
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
        # Who says --no-robust or --no-interleave-correction does not want slices to be looked at.
        "looks_for_damage": given.get("robust", True),
        "looks_for_uneven_slices": given.get("interleave_correction", True),
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
    if config.level == "group" and config.has_shared_visits:
        yield "--subject-anatomical-reference", "is for the participant level"
    if config.level == "group" and config.detectability:
        yield "--detectability", "is for the participant level"
    if config.level == "group" and config.measured_map:
        yield "--measured-map", "is for the participant level"
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
