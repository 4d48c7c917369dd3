from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bids_unires.dataset.reading import load_labels, load_volume
from bids_unires.errors import BadDataError, MissingInputError, UniResError

AFFINE = np.array(
    [[0.0, -1.5, 0.0, 10.0], [2.0, 0.0, 0.0, -20.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]]
)


def ramp(shape: tuple[int, ...] = (4, 5, 6)) -> NDArray[np.float32]:
    return np.arange(1, np.prod(shape) + 1, dtype=np.float32).reshape(shape)


def save(path: Path, data: NDArray[Any], affine: NDArray[np.float64] = AFFINE) -> Path:
    nib.Nifti1Image(data, affine, dtype=data.dtype).to_filename(path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f8", "u1"])
def test_every_encoding_gives_the_same_volume(
    tmp_path: Path, name: str, kind: type[nib.Nifti1Image], dtype: str
) -> None:
    header = kind.header_class(endianness=dtype[0] if dtype[0] in "<>" else "<")
    header.set_data_dtype(dtype)
    kind(ramp().astype(dtype), AFFINE, header).to_filename(tmp_path / name)
    volume = load_volume(tmp_path / name)
    assert volume.data.dtype == np.float32
    assert volume.affine.dtype == np.float64
    np.testing.assert_array_equal(volume.data, ramp())
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    assert volume.path == tmp_path / name


@settings(max_examples=20, deadline=None)
@given(slope=st.floats(0.01, 100) | st.floats(-100, -0.01), intercept=st.floats(-100, 100))
def test_slope_and_intercept_are_applied(
    tmp_path_factory: pytest.TempPathFactory, slope: float, intercept: float
) -> None:
    path = tmp_path_factory.mktemp("slope") / "a.nii"
    image = nib.Nifti1Image(ramp().astype(np.int16), AFFINE)
    image.header.set_slope_inter(slope, intercept)
    image.to_filename(path)
    # nibabel would rescale when saving: put the numbers into the header on disk.
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<2f", slope, intercept)
    content[352:] = ramp().astype("<i2").tobytes(order="F")
    path.write_bytes(content)
    np.testing.assert_allclose(
        load_volume(path).data, ramp() * slope + intercept, rtol=1e-4, atol=1e-3
    )


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", ramp((4, 5, 6, 1, 1)))
    np.testing.assert_array_equal(load_volume(path).data, ramp())


def test_data_can_be_changed(tmp_path: Path) -> None:
    volume = load_volume(save(tmp_path / "a.nii", ramp()))
    volume.data[0, 0, 0] = 7
    assert volume.data[0, 0, 0] == 7


def test_non_finite_voxels_become_nan_and_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ramp()
    data[0, 0, :3] = [np.nan, np.inf, -np.inf]
    volume = load_volume(save(tmp_path / "a.nii.gz", data))
    assert np.isnan(volume.data[0, 0, :3]).all()
    assert np.isfinite(volume.data).sum() == data.size - 3
    assert "3 voxels" in caplog.text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (np.zeros((4, 4, 4), np.float32), "only zeros"),
        (np.full((4, 4, 4), 3, np.int16), "one value only"),
        (np.full((4, 4, 4), np.nan, np.float32), "no finite voxel"),
        (ramp((4, 4, 4, 3)), "4-D"),
        (ramp((4, 4)), "2-D"),
        (ramp((4, 4, 1)), "single slice"),
        (ramp().astype(np.complex64), "complex"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "RGB"),
    ],
)
def test_what_is_no_scan_is_refused(tmp_path: Path, data: NDArray[Any], says: str) -> None:
    path = save(tmp_path / "a.nii.gz", data)
    with pytest.raises(BadDataError, match=says) as caught:
        load_volume(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_no_truncated_file_is_read(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, ramp((8, 9, 10)))
    whole = path.read_bytes()
    for length in (0, 1, 5, 100, 347, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:length])
        with pytest.raises(BadDataError, match=str(path)):
            load_volume(path)


