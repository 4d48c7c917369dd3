"""What the documentation tells to type works; every command of it is accounted for here."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

from tests.containers.dataset import write_small_dataset
from tests.documented import PAGES, ROOT, blocks, commands, documented

# The grid of the group level has to be large enough for the README's network to halve it.
SMALL = "--voxel-size 3 --skip-bids-validation --omp-nthreads 1"
BIN = Path(sys.executable).parent

# Beginning of a command -> the test that runs it as it stands there, but for names and sizes.
RUN_BY = {
    "README.md": {
        ".venv/bin/bids_unires BIDS OUT participant": "tests/test_docs.py::test_the_first_commands",
        ".venv/bin/bids_unires BIDS OUT group": "tests/test_docs.py::test_the_first_commands",
    },
    "docs/running.md": {
        "tail -n +2 BIDS/participants.tsv": "tests/test_docs.py::test_the_list_of_participants",
        "sbatch --array=1-$(wc": "tests/cluster/test_slurm_array.py::test_the_documented_array",
        "export BIDS_UNIRES=": "tests/cluster/test_slurm_array.py::test_the_documented_container",
        "sbatch --gres=gpu:1": "tests/cluster/test_slurm_array.py::test_the_documented_container",
        "bids_unires BIDS OUT participant --cluster": (
            "tests/cluster/test_slurm_dask.py::test_the_documented_command_runs_in_jobs"
        ),
        "bids_unires BIDS OUT participant --scheduler": (
            "tests/test_docs.py::test_the_workers_of_a_scheduler"
        ),
        "bids_unires BIDS OUT group --reports-only": (
            "tests/pipeline/group/test_former_names.py::test_the_documented_renaming"
        ),
        "bids_unires runner babs": (
            "tests/containers/test_runners.py::test_babs_makes_a_project_whose_job_runs"
        ),
        "babs init": "tests/containers/test_runners.py::test_babs_makes_a_project_whose_job_runs",
        "bids_unires runner nipoppy": (
            "tests/containers/test_runners.py::test_nipoppy_validates_runs_and_tracks_it"
        ),
        "nipoppy": "tests/containers/test_runners.py::test_nipoppy_validates_runs_and_tracks_it",
        "bids_unires --bids-exec-spec": "tests/cli/test_boutiques.py::test_the_documented_launch",
        "bosh validate": "tests/cli/test_boutiques.py::test_the_documented_launch",
        "bosh exec": "tests/cli/test_boutiques.py::test_the_documented_launch",
        "datalad clone": "tests/containers/test_datalad.py::test_the_documented_run",
        "datalad get": "tests/containers/test_datalad.py::test_the_documented_run",
        "datalad containers-add": "tests/containers/test_datalad.py::test_the_documented_run",
        "datalad containers-run": "tests/containers/test_datalad.py::test_the_documented_run",
    },
    "docs/files.md": {
        "bids_unires files T1.nii.gz T2.nii.gz PD.nii.gz": (
            "tests/run/test_plain_files.py::test_the_examples_of_the_original"
        ),
    },
    "docs/dicom.md": {
        "bids_unires dicom DICOM OUT": "tests/run/test_dicom.py::test_the_documented_commands",
    },
    "docs/before-computing.md": {
        "bids_unires BIDS OUT participant --dry-run": (
            "tests/pipeline/inspection/test_inspection.py::test_the_documented_table"
        ),
        "bids_unires BIDS OUT participant --json": (
            "tests/pipeline/inspection/test_inspection.py::test_the_documented_json"
        ),
    },
    "docs/visits.md": {
        "bids_unires BIDS OUT participant": (
            "tests/pipeline/participant/test_visits.py::test_the_documented_subtraction"
        ),
        "bids_unires BIDS OUT group": (
            "tests/pipeline/group/test_visits.py::test_the_documented_command"
        ),
    },
    "docs/next-tools.md": {
        "bids_unires export raw OUT RAW": "tests/export/test_docs.py::test_the_raw_dataset",
        "bids-validator-deno RAW": "tests/export/test_docs.py::test_the_raw_dataset",
        "bids_unires export nnunet": "tests/export/test_docs.py::test_the_nnunet_dataset",
    },
}
# Beginning of a command -> why no test runs it.
NOT_RUN = {
    "README.md": {
        "make demo": "installs an environment; tests/demo runs the demo itself",
        "make test": "runs this test",
    },
    "docs/running.md": {
        "docker build": "needs a Docker daemon; tests/containers/check.sh builds with buildah",
        "docker run": "needs a Docker daemon and a GPU; tests/containers/check.sh runs with podman",
        "apptainer": "not packaged for Debian bookworm; tests/containers/check.sh does the same "
        "with one from sid, in a root of its own",
        "make": "runs tests",
    },
    "docs/files.md": {
        "docker run": "needs a Docker daemon and a GPU; tests/containers/check.sh runs with podman",
        "apptainer run": "tests/containers/check.sh runs one in a root of its own",
    },
    "docs/dicom.md": {
        "docker run": "needs a Docker daemon and a GPU; tests/containers/check.sh runs with podman",
        "apptainer run": "tests/containers/check.sh runs one in a root of its own",
    },
    "docs/before-computing.md": {},
    "docs/visits.md": {},
    "docs/next-tools.md": {
        "docker run": "needs a Docker daemon, and FreeSurfer's licence",
        "recon-all": "FreeSurfer is in no package registry",
        "mri_synthseg": "FreeSurfer is in no package registry",
        "run_samseg": "FreeSurfer is in no package registry",
        "lst": "downloads the weights of its networks",
        "nnUNetv2_predict": "needs a trained network; tests/export reads the folder with "
        "nnU-Net's own reader",
    },
}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_accounted_for_once(page: str) -> None:
    told = [*RUN_BY[page], *NOT_RUN[page]]
    written = commands(page)
    assert written
    for command in written:
        matching = [beginning for beginning in told if command.startswith(beginning)]
        assert len(matching) == 1, f"{page}: {command!r} is accounted for by {matching}"
    for beginning in told:
        assert any(command.startswith(beginning) for command in written), f"not there: {beginning}"


@pytest.mark.parametrize(
    "named", sorted({test for page in RUN_BY.values() for test in page.values()})
)
def test_the_tests_that_run_commands_are_there(named: str) -> None:
    file, _, name = named.partition("::")
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    (test,) = (
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name
    )
    used = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    assert used & {"documented", "commands"}, f"{named} does not read the documentation"


def test_the_targets_of_make_are_there() -> None:
    targets = {
        command.split()[1] for page in PAGES for command in commands(page) if command[:5] == "make "
    }
    assert targets >= {"demo", "test", "container-test", "cluster-test"}
    subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)


def test_build_arguments_are_those_of_both_container_files() -> None:
    page = (ROOT / "docs/running.md").read_text("utf-8")
    told = {
        *re.findall(r"--build-arg (\w+)=", page),
        *re.findall(r"^\| (`[A-Z_`, ]+`) \|", page, re.M),
    }
    told = {name for cell in told for name in re.findall(r"\w+", cell)}
    dockerfile = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text("utf-8"), re.M))
    singularity = (ROOT / "Singularity").read_text("utf-8")
    arguments = set(re.findall(r"^    (\w+)=", singularity.partition("%files")[0], re.M))
    assert told == dockerfile
    assert arguments == dockerfile - {"BASE_IMAGE", "VERSION", "REVISION"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Working directory of a reader whose dataset is the folder BIDS."""
    folder = tmp_path_factory.mktemp("study")
    bids = write_small_dataset(folder / "BIDS")
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-01\t40\nsub-02\t41\n")
    return folder


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type a command where ``bids_unires`` is this one."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def python(code: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


