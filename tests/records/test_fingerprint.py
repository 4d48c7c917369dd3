from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bids_unires.records.fingerprint import Fingerprint, fingerprints


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"12345")
    return path


def test_a_fingerprint_comes_back_as_it_was_written(path: Path) -> None:
    taken = Fingerprint.of_file(path)
    assert Fingerprint.from_json(json.loads(json.dumps(taken.to_json()))) == taken


@pytest.mark.parametrize("is_whole", [True, False])
def test_a_file_is_known_again_wherever_it_is_and_another_is_not(
    path: Path, is_whole: bool
) -> None:
    taken = Fingerprint.of_file(path)
    if not is_whole:
        taken = Fingerprint(taken.sha256)
    copy = path.with_name("copy.nii.gz")
    copy.write_bytes(path.read_bytes())
    os.utime(copy, ns=(1, 1))
    assert taken.is_of(copy)
    copy.write_bytes(b"12346")
    os.utime(copy, ns=(1, 1))
    assert not taken.is_of(copy)


def test_a_pipe_has_no_fingerprint(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no regular file"):
        Fingerprint.of_file(pipe)


@pytest.mark.parametrize("content", [None, "abc", {}, {"SHA256": 7}, {"Size": 3}])
def test_what_is_no_fingerprint_is_none(content: object) -> None:
    assert Fingerprint.from_json(content) is None
    assert fingerprints({"a": {"SHA256": "12"}, "b": content}) is None
