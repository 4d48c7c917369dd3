"""Labels of participants lead back to the patients only with the key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bids_unires.dicom.headers import SeriesHeader
from bids_unires.dicom.key import Key, folder_labels
from bids_unires.errors import BadDataError, UsageError
from tests.dicom.conftest import Scanned

HeaderMaker = Callable[..., SeriesHeader]


def test_labels_stay_the_same_with_the_key_and_tell_nothing_without(
    tmp_path: Path, make_header: HeaderMaker
) -> None:
    series = [make_header(patient=name) for name in ("0815", "0816")]
    key = Key()
    labels = key.hashed_labels(series)
    assert len(set(labels.values())) == 2
    assert all(label.isalnum() and len(label) == 8 for label in labels.values())
    key.with_patients(labels).write(tmp_path / "key.json")
    assert (tmp_path / "key.json").stat().st_mode & 0o777 == 0o600
    read = Key.read(tmp_path / "key.json")
    assert read.hashed_labels(series) == labels
    assert read.patients == {label: patient for patient, label in labels.items()}
    assert Key().hashed_labels(series) != labels


def test_labels_of_folders(scanned: Scanned) -> None:
    assert folder_labels(scanned.series, scanned.folder) == {"PAT/0815": "A1", "PAT_0815": "B2"}
    for folder in (scanned.folder, scanned.folder / "B2", scanned.folder / "--"):
        moved = replace(scanned.series[0], folder=folder)
        with pytest.raises(UsageError, match="one folder for each patient"):
            folder_labels([*scanned.series, moved], scanned.folder)


def test_a_label_stands_for_one_patient() -> None:
    with pytest.raises(UsageError, match="two patients"):
        Key("", {"a": "P"}).with_patients({"Q": "a"})


@pytest.mark.parametrize("text", ["{}", "[]", "no", '{"Salt": 1, "Patients": {}}'])
def test_another_file_is_no_key(text: str, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(text)
    with pytest.raises(BadDataError, match="no key of participants"):
        Key.read(tmp_path / "key.json")
