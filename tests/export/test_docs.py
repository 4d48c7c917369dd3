"""The commands of the page on the next tools, typed as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib

from tests.documented import documented
from tests.paths import ROOT

PAGE = "docs/how-to/next-tools.md"


def shell(command: str, folder: Path) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_raw_dataset(results: Path, tmp_path: Path) -> None:
    there = {"OUT": results}
    said = shell(documented(PAGE, "bids_unires export raw", there), tmp_path)
    assert "14 files written" in said
    shell(documented(PAGE, "bids-validator-deno"), tmp_path)
    # The commands of the other programs name these files.
    for suffix in ("T1w", "FLAIR"):
        name = f"RAW/sub-01/anat/sub-01_rec-sr_{suffix}.nii.gz"
        assert nib.load(tmp_path / name).shape
        for beginning in ("recon-all", "run_samseg", "lst"):
            assert name in documented(PAGE, beginning)


def test_the_nnunet_dataset(results: Path, tmp_path: Path) -> None:
    said = shell(documented(PAGE, "bids_unires export nnunet", {"OUT": results}), tmp_path)
    assert "channels: 0 T1w, 1 FLAIR" in said
    (folder,) = tmp_path.glob("nnUNet_raw/*")
    assert f"-i nnUNet_raw/{folder.name}/imagesTs" in documented(PAGE, "nnUNetv2_predict")
    assert len(list((folder / "imagesTs").iterdir())) == 4
