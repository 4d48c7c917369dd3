"""What BABS and Nipoppy read says what the parser says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from bids_unires.cli.main import main
from bids_unires.cli.parser import build_parser
from bids_unires.dataset.naming import SPACE, aligned_space, derivative_path, fov_mask_path
from bids_unires.dataset.query import ParticipantPlan
from bids_unires.dataset.scans import Contrast
from tests.documented import ROOT

BOSH = shutil.which("bosh", path=str(Path(sys.executable).parent)) or shutil.which("bosh")
OPTIONS = ["--voxel-size", "1", "1", "2.5", "--linear", "--no-coregister", "-m", "T1w", "FLAIR"]


def babs(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    path = tmp_path / "babs.yaml"
    assert main(["runner", "babs", str(path), "--overwrite", *arguments]) == 0
    return dict(yaml.safe_load(path.read_text()))


def nipoppy(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    folder = tmp_path / "bundle"
    assert main(["runner", "nipoppy", str(folder), "--overwrite", *arguments]) == 0
    return {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}


def test_the_parser_takes_what_babs_gives(tmp_path: Path) -> None:
    configuration = babs(tmp_path, "--bids", "/data/BIDS", "--", *OPTIONS)
    arguments = configuration["bids_app_args"]
    flag = arguments.pop("$SUBJECT_SELECTION_FLAG")
    # BABS puts these one behind the other, and replaces what begins with $BABS_.
    assert all(isinstance(value, str) for value in arguments.values())
    line = " ".join(f"{name} {value}" for name, value in arguments.items()).split()
    given = build_parser().parse(["in", "out", "participant", *line, flag, "sub-01"])
    assert given["participant_label"] == ["01"]
    assert given["voxel_size"] == [1, 1, 2.5]
    assert given["method"] == "linear"
    assert given["coregister"] is False
    assert given["modalities"] == ["T1w", "FLAIR"]
    assert given["omp_nthreads"] == int(configuration["cluster_resources"]["number_of_cpus"])
    assert configuration["input_datasets"]["BIDS"]["origin_url"] == "/data/BIDS"


def test_sessions_are_selected_where_jobs_have_one(tmp_path: Path) -> None:
    name = "$SESSION_SELECTION_FLAG"
    assert name not in babs(tmp_path)["bids_app_args"]
    assert babs(tmp_path, "--per-session")["bids_app_args"][name] == "--session-label"


def test_resources_are_those_of_the_array_of_jobs(tmp_path: Path) -> None:
    array = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", script("slurm-array.sh"), re.M))
    resources = babs(tmp_path)["cluster_resources"]
    assert resources["number_of_cpus"] == array["cpus-per-task"]
    assert resources["hard_memory_limit"] == array["mem"]
    assert resources["hard_runtime_limit"] == array["time"]
    hpc = nipoppy(tmp_path)["hpc"]
    assert (hpc["CORES"], hpc["MEMORY"], hpc["TIME"]) == (
        array["cpus-per-task"],
        array["mem"],
        array["time"],
    )


def script(name: str) -> str:
    return (ROOT / "docs/how-to" / name).read_text("utf-8")


def test_resources_are_a_choice(tmp_path: Path) -> None:
    configuration = babs(tmp_path, "--cores", "2", "--memory-gb", "16", "--hours", "12", "--gpu")
    assert configuration["cluster_resources"]["hard_runtime_limit"] == "12:00:00"
    assert configuration["bids_app_args"]["--mem-mb"] == "16000"
    assert "--nv" in configuration["singularity_args"]


@pytest.mark.skipif(BOSH is None, reason="boutiques is not installed")
def test_boutiques_takes_the_invocation(tmp_path: Path) -> None:
    nipoppy(tmp_path, "--", *OPTIONS)
    folder = tmp_path / "bundle"
    assert BOSH is not None
    for command in (
        [BOSH, "validate", folder / "descriptor.json"],
        [BOSH, "invocation", "-i", folder / "invocation.json", folder / "descriptor.json"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_invocation_has_the_options_by_their_names_in_the_descriptor(tmp_path: Path) -> None:
    bundle = nipoppy(tmp_path, "--", *OPTIONS)
    names = {entry["id"] for entry in bundle["descriptor"]["inputs"]}
    assert set(bundle["invocation"]) <= names
    assert bundle["invocation"]["voxel_size"] == [1, 1, 2.5]
    assert bundle["invocation"]["linear"] is True
    assert bundle["invocation"]["no_coregister"] is True
    (step,) = bundle["config"]["STEPS"]
    for name, file in step.items():
        if name.endswith("_FILE"):
            assert (tmp_path / "bundle" / file).is_file()


@pytest.mark.parametrize("session", [None, "a"])
@pytest.mark.parametrize(
    ("options", "desc", "sizes", "space"),
    [
        ([], "sr", (1, 1, 1), SPACE),
        (["--linear", "--voxel-size", "2.5"], "resliced", (2.5, 2.5, 2.5), SPACE),
        (["--denoise"], "denoised", (0.9, 0.9, 4.0), SPACE),
        (
            ["--align", "similarity"],
            "sr",
            (1, 1, 1),
            aligned_space("MNI152NLin2009cAsym", "similarity"),
        ),
    ],
)
def test_the_tracker_knows_the_names_of_results(
    tmp_path: Path,
    session: str | None,
    options: list[str],
    desc: str,
    sizes: tuple[float, float, float],
    space: str,
) -> None:
    arguments = [] if session else ["--no-sessions"]
    tracked = nipoppy(tmp_path, *arguments, "--", *options)["tracker"]["PATHS"]
    contrast = Contrast("ce-gad_T1w", {"ceagent": "gad", "suffix": "T1w"}, ())
    plan = ParticipantPlan("01", session, (contrast,))
    paths = [
        derivative_path(Path(), plan, contrast, desc=desc, voxel_size=sizes, space=space),
        fov_mask_path(Path(), plan, voxel_size=sizes, space=space),
    ]
    stand_ins = {
        "[[NIPOPPY_BIDS_PARTICIPANT_ID]]": "sub-01",
        "[[NIPOPPY_BIDS_SESSION_ID]]": "ses-a",
    }
    for pattern, path in zip(tracked, paths, strict=True):
        for name, value in stand_ins.items():
            pattern = pattern.replace(name, value)
        assert fnmatch(path.as_posix(), pattern), (path, pattern)
        assert path.as_posix().count("/") == pattern.count("/")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["babs", "x.yaml", "--", "--participant-label", "01"], "--participant-label is for the"),
        (["nipoppy", "x", "--", "--work-dir", "w"], "--work-dir is for the runner"),
        (["babs", "x.yaml", "--", "--voxel-size", "99"], "--voxel-size must be 0.1 to 20 mm"),
        (["babs", "x.yaml", "--", "--unheard-of"], "unrecognized arguments: --unheard-of"),
        (["babs", "x.yaml", "--cores", "0"], "--cores must be above 0"),
        (["pbs", "x.yaml"], "invalid choice: 'pbs'"),
    ],
)
def test_a_mistake_gets_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runner", *arguments]) == 64
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_what_was_filled_in_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "babs.yaml"
    assert main(["runner", "babs", str(path)]) == 0
    path.write_text(path.read_text().replace("<SCRATCH>", "/scratch"))
    assert main(["runner", "babs", str(path)]) == 73
    assert "--overwrite" in capsys.readouterr().err
    assert "/scratch" in path.read_text()
