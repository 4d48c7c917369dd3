"""The pybids queries that select the scans of a run, with those of a BIDS filter file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import CT_SUFFIX, MRI_SUFFIXES, RunConfig
from ..errors import MissingInputError, UsageError
from .entities import ENTITY_KEYS, IMAGE_EXTENSIONS, listing
from .metadata import SidecarError, load_object

logger = logging.getLogger("bids_unires")

# Keys in filter files of fMRIPrep, QSIPrep, ASLPrep and PETPrep. One file may be used for several
# programs, so these keys are ignored. Any other key that is no modality is an error.
OTHER_PROGRAMS_KEYS = frozenset({"asl", "bold", "dwi", "fmap", "m0scan", "pet", "roi", "sbref"})


def modality_queries(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Make the pybids query of every modality, with the conditions of the filter file.

    Returns
    -------
    dict
        Suffix to keyword arguments of ``BIDSLayout.get``.

    Raises
    ------
    MissingInputError
        If the filter file does not exist.
    UsageError
        If the file is not JSON, or names an unknown modality or entity.
    """
    queries = {suffix: _plain_query(suffix) for suffix in config.modalities}
    if config.bids_filter_file is not None:
        by_name = {suffix.lower(): suffix for suffix in queries}
        for name, entities in _read_filters(config.bids_filter_file).items():
            suffix = by_name.get(name.lower())
            if suffix is None:
                if name.lower() in (known.lower() for known in (*MRI_SUFFIXES, CT_SUFFIX)):
                    continue  # A modality that this run does not use.
                if name.lower() in OTHER_PROGRAMS_KEYS:
                    logger.info("%s: %r is skipped", config.bids_filter_file, name)
                    continue
                raise UsageError(
                    f"{config.bids_filter_file} has the unknown key {name!r}; "
                    f"keys are {', '.join(sorted(by_name))}"
                )
            queries[suffix].update(_checked_filter(entities, name, config.bids_filter_file))
    return {suffix: _with_sentinels(query) for suffix, query in queries.items()}


def unfiltered_query(suffix: str) -> dict[str, Any]:
    """Make the pybids query of a modality without the conditions of a filter file."""
    return _with_sentinels(_plain_query(suffix))


def _plain_query(suffix: str) -> dict[str, Any]:
    # The model describes magnitude images, not phase, real or imaginary parts.
    return {"suffix": suffix, "extension": list(IMAGE_EXTENSIONS), "part": [None, "mag"]}


def _read_filters(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise MissingInputError(f"the filter file {path} does not exist")
    try:
        return load_object(path)
    except SidecarError as error:
        raise UsageError(f"the filter file {path} is not readable JSON: {error}") from error


def _checked_filter(entities: Any, name: str, path: Path) -> dict[str, Any]:
    if not isinstance(entities, dict):
        raise UsageError(f"{path}: {name!r} must be an object of entities and values")
    known = {*ENTITY_KEYS, "datatype", "extension", "suffix"}
    unknown = sorted(set(entities) - known)
    if unknown:
        raise UsageError(
            f"{path}: {name!r} filters by the unknown entity {listing(unknown)}; "
            f"entities are {', '.join(sorted(known))}"
        )
    for entity, value in entities.items():
        items = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, str | int | float) for item in items):
            raise UsageError(
                f"{path}: {name!r} filters {entity} by {value!r}; "
                "values are text, numbers, null, or lists of them"
            )
    return dict(entities)


def _with_sentinels(query: Mapping[str, Any]) -> dict[str, Any]:
    """Replace null and "*" by the pybids constants for "absent" and "any value"."""
    from bids.layout import Query

    def sentinel(value: Any) -> Any:
        if isinstance(value, list):
            return [sentinel(item) for item in value]
        if value is None:
            return Query.NONE
        return Query.ANY if value == "*" else value

    return {entity: sentinel(value) for entity, value in query.items()}
