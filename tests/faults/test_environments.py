"""The places that users run in: little permission, little memory, little of everything."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from bids_unires.errors import UsageError
from bids_unires.kernels.runtime import kernel_cache
from tests.faults.heads import LINEAR, QUICK, Place, scan, snapshot

NOBODY = 65533
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may change its user id")

Run = subprocess.CompletedProcess[str]
Preparation = Callable[[], None]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("environments"))
    place.describe()
    for seed, label in enumerate(("01", "02")):
        place.write(f"sub-{label}_T1w", scan(seed=seed))
    return place


@pytest.fixture
def place(prepared: Place) -> Iterator[Place]:
    """The dataset, and no output yet; the input has to stay as it is."""
    before = snapshot(prepared.raw, but=prepared.out)
    yield prepared
    assert snapshot(prepared.raw, but=prepared.out) == before
    shutil.rmtree(prepared.out, ignore_errors=True)


def run(
    place: Place,
    *options: str,
    environment: Mapping[str, str] | None = None,
    before: Preparation | None = None,
    as_user: Sequence[str] = (),
    **redirected: int | None,
) -> Run:
    program = [*as_user, sys.executable, "-m", "bids_unires", place.raw, place.out, "participant"]
    return subprocess.run(
        [*program, *QUICK, *LINEAR, "--omp-nthreads", "1", *options],
        env={"WARP_CACHE_PATH": str(kernel_cache()), **(environment or {})},
        preexec_fn=before,
        text=True,
        check=False,
        timeout=200,
        **(redirected or {"capture_output": True}),
    )


def images(place: Place) -> list[str]:
    paths = place.out.glob("sub-*/anat/*_desc-*_T1w.nii.gz")
    return sorted(path.parts[-3] for path in paths if "Measured_" not in path.name)


def assert_told_in_lines(done: Run, *patterns: str) -> None:
    assert "Traceback" not in done.stderr, done.stderr
    for pattern in patterns:
        assert re.search(pattern, done.stderr), done.stderr


@pytest.mark.slow
def test_nothing_is_needed_of_the_environment(place: Place) -> None:
    """No home, no path, a locale of ASCII."""
    done = run(place, environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    assert_told_in_lines(done)
    assert done.returncode == 0, done.stderr
    assert images(place) == ["sub-01", "sub-02"]


@pytest.mark.slow
def test_paths_may_be_of_any_alphabet(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "Gehirn mit Leerzeichen «ü» 脳'\"$x;")
    shutil.copytree(place.raw, other.raw)
    done = run(other, environment={"LC_ALL": "C"})
    assert_told_in_lines(done, "Gehirn mit Leerzeichen")
    assert done.returncode == 0, done.stderr
    assert images(other) == ["sub-01", "sub-02"]


def _closed_streams() -> None:
    for descriptor in (0, 1, 2):
        os.close(descriptor)


@pytest.mark.slow
def test_no_terminal_and_no_streams(place: Place) -> None:
    done = run(place, before=_closed_streams, stdin=None)
    assert done.returncode == 0
    assert images(place) == ["sub-01", "sub-02"]


@pytest.mark.slow
@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_an_unknown_user_without_a_home_reads_but_may_not_write(place: Place) -> None:
    place.out.mkdir()
    os.chown(place.out, NOBODY, NOBODY)
    # May read whatever root may, such as this Python.
    someone = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    someone += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    done = run(place, environment={"HOME": "/nonexistent"}, as_user=someone)
    assert_told_in_lines(done)
    assert done.returncode == 0, done.stderr
    assert images(place) == ["sub-01", "sub-02"]
    owners = {path.stat().st_uid for path in place.out.rglob("*")}
    assert owners == {NOBODY}
    shutil.rmtree(place.out)
    done = run(place, environment={"HOME": "/nonexistent"}, as_user=someone)
    assert_told_in_lines(done, f"{place.out} cannot be written to: no permission in {place.root}")
    assert (done.returncode, place.out.exists()) == (73, False)


def _files_of_at_most(size: int) -> Preparation:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.slow
@pytest.mark.parametrize("nprocs", ["1", "2"])
def test_files_that_may_not_grow_fail_their_participants(place: Place, nprocs: str) -> None:
    done = run(place, "--nprocs", nprocs, before=_files_of_at_most(16_000))
    assert_told_in_lines(
        done, "sub-01 failed: .*nii.gz could not be written: File too large", "2 of 2 failed"
    )
    assert done.returncode == 74, done.stderr
    assert images(place) == []
    assert not list(place.out.rglob("*.part"))


@pytest.mark.slow
@needs_root
def test_a_disk_that_is_full(place: Place) -> None:
    place.out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place.out)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount")
    try:
        done = run(place)
        left = images(place), list(place.out.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(place.out)], check=True)
    assert_told_in_lines(done, "failed: .*No space left on device", "of 2 failed")
    assert done.returncode == 74, done.stderr
    assert "sub-02" not in left[0]
    assert not left[1]


@needs_root
def test_an_output_that_becomes_read_only(place: Place) -> None:
    place.out.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", READ_ONLY_AFTER_THE_FIRST, place.raw, place.out],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        said = process.communicate(timeout=200)[1]
    if subprocess.run(["umount", str(place.out)], capture_output=True, check=False).returncode:
        pytest.skip("no permission to mount")
    assert "Traceback" not in said, said
    assert re.search("sub-02 failed: .*Read-only file system", said), said
    assert said.splitlines()[-1].endswith("1 of 2 failed: sub-02")
    assert process.returncode == 73
    assert images(place) == ["sub-01"]


READ_ONLY_AFTER_THE_FIRST = f"""
import subprocess, sys
from bids_unires import app
from bids_unires.cli.main import parse_arguments