@settings(max_examples=100, deadline=None)
@given(damage=st.binary(min_size=1, max_size=40), start=st.integers(0, 340))
def test_damaged_headers_give_a_volume_or_a_readable_error(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, start: int
) -> None:
    path = save(tmp_path_factory.mktemp("damage") / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[start : start + len(damage)] = damage
    path.write_bytes(content)
    try:
        volume = load_volume(path)
    except UniResError as error:
        outcome = str(error)
    else:
        outcome = f"{volume.path} {volume.grid.shape}"
        assert np.isfinite(volume.affine).all()
    assert str(path) in outcome


def test_something_else_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_text("<html>Not found</html>" * 50)
    with pytest.raises(BadDataError, match="not a NIfTI"):
        load_volume(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e-38, 1e30])
def test_unusable_affines_are_refused(tmp_path: Path, value: float) -> None:
    path = save(tmp_path / "a.nii", ramp())
    content = bytearray(path.read_bytes())
    content[280:296] = struct.pack("<4f", value, value, value, 0)  # srow_x
    path.write_bytes(content)
    with pytest.raises(BadDataError, match="sform: repair its header"):
        load_volume(path)


def test_images_far_from_everything_are_refused(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[1, 3] = 1e20
    with pytest.raises(BadDataError, match="repair its header"):
        load_volume(save(tmp_path / "a.nii", ramp(), affine))


@pytest.mark.parametrize(("offset", "warns"), [(0.01, False), (4.0, True)])
def test_sform_is_used_and_a_disagreement_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, offset: float, warns: bool
) -> None:
    image = nib.Nifti1Image(ramp(), AFFINE)
    other = AFFINE.copy()
    other[0, 3] += offset
    image.set_sform(AFFINE, 1)
    image.set_qform(other, 1)
    image.to_filename(tmp_path / "a.nii.gz")
    with caplog.at_level(logging.WARNING, "bids_unires"):
        volume = load_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    assert ("disagree by up to 4 mm" in caplog.text) is warns


def test_qform_alone_is_used(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp(), AFFINE)
    image.set_qform(AFFINE, 1)
    image.set_sform(None, 0)
    image.to_filename(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(load_volume(tmp_path / "a.nii.gz").affine, AFFINE, atol=1e-5)


def test_missing_orientation_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = nib.Nifti1Image(ramp(), None)
    image.to_filename(tmp_path / "a.nii.gz")
    load_volume(tmp_path / "a.nii.gz")
    assert "no orientation" in caplog.text
    assert "left and right cannot be known" in caplog.text


@pytest.mark.parametrize(
    ("code", "per_mm"), [(1, 1e-3), (2, 1.0), (3, 1e3), (0, 1.0), (7, 1.0), (3 + 8, 1e3), (3, 1.0)]
)
@pytest.mark.parametrize("forms", ["sform", "qform", "neither"])
def test_affines_are_in_mm_whatever_the_unit_of_the_header(
    tmp_path: Path, code: int, per_mm: float, forms: str
) -> None:
    upright = np.diag([-1.5, 2.0, 3.0, 1.0])
    upright[:3, 3] = -0.5 * np.diag(upright)[:3] * [3, 4, 5]
    image = nib.Nifti1Image(ramp(), np.diag([per_mm] * 3 + [1.0]) @ upright)
    image.set_qform(image.affine if forms == "qform" else None, int(forms == "qform"))
    if forms != "sform":
        image.set_sform(None, 0)
    image.header["xyzt_units"] = code
    image.to_filename(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(load_volume(tmp_path / "a.nii.gz").affine, upright, atol=1e-5)


@pytest.mark.parametrize(("lean", "warns"), [(0.0, False), (1e-4, False), (0.4, True)])
def test_tilted_slices_are_read_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lean: float, warns: bool
) -> None:
    tilted = AFFINE.copy()
    tilted[1, 2] = 3 * lean
    image = nib.Nifti1Image(ramp(), None)
    image.set_sform(tilted, 1)
    image.to_filename(tmp_path / "a.nii.gz")
    volume = load_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.affine, tilted, atol=1e-6)
    assert ("21.8 degrees away from right angles" in caplog.text) is warns


