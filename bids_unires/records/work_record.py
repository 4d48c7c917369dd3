"""Which units of work are done, so that the same command again does the rest only.

When a unit has succeeded, a record of its inputs, settings and outputs is written to the logs.
A unit is done if its record is there and still true. While it is worked on again, the record
says what earlier runs made of it, so that the files that no longer belong to it can be removed
at the end.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import __version__
from ..config import RunConfig
from ..dataset.writing import write_json
from ..errors import UniResError
from .outdated_results import Results, read_results, remove_superseded

logger = logging.getLogger("bids_unires")

_SHOWN = 3
# Stage of the participant level.
_PARTICIPANT = "participant"


class UnitOfWork(Protocol):
    """What is done as a whole or not at all: one stage of a participant, or of a session."""

    @property
    def label(self) -> str:
        """``sub-01`` or ``sub-01_ses-a``."""

    @property
    def stage(self) -> str:
        """What is done with it; records of one stage share a folder of this name."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders that results are written to, relative to that of all results."""

    @property
    def inputs(self) -> Iterable[tuple[str, Path]]:
        """Names and paths of the files that results depend on."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What else of the data results depend on; JSON or nearly so."""

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """Everything of a configuration that results depend on, by name."""


@dataclass(frozen=True)
class Standing:
    """Whether a unit of work is done.

    Parameters
    ----------
    done
        Everything is there and as it would be made again.
    reasons
        If not: what changed since it was done; empty if it never was.
    """

    done: bool
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Reasons in one line, the first few of them."""
        more = len(self.reasons) - _SHOWN
        return "; ".join(self.reasons[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def record_path(plan: UnitOfWork, config: RunConfig) -> Path:
    """Where the record of a unit is kept."""
    return config.output_dir / "logs" / plan.stage / f"{plan.label}.json"


def standing(plan: UnitOfWork, config: RunConfig) -> Standing:
    """Compare the record of a unit with what is there and what is asked for."""
    path = record_path(plan, config)
    try:
        record = json.loads(path.read_text("utf-8"))
        if "Begun" in record:
            return Standing(False)
        reasons = tuple(_changes(record, plan, config))
    except FileNotFoundError:
        return Standing(False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Standing(False, (f"{path} is not readable",))
    return Standing(not reasons, reasons)


def changed_since(
    plan: UnitOfWork, config: RunConfig, output: Path, inputs: Iterable[tuple[str, Path]]
) -> tuple[str, ...]:
    """Names of those inputs that are others than the ones a result was made of.

    Parameters
    ----------
    plan, config
        The unit of work, and where its results are.
    output
        A file of it. Where no record tells what it was made of, nothing is known to have
        changed.
    inputs
        Names of inputs, and the files that are there now.

    Raises
    ------
    OSError
        If one of these cannot be read.
    """
    before = _inputs_behind(record_path(plan, config), _below(output, config.output_dir))
    return tuple(
        name for name, path in inputs if name in before and not is_unchanged(before[name], path)
    )


def placed_alike(plan: UnitOfWork, config: RunConfig) -> tuple[Results, ...]:
    """Earlier results of the same inputs, with the settings that decide where images lie.

    Raises
    ------
    OSError
        If an input cannot be read.
    """
    earlier = read_results(record_path(plan, config))
    if not earlier:
        return ()
    inputs = {name: str(_fingerprint(path)["SHA256"]) for name, path in plan.inputs}
    now = Results(inputs, _settings(plan, config), ())
    return tuple(results for results in earlier if results.lies_like(now))


def unfinished(output_dir: Path) -> frozenset[str]:
    """Units that the participant level began to work on, and has not finished since.

    Their images may be some of one run and some of another, or not all that there will be.
    """
    return frozenset(
        path.stem for path in (output_dir / "logs" / _PARTICIPANT).glob("*.json") if _is_begun(path)
    )


def _is_begun(record: Path) -> bool:
    try:
        return "Begun" in json.loads(record.read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def recorded_inputs(output_dir: Path) -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """What the results of the participant level were made of: fingerprints by unit and name."""
    return {
        record.stem: _fingerprints(record, results)
        for record in sorted((output_dir / "logs" / _PARTICIPANT).glob("*.json"))
        for results in read_results(record)[:1]
    }


def _inputs_behind(record: Path, output: str) -> Mapping[str, Mapping[str, Any]]:
    """Fingerprints of what the run that wrote an output last made it of."""
    for results in read_results(record):
        if output in results.outputs:
            return _fingerprints(record, results)
    return {}


def _fingerprints(record: Path, results: Results) -> Mapping[str, Mapping[str, Any]]:
    """Those of the inputs of results, some of which have sizes and times that spare reading."""
    try:
        latest = dict(json.loads(record.read_text("utf-8")).get("Inputs", {}))
    except (OSError, ValueError):
        latest = {}
    return {
        name: known
        if (known := latest.get(name, {})).get("SHA256") == digest
        else {"SHA256": digest}
        for name, digest in results.inputs.items()
    }


def begin(plan: UnitOfWork, config: RunConfig) -> dict[str, Any] | None:
    """Take down that a unit is about to be worked on, which undoes that it was done.

    Returns
    -------
    dict or None
        What the unit starts from, for `complete`; None if an input cannot be read, and then
        nothing is taken down.

    Raises
    ------
    UniResError
        If the record cannot be written.
    """
    try:
        inputs = {name: _fingerprint(path) for name, path in plan.inputs}
    except OSError:
        # Whoever works with it will say what is wrong. What was done of it before still is, and
        # will be known to be once the input is back.
        return None
    path = record_path(plan, config)
    earlier: list[dict[str, Any]] = []
    if plan.stage == _PARTICIPANT:
        earlier = [results.entry for results in read_results(path)]
        write_json(path, {"Version": __version__, "Begun": True, "Earlier": earlier})
    else:
        # There a run may be on some contrasts only, and removes what nothing replaces.
        with suppress(FileNotFoundError):
            path.unlink()
    return {
        "Version": __version__,
        "Settings": _settings(plan, config),
        "Metadata": _metadata(plan),
        "Inputs": inputs,
        "Earlier": earlier,
    }


def abandon(plan: UnitOfWork, config: RunConfig) -> None:
    """Take back that a unit was begun, if no run has made anything of it."""
    record = record_path(plan, config)
    folders = [config.output_dir / folder for folder in plan.folders]
    made = any(True for folder in folders for _ in folder.glob(f"{plan.label}_*"))
    if not made and _is_begun(record) and not read_results(record):
        with suppress(OSError):
            record.unlink()
            # With the folder, if it was the first.
            record.parent.rmdir()


def complete(
    plan: UnitOfWork,
    config: RunConfig,
    begun: Mapping[str, Any],
    outputs: Sequence[Path],
    missing: Sequence[Path] = (),
) -> None:
    """Write the record of a unit that succeeded, and remove what it replaces.

    Parameters
    ----------
    plan, config
        The unit, and how it was worked on.
    begun
        What `begin` returned.
    outputs
        The files that were written.
    missing
        Files that could not be made, without which the others are good: the next run does the
        unit again.
    """
    try:
        written = {_below(path, config.output_dir): path.stat().st_size for path in outputs}
        record = {**begun, "Outputs": written}
        if missing:
            record["Missing"] = [_below(path, config.output_dir) for path in missing]
        # Before the record is final: whoever kills this leaves one that still knows the files.
        earlier = remove_superseded(
            [Results.of_entry(entry) for entry in begun["Earlier"]],
            Results.of_record(record),
            config.output_dir,
        )
        record["Earlier"] = [results.entry for results in earlier]
        write_json(record_path(plan, config), record)
    except (OSError, UniResError) as error:
        logger.warning("%s will be done again by the next run: %s", plan.label, error)


def _changes(record: Mapping[str, Any], plan: UnitOfWork, config: RunConfig) -> Iterator[str]:
    if record["Version"] != __version__:
        yield f"version {__version__} now, {record['Version']} then"
    before, now = record["Settings"], _settings(plan, config)
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield f"{name} is {_said(now.get(name))} now, was {_said(before.get(name))}"
    if record["Metadata"] != _metadata(plan):
        yield "a sidecar of the scans changed"
    yield from _input_changes(record["Inputs"], dict(plan.inputs))
    for name, size in record["Outputs"].items():
        path = config.output_dir / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != size:
            yield f"{name} changed its size"
    for name in record.get("Missing", ()):
        yield f"{name} could not be made"


def _input_changes(before: Mapping[str, Any], now: Mapping[str, Path]) -> Iterator[str]:
    for name, path in now.items():
        if name not in before:
            yield f"{name} is new"
            continue
        try:
            unchanged = is_unchanged(before[name], path)
        except OSError:
            yield f"{name} cannot be read"
            continue
        if not unchanged:
            yield f"{name} changed"
    for name in before:
        if name not in now:
            yield f"{name} is gone"


def _fingerprint(path: Path) -> dict[str, Any]:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        # Reading a pipe or a device might never end.
        raise OSError(errno.EINVAL, "no regular file", str(path))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"Size": status.st_size, "ModifiedNs": status.st_mtime_ns, "SHA256": digest}


def is_unchanged(before: Mapping[str, Any], path: Path) -> bool:
    """Whether a file is the one that a fingerprint was taken of.

    By size and time; where only the time differs, as in a copy, or none is known, by content.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    status = path.stat()
    if "Size" in before and status.st_size != before["Size"]:
        return False
    if "ModifiedNs" in before and status.st_mtime_ns == before["ModifiedNs"]:
        return True
    return bool(_fingerprint(path)["SHA256"] == before["SHA256"])


def _settings(plan: UnitOfWork, config: RunConfig) -> dict[str, Any]:
    """As they read back from JSON, which has no tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(plan.settings(config))))
    return plain


def _metadata(plan: UnitOfWork) -> str:
    text = json.dumps(dict(plan.metadata), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


def _below(path: Path, folder: Path) -> str:
    return path.absolute().relative_to(folder.absolute()).as_posix()
