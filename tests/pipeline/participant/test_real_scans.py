"""Real scans, where they lie beside the checkout."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from bids_unires.cli.main import main
from bids_unires.config import ModelSettings
from bids_unires.dataset.naming import sidecar_path
from bids_unires.dataset.reading import load_volume
from bids_unires.dataset.transforms import read_transform
from bids_unires.model import super_resolve
from bids_unires.model.fit.placement import starting_poses
from bids_unires.space.affines import apply_affine
from tests.paths import SHARED

pytestmark = pytest.mark.slow

DATA = SHARED / "data"
PITCHED_CT = DATA / "ct" / "ct_pitch_8bit.nii.gz"
POSITIONS = DATA / "positions"
CONTRASTS = DATA / "contrasts"
BRIEF = [
    "--device",
    "cpu",
    "--skip-bids-validation",
    "--reg-scale",
    "4",
    "--max-iter",
    "10",
    "--learning-effort",
    "brief",
]


def brought_to(image: nib.Nifti1Image, scan: Path, transform: Path) -> NDArray[np.float64]:
    """A scan interpolated on the grid of a result; NaN where it did not measure."""
    volume, pose = load_volume(scan), read_transform(transform)
    voxels = np.moveaxis(np.indices(image.shape), 0, -1)
    at = apply_affine(np.linalg.inv(pose @ volume.affine) @ image.affine, voxels)
    return np.asarray(
        ndimage.map_coordinates(
            volume.data, np.moveaxis(at, -1, 0), order=1, mode="constant", cval=np.nan
        )
    )


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of two images where both show the head."""
    seen = np.isfinite(a) & np.isfinite(b)
    head = seen & (a > np.nanmedian(a) / 2) & (b > np.nanmedian(b) / 2)
    return float(np.corrcoef(a[head], b[head])[0, 1])


@pytest.mark.realdata
def test_four_positions_of_one_head_agree(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(POSITIONS), str(out), "participant", "--voxel-size", "2.5", *BRIEF]) == 0
    (result,) = out.rglob("*_desc-sr_T1w.nii.gz")
    image = nib.load(result)
    data = image.get_fdata()
    transforms = sorted(out.rglob("*_xfm.txt"))
    scans = sorted(POSITIONS.rglob("*_T1w.nii.gz"))
    aligned = [brought_to(image, *pair) for pair in zip(scans, transforms, strict=True)]
    for first, second in itertools.combinations(aligned, 2):
        assert correlation(first, second) > 0.85
    for moved in aligned:
        assert correlation(moved, data) > 0.85
    # The head did move: without its pose no other scan agrees with the first.
    for scan in scans[1:]:
        assert correlation(aligned[0], brought_to(image, scan, transforms[0])) < 0.6
    provenance = json.loads(sidecar_path(result).read_text())["UniRes"]
    gaps = [scan["SliceProfile"]["Gap"] for scan in provenance["Scans"]]
    # 4 mm slices every 4.8 mm.
    assert gaps == pytest.approx([1 / 6] * 4, abs=0.01)


@pytest.mark.realdata
def test_two_contrasts_of_one_head_share_a_grid(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([str(CONTRASTS), str(out), "participant", "--voxel-size", "2", *BRIEF]) == 0
    images = {
        suffix: nib.load(next(out.rglob(f"*_desc-sr_{suffix}.nii.gz"))) for suffix in ("T1w", "PDw")
    }
    t1w, pdw = images.values()
    assert t1w.shape == pdw.shape
    np.testing.assert_array_equal(t1w.affine, pdw.affine)
    for suffix, image in images.items():
        scan = next(CONTRASTS.rglob(f"*_{suffix}.nii.gz"))
        transform = next(out.rglob(f"*_from-{suffix}_*_xfm.txt"))
        assert correlation(brought_to(image, scan, transform), image.get_fdata()) > 0.9


@pytest.mark.realdata
def test_refined_poses_explain_every_run_better() -> None:
    volumes = [[load_volume(path) for path in sorted(POSITIONS.rglob("*_T1w.nii.gz"))]]
    settings = ModelSettings(
        voxel_size=(2.5, 2.5, 2.5), reg_scale=4, max_iter=20, learning_effort="brief"
    )
    poses = [[at.matrix for at in starting_poses(volumes[0], settings)]]
    refined, fixed = (
        super_resolve(volumes, replace(settings, unified_rigid=move), "cpu", poses=poses)
        for move in (True, False)
    )
    for after, before in zip(refined.fit.residuals[0], fixed.fit.residuals[0], strict=True):
        assert after.robust_sd < before.robust_sd
    # The scale that all runs share follows from the likelihood of all of them.
    assert refined.fit.scales[0][0] < fixed.fit.scales[0][0]


@pytest.mark.realdata
def test_an_oblique_ct_is_not_flipped(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    folder = raw / "sub-01" / "ct"
    folder.mkdir(parents=True)
    (raw / "dataset_description.json").write_text('{"Name": "CT", "BIDSVersion": "1.10.1"}')
    (folder / "sub-01_ct.nii.gz").symlink_to(PITCHED_CT)
    options = ["--ct", "--voxel-size", "3", *BRIEF]
    assert main([str(raw), str(out), "participant", *options]) == 0
    image = nib.load(next(out.rglob("*_desc-sr_ct.nii.gz")))
    scan = folder / "sub-01_ct.nii.gz"
    transform = next(out.rglob("*_xfm.txt"))
    np.testing.assert_allclose(read_transform(transform), np.eye(4), atol=1e-6)
    result, brought = image.get_fdata(), brought_to(image, scan, transform)
    seen = np.isfinite(brought)
    together = np.corrcoef(result[seen], brought[seen])[0, 1]
    assert together > 0.95
    for axis in range(3):
        flipped = np.flip(result, axis)
        assert np.corrcoef(flipped[seen], brought[seen])[0, 1] < together - 0.2
