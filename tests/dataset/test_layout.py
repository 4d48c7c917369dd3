from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_unires.dataset.layout import index_images
from bids_unires.errors import OutputError, UsageError

DatasetMaker = Callable[..., Path]
FileAdder = Callable[..., Path]

MAKE_INDEX = """
import sys
from pathlib import Path
from bids_unires.dataset.layout import index_images
print(len(index_images(Path(sys.argv[1]), ["T1w"], (), Path(sys.argv[2])).files))
"""


def names(
    root: Path,
    *suffixes: str,
    participants: tuple[str, ...] = (),
    database: Path | None = None,
) -> list[str]:
    files = index_images(root, suffixes, participants, database).get(return_type="filename")
    return sorted(os.path.relpath(file, root) for file in files)


def test_only_wanted_images_are_indexed(make_dataset: DatasetMaker, add_image: FileAdder) -> None:
    root = make_dataset("sub-01_T1w", "sub-01_T2w", "sub-10_T1w", T1w={"EchoTime": 1})
    add_image(root, "sub-01_ct", {"KVP": 120}, datatype="ct")
    for elsewhere in ("func", "derivatives/sub-01/anat", "sub-01/func", "sub-01/anat/old"):
        (root / elsewhere).mkdir(parents=True, exist_ok=True)
        (root / elsewhere / "sub-01_run-9_T1w.nii.gz").touch()
    t1w = ["sub-01/anat/sub-01_T1w.nii.gz", "sub-10/anat/sub-10_T1w.nii.gz"]
    assert names(root, "T1w") == t1w
    assert names(root, "T1w", participants=("1", "10")) == t1w[1:]
    assert names(root, "T1w", "ct", participants=("01",)) == [t1w[0], "sub-01/ct/sub-01_ct.nii.gz"]


def test_ct_is_a_datatype(make_dataset: DatasetMaker, add_image: FileAdder) -> None:
    root = make_dataset("sub-01_T1w")
    add_image(root, "sub-01_ce-iodine_ct", datatype="ct")
    layout = index_images(root, ["T1w", "ct"], ())
    (image,) = layout.get(datatype="ct", suffix="ct", subject="01", ceagent="iodine")
    assert image.get_entities()["datatype"] == "ct"
    assert len(layout.get(datatype="anat")) == 1


def test_links_that_lead_back_are_not_followed_in_circles(make_dataset: DatasetMaker) -> None:
    root = make_dataset("sub-01_T1w")
    (root / "sub-01/anat/up").symlink_to("..")
    (root / "sub-01/ses-loop").symlink_to("../sub-01")
    (root / "sub-01/anat/loop").symlink_to("loop")
    (root / "sub-02").symlink_to("sub-01")
    (root / "sub-03").symlink_to("sub-03")
    (root / "sub-01/anat/sub-01_T2w.nii.gz").symlink_to("../../sub-01")
    assert names(root, "T1w", "T2w", participants=("01",)) == [
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/ses-loop/anat/sub-01_T1w.nii.gz",
    ]


def test_names_that_no_index_can_hold(make_dataset: DatasetMaker) -> None:
    root = make_dataset("sub-01_T1w")
    (root / "sub-01/anat").joinpath(os.fsdecode(b"sub-01_acq-\xff_T1w.nii.gz")).touch()
    (root / "sub-01/anat/sub-01_acq-\n_T1w.nii.gz").touch()
    (root / "sub-01/anat/sub-01_acq-'; DROP TABLE files;_T1w.nii.gz").touch()
    assert "sub-01/anat/sub-01_T1w.nii.gz" in names(root, "T1w")


@pytest.mark.parametrize("name", ["my data", 'it\'s "raw"', "Größe", "a%20b#c", "(x|y)+", "sub-9"])
def test_datasets_may_have_any_name(make_dataset: DatasetMaker, name: str) -> None:
    root = make_dataset("sub-01_T1w", root=name)
    (image,) = index_images(root, ["T1w"], ()).get(subject="01", suffix="T1w", datatype="anat")
    assert Path(image.path) == root / "sub-01/anat/sub-01_T1w.nii.gz"


