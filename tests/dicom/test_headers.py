"""Headers of all files of a folder, grouped into series."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_unires.dicom.headers import read_headers
from bids_unires.errors import MissingInputError
from tests.dicom import scanner
from tests.dicom.conftest import FIRST, PROTOCOL, Scanned
from tests.dicom.scanner import Series, write_series


def test_series_are_found_in_all_folders_and_in_order(scanned: Scanned) -> None:
    found = [(header.patient, header.number) for header in scanned.series]
    first = [("PAT/0815", number) for number in (*PROTOCOL, 30)]
    assert found == [*first, ("PAT_0815", 2), ("PAT_0815", 4)]
    assert [header.count for header in scanned.series][:3] == [3, 10, 10]
    with_agent = [(each.patient, each.number) for each in scanned.series if each.has_agent]
    assert with_agent == [("PAT/0815", 7)]


@pytest.mark.parametrize("agent", ["", "None", "no", "NEIN"])
def test_some_words_mean_no_agent(agent: str, tmp_path: Path) -> None:
    fields = {**scanner.T1W, "ContrastBolusAgent": agent}
    write_series(tmp_path, FIRST, 1, Series("t1", fields, count=2))
    assert not read_headers(tmp_path)[0].has_agent


def test_folders_without_dicom_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text " * 100)
    (tmp_path / "zeros").write_bytes(bytes(1000))
    for folder, why in (
        (tmp_path, "holds no DICOM file"),
        (tmp_path / "none", "does not exist"),
        (tmp_path / "text", "is not a folder"),
    ):
        with pytest.raises(MissingInputError, match=why):
            read_headers(folder)
