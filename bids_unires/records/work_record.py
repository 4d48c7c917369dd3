"""Records of the units of work that are done, so that a repeated command does only the rest.

When a unit has succeeded, a record of its inputs, settings and outputs is written to the logs. A
unit is done if its record exists and still holds. While a unit is processed again, its record lists
the results of earlier runs. At the end, those files that no longer belong to it can be removed.
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
# Name of the stage of the participant level.
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
    """The record of a unit of work, by which a run decides whether it has to be done again.

    Parameters
    ----------
    version
        Version of the program.
    begun
        True while the unit is processed, or if processing was interrupted. All other values except
        the version and the earlier results are then None.
    settings
        Settings that the results depend on, by name.
    metadata
        SHA-256 checksum, in hexadecimal digits, of the metadata that the results depend on.
    inputs
        Fingerprints of the input files, by name.
    outputs
        Size in bytes of each output file, by its path relative to the output folder.
    missing
        Paths of files that could not be made, relative to the output folder; None if there are
        none.
    earlier
        Results of earlier runs that still exist, the latest first.
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
            If the file does not exist, or is not JSON.
        """
        return cls.from_json(json.loads(path.read_text("utf-8")))

    @property
    def latest(self) -> Results | None:
        """Results of the run that wrote the record; None if it has not finished."""
        if self.inputs is None or self.settings is None or self.outputs is None:
            return None
        checksums = {name: file.sha256 for name, file in self.inputs.items()}
        return Results(checksums, self.settings, tuple(self.outputs))

    @property
    def results(self) -> tuple[Results, ...]:
        """Results of all runs that still exist, the latest first."""
        latest = () if self.latest is None else (self.latest,)
        return (*latest, *(self.earlier or ()))


def read_record(path: Path) -> WorkRecord:
    """Read the record of a unit; an empty record if there is none or it cannot be read."""
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
        Whether all results exist and a new run would make the same.
    reasons
        If it is not done: the changes since it was done; empty if it was never done.
    """

    done: bool
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The first few reasons, in one line."""
        more = len(self.reasons) - _SHOWN
        return "; ".join(self.reasons[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def record_path(unit: UnitOfWork, config: RunConfig) -> Path:
    """Path of the record of a unit."""
    return config.output_dir / "logs" / unit.stage / f"{unit.label}.json"


def standing(unit: UnitOfWork, config: RunConfig) -> Standing:
    """Compare the record of a unit with its files and with the configuration."""
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
    """Names of the inputs that have changed since a result was made.

    Parameters
    ----------
    unit, config
        The unit of work, and the configuration of the run.
    output
        An output file of the unit. If no record says from which inputs it was made, no input
        counts as changed.
    inputs
        Names of the inputs, and their present files.

    Raises
    ------
    OSError
        If an input cannot be read.
    """
    before = _inputs_behind(record_path(unit, config), _below(output, config.output_dir))
    return tuple(name for name, path in inputs if name in before and not before[name].is_of(path))


def placed_alike(unit: UnitOfWork, config: RunConfig) -> tuple[Results, ...]:
    """Earlier results of the same inputs with the same settings of the space of the images.

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
    """Labels of the units that the participant level has begun but not finished.

    Their images may be from different runs, or incomplete.
    """
    records = (output_dir / "logs" / _PARTICIPANT).glob("*.json")
    return frozenset(path.stem for path in records if read_record(path).begun)


def recorded_inputs(output_dir: Path) -> dict[str, Mapping[str, Fingerprint]]:
    """Fingerprints of the inputs of the participant level, by label of the unit and by name."""
    found = {}
    for path in sorted((output_dir / "logs" / _PARTICIPANT).glob("*.json")):
        record = read_record(path)
        if record.results:
            found[path.stem] = _fingerprints(record, record.results[0])
    return found


def _inputs_behind(path: Path, output: str) -> Mapping[str, Fingerprint]:
    """Fingerprints of the inputs of the last run that wrote an output."""
    record = read_record(path)
    for results in record.results:
        if output in results.outputs:
            return _fingerprints(record, results)
    return {}