@pytest.mark.slow
def test_the_first_commands(study: Path) -> None:
    lines = [line for line in commands("README.md") if line.startswith(".venv/bin/bids_unires")]
    dry, participant, group = (line.replace(".venv/bin/", "") for line in lines)
    done = shell(f"{dry} {SMALL}", study)
    assert done.returncode == 0, done.stderr
    assert "sub-02_FLAIR.nii.gz" in done.stdout
    assert not (study / "OUT").exists()
    done = shell(f"{participant} {SMALL} --reg-scale 4 --no-learned-detail", study)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 done" in done.stderr
    # Heads that are made of ellipsoids hold no brain, and the template is none of them.
    done = shell(f"{group} {SMALL} --align none --fov head", study)
    assert done.returncode == 0, done.stderr
    assert len(list((study / "OUT").glob("sub-*/anat/*_space-study_*_T1w.nii.gz"))) == 2

    (example,) = (
        code for code in blocks("README.md", frozenset({"python"})) if "max_pool3d" in code
    )
    (study / "demo_out").mkdir()
    (study / "demo_out" / "derivatives").symlink_to(study / "OUT")
    python(f"{example}\nassert stack.shape[0] == 2", study)


@pytest.mark.slow
def test_the_example_in_python(study: Path, tmp_path: Path) -> None:
    scans = study / "BIDS" / "sub-01" / "anat"
    for name, suffix in (("t1_sag", "T1w"), ("t1_ax", "T1w"), ("flair", "FLAIR")):
        shutil.copy(scans / f"sub-01_{suffix}.nii.gz", tmp_path / f"{name}.nii.gz")
    (example,) = (code for code in blocks("README.md", frozenset({"python"})) if "t1_sag" in code)
    assert "ModelSettings()" in example
    python(example.replace("ModelSettings()", "ModelSettings(voxel_size=(5, 5, 5))"), tmp_path)
    assert nib.load(tmp_path / "t1_1mm.nii.gz").header.get_zooms() == pytest.approx((5, 5, 5))


