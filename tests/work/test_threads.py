from __future__ import annotations

import errno
import os
import resource
import threading

import pytest

from bids_unires.work import control_groups
from bids_unires.work.outcome import failure, killed
from bids_unires.work.threads import is_lack_of_threads, shortage


def limited(patch: pytest.MonkeyPatch, spare: int | None, user: int = 1000) -> None:
    """Let the limit of this user be so many threads above what it has."""
    now = sum(1 for _ in os.scandir(f"/proc/{os.getpid()}/task"))
    limit = resource.RLIM_INFINITY if spare is None else now + spare
    patch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    patch.setattr(os, "getuid", lambda: user)
    patch.setattr(control_groups, "threads_and_limits", lambda: iter(()))


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Of all processes, only this one is that user's."""
    mine = os.getpid()
    real = os.stat

    class Owned:
        def __init__(self, uid: int) -> None:
            self.st_uid = uid

    def stat(path: object, **options: bool) -> object:
        name = str(path)
        if name.startswith("/proc/") and name.count("/") == 2:
            return Owned(1000 if name == f"/proc/{mine}" else 1)
        return real(path, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "stat", stat)
    return monkeypatch


def test_threads_of_this_user_count_against_its_limit(alone: pytest.MonkeyPatch) -> None:
    limited(alone, 20)
    assert shortage(1) is None
    said = str(shortage(4))
    assert "ulimit -u allows" in said
    assert "of which 20 are left: give --omp-nthreads 1" in said
    done = threading.Event()
    others = [threading.Thread(target=done.wait) for _ in range(13)]
    for other in others:
        other.start()
    assert "of which 7 are left" in str(shortage(1))
    done.set()
    for other in others:
        other.join()


@pytest.mark.parametrize(("spare", "user"), [(None, 1000), (0, 0)])
def test_no_limit_and_root_are_never_short(
    monkeypatch: pytest.MonkeyPatch, spare: int | None, user: int
) -> None:
    limited(monkeypatch, spare, user)
    assert shortage(10**6) is None


def test_the_tightest_group_around_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    limited(monkeypatch, None)
    groups = [(3, 1000), (90, 100), (50, 4000)]
    monkeypatch.setattr(control_groups, "threads_and_limits", lambda: iter(groups))
    assert shortage(1) is None
    assert "may have 100 threads and processes, of which 10 are left" in str(shortage(2))


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (RuntimeError("can't start new thread"), True),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), True),
        (RuntimeError("singular matrix"), False),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable", "scan.nii"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
)
def test_errors_that_tell_of_threads(error: Exception, lacking: bool) -> None:
    assert is_lack_of_threads(error) is lacking
    assert ("--omp-nthreads 1" in failure("sub-01", error).message) is lacking


@pytest.mark.parametrize(
    ("code", "spare", "reason"),
    [
        (1, 0, "threads"),
        (-6, 0, "threads"),
        (None, 0, "threads"),
        (-9, 0, "memory"),
        (1, None, "m"),
    ],
)
def test_processes_that_end_without_a_word(
    monkeypatch: pytest.MonkeyPatch, code: int | None, spare: int | None, reason: str
) -> None:
    limited(monkeypatch, spare)
    said = killed("sub-01", code, "use more").message
    assert f"for lack of {reason}" in said
