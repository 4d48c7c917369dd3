"""A unit of work that ended early is a failure of the run, and says in one line why."""

from __future__ import annotations

import errno
import signal

import pytest

from bids_unires import errors
from bids_unires.errors import UniResError
from bids_unires.work.outcome import failure, killed

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UniResError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_the_program_keep_their_words_and_exit_codes(kind: type[UniResError]) -> None:
    found = failure("sub-01", kind("scan.nii.gz is empty"))
    assert (found.label, found.message) == ("sub-01", "scan.nii.gz is empty")
    assert found.exit_code == kind.exit_code != 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOSPC, "No space left on device", "scan.nii"),
        RuntimeError("singular\nmatrix"),
        ZeroDivisionError(),
    ],
    ids=str,
)
def test_no_error_ends_as_a_success(error: Exception) -> None:
    found = failure("sub-01", error)
    assert 0 < found.exit_code < 128
    assert found.message
    assert "\n" not in found.message


@pytest.mark.parametrize("code", [None, 1, -signal.SIGKILL, -signal.SIGABRT])
def test_no_process_that_was_killed_ends_as_a_success(code: int | None) -> None:
    found = killed("sub-01", code, "use larger voxels")
    assert (found.label, found.exit_code) == ("sub-01", 1)
