"""The array script of the documentation, on a real Slurm of one node."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.conftest import Slurm
from tests.containers.dataset import write_small_dataset
from tests.documented import documented
from tests.paths import ROOT

SCRIPT = ROOT / "docs" / "how-to" / "slurm-array.sh"
PAGE = "docs/how-to/slurm.md"
PARTICIPANTS = ("01", "02", "03")
OPTIONS = ("--voxel-size", "5", "--skip-bids-validation")
# Smaller than the script asks for, which this machine may not have.
RESOURCES = ("--cpus-per-task=1", "--mem=1G")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Folder with a dataset and the list of its participants."""
    write_small_dataset(tmp_path / "bids", PARTICIPANTS)
    (tmp_path / "participants.txt").write_text("".join(f"sub-{p}\n" for p in PARTICIPANTS))
    return tmp_path


@pytest.fixture
def program(tmp_path: Path) -> str:
    """This checkout as a command, whatever a job's working directory is."""
    command = tmp_path / "program"
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m bids_unires "$@"\n'
    )
    command.chmod(0o755)
    return str(command)


def submit(slurm: Slurm, program: str, array: str, *options: str, wait: bool = True) -> str:
    """Submit the array; give the job's number once it is through."""
    command = ["sbatch", "--parsable", *(["--wait"] if wait else []), f"--array={array}"]
    arguments = ["bids", "out", "participants.txt", *OPTIONS]
    done = slurm(*command, *RESOURCES, *options, SCRIPT, *arguments, BIDS_UNIRES=program)
    assert done.stdout, done.stderr
    return done.stdout.split()[0]


def logs(study: Path, job: str) -> dict[int, str]:
    """What each task of an array said."""
    files = study.glob(f"bids_unires-{job}_*.log")
    return {int(file.stem.rpartition("_")[2]): file.read_text() for file in files}


def image(study: Path, participant: str) -> Path:
    name = f"sub-{participant}_space-individual_res-5mm_desc-sr_T1w.nii.gz"
    return study / "out" / f"sub-{participant}" / "anat" / name


def wait_until(what: str, condition: object, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.1)


def test_an_array_does_every_participant_once(slurm: Slurm, study: Path, program: str) -> None:
    first = submit(slurm, program, "1-3%2")
    said = logs(study, first)
    for task, participant in enumerate(PARTICIPANTS, start=1):
        assert f"sub-{participant} done in" in said[task], said[task]
        assert image(study, participant).exists()
    before = image(study, "01").stat().st_mtime_ns
    image(study, "02").unlink()

    again = logs(study, submit(slurm, program, "1-3%2"))
    assert "finished earlier" in again[1]
    assert "sub-02 done in" in again[2]
    assert "finished earlier" in again[3]
    assert image(study, "01").stat().st_mtime_ns == before


