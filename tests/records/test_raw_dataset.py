"""Results keep to the dataset that they were made of, wherever it lies."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.description import write_dataset_files
from bids_unires.dataset.query import plan_participants
from bids_unires.errors import OutputError
from bids_unires.records.raw_dataset import follow_raw
from bids_unires.records.work_record import begin, complete

DatasetMaker = Callable[..., Path]


@pytest.fixture
def raw(make_dataset: DatasetMaker) -> Path:
    return make_dataset("sub-01_T1w", "sub-02_T1w")


@pytest.fixture
def out(raw: Path) -> Path:
    """Results of both participants."""
    config = RunConfig(raw, raw.parent / "out", "participant")
    write_dataset_files(config.output_dir, raw)
    for plan in plan_participants(config):
        begun = begin(plan, config)
        assert begun is not None
        complete(plan, config, begun, [])
    return config.output_dir


def description(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "dataset_description.json").read_text()))


def test_the_link_follows_a_dataset_that_was_moved(
    raw: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bids_unires")
    moved = raw.rename(raw.parent / "moved here")
    # One scan was removed on the way, and copies have times of their own.
    (moved / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    os.utime(moved / "sub-02" / "anat" / "sub-02_T1w.nii.gz", ns=(1, 1))
    follow_raw(out, moved)
    assert description(out)["DatasetLinks"] == {"raw": moved.as_uri()}
    assert description(out)["SourceDatasets"] == [{"URL": moved.as_uri()}]
    assert caplog.messages == [f"the raw dataset is in {moved} now, was in {raw.as_uri()}"]
    follow_raw(out, moved)
    assert len(caplog.messages) == 1


def test_another_dataset_with_the_same_labels_is_refused(out: Path, raw: Path) -> None:
    other = raw.parent / "site2"
    shutil.copytree(raw, other)
    (other / "sub-02" / "anat" / "sub-02_T1w.nii.gz").write_bytes(b"of somebody else")
    before = description(out)
    with pytest.raises(OutputError, match=r"sub-02_T1w.nii.gz is another file than there"):
        follow_raw(out, other)
    assert description(out) == before
    # What the message says besides.
    links = {**before, "DatasetLinks": {"raw": other.as_uri()}}
    (out / "dataset_description.json").write_text(json.dumps(links))
    follow_raw(out, other)


def test_a_dataset_of_others_leaves_the_link_alone(
    out: Path, make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    before = description(out)
    follow_raw(out, make_dataset("sub-03_T1w", root="staged"))
    assert description(out) == before
    assert "the link stays" in caplog.text


def test_other_scans_of_the_same_label_are_those_of_somebody_else(
    out: Path, make_dataset: DatasetMaker
) -> None:
    before = description(out)
    other = make_dataset("sub-01_FLAIR", "sub-03_T1w", root="site2")
    with pytest.raises(OutputError, match=r"none of the scans that those of sub-01 were made of"):
        follow_raw(out, other, ["sub-03", "sub-01"])
    assert description(out) == before
    follow_raw(out, other, ["sub-03"])


def test_scans_whose_content_is_elsewhere_are_there(
    out: Path, make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    clone = make_dataset("sub-03_T1w", root="clone")
    (clone / "sub-01" / "anat").mkdir(parents=True)
    (clone / "sub-01" / "anat" / "sub-01_T1w.nii.gz").symlink_to("annex")
    follow_raw(out, clone, ["sub-01"])
    assert "the link stays" in caplog.text


def test_a_dataset_beside_the_one_that_is_still_there_is_another(
    out: Path, raw: Path, make_dataset: DatasetMaker
) -> None:
    other = make_dataset("sub-03_T1w", root="site2")
    content = {"Name": "Another hospital", "BIDSVersion": "1.10.1"}
    (other / "dataset_description.json").write_text(json.dumps(content))
    with pytest.raises(OutputError, match="is still there, with another description than"):
        follow_raw(out, other, ["sub-03"])
    shutil.rmtree(raw)
    follow_raw(out, other, ["sub-03"])


@pytest.mark.parametrize("link", ["../raw", "https://example.org/raw", "same", None])
def test_links_that_fit_stay_as_they_are(out: Path, raw: Path, link: str | None) -> None:
    content = description(out)
    if link == "same":
        shutil.rmtree(raw / "sub-01")
    else:
        content["DatasetLinks"] = {} if link is None else {"raw": link}
        (out / "dataset_description.json").write_text(json.dumps(content))
    follow_raw(out, raw)
    assert description(out) == content
