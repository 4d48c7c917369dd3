"""What the documentation tells to type works; every command of it is accounted for here."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import nibabel as nib
import pytest

from bids_unires import records
from bids_unires.cli.main import main
from bids_unires.records.entries import Record
from bids_unires.records.sidecar import SidecarRecord
from tests.containers.dataset import write_small_dataset
from tests.documented import ROOT, blocks, commands, documented, pages, table
from tests.pipeline.conftest import scan_of_head, write_dataset

# The grid of the group level has to be large enough for the README's network to halve it.
SMALL = "--voxel-size 3 --skip-bids-validation --omp-nthreads 1"
BIN = Path(sys.executable).parent
SLURM = "docs/how-to/slurm.md"
ARRAY = ROOT / "docs/how-to/slurm-array.sh"

# Page -> beginning of a command -> the test that runs it as it stands there, but for names and
# sizes.
RUN_BY = {
    "README.md": {
        "bids_unires BIDS OUT participant": "tests/test_docs.py::test_the_commands_of_the_readme",
    },
    "docs/start/your-data.md": {
        "bids_unires BIDS OUT participant": "tests/test_docs.py::test_the_first_commands",
        "bids_unires BIDS OUT group": "tests/test_docs.py::test_the_first_commands",
    },
    "docs/how-to/boutiques.md": {
        "bids_unires --bids-exec-spec": "tests/cli/test_boutiques.py::test_the_documented_launch",
        "bosh validate": "tests/cli/test_boutiques.py::test_the_documented_launch",
        "bosh exec": "tests/cli/test_boutiques.py::test_the_documented_launch",
    },
    "docs/how-to/babs-nipoppy.md": {
        "bids_unires runner babs": (
            "tests/containers/test_runners.py::test_babs_makes_a_project_whose_job_runs"
        ),
        "babs init": "tests/containers/test_runners.py::test_babs_makes_a_project_whose_job_runs",
        "bids_unires runner nipoppy": (
            "tests/containers/test_runners.py::test_nipoppy_validates_runs_and_tracks_it"
        ),
        "nipoppy": "tests/containers/test_runners.py::test_nipoppy_validates_runs_and_tracks_it",
    },
    "docs/how-to/check-scans.md": {
        "bids_unires BIDS OUT participant --dry-run": (
            "tests/pipeline/inspection/test_inspection.py::test_the_documented_table"
        ),
        "bids_unires BIDS OUT participant --json": (
            "tests/pipeline/inspection/test_inspection.py::test_the_documented_json"
        ),
    },
    "docs/how-to/ct.md": {
        "bids_unires BIDS OUT participant": "tests/test_docs.py::test_the_commands_for_ct",
    },
    "docs/how-to/damaged-scans.md": {
        "bids_unires BIDS OUT participant": "tests/test_docs.py::test_the_robust_command",
    },
    "docs/how-to/datalad.md": {
        "datalad clone": "tests/containers/test_datalad.py::test_the_documented_run",
        "datalad get": "tests/containers/test_datalad.py::test_the_documented_run",
        "datalad containers-add": "tests/containers/test_datalad.py::test_the_documented_run",
        "datalad containers-run": "tests/containers/test_datalad.py::test_the_documented_run",
    },
    "docs/how-to/dicom.md": {
        "bids_unires dicom DICOM OUT": "tests/run/test_dicom.py::test_the_documented_commands",
    },
    "docs/how-to/earlier-versions.md": {
        "bids_unires BIDS OUT group --reports-only": (
            "tests/pipeline/group/test_former_names.py::test_the_documented_renaming"
        ),
    },
    "docs/how-to/files.md": {
        "bids_unires files T1.nii.gz T2.nii.gz PD.nii.gz": (
            "tests/run/test_plain_files.py::test_the_examples_of_the_original"
        ),
    },
    "docs/how-to/group.md": {
        "bids_unires BIDS OUT group": "tests/test_docs.py::test_the_first_commands",
    },
    "docs/how-to/next-tools.md": {
        "bids_unires export raw OUT RAW": "tests/export/test_docs.py::test_the_raw_dataset",
        "bids-validator-deno RAW": "tests/export/test_docs.py::test_the_raw_dataset",
        "bids_unires export nnunet": "tests/export/test_docs.py::test_the_nnunet_dataset",
    },
    "docs/how-to/slurm.md": {
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
    },
    "docs/how-to/visits.md": {
        "bids_unires BIDS OUT participant": (
            "tests/pipeline/participant/test_visits.py::test_the_documented_subtraction"
        ),
        "bids_unires BIDS OUT group": (
            "tests/pipeline/group/test_visits.py::test_the_documented_command"
        ),
    },
}
_NEEDS_DOCKER = "needs a Docker daemon and a GPU; tests/containers/check.sh runs with podman"
_IN_A_ROOT_OF_ITS_OWN = "tests/containers/check.sh runs one in a root of its own"
# Page -> beginning of a command -> why no test runs it.
NOT_RUN = {
    "README.md": {
        "pip install": "installs; the workflow of a release installs what it has built",
    },
    "CONTRIBUTING.md": {
        "make": "runs tests",
    },
    "docs/start/install.md": {
        "pip install": "installs; the workflow of a release installs what it has built",
        "make install": "installs an environment, in which this test runs",
    },
    "docs/start/first-run.md": {
        "make demo": "installs an environment; tests/demo runs the demo itself",
        "bids_unires demo": "tests/demo runs the demo itself",
    },
    "docs/how-to/docker.md": {
        "docker build": "needs a Docker daemon; tests/containers/check.sh builds with buildah",
        "docker run": _NEEDS_DOCKER,
    },
    "docs/how-to/apptainer.md": {
        "apptainer": "not packaged for Debian bookworm; tests/containers/check.sh does the same "
        "with one from sid, in a root of its own",
    },
    "docs/how-to/files.md": {
        "docker run": _NEEDS_DOCKER,
        "apptainer run": _IN_A_ROOT_OF_ITS_OWN,
    },
    "docs/how-to/dicom.md": {
        "docker run": _NEEDS_DOCKER,
        "apptainer run": _IN_A_ROOT_OF_ITS_OWN,
    },
    "docs/how-to/next-tools.md": {
        "docker run": "needs a Docker daemon, and FreeSurfer's licence",
        "recon-all": "FreeSurfer is in no package registry",
        "mri_synthseg": "FreeSurfer is in no package registry",
        "run_samseg": "FreeSurfer is in no package registry",
        "lst": "downloads the weights of its networks",
        "nnUNetv2_predict": "needs a trained network; tests/export reads the folder with "
        "nnU-Net's own reader",
    },
}


@pytest.mark.parametrize("page", pages())
def test_every_command_is_accounted_for_once(page: str) -> None:
    told = [*RUN_BY.get(page, ()), *NOT_RUN.get(page, ())]
    written = commands(page)
    for command in written:
        matching = [beginning for beginning in told if command.startswith(beginning)]
        assert len(matching) == 1, f"{page}: {command!r} is accounted for by {matching}"
    for beginning in told:
        assert any(command.startswith(beginning) for command in written), f"not there: {beginning}"


def test_no_page_is_accounted_for_that_tells_nothing_to_type() -> None:
    assert set(RUN_BY) | set(NOT_RUN) == set(pages())


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
    texts = [(ROOT / page).read_text("utf-8") for page in pages()]
    named = [name for text in texts for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.M)]
    targets = set(named)
    assert targets >= {"demo", "test", "docs", "container-test", "cluster-test"}
    subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)


def test_build_arguments_are_those_of_both_container_files() -> None:
    page = (ROOT / "docs/how-to/docker.md").read_text("utf-8") + (
        ROOT / "docs/how-to/apptainer.md"
    ).read_text("utf-8")
    told = {
        *re.findall(r"--build-arg (\w+)=", page),
        *re.findall(r"^\| (`[A-Z_`, ]+`) \|", page, re.M),
    }
    told = {name for cell in told for name in re.findall(r"\w+", cell)}
    dockerfile = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text("utf-8"), re.M))
    singularity = (ROOT / "Singularity").read_text("utf-8")
    arguments = set(re.findall(r"^    (\w+)=", singularity.partition("%files")[0], re.M))
    assert told == dockerfile
    # Apptainer takes its base from another line, and the release from the file.
    assert arguments == dockerfile - {"BASE_IMAGE", "VERSION"}


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
    dry, participant, group = commands("docs/start/your-data.md")
    done = shell(f"{dry} {SMALL}", study)
    assert done.returncode == 0, done.stderr
    assert "sub-02_FLAIR.nii.gz" in done.stdout
    assert not (study / "OUT").exists()
    done = shell(f"{participant} {SMALL} --reg-scale 4 --no-learned-detail", study)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 done" in done.stderr
    # Heads that are made of ellipsoids hold no brain, and the template is none of them.
    assert group == documented("docs/how-to/group.md", "bids_unires BIDS OUT group")
    done = shell(f"{group} {SMALL} --align none --fov head", study)
    assert done.returncode == 0, done.stderr
    assert len(list((study / "OUT").glob("sub-*/anat/*_space-study_*_T1w.nii.gz"))) == 2

    (example,) = blocks("docs/how-to/group.md", frozenset({"python"}))
    assert "max_pool3d" in example
    (study / "demo_out").mkdir()
    (study / "demo_out" / "derivatives").symlink_to(study / "OUT")
    python(f"{example}\nassert stack.shape[0] == 2", study)


def test_the_commands_of_the_readme() -> None:
    told = [line for line in commands("README.md") if line.startswith("bids_unires BIDS OUT")]
    assert told
    assert set(told) <= set(commands("docs/start/your-data.md"))


@pytest.mark.slow
def test_the_robust_command(study: Path) -> None:
    command = documented("docs/how-to/damaged-scans.md", "bids_unires").replace("OUT", "OUT-robust")
    done = shell(f"{command} {SMALL} --reg-scale 4 --no-learned-detail", study)
    assert done.returncode == 0, done.stderr
    (sidecar,) = (study / "OUT-robust/sub-01/anat").glob("*_desc-sr_T1w.json")
    assert "SliceWeights" in sidecar.read_text()


def test_the_commands_for_ct(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan = scan_of_head(axis=2)
    air = nib.Nifti1Image(scan.get_fdata() - 1000, scan.affine)
    write_dataset(tmp_path / "BIDS", {"sub-01_T1w": scan, "sub-01_ct": air})
    (tmp_path / "BIDS/sub-01/ct").mkdir()
    (tmp_path / "BIDS/sub-01/anat/sub-01_ct.nii.gz").rename(
        tmp_path / "BIDS/sub-01/ct/sub-01_ct.nii.gz"
    )
    beside, alone = commands("docs/how-to/ct.md")
    folders = {name: str(tmp_path / name) for name in ("BIDS", "OUT")}
    for command, scans in ((beside, {"T1w", "ct"}), (alone, {"ct"})):
        words = [folders.get(word, word) for word in command.split()[1:]]
        assert main([*words, "--dry-run", "--skip-bids-validation"]) == 0
        printed = capsys.readouterr().out
        assert set(re.findall(r"sub-01_(\w+)\.nii\.gz", printed)) == scans


@pytest.mark.slow
def test_the_example_in_python(study: Path, tmp_path: Path) -> None:
    scans = study / "BIDS" / "sub-01" / "anat"
    for name, suffix in (("t1_sag", "T1w"), ("t1_ax", "T1w"), ("flair", "FLAIR")):
        shutil.copy(scans / f"sub-01_{suffix}.nii.gz", tmp_path / f"{name}.nii.gz")
    (example,) = blocks("docs/how-to/python.md", frozenset({"python"}))
    assert "ModelSettings()" in example
    python(example.replace("ModelSettings()", "ModelSettings(voxel_size=(5, 5, 5))"), tmp_path)
    assert nib.load(tmp_path / "t1_1mm.nii.gz").header.get_zooms() == pytest.approx((5, 5, 5))


def test_the_list_of_participants(study: Path) -> None:
    done = shell(documented(SLURM, "tail -n +2"), study)
    assert done.returncode == 0, done.stderr
    assert (study / "participants.txt").read_text() == "sub-01\nsub-02\n"
    assert documented(SLURM, "tail -n +2") in ARRAY.read_text()


def test_the_list_of_participants_may_come_from_windows(tmp_path: Path) -> None:
    (tmp_path / "BIDS").mkdir()
    table = b"participant_id\r\nsub-01\r\nsub-02\r\n"
    (tmp_path / "BIDS" / "participants.tsv").write_bytes(table)
    assert shell(documented(SLURM, "tail -n +2"), tmp_path).returncode == 0
    script = f"BIDS_UNIRES=echo SLURM_ARRAY_TASK_ID=2 bash {ARRAY}"
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
        command = documented(SLURM, "bids_unires BIDS OUT participant --sch", stand_ins)
        done = shell(f"{command} {SMALL} --no-learned-detail --participant-label 01", study)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 done" in done.stderr
    # In the reader's folder, wherever the worker was started.
    assert len(list((study / "OUT-dask" / "sub-01" / "anat").glob("*_desc-sr_*.nii.gz"))) == 2


def test_the_words_of_the_glossary_are_those_of_the_code() -> None:
    page = (ROOT / "docs/explanation/glossary.md").read_text("utf-8")
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


def cells(page: str) -> list[list[str]]:
    """Rows of all tables of a page."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    rows = [line.strip().strip("|").split("|") for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


