"""Records: dataclasses that are written to JSON, and whose values are checked when read.

The `entry` of a field defines its key in JSON and the function that checks a value read there. A
value that cannot be used, or that an older version did not write, is read as None. Code that reads
a record therefore gets either a valid value or None.
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
"""Function that turns a value read from JSON into a valid value, or returns None."""

SCHEMA_KEY = "SchemaVersion"


def entry(key: str, read: Read[Any]) -> Any:
    """A field with its own key in JSON.

    Parameters
    ----------
    key
        The key in JSON.
    read
        Makes the value of the field from the value under this key.
    """
    return field(default=None, metadata={"key": key, "read": read})


def entries(read: Read[Any]) -> Any:
    """A field that is itself a record, whose entries are merged with those of the outer record.

    Parameters
    ----------
    read
        Makes the value of the field from the whole outer record.
    """
    return field(default=None, metadata={"key": None, "read": read})


@dataclass(frozen=True, eq=False)
class Record:
    """Base class of the records.

    Attributes
    ----------
    has_all_keys
        Whether unknown values are written as ``null`` rather than left out.
    """

    has_all_keys: ClassVar[bool] = False

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Read a record; values that cannot be used are None."""
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
        """Read a record inside another record; None if the value is no record."""
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
    """Base class of the records with their own file or their own object in JSON.

    Attributes
    ----------
    schema_version
        Version of the entries of this kind of record. It is raised if an entry changes its
        meaning, not if an entry is added. The first releases wrote no version; their records are
        read as version 1.
    """

    schema_version: ClassVar[int] = 1

    @classmethod
    def from_json(cls, content: object) -> Self:
        """Read a record; values that cannot be used are None.

        All values are None if the record has a later version, in which entries have another
        meaning.
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
    # An integer beyond the range of a float.
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def positive(value: object) -> float | None:
    """A finite number above 0."""
    found = number(value)
    return found if found is not None and found > 0 else None


def numbers(value: object) -> tuple[float | None, ...] | None:
    """A list of numbers, with None for every item that is no number."""
    return tuple(map(number, value)) if isinstance(value, list) else None


def vector(value: object) -> tuple[float, ...] | None:
    """A list that contains only numbers."""
    found = numbers(value) or ()
    complete = tuple(each for each in found if each is not None)
    return complete if found and len(complete) == len(found) else None


def whole_numbers(value: object) -> tuple[int, ...] | None:
    """A list that contains only whole numbers."""
    found = [whole(each) for each in value] if isinstance(value, list) else []
    complete = tuple(each for each in found if each is not None)
    return complete if found and len(complete) == len(found) else None


def texts(value: object) -> tuple[str, ...] | None:
    """A list of texts; items that are no text are left out."""
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
        # Raises an error for a matrix without inverse, which its users need.
        np.linalg.inv(matrix)
    except (TypeError, ValueError, np.linalg.LinAlgError):
        return None
    return matrix if matrix.shape == (4, 4) and np.isfinite(matrix).all() else None


def list_of(kind: type[RecordType]) -> Read[tuple[RecordType, ...]]:
    """Read a list of records; items that are no record are left out."""

    def read(value: object) -> tuple[RecordType, ...] | None:
        if not isinstance(value, list):
            return None
        found = (kind.nested(each) for each in value)
        return tuple(each for each in found if each is not None)

    return read
