"""Time and memory are those of the program that ran."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evaluation.peers.running import Run, run


def python(code: str, tmp_path: Path, threads: int = 1) -> Run:
    return run([sys.executable, "-S", "-c", code], tmp_path / "log.txt", threads)


def test_memory_is_the_most_that_was_held(tmp_path: Path) -> None:
    small = python("pass", tmp_path)
    large = python("a = bytearray(b'1') * 200_000_000; del a", tmp_path)
    assert large.peak_mib - small.peak_mib == pytest.approx(200e6 / 2**20, rel=0.1)


def test_memory_is_not_that_of_whoever_measures(tmp_path: Path) -> None:
    mine = b"1" * 10**8
    assert python("pass", tmp_path).peak_mib < len(mine) / 2**20


WORK = "import time\nwhile time.process_time() < 0.3: pass"


def test_a_program_that_waits_needs_no_processor(tmp_path: Path) -> None:
    waiting = python("import time; time.sleep(0.4)", tmp_path)
    working = python(WORK, tmp_path)
    assert waiting.seconds >= 0.3
    assert waiting.processor_seconds < 0.3 <= working.processor_seconds


def test_the_work_of_children_counts(tmp_path: Path) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {WORK!r}])"
    assert python(code, tmp_path).processor_seconds >= 0.3


def test_threads_are_told(tmp_path: Path) -> None:
    took = python("import os; print(os.environ['OMP_NUM_THREADS'])", tmp_path, threads=3)
    assert (tmp_path / "log.txt").read_text() == "3\n"
    assert took.threads == 3


def test_a_program_that_fails_says_where_its_words_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3; see .*log.txt"):
        python("print('no'); raise SystemExit(3)", tmp_path)
    assert (tmp_path / "log.txt").read_text() == "no\n"


def test_what_was_taken_is_kept(tmp_path: Path) -> None:
    took = python("pass", tmp_path)
    took.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == took
    assert not list(tmp_path.glob("*.part"))
