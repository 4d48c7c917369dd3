"""Entries of records: dataclasses written in the types of JSON and read back without trust.

Each field of a record that has an `entry` says under which key it stands in JSON, and what of a
value read there can be used. Whatever cannot be is None, as is what an older version did not
write: who reads a record meets either a sound value or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from ..space.affines import Affine

Value = TypeVar("Value")
RecordType = TypeVar("RecordType", bound="Record")
Read = Callable[[object], Value | None]
"""Gives what can be used of a value read from JSON, or None."""

SCHEMA_KEY = "SchemaVersion"


def entry(key: str, read: Read[Any]) -> Any:
    """A field that stands under a key of its own.

    Parameters
    ----------
    key
        In JSON.
    read
        Makes the field's value of what stands there.
    """
    return field(default=None, metadata={"key": key, "read": read})


def entries(read: Read[Any]) -> Any:
    """A field whose own entries stand among those of the record.

    Parameters
    ----------
    read
        Makes the field's value of the whole record.
    """
    return field(default=None, metadata={"key": None, "read": read})


@dataclass(frozen=True, eq=False)
class Record:
    """What is said about one thing.

    Attributes
    ----------
    has_all_keys
        Whether what is not known is written as ``null``, rather than left out.
    """

    has_all_keys: ClassVar[bool] = False

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Read a record; what cannot be used of it, or all of it, is None."""
        stated = content if isinstance(content, Mapping) else {}
        return cls(
            **{
                own.name: _read(own.metadata["key"], own.metadata["read"], stated)
                for own in fields(cls)
                if own.metadata
            }
        )

    @classmethod
    def nested(cls, content: object) -> Self | None:
        """Read a record that stands within another; None where nothing of the kind does."""
        return cls.from_json(content) if isinstance(content, Mapping) else None

    def to_json(self) -> dict[str, Any]:
        """The record in the types of JSON."""
        content: dict[str, Any] = {}
        for own in fields(self):
            key, value = own.metadata.get("key"), getattr(self, own.name)
            if key is None:
                content |= value.to_json() if value is not None else {}
            elif value is not None or self.has_all_keys:
                content[key] = plain(value)
        return content


@dataclass(frozen=True, eq=False)
class VersionedRecord(Record):
    """What is said in a file of its own, or in an object of its own.

    Attributes
    ----------
    schema_version
        Of the entries of this kind of record. It is raised when one of them changes its meaning,
        not when one joins them; the first releases wrote none, and are read as version 1.
    """

    schema_version: ClassVar[int] = 1

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Read a record; what cannot be used of it, or all of it, is None.

        Nothing can be used where a later release gave entries another meaning.
        """
        version = whole(content.get(SCHEMA_KEY)) if isinstance(content, Mapping) else None
        return super().from_json(None if (version or 1) > cls.schema_version else content)

    def to_json(self) -> dict[str, Any]:
        """The record in the types of JSON."""
        return {SCHEMA_KEY: self.schema_version, **super().to_json()}


def _read(key: str | None, read: Read[Any], stated: Mapping[str, Any]) -> Any:
    if key is None:
        return read(stated)
    return read(stated[key]) if key in stated else None


def plain(value: Any) -> Any:
    """A value in the types of JSON: arrays, tuples and records become lists and objects."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value.to_json() if hasattr(value, "to_json") else value


def text(value: object) -> str | None:
    """Text that is not empty."""
    return value if isinstance(value, str) and value else None


def flag(value: object) -> bool | None:
    """True or false."""
    return value if isinstance(value, bool) else None


def whole(value: object) -> int | None:
    """A whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: object) -> float | None:
    """A finite number.

    Examples
    --------
    >>> number(2), number(float("nan")), number("2"), number(True)
    (2.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    # A whole number that is too large.
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def positive(value: object) -> float | None:
    """A finite number above 0."""
    found = number(value)
    return found if found is not None and found > 0 else None


def numbers(value: object) -> tuple[float | None, ...] | None:
    """A list of numbers, with None for what is none."""
    return tuple(map(number, value)) if isinstance(value, list) else None


def vector(value: object) -> tuple[float, ...] | None:
    """A list of numbers throughout."""
    found = numbers(value) or ()
    complete = tuple(each for each in found if each is not None)
    return complete if found and len(complete) == len(found) else None


def whole_numbers(value: object) -> tuple[int, ...] | None:
    """A list of whole numbers throughout."""
    found = [whole(each) for each in value] if isinstance(value, list) else []
    complete = tuple(each for each in found if each is not None)
    return complete if found and len(complete) == len(found) else None


def texts(value: object) -> tuple[str, ...] | None:
    """A list of texts; what is none in it is left out."""
    if not isinstance(value, list):
        return None
    return tuple(each for each in value if isinstance(each, str))


def settings(value: object) -> Mapping[str, Any] | None:
    """Settings by name."""
    return value if isinstance(value, Mapping) else None


def affine(value: object) -> Affine | None:
    """A matrix ``(4, 4)`` of finite numbers that has an inverse.

    Examples
    --------
    >>> affine([[1, 0], [0, 1]]) is None
    True
    """
    try:
        matrix = np.asarray(value, dtype=np.float64)
        # An inverse is what everybody needs of it.
        np.linalg.inv(matrix)
    except (TypeError, ValueError, np.linalg.LinAlgError):
        return None
    return matrix if matrix.shape == (4, 4) and np.isfinite(matrix).all() else None


def list_of(kind: type[RecordType]) -> Read[tuple[RecordType, ...]]:
    """Read a list of records; what is none in it is left out."""

    def read(value: object) -> tuple[RecordType, ...] | None:
        if not isinstance(value, list):
            return None
        found = (kind.nested(each) for each in value)
        return tuple(each for each in found if each is not None)

    return read
