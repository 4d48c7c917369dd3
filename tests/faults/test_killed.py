"""Runs that are killed at random moments, and the run that finishes what they left."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.faults.heads import QUICK, Place, scan

pytestmark = pytest.mark.slow

LABELS = ("01", "02", "03")
# For as long as a run takes, and no two runs take the same.
VOLATILE_KEYS = ("RuntimeSeconds", "PeakMemoryBytes")
# Reports tell times, and draw the objective against them.
VOLATILE_FILES = re.compile(r"\.html$|_desc-convergence_unires\.svg$")
RANDOM_SEED = 20
KILLED_AT_LEAST = 20
MOST_RUNS = 80

Tree = Mapping[str, object]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed."""

    place: Place
    tree: Tree
    seconds: float


def command(place: Place, out: Path, nprocs: int) -> list[str]:
    return [
        *(sys.executable, "-m", "bids_unires", str(place.raw), str(out), "participant"),
        *(*QUICK, "--omp-nthreads", "1", "--nprocs", str(nprocs)),
    ]


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if k not in VOLATILE_KEYS}
    return content


def tree_of(out: Path) -> Tree:
    """Content of every result, by path; logs aside, which every run has its own of."""
    found: dict[str, object] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if not path.is_file() or name.startswith("logs/"):
            continue
        if path.suffix == ".json":
            found[name] = json.dumps(without_times(json.loads(path.read_text("utf-8"))))
        else:
            found[name] = None if VOLATILE_FILES.search(name) else path.read_bytes()
    return found


def assert_nothing_is_half_written(out: Path) -> None:
    for path in out.rglob("*"):
        if path.name.endswith(".part"):
            continue
        if path.name.endswith(".nii.gz"):
            assert np.isfinite(nib.load(path).get_fdata()).all()
        elif path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.suffix == ".html":
            assert path.read_text("utf-8").rstrip().endswith("</html>")


def finished(out: Path) -> dict[Path, int]:
    """Results of the units that are done, and when they were written."""
    written = {}
    for record in out.glob("logs/participant/*.json"):
        for name in json.loads(record.read_text("utf-8")).get("Outputs", ()):
            written[out / name] = (out / name).stat().st_mtime_ns
    return written


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    place = Place(tmp_path_factory.mktemp("killed"))
    place.describe()
    for seed, label in enumerate(LABELS):
        place.write(f"sub-{label}_T1w", scan(seed=seed))
    # The first compiles what is not compiled yet.
    subprocess.run(command(place, place.root / "warm", 1), check=True, capture_output=True)
    began = time.monotonic()
    subprocess.run(command(place, place.out, 1), check=True, capture_output=True)
    seconds = time.monotonic() - began
    tree = tree_of(place.out)
    assert sum(name.endswith("_desc-sr_T1w.nii.gz") for name in tree) == len(LABELS)
    assert tree == tree_of(place.root / "warm")
    return Undisturbed(place, tree, seconds)


def moments(seconds: float) -> Iterator[float]:
    """Random delays up to a duration, one of each fifth of it in every five."""
    chance = random.Random(RANDOM_SEED)
    while True:
        fifths = list(range(5))
        chance.shuffle(fifths)
        yield from ((fifth + chance.random()) / 5 * seconds for fifth in fifths)


def killed(arguments: list[str], delay: float) -> bool:
    """Run for a while, then kill; whether there was still something to kill."""
    with subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        try:
            code = run.wait(delay)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            return True
        assert code == 0
        return False


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_command_finishes_what_killed_runs_left(undisturbed: Undisturbed) -> None:
    place, kills, chain = undisturbed.place, 0, 0
    out = place.root / "out-0"
    for number, delay in enumerate(moments(undisturbed.seconds)):
        assert number < MOST_RUNS, "too few of the runs lived long enough to be killed"
        nprocs = 1 + number % 2
        before = finished(out)
        was_killed = killed(command(place, out, nprocs), delay)
        kills += was_killed
        assert_nothing_is_half_written(out)
        # What one run has finished no later one touches.
        assert before.items() <= finished(out).items()
        if was_killed and kills % 5:
            continue
        subprocess.run(command(place, out, nprocs), check=True, capture_output=True)
        assert before.items() <= finished(out).items()
        assert_as_undisturbed(out, undisturbed)
        if kills >= KILLED_AT_LEAST:
            return
        chain += 1
        out = place.root / f"out-{chain}"


def assert_as_undisturbed(out: Path, undisturbed: Undisturbed) -> None:
    tree = tree_of(out)
    assert tree.keys() == undisturbed.tree.keys()
    different = [name for name in tree if tree[name] != undisturbed.tree[name]]
    assert not different
    # Neither what was half-written nor locks.
    assert [path.name for path in out.rglob(".*")] == [".bidsignore"]


@pytest.mark.parametrize("nprocs", [1, 2])
def test_one_worker_killed_leaves_the_others_to_finish(
    undisturbed: Undisturbed, nprocs: int
) -> None:
    out = undisturbed.place.root / f"out-worker-{nprocs}"
    with subprocess.Popen(
        command(undisturbed.place, out, nprocs), stderr=subprocess.PIPE, text=True
    ) as run:
        os.kill(worker_on(out, "01"), signal.SIGKILL)
        assert run.stderr is not None
        said = run.stderr.read()
    assert run.returncode == 1
    assert "sub-01 failed: its process was killed" in said
    assert said.splitlines()[-1].endswith("1 of 3 failed: sub-01")
    images = {path.parts[-3] for path in out.rglob("*_desc-sr_*.nii.gz")}
    assert images - {"sub-01"} == {"sub-02", "sub-03"}
    subprocess.run(command(undisturbed.place, out, nprocs), check=True, capture_output=True)
    assert_as_undisturbed(out, undisturbed)


def worker_on(out: Path, label: str) -> int:
    """Process that holds the lock of a unit."""
    lock = out / "logs" / f".sub-{label}_participant.lock"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            inode = lock.stat().st_ino
        except FileNotFoundError:
            time.sleep(0.01)
            continue
        for line in Path("/proc/locks").read_text("ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}") and int(fields[4]) > 0:
                return int(fields[4])
    pytest.fail(f"no process works on sub-{label}")
