from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bids_unires.errors import OutputError
from bids_unires.run.locking import sole_use


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / ".sub-01.lock"


def test_a_lock_is_held_by_one_and_leaves_nothing(path: Path) -> None:
    with sole_use(path, "sub-01"):
        assert path.exists()
        with (
            pytest.raises(OutputError, match="another process is working on sub-01"),
            sole_use(path, "sub-01"),
        ):
            pytest.fail("two have it")
        with sole_use(path.with_name(".sub-02.lock"), "sub-02"):
            pass
    assert not list(path.parent.iterdir())
    with pytest.raises(ZeroDivisionError), sole_use(path, "sub-01"):
        raise ZeroDivisionError
    with sole_use(path, "sub-01"):
        pass


def test_a_killed_process_leaves_no_lock(path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from bids_unires.run.locking import sole_use\n"
        "with sole_use(Path(sys.argv[1]), 'sub-01'):\n    print('held', flush=True)\n"
        "    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError), sole_use(path, "sub-01"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    assert path.exists()
    with sole_use(path, "sub-01"):
        pass


def test_a_file_removed_by_its_last_holder_is_not_taken_for_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = fcntl.flock
    taken = []

    def flock(descriptor: int, operation: int) -> None:
        take(descriptor, operation)
        taken.append(os.fstat(descriptor).st_ino)
        if len(taken) == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    with sole_use(path, "sub-01"):
        assert len(taken) == 2
        assert path.exists()


def test_without_locks_there_is_work_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with sole_use(path, "sub-01"), sole_use(path, "sub-01"):
        pass


def test_a_place_that_cannot_be_is_an_error_of_output(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"\.lock cannot be created"),
        sole_use(tmp_path / "file" / ".lock", "sub-01"),
    ):
        pass
