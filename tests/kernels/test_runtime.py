"""Where compiled kernels are kept, and how work is shared between threads."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
import torch

from bids_unires.kernels import runtime


def test_the_kernel_cache_goes_where_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WARP_CACHE_PATH", str(tmp_path / "asked"))
    assert runtime.kernel_cache() == tmp_path / "asked"


def test_the_kernel_cache_lies_in_the_user_s_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WARP_CACHE_PATH", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tmp_path in runtime.kernel_cache().parents
    assert runtime.kernel_cache().is_dir()


@pytest.mark.parametrize("home", ["/dev/null", "/proc/nowhere"])
def test_the_kernel_cache_does_without_a_home(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.delenv("WARP_CACHE_PATH", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert Path(tempfile.gettempdir()) in runtime.kernel_cache().parents


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of compiled kernels that cannot be written, beside an empty temporary folder."""
    ahead = tmp_path / "ahead"
    (ahead / "1.0" / "module").mkdir(parents=True)
    (ahead / "1.0" / "module" / "kernel.o").write_bytes(b"code")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("WARP_CACHE_PATH", str(ahead))
    # Root may write anywhere.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != ahead and access(path, mode))
    return ahead


def test_kernels_compiled_ahead_are_taken_along(unwritable: Path) -> None:
    folder = runtime.kernel_cache()
    assert folder.parent == Path(tempfile.gettempdir())
    assert (folder / "1.0" / "module" / "kernel.o").read_bytes() == b"code"
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "1.0" / "module" / "kernel.o").write_bytes(b"newer")
    assert runtime.kernel_cache() == folder
    assert (folder / "1.0" / "module" / "kernel.o").read_bytes() == b"newer"
    assert len(list((folder / "1.0" / "module").iterdir())) == 1


@pytest.mark.parametrize("trap", ["link", "open to all"])
def test_kernels_of_others_are_not_run(unwritable: Path, trap: str) -> None:
    expected = runtime.kernel_cache()
    shutil.rmtree(expected)
    if trap == "link":
        expected.symlink_to(unwritable)
    else:
        expected.mkdir()
        expected.chmod(0o777)
    folder = runtime.kernel_cache()
    assert folder != expected
    assert folder.stat().st_mode & 0o077 == 0


def test_torch_s_number_of_threads_governs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert runtime.thread_count() == 3


def test_parts_run_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    both_started = threading.Barrier(2, timeout=10)
    done = []

    def task(part: int) -> None:
        both_started.wait()
        done.append(part)

    runtime.in_threads(task, range(2))
    assert sorted(done) == [0, 1]


@pytest.mark.parametrize("parts", [1, 3])
def test_what_goes_wrong_in_a_thread_is_not_lost(parts: int) -> None:
    def task(part: int) -> None:
        raise ArithmeticError(f"part {part}")

    with pytest.raises(ArithmeticError, match="part 0"):
        runtime.in_threads(task, range(parts))


def test_flat_arrays_share_memory() -> None:
    tensor = torch.zeros(2, 3, 4)
    array = runtime.flat(tensor)
    assert (array.data, array.shape[0]) == (tensor.data_ptr(), 24)
    with pytest.raises(RuntimeError, match="view"):
        runtime.flat(tensor.permute(2, 1, 0))
