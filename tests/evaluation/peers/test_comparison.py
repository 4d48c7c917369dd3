"""What was made is not made again; what fails does not end the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.space.volume import Volume
from evaluation.lesion_cases import HeadWithLesions, head_with_its_own
from evaluation.peers.cases import Case, Head, Stack
from evaluation.peers.comparison import Place, compare
from evaluation.peers.peer import Job, Peer
from evaluation.peers.results import Row, load, merged, save

PLAIN_HEAD = Head(
    "ball",
    ("head.nii.gz", "lesions.nii.gz"),
    lambda name, files: head_with_its_own(name, *files),
    "",
)
CASE = Case(PLAIN_HEAD, 4)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    at = np.moveaxis(np.indices((24, 24, 24)), 0, -1) - 11.5
    ball = (100.0 * (np.linalg.norm(at, axis=-1) < 10)).astype(np.float32)
    (tmp_path / "data").mkdir()
    for name, values in (("head", ball), ("lesions", 0 * ball)):
        nib.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / "data" / f"{name}.nii.gz")
    return Place(tmp_path / "data", tmp_path / "out", tmp_path / "environments", 1)


def repeated(job: Job) -> list[str]:
    """A program that repeats each slice, and says in a file beside its folder that it ran."""
    code = (
        "import sys, nibabel as nib, numpy as np; scan, image, ran = sys.argv[1:]\n"
        "read = nib.load(scan); affine = read.affine @ np.diag([1, 1, 1 / 4, 1])\n"
        "affine[2, 3] -= 1.5\n"
        "values = np.repeat(read.get_fdata(dtype=np.float32), 4, axis=2)\n"
        "nib.Nifti1Image(values, affine).to_filename(image); open(ran, 'a').write('x')"
    )
    files = (job.scan, job.folder / "image.nii.gz", job.folder.parent / "ran")
    return [str(job.python), "-c", code, *map(str, files)]


REPEATED = Peer("repeated", "a program 1", "", None, repeated)
FAILING = Peer("failing", "a program 1", "", None, lambda job: [str(job.python), "-c", "1 / 0"])


def error(image: Volume, stack: Stack) -> Mapping[str, float]:
    return {"error": float(np.abs(image.data - stack.head.truth.data).mean())}


def rows(place: Place, *peers: Peer) -> list[Row | str]:
    return [*compare([CASE], peers, place, error)]


def ran(place: Place) -> int:
    return len((place.out / CASE.folder / "ran").read_text())


def test_a_program_runs_once(place: Place) -> None:
    first, again = rows(place, REPEATED), rows(place, REPEATED)
    assert first == again
    assert isinstance(first[0], Row)
    assert not first[0].resampled
    assert 0 < first[0].values["error"] < 10
    assert ran(place) == 1


def test_an_image_that_was_not_measured_is_not_made_again(place: Place) -> None:
    (first,) = rows(place, REPEATED)
    (place.out / CASE.folder / REPEATED.folder / "row.json").unlink()
    assert rows(place, REPEATED) == [first]
    assert ran(place) == 1


def test_a_program_that_was_stopped_runs_again(place: Place) -> None:
    rows(place, REPEATED)
    for name in ("row.json", "run.json"):
        (place.out / CASE.folder / REPEATED.folder / name).unlink()
    rows(place, REPEATED)
    assert ran(place) == 2


@pytest.mark.parametrize("changed", [{"settings": "others"}, {"program": "a program 2"}])
def test_another_version_runs_anew(place: Place, changed: dict[str, str]) -> None:
    rows(place, REPEATED)
    (row,) = rows(place, replace(REPEATED, **changed))
    assert ran(place) == 2
    assert isinstance(row, Row)
    assert {name: getattr(row, name) for name in changed} == changed


def test_a_program_that_fails_does_not_end_the_others(place: Place) -> None:
    failed, row = rows(place, FAILING, REPEATED)
    assert isinstance(failed, str)
    assert failed.startswith(f"{CASE}, failing: python")
    assert isinstance(row, Row)


def test_a_head_that_is_not_there_is_left_out(place: Place) -> None:
    def never(name: str, files: object) -> HeadWithLesions:
        raise AssertionError(name)

    other = Case(Head("other", ("other.nii.gz",), never, ""), 4)
    left_out, row = compare([other, CASE], [REPEATED], place, error)
    assert isinstance(left_out, str)
    assert "other.nii.gz is not there" in left_out
    assert isinstance(row, Row)


def test_later_rows_take_the_place_of_earlier_ones(place: Place, tmp_path: Path) -> None:
    (row,) = rows(place, REPEATED)
    assert isinstance(row, Row)
    other, later = replace(row, case="other"), replace(row, values={"error": 0.0})
    assert merged([row, other], [later]) == (later, other)
    save([later, other], tmp_path / "results.json")
    assert load(tmp_path / "results.json") == (later, other)
    assert load(tmp_path / "nothing.json") == ()