def _fingerprints(record: WorkRecord, results: Results) -> Mapping[str, Fingerprint]:
    """Fingerprints of the inputs of results.

    Those of the latest run include size and time, which often make reading the file unnecessary.
    """
    latest = record.inputs or {}
    return {
        name: latest[name]
        if name in latest and latest[name].sha256 == digest
        else Fingerprint(digest)
        for name, digest in results.inputs.items()
    }


def follow_renamed(
    output_dir: Path, names: Mapping[str, str], sizes: Mapping[str, tuple[int, int]]
) -> None:
    """Adapt the records of all units to files that were renamed, so that no unit is done again.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    names
        Present names of inputs by their former names.
    sizes
        Former and present size in bytes of outputs whose references to renamed files were
        replaced, by their paths relative to the output folder.
    """
    for path in sorted((output_dir / "logs").glob("*/*.json")):
        record = read_record(path)
        inputs, outputs = record.inputs or {}, record.outputs or {}
        resized = {name: new for name, (old, new) in sizes.items() if outputs.get(name) == old}
        if not resized and not inputs.keys() & names.keys():
            continue
        renamed = {names.get(name, name): fingerprint for name, fingerprint in inputs.items()}
        followed = replace(record, inputs=renamed, outputs={**outputs, **resized})
        write_json(path, followed.to_json())


def begin(unit: UnitOfWork, config: RunConfig) -> WorkRecord | None:
    """Record that processing of a unit begins; from now on it does not count as done.

    Returns
    -------
    WorkRecord or None
        The inputs and settings of the unit, for `complete`. None if an input cannot be read; the
        record on disk is then left as it is.

    Raises
    ------
    UniResError
        If the record cannot be written.
    """
    try:
        inputs = {name: Fingerprint.of_file(path) for name, path in unit.inputs}
    except OSError:
        # Processing the unit will report the error. The earlier results remain, and their record
        # holds again once the input can be read.
        return None
    path = record_path(unit, config)
    earlier: tuple[Results, ...] = ()
    if unit.stage == _PARTICIPANT:
        earlier = read_record(path).results
        begun = WorkRecord(version=__version__, begun=True, earlier=earlier)
        write_json(path, begun.to_json())
    else:
        # At the group level, a run may process only some contrasts, and removes outdated files
        # itself. The record is therefore removed without a list of earlier results.
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
    """Remove the record that a unit was begun, if no run has written a result."""
    path = record_path(unit, config)
    folders = [config.output_dir / folder for folder in unit.folders]
    made = any(True for folder in folders for _ in folder.glob(f"{unit.label}_*"))
    record = read_record(path)
    if not made and record.begun and not record.results:
        with suppress(OSError):
            path.unlink()
            # Also remove the folder of the records, if it is empty.
            path.parent.rmdir()


def complete(
    unit: UnitOfWork,
    config: RunConfig,
    begun: WorkRecord,
    outputs: Sequence[Path],
    missing: Sequence[Path] = (),
) -> None:
    """Write the record of a unit that succeeded, and remove the files that it replaces.

    Parameters
    ----------
    unit, config
        The unit, and the configuration of the run.
    begun
        The record that `begin` returned.
    outputs
        The files that were written.
    missing
        Files that could not be made and that the others do not depend on. The next run does the
        unit again.
    """
    try:
        record = replace(
            begun,
            outputs={_below(path, config.output_dir): path.stat().st_size for path in outputs},
            missing=tuple(_below(path, config.output_dir) for path in missing) or None,
        )
        latest, *earlier = record.results
        # Files are removed before the record is written. If this process is killed in between,
        # the old record still lists them.
        staying = remove_superseded(earlier, latest, config.output_dir)
        write_json(record_path(unit, config), replace(record, earlier=staying).to_json())
    except (OSError, UniResError) as error:
        logger.warning("%s will be processed again by the next run: %s", unit.label, error)


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
    """Settings as they are read from JSON, which has no tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(unit.settings(config))))
    return plain


def _metadata(unit: UnitOfWork) -> str:
    text = json.dumps(dict(unit.metadata), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


def _below(path: Path, folder: Path) -> str:
    return path.absolute().relative_to(folder.absolute()).as_posix()
