from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from bids_unires.dataset.metadata import MAX_SIDECAR_BYTES, SidecarError, SidecarReader, load_object

IMAGE = "sub-01/ses-a/anat/sub-01_ses-a_acq-x_run-01_T1w.nii.gz"


def place(root: Path) -> Path:
    """Put an image without metadata there."""
    image = root / IMAGE
    image.parent.mkdir(parents=True)
    image.touch()
    return image


def test_the_closest_sidecar_wins(tmp_path: Path) -> None:
    image = place(tmp_path)
    levels = {
        "T1w.json": {"A": 1, "B": 1, "C": 1, "D": 1, "E": 1},
        "acq-x_T1w.json": {"B": 2, "C": 2, "D": 2, "E": 2},
        "sub-01/sub-01_T1w.json": {"C": 3, "D": 3, "E": 3},
        "sub-01/ses-a/sub-01_ses-a_run-1_T1w.json": {"D": 4, "E": 4},
        IMAGE.replace(".nii.gz", ".json"): {"E": 5},
    }
    for name, content in levels.items():
        (tmp_path / name).write_text(json.dumps(content))
    for name in ("T2w.json", "acq-y_T1w.json", "run-2_T1w.json", "sub-01/ses-a/sub-02_T1w.json"):
        (tmp_path / name).write_text('{"A": "of another image"}')
    assert SidecarReader(tmp_path).metadata(image) == {"A": 1, "B": 2, "C": 3, "D": 4, "E": 5}


def test_tables_are_found_the_same_way(tmp_path: Path) -> None:
    image = place(tmp_path)
    (tmp_path / "T1w.tsv").touch()
    own = image.with_name("sub-01_ses-a_acq-x_run-01_T1w.tsv")
    own.touch()
    assert SidecarReader(tmp_path).applicable(image, ".tsv") == [tmp_path / "T1w.tsv", own]


BROKEN = {
    "no JSON": b"{",
    "empty": b"",
    "a list": b"[1, 2]",
    "a number": b"7",
    "not text": b"\xff\xfe{}",
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "10 MB of nesting": b'{"a":[' * 1_700_000,
    "a huge number": b'{"EchoTime": ' + b"9" * 10_000 + b"}",
    "large": b'{"a": "' + b"x" * MAX_SIDECAR_BYTES + b'"}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_unusable_sidecars_are_named_and_the_others_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    image = place(tmp_path)
    (tmp_path / "T1w.json").write_text('{"EchoTime": 0.1}')
    sidecar = image.with_name("sub-01_ses-a_acq-x_run-01_T1w.json")
    sidecar.write_bytes(content)
    assert SidecarReader(tmp_path).metadata(image) == {"EchoTime": 0.1}
    (record,) = caplog.records
    assert str(sidecar) in record.getMessage()
    assert "without gaps" in record.getMessage()
    assert "\n" not in record.getMessage()
    with pytest.raises(SidecarError):
        load_object(sidecar)


def test_files_that_are_none_do_not_block(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = place(tmp_path)
    os.mkfifo(image.with_name("sub-01_ses-a_acq-x_run-01_T1w.json"))
    (tmp_path / "T1w.json").mkdir()
    (tmp_path / "acq-x_T1w.json").symlink_to(".git/annex/objects/aa/bb/x.json")
    (tmp_path / "run-1_T1w.json").symlink_to("run-1_T1w.json")
    assert SidecarReader(tmp_path).metadata(image) == {}
    assert len(caplog.records) == 4
    assert "its content is not here" in caplog.text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"A": NaN, "B": 1}', {"B": 1}),
        ('{"A": [1, -Infinity], "B": [1, 2]}', {"B": [1, 2]}),
        ('{"A": 1e999, "B": null, "C": "x"}', {"C": "x"}),
        ('{"A": [[[1]]], "B": {"x": [1]}}', {"B": {"x": [1]}}),
        ('{"A": "\\ud800", "B": "Größe"}', {"B": "Größe"}),
        ('\ufeff{"B": true}', {"B": True}),
        ('{"A": ' + "[" * 500 + "]" * 500 + "}", {}),
    ],
)
def test_unusable_values_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, kept: dict[str, object]
) -> None:
    image = place(tmp_path)
    (tmp_path / "T1w.json").write_text(text, "utf-8")
    metadata = SidecarReader(tmp_path).metadata(image)
    assert metadata == kept
    assert pickle.loads(pickle.dumps(metadata)) == kept
    json.dumps(metadata, allow_nan=False, ensure_ascii=False).encode()
    assert ("'A'" in caplog.text) is ('"A"' in text)


def test_inherited_files_are_read_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = place(tmp_path)
    (tmp_path / "T1w.json").write_text("{")
    (tmp_path / "acq-x_T1w.json").write_text('{"EchoTime": 0.1}')
    reader = SidecarReader(tmp_path)
    assert reader.metadata(image) == {"EchoTime": 0.1}
    (tmp_path / "acq-x_T1w.json").write_text('{"EchoTime": 0.2}')
    assert reader.metadata(image) == {"EchoTime": 0.1}
    assert len(caplog.records) == 1


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1"])
@pytest.mark.parametrize("name", ["T1w.json", IMAGE.replace(".nii.gz", ".json")])
def test_sidecars_are_read_in_any_encoding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, name: str
) -> None:
    image = place(tmp_path)
    text = '{"InstitutionName": "Universit\u00e4t", "SliceThickness": 4}'
    (tmp_path / name).write_bytes(text.encode(codec))
    reader = SidecarReader(tmp_path)
    assert reader.metadata(image) == json.loads(text)
    told = [message for message in caplog.messages if "save it as UTF-8" in message]
    assert len(told) == (codec != "utf-8-sig")
    assert all(message.startswith(str(tmp_path / name)) for message in told)
    assert len(caplog.messages) == len(told)
