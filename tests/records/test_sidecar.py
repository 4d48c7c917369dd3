"""What the program says of how files were made stands in sidecars under one key."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

import bids_unires
from bids_unires.dataset.metadata import SidecarError
from bids_unires.records.image import ImageRecord, UncertaintyRecord
from bids_unires.records.sidecar import SidecarRecord
from bids_unires.records.study import (
    CohortMeanRecord,
    StudyGridRecord,
    StudyMeanRecord,
    StudyPlacementRecord,
)

KINDS = [
    CohortMeanRecord,
    ImageRecord,
    StudyGridRecord,
    StudyMeanRecord,
    StudyPlacementRecord,
    UncertaintyRecord,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", [None, 7, "text", [], {}, {"SchemaVersion": "first"}])
def test_a_sidecar_without_a_record_says_nothing(
    kind: type[SidecarRecord], content: object
) -> None:
    empty = {"SchemaVersion": kind.schema_version}
    assert kind.of_sidecar({"UniRes": content}).to_json() == empty
    assert kind.of_sidecar({}).to_json() == empty


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_says_of_every_field_where_it_stands_and_what_it_is(
    kind: type[SidecarRecord],
) -> None:
    documented = kind.__doc__ or ""
    for field in fields(kind):
        assert field.metadata, field.name
        assert field.name in documented, field.name


def test_a_sidecar_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SidecarError):
        ImageRecord.read(tmp_path / "none.json")


def test_nobody_else_spells_the_key() -> None:
    package = Path(bids_unires.__file__).parent
    found = [path for path in package.rglob("*.py") if '"UniRes"' in path.read_text("utf-8")]
    assert [path.relative_to(package).as_posix() for path in found] == ["records/sidecar.py"]