config = parse_arguments([*sys.argv[1:3], "participant", *{[*QUICK, *LINEAR]!r}])
out = str(config.output_dir)

report = app._report

def report_and_remount(result):
    report(result)
    # A mount over the folder: the open log file would keep the file system writable.
    subprocess.run(["mount", "--bind", out, out], check=False)
    subprocess.run(["mount", "-o", "remount,ro,bind", out], check=False)

app._report = report_and_remount
sys.exit(app.run(config))
"""


def _memory_of_at_most(size: int) -> Preparation:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    return limit


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [300, 700, 1200])
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_too_little_memory_for_the_libraries_is_told_at_once(
    place: Place, mebibytes: int, options: tuple[str, ...]
) -> None:
    done = run(place, *options, before=_memory_of_at_most(mebibytes * 2**20))
    assert_told_in_lines(done, f"ulimit -v allows {mebibytes} MiB of memory, and libraries alone")
    assert done.returncode == UsageError.exit_code
    assert not place.out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [1500, 1700, 2000])
def test_memory_that_does_not_suffice_is_told(place: Place, mebibytes: int) -> None:
    done = run(place, before=_memory_of_at_most(mebibytes * 2**20))
    if done.returncode == 0:
        assert images(place) == ["sub-01", "sub-02"]
        return
    # Libraries that cannot be loaded for lack of memory say so in their own words.
    assert_told_in_lines(done, "memory|shared (object|library)", "[12] of 2 failed: ")
    failed = re.findall(r"sub-\d+", done.stderr.splitlines()[-1])
    assert images(place) == [label for label in ("sub-01", "sub-02") if label not in failed]


def _threads_and_processes_of_at_most(count: int) -> Preparation:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (count, count))

    return limit


@pytest.mark.slow
@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_threads_that_do_not_suffice_are_told_and_one_does(place: Place) -> None:
    # A user of its own, whose processes are all of this run.
    someone = ["setpriv", f"--reuid={NOBODY - 1}", f"--regid={NOBODY}", "--clear-groups"]
    someone += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    place.out.mkdir()
    os.chown(place.out, NOBODY - 1, NOBODY)
    at_most = _threads_and_processes_of_at_most
    home = {"HOME": "/nonexistent"}
    done = run(place, environment=home, as_user=someone, before=at_most(3))
    assert_told_in_lines(
        done, "sub-01 failed: .*ulimit -u allows 3 .*give --omp-nthreads 1", "2 of 2 failed"
    )
    assert done.returncode == 1
    assert "memory" not in done.stderr
    done = run(place, environment=home, as_user=someone, before=at_most(12))
    assert done.returncode == 0, done.stderr
    assert images(place) == ["sub-01", "sub-02"]
