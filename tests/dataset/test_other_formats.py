"""Images in other formats are read as the same voxels in the same place."""

from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.dataset.reading import load_labels, load_volume
from bids_unires.errors import BadDataError, MissingInputError
from bids_unires.space.rigid import rigid_matrix

AFFINE = rigid_matrix((3, -4, 5, 0.1, -0.2, 0.05)) @ np.diag([-1.0, 1.2, 4.0, 1.0])
VALUES = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)


def written(path: Path, kind: type, values: np.ndarray = VALUES) -> Path:
    image = kind(values, AFFINE)
    image.to_filename(path)
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("scan.img", nib.Nifti1Pair),
        ("scan.hdr", nib.Nifti1Pair),
        ("scan.img.gz", nib.Nifti1Pair),
        ("scan.hdr.gz", nib.Nifti1Pair),
        ("scan.mgz", nib.MGHImage),
        ("scan.mgh", nib.MGHImage),
    ],
)
def test_voxels_and_place_are_those_of_the_same_nifti_file(
    name: str, kind: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = load_volume(written(tmp_path / "wanted.nii", nib.Nifti1Image))
    path = written(tmp_path / name, kind)
    read = load_volume(path)
    np.testing.assert_array_equal(read.data, wanted.data)
    np.testing.assert_allclose(read.affine, wanted.affine, atol=1e-4)
    assert read.path == path
    np.testing.assert_array_equal(load_labels(path).data, VALUES)
    assert not caplog.records


def test_the_scaling_of_a_pair_is_applied_once(tmp_path: Path) -> None:
    image = nib.Nifti1Pair(VALUES, AFFINE)
    image.header.set_slope_inter(0.5, 10)
    image.to_filename(tmp_path / "scan.img")
    wanted = nib.load(tmp_path / "scan.img").get_fdata()
    np.testing.assert_allclose(load_volume(tmp_path / "scan.hdr").data, wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint32, np.int64, np.float64])
def test_every_type_of_voxels_keeps_its_values(kind: type, tmp_path: Path) -> None:
    values = (VALUES % 100).astype(kind)
    path = tmp_path / "scan.img"
    nib.Nifti1Pair(values, AFFINE, dtype=kind).to_filename(path)
    np.testing.assert_array_equal(load_volume(path).data, values.astype(np.float32))


def test_analyze_says_that_left_is_not_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nib.AnalyzeImage(VALUES, None).to_filename(tmp_path / "scan.img")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(load_volume(tmp_path / "scan.img").data, VALUES)
    assert "does not say which side is left" in caplog.text


def test_a_pair_needs_both_files(tmp_path: Path) -> None:
    path = written(tmp_path / "scan.img", nib.Nifti1Pair)
    (tmp_path / "scan.hdr").unlink()
    with pytest.raises(MissingInputError, match=r"scan\.hdr does not exist"):
        load_volume(path)


@pytest.mark.parametrize("name", ["scan.img", "scan.mgz"])
def test_damaged_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    kind = nib.MGHImage if name.endswith("mgz") else nib.Nifti1Pair
    path = written(tmp_path / name, kind)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadDataError, match=name):
        load_volume(path)


def test_a_series_of_volumes_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "scan.mgz", nib.MGHImage, np.stack([VALUES, VALUES], -1))
    with pytest.raises(BadDataError, match="4-D"):
        load_volume(path)