LABELS = np.array([0, 1, 2, 14175, 16_777_217, 2**31 - 1]).repeat(20).reshape(4, 5, 6)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<u4", "<i8", ">f8"])
def test_labels_are_kept_to_the_last_digit(tmp_path: Path, name: str, dtype: str) -> None:
    header = nib.Nifti1Header(endianness=dtype[0])
    header.set_data_dtype(dtype)
    nib.Nifti1Image(LABELS.astype(dtype), AFFINE, header).to_filename(tmp_path / name)
    labels = load_labels(tmp_path / name)
    assert labels.data.dtype == np.int32
    np.testing.assert_array_equal(labels.data, LABELS)
    np.testing.assert_allclose(labels.grid.affine, AFFINE, atol=1e-6)
    assert labels.path == tmp_path / name


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, bool])
def test_labels_in_small_types(tmp_path: Path, dtype: type) -> None:
    data = np.arange(8).reshape(2, 2, 2) % 2
    path = save(tmp_path / "a.nii", data.astype(np.uint8 if dtype is bool else dtype))
    np.testing.assert_array_equal(load_labels(path).data, data)


def test_labels_with_rounding_noise_are_integers(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-9e-4, 9e-4, LABELS.shape)
    path = save(tmp_path / "a.nii", (LABELS % 20_000) + noise)
    np.testing.assert_array_equal(load_labels(path).data, LABELS % 20_000)


def test_scaled_labels_are_unscaled(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ramp().astype(np.int16))
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<2f", 2.0, 5.0)
    path.write_bytes(content)
    np.testing.assert_array_equal(load_labels(path).data, 2 * ramp() + 5)


def test_no_label_is_a_segmentation_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8))
    assert not load_labels(path).data.any()


def test_labels_that_are_not_finite_are_background(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = ramp()
    data[0, 0, :2] = [np.nan, np.inf]
    labels = load_labels(save(tmp_path / "a.nii", data))
    assert labels.data.ravel()[:4].tolist() == [0, 0, 3, 4]
    assert "2 voxels" in caplog.text


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0.5, np.float32),
        (1.002, np.float64),
        (-1, np.int16),
        (-1, np.float32),
        (2**31, np.uint32),
        (2**40, np.int64),
        (2**63, np.uint64),
        (1e30, np.float64),
    ],
)
def test_what_is_no_label_is_refused(tmp_path: Path, value: float, dtype: type) -> None:
    data = np.ones((3, 3, 3), dtype)
    data[1, 2, 0] = value
    path = save(tmp_path / "sub-01_dseg.nii.gz", data)
    with pytest.raises(BadDataError, match="which is no label") as caught:
        load_labels(path)
    assert str(path) in str(caught.value)


def test_probabilities_of_several_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="4-D"):
        load_labels(save(tmp_path / "a.nii", np.ones((4, 4, 4, 3), np.uint8)))


def test_absent_content_says_how_to_get_it(tmp_path: Path) -> None:
    locked = tmp_path / "locked.nii.gz"
    locked.symlink_to("../../.git/annex/objects/Zx/1k/MD5E-s41.nii.gz/MD5E-s41.nii.gz")
    unlocked = tmp_path / "unlocked.nii.gz"
    unlocked.write_text("/annex/objects/MD5E-s41--5fd.nii.gz\n")
    for path in (locked, unlocked):
        with pytest.raises(MissingInputError, match=f"datalad -C {tmp_path} get {path.name}"):
            load_volume(path)


def test_absent_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "link.nii").symlink_to("nowhere.nii")
    for name in ("link.nii", "absent.nii"):
        with pytest.raises(MissingInputError, match=name):
            load_volume(tmp_path / name)
