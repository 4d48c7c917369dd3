"""The recipe for DataLad, on a dataset whose images git-annex keeps elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

from tests.containers.dataset import write_small_dataset
from tests.documented import ROOT, documented

PAGE = "docs/how-to/datalad.md"
URL = "https://github.com/OpenNeuroDatasets/ds000001"
SMALL = "--voxel-size 5 --omp-nthreads 1"
RESULT = "derivatives/bids_unires/sub-01/anat/sub-01_space-individual_res-5mm_desc-sr_T1w.nii.gz"
# What the image's entry point would find on its path.
APPTAINER = """\
#!/bin/bash
[ "$1" = exec ] && [ -s "$2" ] || exit 99
shift 2
exec "$@"
"""
PROGRAM = """\
#!/bin/sh
PYTHONPATH="{root}" exec "{python}" -m bids_unires "$@"
"""

pytestmark = pytest.mark.skipif(
    shutil.which("datalad") is None or shutil.which("git-annex") is None,
    reason="datalad and git-annex are not installed: make datalad-test",
)


class Reader:
    """Somebody who types commands.

    Parameters
    ----------
    home
        Folder with the reader's programs and settings, in which commands are typed at first.
    """

    def __init__(self, home: Path) -> None:
        self.home = self.folder = home
        programs = home / "bin"
        programs.mkdir(parents=True)
        for name, text in (
            ("apptainer", APPTAINER),
            ("bids_unires", PROGRAM.format(root=ROOT, python=sys.executable)),
        ):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.types("git config --global user.name Reader")
        self.types("git config --global user.email reader@example.org")

    def types(self, command: str, code: int = 0) -> str:
        """Type a command, which has to end with a code; give all it says."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
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
        assert done.returncode == code, f"{command}: {done.returncode}\n{said}"
        return said


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader, and a dataset to clone, with text in git and images in its annex."""
    reader = Reader(tmp_path / "home")
    origin = write_small_dataset(tmp_path / "ds000001")
    reader.types(f"datalad create --force -c text2git {origin}")
    reader.types(f"datalad save -d {origin} -m scans")
    return reader


def clone(reader: Reader) -> None:
    origin = reader.home.parent / "ds000001"
    reader.types(documented(PAGE, "datalad clone", {URL: origin}))
    reader.folder = reader.folder / "ds000001"


def test_the_documented_run(reader: Reader) -> None:
    clone(reader)
    reader.types(documented(PAGE, "datalad get"))
    image = reader.home / "bids_unires.sif"
    image.write_text("an image")
    reader.types(documented(PAGE, "datalad containers-add", {"/path/to/bids_unires.sif": image}))
    said = reader.types(f"{documented(PAGE, 'datalad containers-run')} {SMALL}")
    assert "1 of 1 done" in said
    assert not reader.types("git status --porcelain")
    assert "apptainer exec .datalad/environments/bids-unires/image" in reader.types("git show")
    result = reader.folder / RESULT
    assert result.is_symlink()
    assert nib.load(result).header.get_zooms() == pytest.approx((5, 5, 5))

    # What is in the annex now is known to be done, and stays what it is.
    before = os.readlink(result)
    assert "finished earlier" in reader.types("datalad rerun")
    assert os.readlink(result) == before
    assert not reader.types("git status --porcelain")


@pytest.mark.parametrize(
    "told",
    [r"not here; fetch it with: (datalad .*)", r"failed: .* fetch it with: (datalad .*)"],
    ids=["before the run", "by the participant"],
)
def test_images_without_content_are_named_with_what_gets_them(reader: Reader, told: str) -> None:
    clone(reader)
    # Not in the dataset, where DataLad would know which one is meant.
    reader.folder = reader.home.parent
    command = "bids_unires home/ds000001 out participant --participant-label 02"
    small = f"--skip-bids-validation {SMALL}"
    said = reader.types(f"{command} {small}", code=66)
    named = re.search(told, said)
    assert named, said
    reader.types(named[1])
    got = {path.name for path in reader.home.glob("ds000001/sub-*/anat/*") if path.exists()}
    assert got
    assert got <= {f"sub-02_{suffix}.nii.gz" for suffix in ("T1w", "FLAIR")}
    assert all(name in named[1] for name in got)
