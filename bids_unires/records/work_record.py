"""Which units of work are done, so that the same command again does the rest only.

When a unit has succeeded, a record of its inputs, settings and outputs is written to the logs.
A unit is done if its record is there and still true. While it is worked on again, the record
says what earlier runs made of it, so that the files that no longer belong to it can be removed
at the end.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from .. import __version__
from ..config import RunConfig
from ..dataset.writing import write_json
from ..errors import UniResError
from ..work.unit import UnitOfWork
from .entries import VersionedRecord, entry, flag, settings, text, texts, whole
from .fingerprint import Fingerprint, fingerprints
from .outdated_results import Results, remove_superseded

logger = logging.getLogger("bids_unires")

_SHOWN = 3
# Stage of the participant level.
_PARTICIPANT = "participant"


def _sizes(value: object) -> Mapping[str, int] | None:
    if not isinstance(value, Mapping):
        return None
    found = {name: size for name, own in value.items() if (size := whole(own)) is not None}
    return found if len(found) == len(value) else None


def _earlier(value: object) -> tuple[Results, ...] | None:
    found = map(Results.from_json, value) if isinstance(value, list) else ()
    return tuple(results for results in found if results is not None)


@dataclass(frozen=True, eq=False)
class WorkRecord(VersionedRecord):
    """What is kept in the logs of a unit of work, so that it is done again only where it has to be.

    Parameters
    ----------
    version
        Of the program.
    begun
        True while the unit is worked on, or where that came to no end; then all but the version
        and the earlier results is None.
    settings
        Everything of the configuration that the results depend on, by name.
    metadata
        Checksum of what else of the data they depend on: SHA-256, in hexadecimal digits.
    inputs
        Fingerprints of the files that they were made of, by name.
    outputs
        Size in bytes of each file written, by its name relative to the folder of all results.
    missing
        Files that could not be made, named in the same way; None where there are none.
    earlier
        What earlier runs made of the unit and is still there, the latest first.
    """

    version: str | None = entry("Version", text)
    begun: bool | None = entry("Begun", flag)
    settings: Mapping[str, Any] | None = entry("Settings", settings)
    metadata: str | None = entry("Metadata", text)
    inputs: Mapping[str, Fingerprint] | None = entry("Inputs", fingerprints)
    outputs: Mapping[str, int] | None = entry("Outputs", _sizes)
    missing: tuple[str, ...] | None = entry("Missing", texts)
    earlier: tuple[Results, ...] | None = entry("Earlier", _earlier)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the record of a unit; see `from_json`.

        Raises
        ------
        OSError, ValueError
            If the file is not there, or no JSON.
        """
        return cls.from_json(json.loads(path.read_text("utf-8")))

    @property
    def latest(self) -> Results | None:
        """What the run made that wrote the record; None if it has not finished."""
        if self.inputs is None or self.settings is None or self.outputs is None:
            return None
        checksums = {name: file.sha256 for name, file in self.inputs.items()}
        return Results(checksums, self.settings, tuple(self.outputs))

    @property
    def results(self) -> tuple[Results, ...]:
        """What runs made of the unit and left there, the latest first."""
        latest = () if self.latest is None else (self.latest,)
        return (*latest, *(self.earlier or ()))


def read_record(path: Path) -> WorkRecord:
    """Read the record of a unit; one that says nothing where there is none, or none to be read."""
    try:
        return WorkRecord.read(path)
    except (OSError, ValueError):
        return WorkRecord()


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


def record_path(unit: UnitOfWork, config: RunConfig) -> Path:
    """Where the record of a unit is kept."""
    return config.output_dir / "logs" / unit.stage / f"{unit.label}.json"


def standing(unit: UnitOfWork, config: RunConfig) -> Standing:
    """Compare the record of a unit with what is there and what is asked for."""
    path = record_path(unit, config)
    try:
        record = WorkRecord.read(path)
    except FileNotFoundError:
        return Standing(False)
    except (OSError, ValueError):
        record = WorkRecord()
    if record.begun:
        return Standing(False)
    if record.latest is None or record.version is None or record.metadata is None:
        return Standing(False, (f"{path} is not readable",))
    reasons = tuple(_changes(record, unit, config))
    return Standing(not reasons, reasons)


