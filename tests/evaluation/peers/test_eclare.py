"""ECLARE is told the slices that there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.peers.cases import STROKE, Case
from evaluation.peers.eclare import CPU_PATCHES, GPU_PATCHES, box_profile, eclare
from evaluation.peers.peer import Job


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 2.5, 3.3])
def test_the_profile_is_a_box_of_its_width(width: float) -> None:
    weights = box_profile(width)
    assert len(weights) % 2 == 1
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights, weights[::-1])
    # Whole voxels have the weight of their share of the box; those at its rim have the rest.
    assert weights.max() == pytest.approx(1 / width)
    assert (weights > 0).all()


def told(words: list[str]) -> dict[str, str]:
    """Options of a command line and their values."""
    return dict(zip(words[1::2], words[2::2], strict=True))


@pytest.mark.parametrize(("thickness", "gap"), [(4, 0), (4, 1), (5, 0)])
def test_it_is_told_the_thickness_without_the_gap(thickness: int, gap: int, tmp_path: Path) -> None:
    job = Job(
        Case(STROKE, thickness, gap), tmp_path / "scan.nii.gz", tmp_path, Path("/e/bin/python")
    )
    words = eclare(5000).words(job)
    assert words[0] == "/e/bin/run-eclare"
    options = told(words)
    assert options["--n-patches"] == "5000"
    assert options["--relative-slice-thickness"] == str(thickness)
    profile = np.load(options["--relative-slice-profile-fpath"])
    np.testing.assert_allclose(profile, box_profile(thickness))
    assert "--gpu-id" not in options


def test_a_gpu_is_used_when_it_is_asked_for(tmp_path: Path) -> None:
    job = Job(Case(STROKE, 4), tmp_path / "scan.nii.gz", tmp_path, Path("/e/bin/python"))
    assert told(eclare(GPU_PATCHES, gpu=True).words(job))["--gpu-id"] == "0"


def test_tables_say_how_much_it_learned() -> None:
    few, all_of_them = eclare(CPU_PATCHES), eclare(GPU_PATCHES, gpu=True)
    assert "50000 patches" in few.name
    assert "50000 patches" in few.settings
    assert "GPU" in all_of_them.settings
    assert few.folder != all_of_them.folder