def type_documented(slurm: Slurm, study: Path, commands: list[str], **environment: str) -> str:
    """Type commands of the documentation in a study of BIDS and OUT; give the job's number."""
    shutil.copy(SCRIPT, study)
    line = " && ".join(commands)
    # Of this machine's size, and the test goes on when the job has ended.
    line = line.replace("sbatch ", f"sbatch --parsable --wait {' '.join(RESOURCES)} ")
    done = slurm("bash", "-c", f"{line} {' '.join(OPTIONS)}", **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()[0]


def test_the_documented_array(slurm: Slurm, study: Path, program: str) -> None:
    (study / "bids").rename(study / "BIDS")
    rows = ["participant_id", *(f"sub-{label}" for label in PARTICIPANTS)]
    (study / "BIDS" / "participants.tsv").write_text("\n".join(rows) + "\n")
    (study / "participants.txt").unlink()
    typed = [documented(PAGE, "tail -n +2"), documented(PAGE, "sbatch --array=1-$(wc")]
    said = logs(study, type_documented(slurm, study, typed, BIDS_UNIRES=program))
    assert len(said) == len(PARTICIPANTS)
    for task, participant in enumerate(PARTICIPANTS, start=1):
        assert f"sub-{participant} done in" in said[task], said[task]


def test_the_documented_container(slurm: Slurm, study: Path, program: str) -> None:
    (study / "bin").mkdir()
    engine = study / "bin" / "apptainer"
    engine.write_text(
        "#!/bin/bash\n"
        '[ "$*" != "${*/--nv/}" ] && echo "GPU $CUDA_VISIBLE_DEVICES"\n'
        'until [ "$1" = bids_unires.sif ]; do shift; done; shift\n'
        f'CUDA_VISIBLE_DEVICES= exec "{program}" "$@"\n'
    )
    engine.chmod(0o755)
    stand_ins = {
        "/scratch/BIDS": study / "bids",
        "/scratch/OUT": study / "OUT",
        "1-100%20": f"1-{len(PARTICIPANTS)}%20",
    }
    typed = [
        documented(PAGE, "export BIDS_UNIRES="),
        documented(PAGE, "sbatch --gres=gpu:1", stand_ins),
    ]
    path = f"{engine.parent}:{os.environ['PATH']}"
    said = logs(study, type_documented(slurm, study, typed, PATH=path))
    for task, participant in enumerate(PARTICIPANTS, start=1):
        assert said[task].startswith("GPU 0\n")
        assert f"sub-{participant} done in" in said[task], said[task]


def test_a_killed_task_is_done_when_submitted_again(
    slurm: Slurm, study: Path, program: str
) -> None:
    job = submit(slurm, program, "2", wait=False)
    log = study / f"bids_unires-{job}_2.log"
    wait_until("start", lambda: log.exists() and "sub-02: alignment" in log.read_text())
    slurm("scancel", "--signal=KILL", "--full", job)
    wait_until("end", lambda: not slurm("squeue", "-h", "-j", job).stdout.strip())
    assert not image(study, "02").exists()

    again = logs(study, submit(slurm, program, "2"))
    assert "sub-02 done in" in again[2], again[2]
    assert image(study, "02").exists()


def test_scancel_ends_a_task_cleanly(slurm: Slurm, study: Path, program: str) -> None:
    job = submit(slurm, program, "1", wait=False)
    log = study / f"bids_unires-{job}_1.log"
    wait_until("start", lambda: log.exists() and "sub-01: alignment" in log.read_text())
    slurm("scancel", job)
    wait_until("end", lambda: "interrupted" in log.read_text())
    assert not list((study / "out").rglob("*.lock"))


def test_the_gpu_of_a_task_is_the_one_that_is_visible(
    slurm: Slurm, study: Path, tmp_path: Path
) -> None:
    shows = tmp_path / "shows"
    shows.write_text("#!/bin/sh\necho visible: $CUDA_VISIBLE_DEVICES\n")
    shows.chmod(0o755)
    job = submit(slurm, str(shows), "1", "--gres=gpu:1")
    assert logs(study, job)[1].strip() == "visible: 0"


@pytest.mark.parametrize(
    ("array", "complaint"),
    [("4", "participants.txt has no line 4"), (None, "submit with --array=1-N")],
)
def test_a_wrong_submission_says_what_is_wrong(
    slurm: Slurm, study: Path, program: str, array: str | None, complaint: str
) -> None:
    options = [f"--array={array}"] if array else []
    done = slurm(
        *("sbatch", "--wait", *options, *RESOURCES, "--output=said.log", SCRIPT),
        *("bids", "out", "participants.txt"),
        BIDS_UNIRES=program,
    )
    assert done.returncode != 0
    assert complaint in (study / "said.log").read_text()


def test_an_unknown_partition_is_refused(slurm: Slurm, study: Path) -> None:
    done = slurm("sbatch", "--partition=nowhere", "--array=1", SCRIPT, "bids", "out", "list")
    assert done.returncode != 0
    assert "invalid partition specified: nowhere" in done.stderr
