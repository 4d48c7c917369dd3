"""The bundle of files by which Nipoppy runs and tracks this program (https://nipoppy.readthedocs.io)."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import Method, RunConfig
from ..dataset.description import PIPELINE_NAME
from ..dataset.naming import SPACE, aligned_space, resolution_label
from .boutiques import descriptor
from .given_options import GivenOption
from .job import Job

_SCHEMA = "1.0"
_PARTICIPANT, _SESSION = "[[NIPOPPY_BIDS_PARTICIPANT_ID]]", "[[NIPOPPY_BIDS_SESSION_ID]]"
_FILES = {
    "DESCRIPTOR_FILE": "descriptor.json",
    "INVOCATION_FILE": "invocation.json",
    "TRACKER_CONFIG_FILE": "tracker.json",
    "HPC_CONFIG_FILE": "hpc.json",
}
# Label of `desc` of the images that each method makes.
_DESCS: Mapping[Method, str] = {
    "super-resolution": "sr",
    "denoise": "denoised",
    "linear": "resliced",
}
# The name that Nipoppy looks for.
_CONFIGURATION_FILE = "config.json"


def nipoppy_bundle(
    parser: ArgumentParser,
    options: Sequence[GivenOption],
    config: RunConfig,
    job: Job,
    *,
    sessions: bool,
) -> dict[Path, str]:
    """The texts of the files of the bundle, by their names.

    Parameters
    ----------
    parser
        The parser of the program, from which the descriptor is made.
    options
        Options of the program, but for those that choose participants and folders.
    config
        The configuration that follows from these options.
    job
        What a job may use.
    sessions
        Whether participants have sessions.
    """
    contents: dict[str, Any] = {
        _CONFIGURATION_FILE: _configuration(),
        _FILES["DESCRIPTOR_FILE"]: _descriptor(parser),
        _FILES["INVOCATION_FILE"]: _invocation([*job.options, *options]),
        _FILES["TRACKER_CONFIG_FILE"]: _tracker(config, sessions),
        _FILES["HPC_CONFIG_FILE"]: {
            "ACCOUNT": "[[HPC_ACCOUNT_NAME]]",
            "TIME": job.time,
            "CORES": str(job.cores),
            "MEMORY": f"{job.memory_gb}G",
            "ARRAY_CONCURRENCY_LIMIT": "",
        },
    }
    return {Path(name): json.dumps(content, indent=2) + "\n" for name, content in contents.items()}


def _configuration() -> dict[str, Any]:
    return {
        "NAME": PIPELINE_NAME,
        "VERSION": __version__,
        "DESCRIPTION": "Super-resolve thick-slice brain scans",
        "CONTAINER_INFO": {
            "FILE": f"[[NIPOPPY_DPATH_CONTAINERS]]/{PIPELINE_NAME}_{__version__}.sif",
        },
        "CONTAINER_CONFIG": {"ENV_VARS": {}, "ARGS": []},
        # All sessions of a participant in one job; the program passes over those that are done.
        "STEPS": [{"ANALYSIS_LEVEL": "participant", "GENERATE_PYBIDS_DATABASE": False, **_FILES}],
        "PIPELINE_TYPE": "processing",
        "SCHEMA_VERSION": _SCHEMA,
    }


def _descriptor(parser: ArgumentParser) -> dict[str, Any]:
    image = {"image": f"{PIPELINE_NAME}:{__version__}", "index": "docker://", "type": "singularity"}
    return {**descriptor(parser), "container-image": image}


def _invocation(options: Sequence[GivenOption]) -> dict[str, Any]:
    stated = {option.identity: True if option.value is None else option.value for option in options}
    return {
        "bids_dir": "[[NIPOPPY_DPATH_BIDS]]",
        "output_dir": "[[NIPOPPY_DPATH_PIPELINE_OUTPUT]]",
        "analysis_level": "participant",
        "participant_label": ["[[NIPOPPY_PARTICIPANT_ID]]"],
        "work_dir": "[[NIPOPPY_DPATH_PIPELINE_WORK]]",
        "skip_bids_validation": True,
        **stated,
    }


def _tracker(config: RunConfig, sessions: bool) -> dict[str, Any]:
    """What is there when a participant is done: the mask of the field of view, and an image."""
    folders, unit = [_PARTICIPANT], _PARTICIPANT
    if sessions:
        folders, unit = [*folders, _SESSION], f"{unit}_{_SESSION}"
    align, template = config.space.align, config.space.template
    space = SPACE if align == "none" else aligned_space(template, align)
    any_size = config.model.voxel_size == (0, 0, 0)
    res = "*" if any_size else resolution_label(config.model.voxel_size)
    grid = f"space-{space}_res-{res}"
    folder = "/".join(folders)
    return {
        "PATHS": [
            f"{folder}/*/{unit}*_{grid}_desc-{_DESCS[config.model.method]}_*.nii.gz",
            f"{folder}/*/{unit}_{grid}_desc-fov_mask.nii.gz",
        ],
        "PARTICIPANT_SESSION_DIR": folder,
        "SCHEMA_VERSION": _SCHEMA,
    }
