"""BABS and Nipoppy take what is written for them, and run it on a small dataset."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import nibabel as nib
import pytest

from tests.containers.dataset import write_small_dataset
from tests.documented import ROOT, documented

PAGE = "docs/how-to/babs-nipoppy.md"
SMALL = "--voxel-size 5 --linear"
# A container whose image is the program that runs here; and 7-Zip, which BABS calls.
SINGULARITY = """\
#!/bin/bash
[ "$1" = run ] || exit 99
shift
while [ "$1" = -B ] || [ "${1#-}" != "$1" ]; do [ "$1" = -B ] && shift; shift; done
[ -s "$1" ] || exit 99
shift
exec bids_unires "$@"
"""
SEVEN_ZIP = """\
#!/bin/bash
exec tar -cf "$2" "${@:3}"
"""
PROGRAM = """\
#!/bin/sh
PYTHONPATH="{root}" exec "{python}" -m bids_unires "$@"
"""

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("babs", "nipoppy", "git-annex"))),
    reason="babs, nipoppy and git-annex are not installed: make tools-test",
)


class Reader:
    """Somebody who types commands in a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        programs = home / "bin"
        programs.mkdir(parents=True)
        for name, text in (
            ("singularity", SINGULARITY),
            ("7z", SEVEN_ZIP),
            ("bids_unires", PROGRAM.format(root=ROOT, python=sys.executable)),
        ):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.types("git config --global user.name Reader")
        self.types("git config --global user.email reader@example.org")

    def types(self, command: str, folder: Path | None = None) -> str:
        """Type a command; give all it says."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder or self.home,
            env={
                **os.environ,
                "HOME": str(self.home),
                "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{command}: {done.returncode}\n{said}"
        return said


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "home")


def test_babs_makes_a_project_whose_job_runs(reader: Reader, tmp_path: Path) -> None:
    bids = write_small_dataset(tmp_path / "BIDS")
    reader.types(f"datalad create --force -c text2git {bids} && datalad save -d {bids} -m scans")
    (tmp_path / "image.sif").write_text("an image")
    reader.types(f"datalad create {tmp_path / 'containers'}")
    reader.types(
        f"datalad containers-add bids-unires-0-1-0 --url {tmp_path / 'image.sif'}",
        tmp_path / "containers",
    )
    written = documented(PAGE, "bids_unires runner babs", {"/data/BIDS": bids, "--robust": SMALL})
    reader.types(written)
    here = {"/data/containers": tmp_path / "containers", "/data/project": tmp_path / "project"}
    said = reader.types(documented(PAGE, "babs init", here))
    assert "`babs init` was successful" in said
    analysis = tmp_path / "project" / "analysis"
    job = (analysis / "code" / "participant_job.sh").read_text()
    assert "#SBATCH --cpus-per-task=4" in job
    # What the job does before it runs the script, but for submitting and pushing.
    image = "containers/.datalad/environments/bids-unires-0-1-0/image"
    reader.types(f"datalad get inputs/data/BIDS/sub-01 inputs/data/BIDS/*json {image}", analysis)
    said = reader.types("bash code/bids-unires-0-1-0_zip.sh sub-01", analysis)
    assert "1 of 1 done" in said
    (zipped,) = analysis.glob("sub-01_bids_unires-*.zip")
    with tarfile.open(zipped) as archive:
        names = [Path(name).name for name in archive.getnames()]
    assert "sub-01_space-individual_res-5mm_desc-resliced_T1w.nii.gz" in names


def test_nipoppy_validates_runs_and_tracks_it(reader: Reader, tmp_path: Path) -> None:
    bids = write_small_dataset(tmp_path / "BIDS", ("01",))
    written = documented(PAGE, "bids_unires runner nipoppy", {"--robust": SMALL})
    reader.types(written.replace(" -- ", " --no-sessions -- "))
    said = reader.types(documented(PAGE, "nipoppy pipeline validate"))
    assert "are all valid" in " ".join(said.split())
    study = reader.home / "study"
    reader.types(f"nipoppy init --study {study} --bids-source {bids}")
    configuration = study / "global_config.json"
    # There is no Apptainer here: without a command the program runs that is on the path.
    text = configuration.read_text().replace('"COMMAND": "apptainer"', '"COMMAND": null')
    configuration.write_text(text)
    for beginning in (
        "nipoppy pipeline install",
        "nipoppy process",
        "nipoppy track-processing",
    ):
        command = documented(PAGE, beginning)
        command = command.replace("install bids_unires", f"install {reader.home}/bids_unires")
        reader.types(f"{command} {'--assume-yes' if 'install' in command else ''}", study)
    with (study / "derivatives" / "processing_status.tsv").open(newline="") as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    assert row["status"] == "SUCCESS"
    (image,) = study.glob("derivatives/bids_unires/*/output/sub-01/anat/*_desc-resliced_T1w.nii.gz")
    assert nib.load(image).header.get_zooms() == pytest.approx((5, 5, 5))
