from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.ignored import ignored_files
from bids_unires.dataset.query import plan_participants
from bids_unires.errors import NothingSelectedError

DatasetMaker = Callable[..., Path]
FileAdder = Callable[..., Path]
SCANS = [
    *("sub-01_run-1_T1w", "sub-01_run-2_T1w", "sub-01_FLAIR", "sub-02_T1w"),
    "sub-03_ses-a_T1w",
]


def left(bids_dir: Path, **options: object) -> list[str]:
    """Names of the scans that a run would use."""
    config = RunConfig(bids_dir, bids_dir.parent / "out", "participant", **options)
    plans = plan_participants(config)
    return [
        path.name.removesuffix(".nii.gz")
        for plan in plans
        for scan in plan.scans
        for path in (scan.path, *(label.path for label in scan.labels))
    ]


@pytest.mark.parametrize(
    ("patterns", "ignored"),
    [
        ("**/sub-01_run-2_T1w.nii.gz", ["sub-01_run-2_T1w"]),
        ("sub-01_run-2_T1w.nii.gz", ["sub-01_run-2_T1w"]),
        ("/sub-01/anat/sub-01_run-2_*", ["sub-01_run-2_T1w"]),
        ("sub-02/", ["sub-02_T1w"]),
        ("sub-02", ["sub-02_T1w"]),
        ("sub-0[23]/", ["sub-02_T1w", "sub-03_ses-a_T1w"]),
        ("ses-a/", ["sub-03_ses-a_T1w"]),
        ("sub-01/**\n!sub-01/**/*_T1w.nii.gz", ["sub-01_FLAIR"]),
        ("*_T1w.nii.gz\n!sub-01_run-1_T1w.nii.gz", [*SCANS[1:2], *SCANS[3:]]),
        ("*_FLAIR.*", ["sub-01_FLAIR"]),
        ("# sub-02/\n\n   \n*_localizer.nii.gz", []),
        ("/anat/\nsub-1/\nSUB-02/\nsub-01/sub-01_FLAIR.nii.gz", []),
        ("!\n///\nsub-02/\n\\\nsub-[9-0]\n[[a]", ["sub-02_T1w"]),
    ],
)
def test_scans_are_left_out_as_git_would(
    make_dataset: DatasetMaker, patterns: str, ignored: list[str]
) -> None:
    bids_dir = make_dataset(*SCANS)
    (bids_dir / ".bidsignore").write_text(patterns, "utf-8")
    assert left(bids_dir) == [scan for scan in sorted(SCANS, key=order) if scan not in ignored]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_patterns_may_be_written_in_any_way(tmp_path: Path, ending: str, codec: str) -> None:
    lines = ["**/sub-01_run-*_T1w.nii.gz", "# *", "", "!*_run-2_*", "sub-0[23]/", ""]
    (tmp_path / ".bidsignore").write_bytes(ending.join(lines).encode(codec))
    ignored = ignored_files(tmp_path)
    kept = {"sub-01_run-2_T1w", "sub-01_FLAIR"}
    for scan in SCANS:
        unit = [part for part in scan.split("_") if part.startswith(("sub-", "ses-"))]
        path = Path(*unit, "anat", f"{scan}.nii.gz")
        assert ignored.leaves_out(path) == (scan not in kept), scan


def order(scan: str) -> tuple[str, bool]:
    """Participants in turn, T1w before FLAIR."""
    return scan.split("_")[0], scan.endswith("FLAIR")


def test_one_line_says_so(make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture) -> None:
    bids_dir = make_dataset(*SCANS)
    (bids_dir / ".bidsignore").write_text("sub-02/\n*run-2*\n")
    with caplog.at_level(logging.INFO, "bids_unires"):
        left(bids_dir)
    assert caplog.messages == [
        f"{bids_dir / '.bidsignore'} leaves out 2 images: sub-01_run-2_T1w.nii.gz, "
        "sub-02_T1w.nii.gz"
    ]
    (bids_dir / ".bidsignore").write_text("sub-*\n")
    with pytest.raises(NothingSelectedError, match=r"; \.bidsignore leaves out 5 images"):
        left(bids_dir)


@pytest.mark.parametrize("pattern", ["ct", "ct/", "*_ct.nii.gz", "*_ct.*", "sub-*/**/ct/*"])
def test_patterns_for_what_bids_has_no_place_for_leave_out_nothing(
    make_dataset: DatasetMaker, add_image: FileAdder, pattern: str
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_ses-a_T1w")
    add_image(bids_dir, "sub-01_acq-bone_run-1_ct", datatype="ct")
    add_image(bids_dir, "sub-02_ses-a_ct", datatype="ct")
    add_image(bids_dir, "sub-01_desc-lesion_dseg")
    lines = [pattern, "*_dseg.nii.gz", "**/*_desc-lesion_*"]
    (bids_dir / ".bidsignore").write_text("\n".join(lines))
    everything = left(bids_dir, modalities=("T1w", "ct"))
    assert len(everything) == 5
    for scan in ("sub-02/ses-a/ct", "*_acq-bone_*", "sub-01_desc-lesion_*"):
        (bids_dir / ".bidsignore").write_text("\n".join([*lines, scan]))
        assert len(left(bids_dir, modalities=("T1w", "ct"))) == 4


def test_a_dataset_of_labels_has_patterns_of_its_own(
    make_dataset: DatasetMaker, add_image: FileAdder
) -> None:
    bids_dir, labels = make_dataset("sub-01_T1w"), make_dataset(root="labels")
    add_image(labels, "sub-01_desc-a_dseg")
    add_image(labels, "sub-01_desc-b_dseg")
    (bids_dir / ".bidsignore").write_text("sub-01_desc-a_dseg.nii.gz\n")
    (labels / ".bidsignore").write_text("figures\nsub-01_desc-b_dseg.nii.gz\n")
    assert left(bids_dir, labels=labels) == ["sub-01_T1w", "sub-01_desc-a_dseg"]


def test_only_the_file_at_the_root_counts(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    (bids_dir / "sub-01" / ".bidsignore").write_text("*\n")
    assert left(bids_dir) == ["sub-01_T1w"]


SCAN = Path("sub-01/anat/sub-01_T1w.nii.gz")


def test_lines_that_are_no_patterns_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".bidsignore").write_bytes("# f\xfcr Kurt\n\\\n*_T1w.nii.gz\n".encode("latin-1"))
    assert ignored_files(tmp_path).leaves_out(SCAN)
    encoding, line = caplog.messages
    assert encoding.startswith(f"{tmp_path / '.bidsignore'}: it is no UTF-8")
    assert "line 2 is no pattern" in line


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, ""),
        (lambda path: path.touch(), ""),
        (lambda path: path.symlink_to("nowhere"), "it is a link to nowhere"),
        (lambda path: path.symlink_to(".git/annex/objects/a/b"), "its content is not here"),
        (lambda path: path.write_text("/annex/objects/MD5E-s9--5f\n"), "its content is not here"),
        (lambda path: path.mkdir(), "it is no regular file"),
        (os.mkfifo, "it is no regular file"),
    ],
)
def test_patterns_that_are_not_here_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / ".bidsignore")
    assert not ignored_files(tmp_path).leaves_out(SCAN)
    assert [says in message for message in caplog.messages] == ([True] if says else [])