def test_a_database_holds_all_and_belongs_to_one_dataset(
    make_dataset: DatasetMaker, tmp_path: Path
) -> None:
    root = make_dataset("sub-01_T1w", "sub-02_T2w")
    database = tmp_path / "index"
    assert len(names(root, "T1w", participants=("01",), database=database)) == 2
    with pytest.raises(UsageError, match="name another folder"):
        names(make_dataset("sub-01_T1w", root="other"), "T1w", database=database)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        names(root, "T1w", database=tmp_path / "file")


@pytest.mark.parametrize("scan", ["sub-02_T1w", "sub-01_ses-a_T1w", "sub-01_run-2_T2w"])
def test_a_database_older_than_a_scan_is_refused(
    make_dataset: DatasetMaker, tmp_path: Path, scan: str
) -> None:
    root, database = make_dataset("sub-01_T1w", "sub-03_T1w"), tmp_path / "index"
    # None of these is ever in an index.
    (root / "sub-01" / "anat" / "sub-01_T1w.json").write_text("{}")
    (root / "sub-01" / "anat" / "sub-01_T2w.nii.gz").mkdir()
    (root / "sub-04").symlink_to("sub-01")
    before = names(root, "T1w", database=database)
    assert names(root, "T1w", database=database) == before
    make_dataset(scan)
    with pytest.raises(UsageError, match=rf"{database} is older .*/{scan}\.nii\.gz: delete"):
        names(root, "T1w", participants=("01", "02"), database=database)
    assert names(root, "T1w", participants=("03",), database=database) == before


def test_a_database_of_a_scan_that_is_gone_is_refused(
    make_dataset: DatasetMaker, tmp_path: Path
) -> None:
    root, database = (
        make_dataset("sub-01_T1w", "sub-02_ses-a_T1w", "sub-03_T1w"),
        tmp_path / "index",
    )
    elsewhere = root / "sub-03" / "anat" / "sub-03_T2w.nii.gz"
    elsewhere.symlink_to(root / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    before = names(root, "T1w", database=database)
    (root / "sub-01" / "anat" / "sub-01_T1w.nii.gz").unlink()
    # Its content is not there, as of DataLad.
    assert elsewhere.is_symlink()
    assert names(root, "T1w", participants=("02", "03"), database=database) == before
    for participants in ((), ("01",)):
        with pytest.raises(UsageError, match=rf"{database} is older .*sub-01_T1w.nii.gz is not"):
            names(root, "T1w", participants=participants, database=database)
    shutil.rmtree(root / "sub-02")
    with pytest.raises(UsageError, match=r"ses-a_T1w.nii.gz is not there any more: delete"):
        names(root, "T1w", participants=("02",), database=database)


def test_many_jobs_may_make_one_database_at_once(
    make_dataset: DatasetMaker, tmp_path: Path
) -> None:
    root = make_dataset(*(f"sub-{number:02}_T1w" for number in range(1, 31)))
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE_INDEX, root, tmp_path / "index"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    said = [job.communicate() for job in jobs]
    assert [(job.returncode, out.strip()) for job, (out, _) in zip(jobs, said, strict=True)] == [
        (0, "30")
    ] * len(jobs), said
    assert [path.name for path in (tmp_path / "index").iterdir()] == ["layout_index.sqlite"]


def test_a_database_that_was_never_finished_is_named(
    make_dataset: DatasetMaker, tmp_path: Path
) -> None:
    root, database = make_dataset("sub-01_T1w"), tmp_path / "index"
    names(root, "T1w", database=database)
    with sqlite3.connect(database / "layout_index.sqlite") as index:
        index.execute("DELETE FROM layout_info")
    with pytest.raises(UsageError, match=rf"{database} was never finished: delete that folder"):
        names(root, "T1w", database=database)