# Case in the table of the README -> beginning of its row on a page.
README_CASES = {
    "real MS FLAIR, 3 mm slices": "MS FLAIR, transverse, 3 mm, noise 1.2 %",
    "real MS FLAIR, 5 mm slices": "MS FLAIR, transverse, 5 mm, noise 1.2 %",
    "real T1w of a stroke, 5 mm slices": "T1w of a stroke, transverse, 5 mm, noise 1.2 %",
    "real FLAIR of a stroke, 5 mm slices": "FLAIR of a stroke, transverse, 5 mm, noise 1.2 %",
    "Colin27 (mean of 27 real scans), one T1w, 4 mm slices, sagittal": (
        "Colin27, one stack, 4 mm, noise 1 %"
    ),
    "Colin27, three T1w in three planes, 4 mm slices": "Colin27, three stacks, 4 mm, noise 1 %",
    "simulated head, one contrast, 4 mm slices": "ICBM152, one stack, 4 mm, noise 1 %",
    "simulated head, three contrasts in three planes, 4 mm slices": (
        "ICBM152, three contrasts, 4 mm, noise 1 %"
    ),
}


def on_lesions(case: str) -> dict[str, str]:
    """PSNR of each method on the page on lesions; empty for a case that is not there."""
    rows = cells("docs/explanation/lesions.md")
    return {row[1]: row[-1] for row in rows if row[0] == case and len(row) == 7}


