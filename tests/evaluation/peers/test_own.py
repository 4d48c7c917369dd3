"""The model runs as a program of its own, and sees nothing of the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_unires.space.volume import Volume
from evaluation.peers.cases import STROKE, Case, fine_grid
from evaluation.peers.own import main, own
from evaluation.peers.peer import Job
from evaluation.peers.scans import read_scan, same_grid, write_scan


def scan() -> Volume:
    noise = np.random.default_rng(0).standard_normal((12, 13, 8))
    data = 100 + 100 * ndimage.gaussian_filter(noise, (2, 2, 0.5))
    return Volume(data, np.diag([1.0, 1.0, 3.0, 1.0]))


@pytest.mark.parametrize("method", ["linear", "plain model"])
def test_an_image_is_made_on_the_grid_of_the_slices(method: str, tmp_path: Path) -> None:
    write_scan(scan(), tmp_path / "scan.nii.gz")
    main([method, str(tmp_path / "scan.nii.gz"), str(tmp_path / "image.nii.gz"), "--gap", "0.2"])
    image, grid = read_scan(tmp_path / "image.nii.gz"), fine_grid(scan().grid)
    assert same_grid(image, Volume(np.zeros(grid.shape), grid.affine))
    assert np.corrcoef(image.data[..., 1::3].ravel(), scan().data.ravel())[0, 1] > 0.95


def test_a_gap_is_told_as_a_share_of_the_spacing(tmp_path: Path) -> None:
    job = Job(Case(STROKE, 4, gap=1), tmp_path / "scan.nii.gz", tmp_path, Path("python"))
    for peer in own():
        words = peer.words(job)
        assert words[words.index("--gap") + 1] == "0.2"
