"""The Brainlife app, run as Brainlife does: config.json in the current directory, then ``main``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from tests.containers.dataset import write_small_dataset
from tests.paths import ROOT

APP = ROOT / "brainlife"
# Drops `exec -e IMAGE`, and the environment with it as -e does. Learning what lies within slices
# would take most of the time, and has nothing to do with which file goes where.
SINGULARITY = """\
#!/bin/bash
[ "$1 $2" = "exec -e" ] || exit 99
echo "$3" >>images
shift 3
[ "$1" = bids_unires ] || exit 98
exec env -i PATH=/usr/bin:/bin PYTHONPATH={root} {python} -m "$@" --no-learned-detail
"""

pytestmark = [
    pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed"),
    pytest.mark.slow,
]


def make_task(folder: Path) -> Path:
    """The directory of a task: the app's files, beside those of earlier tasks."""
    task = folder / "task"
    shutil.copytree(APP, task)
    programs = folder / "programs"
    programs.mkdir()
    stand_in = programs / "singularity"
    stand_in.write_text(SINGULARITY.format(root=APP.parent, python=sys.executable))
    stand_in.chmod(0o755)
    write_small_dataset(folder / "raw")
    anat = folder / "raw" / "sub-01" / "anat"
    for suffix, name in (("T1w", "t1"), ("FLAIR", "flair")):
        (folder / name).mkdir()
        shutil.copy(anat / f"sub-01_{suffix}.nii.gz", folder / name / f"{name}.nii.gz")
    return task


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task that has run on inputs by datatype."""
    task = make_task(tmp_path_factory.mktemp("finished"))
    done = run(task, by_datatype())
    assert done.returncode == 0, done.stderr
    return task


def run(task: Path, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (task / "config.json").write_text(json.dumps(config))
    path = f"{task.parent / 'programs'}:{os.environ['PATH']}"
    return subprocess.run(
        ["./main"],
        cwd=task,
        env={**os.environ, "PATH": path, "BIDS_UNIRES_IMAGE": "some.sif"},
        capture_output=True,
        text=True,
        check=False,
    )


def by_datatype(**others: Any) -> dict[str, Any]:
    return {
        "t1w": "../t1/t1.nii.gz",
        "t2w": None,
        "flair": "../flair/flair.nii.gz",
        "voxel_size": 5,
        "_inputs": [
            {"id": "t1w", "meta": {"subject": "S 7", "session": "1", "SliceThickness": 12}},
            {"id": "flair", "meta": {"subject": "S 7"}},
        ],
        **others,
    }


def test_inputs_by_datatype_become_outputs_by_datatype(finished: Path) -> None:
    assert set((finished / "images").read_text().split()) == {"some.sif"}
    for folder, name in (("t1w", "t1"), ("flair", "flair")):
        image = nib.load(finished / folder / f"{name}.nii.gz")
        assert image.header.get_zooms()[:3] == pytest.approx((5, 5, 5))
    assert not (finished / "t2w").exists()
    sidecar = json.loads((finished / "t1w" / "t1.json").read_text())
    scan = sidecar["UniRes"]["Scans"][0]
    assert scan["Source"] == "bids:raw:sub-S7/anat/sub-S7_T1w.nii.gz"
    assert scan["SliceProfile"]["Gap"] == pytest.approx(0.2)


def test_the_product_holds_the_key_figures(finished: Path) -> None:
    text = (finished / "product.json").read_text()
    product = json.loads(text)
    assert len(text) < 4096
    assert product["brainlife"][0]["type"] == "success"
    sidecar = json.loads((finished / "flair" / "flair.json").read_text())["UniRes"]
    images = {image["image"]: image for image in product["meta"]["images"]}
    figures = images["sub-S7_FLAIR.nii.gz"]
    assert figures["iterations"] == sidecar["Iterations"]
    assert figures["noise_sd"] == [sidecar["Scans"][0]["NoiseSD"]]
    assert product["meta"]["bids_unires"] == sidecar["Version"]


def test_running_again_does_nothing_again(finished: Path) -> None:
    image = finished / "derivatives/sub-S7/anat/sub-S7_space-individual_res-5mm_desc-sr_T1w.nii.gz"
    before = image.stat().st_mtime_ns
    again = run(finished, by_datatype())
    assert again.returncode == 0
    assert "finished earlier" in again.stderr
    assert image.stat().st_mtime_ns == before


def test_repeats_are_runs_of_one_contrast(task: Path) -> None:
    config = by_datatype(t1w=["../t1/t1.nii.gz", "../t1/t1.nii.gz"], flair=None)
    done = run(task, config | {"max_iter": None, "reg_scale": 8})
    assert done.returncode == 0, done.stderr
    settings = json.loads((task / "t1w" / "t1.json").read_text())["UniRes"]
    assert len(settings["Scans"]) == 2
    assert settings["Settings"]["reg_scale"] == 8


def scans_of(sidecar: Path) -> list[str]:
    scans = json.loads(sidecar.read_text())["UniRes"]["Scans"]
    return [scan["Source"].rpartition("/")[2] for scan in scans]


def test_a_task_run_again_with_other_inputs_forgets_the_first(task: Path) -> None:
    config = by_datatype(flair=None)
    assert run(task, config | {"t1w": ["../t1/t1.nii.gz", "../t1/t1.nii.gz"]}).returncode == 0
    (task / "t2w").mkdir()
    (task / "t2w" / "t2.nii.gz").write_text("of an earlier run")
    done = run(task, config | {"voxel_size": 6})
    assert done.returncode == 0, done.stderr
    assert scans_of(task / "t1w" / "t1.json") == ["sub-S7_T1w.nii.gz"]
    zooms = nib.load(task / "t1w" / "t1.nii.gz").header.get_zooms()
    assert zooms[:3] == pytest.approx((6, 6, 6))
    assert not (task / "t2w").exists()
    images = json.loads((task / "product.json").read_text())["meta"]["images"]
    assert [image["voxel_size"] for image in images] == [[6, 6, 6]]

    done = run(task, {**config, "_inputs": [{"id": "t1w", "meta": {"subject": "8"}}]})
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted((task / "bids").glob("sub-*"))] == ["sub-8"]
    assert scans_of(task / "t1w" / "t1.json") == ["sub-8_T1w.nii.gz"]


def test_somebody_else_s_folder_stays(task: Path) -> None:
    shutil.copytree(task.parent / "raw", task / "bids")
    done = run(task, by_datatype())
    assert done.returncode == 64
    assert "move it away" in done.stderr
    assert (task / "bids" / "sub-02" / "anat" / "sub-02_T1w.nii.gz").exists()


@pytest.mark.parametrize(
    ("subjects", "label"),
    [(["__"], "01"), ([12], "12"), ([None, "__", "S 7"], "S7"), ([], "01"), ([""], "01")],
)
def test_labels_are_made_of_whatever_the_subject_is_called(
    task: Path, subjects: list[Any], label: str
) -> None:
    # What the program does with them is of no matter here.
    (task.parent / "programs" / "singularity").write_text("#!/bin/sh\nexit 9\n")
    inputs = [{"id": "t1w", "meta": {"subject": subject}} for subject in subjects]
    assert run(task, by_datatype(_inputs=inputs, flair=None)).returncode == 9
    scan = task / "bids" / f"sub-{label}" / "anat" / f"sub-{label}_T1w.nii.gz"
    assert scan.exists()


def test_of_several_contrasts_the_plainest_is_the_result(task: Path) -> None:
    anat = task.parent / "raw" / "sub-01" / "anat"
    for name in ("sub-01_acq-mprage_T1w.nii.gz", "sub-01_ce-gad_T1w.nii.gz"):
        shutil.copy(anat / "sub-01_T1w.nii.gz", anat / name)
    done = run(task, {"bids": "../raw", "participant_label": "sub-01", "voxel_size": 5})
    assert done.returncode == 0, done.stderr
    assert scans_of(task / "t1w" / "t1.json") == ["sub-01_T1w.nii.gz"]
    told = json.loads((task / "product.json").read_text())["brainlife"]
    assert [message["type"] for message in told] == ["success", "warning"]
    assert "one of 3 images of T1w" in told[1]["msg"]


def test_several_participants_have_no_one_result(task: Path) -> None:
    done = run(task, {"bids": "../raw", "voxel_size": 5})
    assert done.returncode == 0, done.stderr
    assert not (task / "t1w").exists()
    product = json.loads((task / "product.json").read_text())
    assert len(product["meta"]["images"]) == 4
    assert "no t1w/t1.nii.gz, since there are 2 participants" in product["brainlife"][1]["msg"]


def test_a_bids_folder_is_an_input_too(task: Path) -> None:
    config = {"bids": "../raw", "participant_label": ["02"], "voxel_size": 5}
    done = run(task, config)
    assert done.returncode == 0, done.stderr
    assert (task / "derivatives" / "sub-02").is_dir()
    assert not (task / "derivatives" / "sub-01").exists()
    assert (task / "t1w" / "t1.nii.gz").exists()


def test_a_failure_fails_the_task(task: Path) -> None:
    assert run(task, {"bids": "../nowhere"}).returncode == 66
    assert not (task / "product.json").exists()


def test_a_task_without_scans_says_what_to_give(task: Path) -> None:
    done = run(task, {"_inputs": []})
    assert done.returncode == 64
    assert "t1w, t2w, flair or bids" in done.stderr


def test_the_sample_configuration_has_the_keys_that_are_read(task: Path) -> None:
    sample = json.loads((APP / "config.json.sample").read_text())
    main = (APP / "main").read_text()
    for key in sample:
        assert key in main, key