def test_figures_of_the_readme_are_those_of_the_pages() -> None:
    evaluated = table("docs/explanation/evaluation.md", "Simulated scans with known truth")
    shown = table("README.md", "How well it works")
    assert set(shown) == set(README_CASES)
    for case, row in shown.items():
        name = README_CASES[case]
        figures = on_lesions(name) or evaluated[name]
        assert (row["cubic"], row["bids_unires"]) == (figures["cubic"], figures["defaults"]), case
        # The gain is that of figures that were not rounded yet.
        gain = float(row["bids_unires"]) - float(row["cubic"])
        assert float(row["gain"]) == pytest.approx(gain, abs=0.011), case


def test_the_figures_of_real_heads_are_those_of_the_page_on_lesions() -> None:
    shown = table("docs/explanation/evaluation.md", "Real heads")
    measured = {case: row for case, row in shown.items() if row["cubic"]}
    assert len(measured) == 4
    for case, row in measured.items():
        figures = on_lesions(case)
        assert (row["cubic"], row["bids_unires"]) == (figures["cubic"], figures["defaults"]), case


def test_every_record_of_a_sidecar_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/sidecars.md").read_text("utf-8")
    documented_records = set(re.findall(r":::\{record\} \w+\.(\w+)", page))
    for module in pkgutil.iter_modules(records.__path__, f"{records.__name__}."):
        importlib.import_module(module.name)
    left, seen = list(SidecarRecord.__subclasses__()), set()
    while left:
        record = left.pop()
        seen.add(record.__name__)
        left += [own for own in nested_records(record) if own.__name__ not in seen]
    assert documented_records == seen


def nested_records(record: type[Record]) -> list[type[Record]]:
    """Records among the annotations of the fields of a record."""
    found, left = [], list(get_type_hints(record).values())
    while left:
        hint = left.pop()
        left += get_args(hint)
        if isinstance(hint, type) and issubclass(hint, Record):
            found.append(hint)
    return found
