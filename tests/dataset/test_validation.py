from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset import validation
from bids_unires.dataset.description import write_dataset_files
from bids_unires.dataset.validation import check_folders, validate_dataset
from bids_unires.errors import (
    InvalidDatasetError,
    MissingInputError,
    OutputError,
    UniResError,
    UsageError,
)
from tests.paths import SHARED

DatasetMaker = Callable[..., Path]


def config(bids_dir: Path, output_dir: Path, **options: Any) -> RunConfig:
    return RunConfig(bids_dir, output_dir, "participant", **options)


def refusal(bids_dir: Path, output_dir: Path, **options: Any) -> UniResError:
    """The error of a check, which is one line and has left nothing behind."""
    before = set(output_dir.parent.rglob("*"))
    with pytest.raises(UniResError) as caught:
        check_folders(config(bids_dir, output_dir, **options))
    assert "\n" not in str(caught.value)
    assert set(output_dir.parent.rglob("*")) == before
    return caught.value


def test_good_folders_are_not_touched(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    for output_dir in (
        tmp_path / "deep" / "out",
        bids_dir / "derivatives" / "bids_unires",
        bids_dir / "derivatives",
        tmp_path,
        tmp_path / "raw-unires",
    ):
        check_folders(config(bids_dir, output_dir))
    assert not (bids_dir / "derivatives").exists()
    assert not (tmp_path / "deep").exists()


def test_datasets_that_are_none(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert isinstance(refusal(tmp_path / "absent", out), MissingInputError)
    empty = tmp_path / "empty"
    empty.mkdir()
    error = refusal(empty, out)
    assert isinstance(error, InvalidDatasetError)
    assert "no dataset_description.json" in str(error)
    for text in ("{", "[]", ""):
        (empty / "dataset_description.json").write_text(text)
        assert isinstance(refusal(empty, out), InvalidDatasetError)
    assert isinstance(refusal(empty / "dataset_description.json", out), InvalidDatasetError)


def test_outputs_must_not_become_raw_data(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    link = tmp_path / "link"
    link.symlink_to(bids_dir)
    for inside in (
        bids_dir,
        bids_dir / "out",
        bids_dir / "sub-01" / "derivatives",
        bids_dir / "derivatives" / ".." / "out",
        link / "out",
    ):
        assert isinstance(refusal(bids_dir, inside), UsageError)
    out = tmp_path / "out"
    derivatives = bids_dir / "derivatives" / "x"
    assert isinstance(refusal(bids_dir, out, bids_database_dir=derivatives), UsageError)


def test_outputs_that_cannot_be_created(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to("nowhere")
    for impossible in (tmp_path / "file", tmp_path / "file" / "out", tmp_path / "broken" / "out"):
        assert isinstance(refusal(bids_dir, impossible), OutputError)


def test_read_only_places_are_refused(
    make_dataset: DatasetMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    # For root every mode is writable, so the system's answer is given here.
    monkeypatch.setattr(os, "access", lambda path, mode, **options: Path(path) != tmp_path)
    assert isinstance(refusal(bids_dir, tmp_path / "out"), OutputError)


def test_the_dataset_of_another_program_is_left_alone(
    make_dataset: DatasetMaker, tmp_path: Path
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    out = tmp_path / "out"
    write_dataset_files(out, bids_dir)
    check_folders(config(bids_dir, out))
    description = out / "dataset_description.json"
    for owner, content in {
        "fMRIPrep": {"GeneratedBy": [{"Name": "fMRIPrep"}]},
        "another program": {"Name": "raw"},
    }.items():
        description.write_text(json.dumps(content))
        error = refusal(bids_dir, out)
        assert isinstance(error, OutputError)
        assert owner in str(error)


def test_errors_of_the_validator_stop_the_run(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_run-1_acq-x_T1w")
    with pytest.raises(InvalidDatasetError, match="--skip-bids-validation") as caught:
        validate_dataset(config(bids_dir, tmp_path / "out"), ["01"])
    assert "sub-01_run-1_acq-x_T1w" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", '{"EchoTime": "short"}', '{"EchoTime": NaN}', ""])
def test_errors_of_sidecars_do_not(
    make_dataset: DatasetMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w")
    (bids_dir / "sub-01/anat/sub-01_T1w.json").write_text(content)
    validate_dataset(config(bids_dir, tmp_path / "out"), ["01", "02"])
    assert "sub-01_T1w.json" in caplog.text


@pytest.mark.parametrize("codec", ["utf-8-sig", "latin-1", "utf-16"])
@pytest.mark.parametrize(
    "name", ["sub-01/anat/sub-01_T1w.json", "T1w.json", "dataset_description.json"]
)
def test_encodings_do_not_stop_a_run(
    make_dataset: DatasetMaker,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    codec: str,
    name: str,
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w")
    text = '{"Name": "Köpfe", "BIDSVersion": "1.10.1", "License": "CC0"}'
    (bids_dir / name).write_bytes(text.encode(codec))
    check_folders(config(bids_dir, tmp_path / "out"))
    is_told = name == "dataset_description.json" and codec != "utf-8-sig"
    assert ("save it as UTF-8" in caplog.text) is is_told
    validate_dataset(config(bids_dir, tmp_path / "out"), ["01", "02"])
    assert name in caplog.text
    write_dataset_files(tmp_path / "out", bids_dir)
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text("utf-8"))
    kept = "Köpfe" if name == "dataset_description.json" else "Test"
    assert description["Name"].startswith(f"{kept}: ")


def test_tables_that_the_validator_dies_of_do_not_stop_a_run(
    make_dataset: DatasetMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    (bids_dir / "participants.tsv").write_bytes("participant_id\nsub-01\n".encode("utf-16"))
    validate_dataset(config(bids_dir, tmp_path / "out"), ["01"])
    (message,) = caplog.messages
    assert "UTF-16" in message
    assert "\n" not in message
    assert message.endswith("the input is not validated")


def test_ct_has_no_place_in_bids_and_needs_none(
    make_dataset: DatasetMaker,
    add_image: Callable[..., Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_ses-a_T1w")
    add_image(bids_dir, "sub-01_ct", {"KVP": 120}, datatype="ct")
    add_image(bids_dir, "sub-02_ses-a_ct", datatype="ct")
    validate_dataset(config(bids_dir, tmp_path / "out", modalities=("T1w", "ct")), ["01", "02"])
    assert not caplog.records


def test_datasets_of_labels(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    labels = make_dataset(root="labels")
    check_folders(config(bids_dir, tmp_path / "out", labels=labels))
    error = refusal(bids_dir, tmp_path / "out", labels=tmp_path / "absent")
    assert isinstance(error, MissingInputError)
    assert isinstance(refusal(bids_dir, labels, labels=labels / "." / ""), UsageError)


def test_errors_elsewhere_and_damaged_images_do_not(
    make_dataset: DatasetMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w", "sub-01_inv-1_MP2RAGE", "sub-03_T1w")
    (bids_dir / "sub-02/anat/sub-02_T1w.json").write_text('{"EchoTime": "short"}')
    (bids_dir / "sub-01/func").mkdir()
    bold = bids_dir / "sub-01/func/sub-01_task-rest_bold.nii.gz"
    bold.write_bytes((bids_dir / "sub-01/anat/sub-01_T1w.nii.gz").read_bytes())
    (bids_dir / "participants.tsv").write_text("participant_id\nsub-99\n")
    (bids_dir / "sub-01/anat/sub-01_T1w.nii.gz").write_bytes(b"")
    annexed = bids_dir / "sub-03/anat/sub-03_T1w.nii.gz"
    annexed.unlink()
    annexed.symlink_to("../../.git/annex/objects/aa/bb/MD5E-s9--5f.nii.gz/MD5E-s9--5f.nii.gz")
    validate_dataset(config(bids_dir, tmp_path / "out"), ["01", "03"])
    assert "need not stop this run" in caplog.text


def test_stray_files_do_not(
    make_dataset: DatasetMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    scan = bids_dir / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    for name in ("slurm-123.out", "notes.txt", "README.docx", "dseg.tsv", "scripts/convert.py"):
        (bids_dir / name).parent.mkdir(exist_ok=True)
        (bids_dir / name).write_text("not for this program")
    scan.with_name(f"{scan.name}.bak").write_bytes(scan.read_bytes())
    validate_dataset(config(bids_dir, tmp_path / "out"), ["01"])
    assert "need not stop this run" in caplog.text
    # Whoever reads it would take it for a scan, or inherit from it.
    for name in ("sub-01_strange-1_T1w.nii.gz", "sub-01_strange-1_T1w.json"):
        other = scan.with_name(name)
        other.write_bytes(scan.read_bytes() if name.endswith("gz") else b"{}")
        with pytest.raises(InvalidDatasetError, match=name):
            validate_dataset(config(bids_dir, tmp_path / "out"), ["01"])
        other.unlink()


@pytest.mark.parametrize("place", [{}, {"location": ""}, {"location": "/"}])
def test_errors_of_the_dataset_as_a_whole_stop_the_run(
    make_dataset: DatasetMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: dict[str, str],
) -> None:
    issue = {"code": "NO_SUBJECTS", "severity": "error", **place}
    program = tmp_path / "validator"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'issues': {'issues': [issue]}})}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(validation, "find_validator", lambda: str(program))
    with pytest.raises(InvalidDatasetError, match="NO_SUBJECTS"):
        validate_dataset(config(make_dataset("sub-01_T1w"), tmp_path / "out"), ["01"])


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["positions", "contrasts"])
def test_real_datasets_pass(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    validate_dataset(config(SHARED / "data" / name, tmp_path / "out"), ["01"])
    assert not caplog.records


@pytest.mark.parametrize("program", [None, "/bin/false", "/bin/echo"])
def test_a_validator_that_does_not_run_is_told(
    make_dataset: DatasetMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    program: str | None,
) -> None:
    monkeypatch.setattr(validation, "find_validator", lambda: program)
    validate_dataset(config(make_dataset("sub-01_T1w"), tmp_path / "out"), ["01"])
    assert "not validated" in caplog.text