def test_the_list_of_participants(study: Path) -> None:
    done = shell(documented("docs/running.md", "tail -n +2"), study)
    assert done.returncode == 0, done.stderr
    assert (study / "participants.txt").read_text() == "sub-01\nsub-02\n"
    assert documented("docs/running.md", "tail -n +2") in (ROOT / "docs/slurm-array.sh").read_text()


def test_the_list_of_participants_may_come_from_windows(tmp_path: Path) -> None:
    (tmp_path / "BIDS").mkdir()
    table = b"participant_id\r\nsub-01\r\nsub-02\r\n"
    (tmp_path / "BIDS" / "participants.tsv").write_bytes(table)
    assert shell(documented("docs/running.md", "tail -n +2"), tmp_path).returncode == 0
    script = f"BIDS_UNIRES=echo SLURM_ARRAY_TASK_ID=2 bash {ROOT / 'docs' / 'slurm-array.sh'}"
    done = shell(f"{script} BIDS OUT participants.txt --ct", tmp_path)
    wanted = "BIDS OUT participant --participant-label sub-02 --omp-nthreads 1 --ct\n"
    assert done.stdout.replace("\r", "CR") == wanted


@pytest.mark.slow
def test_the_workers_of_a_scheduler(study: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as running:
        stand_ins = {"tcp://10.0.0.1:8786": running.scheduler_address, "OUT": "OUT-dask"}
        command = documented("docs/running.md", "bids_unires BIDS OUT participant --sch", stand_ins)
        done = shell(f"{command} {SMALL} --no-learned-detail --participant-label 01", study)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 done" in done.stderr
    # In the reader's folder, wherever the worker was started.
    assert len(list((study / "OUT-dask" / "sub-01" / "anat").glob("*_desc-sr_*.nii.gz"))) == 2


def test_the_words_of_the_glossary_are_those_of_the_code() -> None:
    page = (ROOT / "docs/glossary.md").read_text("utf-8")
    package = ROOT / "bids_unires"
    source = "\n".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row[-1])]
    assert len(named) > 30
    for name in named:
        if name.endswith(("/", ".py")):
            assert list(package.rglob(name.rstrip("/"))), name
        else:
            assert re.search(rf"^\s*(class|def) {name}\b|^\s*{name}: ", source, re.M), name
