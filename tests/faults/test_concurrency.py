"""Processes that work into one output folder at the same time.

``CONCURRENCY_ROUNDS`` sets how many times in a row; two by default.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.faults.heads import LINEAR, QUICK, Place, scan

pytestmark = pytest.mark.slow

LABELS = tuple(f"{number:02}" for number in range(1, 11))
ROUNDS = range(int(os.environ.get("CONCURRENCY_ROUNDS", "2")))
# Takes a process from its imports to the results of one participant without a process of its
# own for each, which ten times the imports would be most of. Runs start when all are ready.
RUNNER = """
import os, sys
from bids_unires.cli.main import main
import bids_unires.pipeline.participant.workflow, bids.layout, bids_unires.report
runs = [arguments.split("\x1f") for arguments in sys.argv[1:]]
start, go = os.pipe()
children = []
for number, arguments in enumerate(runs):
    if not (child := os.fork()):
        os.close(go)
        os.read(start, 1)
        error = os.open(arguments.pop(0), os.O_CREAT | os.O_WRONLY)
        os.dup2(error, 2)
        os._exit(main(arguments))
    children.append(child)
os.close(go)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("together"))
    place.describe()
    for seed, label in enumerate(LABELS):
        place.write(f"sub-{label}_T1w", scan(seed=seed))
    return place


def run_together(place: Place, out: Path, labels: Sequence[str]) -> list[tuple[int, str]]:
    """Run one process for every label at the same moment; exit codes, and what they said."""
    said = [out.with_name(f"{out.name}-{number}.err") for number in range(len(labels))]
    options = [*LINEAR, "--omp-nthreads", "1", "--participant-label"]
    runs = [
        [str(error), str(place.raw), str(out), "participant", *QUICK, *options, label]
        for label, error in zip(labels, said, strict=True)
    ]
    together = subprocess.run(
        [sys.executable, "-c", RUNNER, *("\x1f".join(run) for run in runs)],
        check=True,
        capture_output=True,
        text=True,
        timeout=240,
    )
    codes = [int(code) for code in together.stderr.split()]
    return list(zip(codes, (path.read_text() for path in said), strict=True))


@pytest.mark.parametrize("number", ROUNDS)
def test_ten_participants_at_once_share_an_output(place: Place, number: int) -> None:
    out = place.root / f"ten-{number}"
    results = run_together(place, out, LABELS)
    assert [code for code, _ in results] == [0] * len(LABELS), results
    images = sorted(out.glob("sub-*/anat/*_desc-resliced_T1w.nii.gz"))
    assert [path.parts[-3] for path in images] == [f"sub-{label}" for label in LABELS]
    for path in images:
        assert np.isfinite(nib.load(path).get_fdata()).all()
    assert_shared_files_are_whole(out)
    assert len(list((out / "logs").glob("*.log"))) == len(LABELS)
    assert len(list((out / "logs" / "participant").glob("*.json"))) == len(LABELS)


@pytest.mark.parametrize("number", ROUNDS)
def test_one_participant_is_the_work_of_one_process(place: Place, number: int) -> None:
    out = place.root / f"two-{number}"
    results = sorted(run_together(place, out, ["03", "03"]))
    assert [code for code, _ in results] == [0, 73], results
    assert f"sub-03 failed: another process is working on sub-03 in {out}" in results[1][1]
    assert "1 of 1 failed: sub-03" in results[1][1].splitlines()[-1]
    assert len(list(out.glob("sub-03/anat/*_desc-resliced_T1w.nii.gz"))) == 1
    assert_shared_files_are_whole(out)


def assert_shared_files_are_whole(out: Path) -> None:
    description = json.loads((out / "dataset_description.json").read_text("utf-8"))
    assert description["GeneratedBy"][0]["Name"] == "bids_unires"
    assert description["DatasetLinks"]["raw"]
    for name in ("README", ".bidsignore", "descriptions.tsv", "logs/CITATION.md"):
        assert (out / name).read_text("utf-8").endswith("\n")
    # Neither what is half-written nor locks.
    assert [path.name for path in out.rglob(".*")] == [".bidsignore"]