def changed_since(
    unit: UnitOfWork, config: RunConfig, output: Path, inputs: Iterable[tuple[str, Path]]
) -> tuple[str, ...]:
    """Names of those inputs that are others than the ones a result was made of.

    Parameters
    ----------
    unit, config
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
    before = _inputs_behind(record_path(unit, config), _below(output, config.output_dir))
    return tuple(name for name, path in inputs if name in before and not before[name].is_of(path))


def placed_alike(unit: UnitOfWork, config: RunConfig) -> tuple[Results, ...]:
    """Earlier results of the same inputs, with the settings that decide where images lie.

    Raises
    ------
    OSError
        If an input cannot be read.
    """
    earlier = read_record(record_path(unit, config)).results
    if not earlier:
        return ()
    inputs = {name: Fingerprint.of_file(path).sha256 for name, path in unit.inputs}
    now = Results(inputs, _settings(unit, config), ())
    return tuple(results for results in earlier if results.lies_like(now))


def unfinished(output_dir: Path) -> frozenset[str]:
    """Units that the participant level began to work on, and has not finished since.

    Their images may be some of one run and some of another, or not all that there will be.
    """
    records = (output_dir / "logs" / _PARTICIPANT).glob("*.json")
    return frozenset(path.stem for path in records if read_record(path).begun)


def recorded_inputs(output_dir: Path) -> dict[str, Mapping[str, Fingerprint]]:
    """What the results of the participant level were made of: fingerprints by unit and name."""
    found = {}
    for path in sorted((output_dir / "logs" / _PARTICIPANT).glob("*.json")):
        record = read_record(path)
        if record.results:
            found[path.stem] = _fingerprints(record, record.results[0])
    return found


def _inputs_behind(path: Path, output: str) -> Mapping[str, Fingerprint]:
    """Fingerprints of what the run that wrote an output last made it of."""
    record = read_record(path)
    for results in record.results:
        if output in results.outputs:
            return _fingerprints(record, results)
    return {}


def _fingerprints(record: WorkRecord, results: Results) -> Mapping[str, Fingerprint]:
    """Those of the inputs of results, some of which have sizes and times that spare reading."""
    latest = record.inputs or {}
    return {
        name: latest[name]
        if name in latest and latest[name].sha256 == digest
        else Fingerprint(digest)
        for name, digest in results.inputs.items()
    }


def begin(unit: UnitOfWork, config: RunConfig) -> WorkRecord | None:
    """Take down that a unit is about to be worked on, which undoes that it was done.

    Returns
    -------
    WorkRecord or None
        What the unit starts from, for `complete`; None if an input cannot be read, and then
        nothing is taken down.

    Raises
    ------
    UniResError
        If the record cannot be written.
    """
    try:
        inputs = {name: Fingerprint.of_file(path) for name, path in unit.inputs}
    except OSError:
        # Whoever works with it will say what is wrong. What was done of it before still is, and
        # will be known to be once the input is back.
        return None
    path = record_path(unit, config)
    earlier: tuple[Results, ...] = ()
    if unit.stage == _PARTICIPANT:
        earlier = read_record(path).results
        begun = WorkRecord(version=__version__, begun=True, earlier=earlier)
        write_json(path, begun.to_json())
    else:
        # There a run may be on some contrasts only, and removes what nothing replaces.
        with suppress(FileNotFoundError):
            path.unlink()
    return WorkRecord(
        version=__version__,
        settings=_settings(unit, config),
        metadata=_metadata(unit),
        inputs=inputs,
        earlier=earlier,
    )


def abandon(unit: UnitOfWork, config: RunConfig) -> None:
    """Take back that a unit was begun, if no run has made anything of it."""
    path = record_path(unit, config)
    folders = [config.output_dir / folder for folder in unit.folders]
    made = any(True for folder in folders for _ in folder.glob(f"{unit.label}_*"))
    record = read_record(path)
    if not made and record.begun and not record.results:
        with suppress(OSError):
            path.unlink()
            # With the folder, if it was the first.
            path.parent.rmdir()


def complete(
    unit: UnitOfWork,
    config: RunConfig,
    begun: WorkRecord,
    outputs: Sequence[Path],
    missing: Sequence[Path] = (),
) -> None:
    """Write the record of a unit that succeeded, and remove what it replaces.

    Parameters
    ----------
    unit, config
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
        record = replace(
            begun,
            outputs={_below(path, config.output_dir): path.stat().st_size for path in outputs},
            missing=tuple(_below(path, config.output_dir) for path in missing) or None,
        )
        latest, *earlier = record.results
        # Before the record is final: whoever kills this leaves one that still knows the files.
        staying = remove_superseded(earlier, latest, config.output_dir)
        write_json(record_path(unit, config), replace(record, earlier=staying).to_json())
    except (OSError, UniResError) as error:
        logger.warning("%s will be done again by the next run: %s", unit.label, error)


def _changes(record: WorkRecord, unit: UnitOfWork, config: RunConfig) -> Iterator[str]:
    if record.version != __version__:
        yield f"version {__version__} now, {record.version} then"
    before, now = record.settings or {}, _settings(unit, config)
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield f"{name} is {_said(now.get(name))} now, was {_said(before.get(name))}"
    if record.metadata != _metadata(unit):
        yield "a sidecar of the scans changed"
    yield from _input_changes(record.inputs or {}, dict(unit.inputs))
    for name, size in (record.outputs or {}).items():
        path = config.output_dir / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != size:
            yield f"{name} changed its size"
    for name in record.missing or ():
        yield f"{name} could not be made"


def _input_changes(before: Mapping[str, Fingerprint], now: Mapping[str, Path]) -> Iterator[str]:
    for name, path in now.items():
        if name not in before:
            yield f"{name} is new"
            continue
        try:
            unchanged = before[name].is_of(path)
        except OSError:
            yield f"{name} cannot be read"
            continue
        if not unchanged:
            yield f"{name} changed"
    for name in before:
        if name not in now:
            yield f"{name} is gone"


def _settings(unit: UnitOfWork, config: RunConfig) -> dict[str, Any]:
    """As they read back from JSON, which has no tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(unit.settings(config))))
    return plain


def _metadata(unit: UnitOfWork) -> str:
    text = json.dumps(dict(unit.metadata), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


def _below(path: Path, folder: Path) -> str:
    return path.absolute().relative_to(folder.absolute()).as_posix()
