"""Programs that interpolate put every slice where it was, in their own environments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bids_unires.space.affines import Affine
from bids_unires.space.volume import Volume
from evaluation.peers.cases import STROKE, Case, fine_grid
from evaluation.peers.interpolations import interpolations
from evaluation.peers.peer import Job, Peer
from evaluation.peers.running import run
from evaluation.peers.scans import read_scan, same_grid, write_scan
from tests.paths import ROOT

ENVIRONMENTS = ROOT / ".venv" / "peers"
SHAPE, SPACING = (15, 16, 9), 3
AFFINES = {
    "along the world": np.diag([1.0, 1.0, SPACING, 1.0]),
    "left, from above": np.diag([-1.0, 1.0, -SPACING, 1.0]),
    "sagittal": np.array([[0, 0, SPACING, 3.0], [1, 0, 0, -7], [0, 1, 0, 9], [0, 0, 0, 1]]),
}


def image_of(peer: Peer, scan: Volume, folder: Path) -> Volume:
    """What a program makes of a scan; the test is skipped where the program is not installed."""
    assert peer.environment
    if not peer.environment.is_made(ENVIRONMENTS):
        pytest.skip(f"`make peers` has not made the environment of {peer.program}")
    (folder / "job").mkdir()
    write_scan(scan, folder / "scan.nii.gz")
    python = peer.environment.folder(ENVIRONMENTS) / "bin" / "python"
    job = Job(Case(STROKE, SPACING), folder / "scan.nii.gz", folder / "job", python)
    run(peer.words(job), folder / "log.txt", threads=1)
    return read_scan(job.folder / peer.image)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("peer", interpolations(), ids=lambda peer: peer.folder)
def test_slices_stay_where_they_were(peer: Peer, affine: Affine, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    scan = Volume(100 + 50 * ndimage.gaussian_filter(noise, (2, 2, 1)), affine)
    image = image_of(peer, scan, tmp_path)
    assert same_grid(
        image, Volume(np.zeros(fine_grid(scan.grid).shape), fine_grid(scan.grid).affine)
    )
    # Every third slice has the place of one that was acquired, which all methods keep.
    within = (slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(image.data[within][..., 1::3], scan.data[within], rtol=1e-3)
