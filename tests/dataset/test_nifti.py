from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bids_unires.dataset.nifti import read_nifti
from bids_unires.dataset.reading import load_labels, load_volume
from bids_unires.errors import BadDataError

AFFINE = np.diag([-1.5, 2.0, 3.0, 1.0])
DATA = np.arange(1, 121, dtype=np.int16).reshape(4, 5, 6)
MEMORY = 2**26
# Of each kind: bytes of the header, and where and how it keeps the offset of the voxels.
KINDS = {nib.Nifti1Header: (348, 108, "f"), nib.Nifti2Header: (540, 168, "q")}
Kind = type[nib.Nifti1Header]


def content(kind: Kind, between: bytes, endian: str = "<", offset: float | None = None) -> bytes:
    """An image with these bytes between its header and its voxels."""
    header = kind(endianness=endian)
    header.set_data_dtype(np.dtype("i2").newbyteorder(endian))
    header.set_data_shape(DATA.shape)
    header.set_sform(AFFINE, 1)
    header["magic"] = kind.single_magic
    size, place, form = KINDS[kind]
    packed = struct.pack(endian + form, size + len(between) if offset is None else offset)
    block = header.binaryblock
    block = block[:place] + packed + block[place + len(packed) :]
    return block + between + DATA.astype(f"{endian}i2").tobytes(order="F")


def extension(length: int, code: int = 4, endian: str = "<", stated: int | None = None) -> bytes:
    size = length if stated is None else stated
    return struct.pack(f"{endian}2i", size, code) + b"<AFNI " + b"x" * (length - 14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("lengths", [(32,), (672,), (688,), (2048, 16), (96_000,), (16, 0)])
@pytest.mark.parametrize("packed", [False, True])
def test_extensions_of_any_length_are_passed_over(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: Kind,
    endian: str,
    lengths: tuple[int, ...],
    packed: bool,
) -> None:
    # The last length of 0 stands for room that was left.
    extensions = [extension(n, endian=endian) if n else bytes(48) for n in lengths]
    whole = content(kind, b"\1\0\0\0" + b"".join(extensions), endian)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(whole, 1) if packed else whole)
    np.testing.assert_array_equal(load_volume(path).data, DATA)
    np.testing.assert_array_equal(load_labels(path).data, DATA)
    np.testing.assert_allclose(load_volume(path).affine, AFFINE)
    assert not caplog.records


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("between", "says"),
    [
        (b"\1\0\0\0", None),
        (b"\1\0\0\0" + bytes(32), None),
        (b"\0\0\0\0" + b"any" * 20, None),
        (b"\1\0\0\0" + extension(30), None),
        (b"\1\0\0\0" + extension(32, stated=0), "size is 0 bytes where 32 are left"),
        (b"\1\0\0\0" + extension(32, stated=7), "size is 7 bytes"),
        (b"\1\0\0\0" + extension(32, stated=-(2**31)), "size is -2147483648 bytes"),
        (b"\1\0\0\0" + extension(32, stated=2**31 - 1), "size is 2147483647 bytes"),
        (b"\1\0\0\0" + extension(32) + extension(32, stated=48), "size is 48 bytes where 32"),
        (b"\1\0\0\0" + extension(32) + b"abc", "3 bytes after the last one"),
    ],
)
def test_a_damaged_extension_costs_a_warning(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    kind: Kind,
    between: bytes,
    says: str | None,
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(content(kind, between))
    np.testing.assert_array_equal(load_volume(path).data, DATA)
    told = [each.getMessage() for each in caplog.records if each.name == "bids_unires"]
    assert [str(path) in message and str(says) in message for message in told] == (
        [True] if says else []
    )


@settings(max_examples=60, deadline=None)
@given(between=st.binary(max_size=200), kind=st.sampled_from(list(KINDS)))
def test_whatever_lies_before_the_voxels_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, between: bytes, kind: Kind
) -> None:
    path = tmp_path_factory.mktemp("between") / "a.nii"
    path.write_bytes(content(kind, b"\1\0\0\0" + between))
    np.testing.assert_array_equal(np.asanyarray(read_nifti(path, MEMORY).voxels), DATA)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("endian", ["<", ">"])
def test_an_offset_of_zero_means_right_after_the_header(
    tmp_path: Path, kind: Kind, endian: str
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(content(kind, bytes(4), endian, offset=0))
    np.testing.assert_array_equal(load_volume(path).data, DATA)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("slope", [2.0, 0.0, np.nan])
@pytest.mark.parametrize("intercept", [np.nan, np.inf])
def test_an_intercept_that_is_no_number_is_taken_for_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: Kind, slope: float, intercept: float
) -> None:
    path = tmp_path / "a.nii"
    header = kind(content(kind, bytes(4))[: kind.sizeof_hdr], check=False)
    header["scl_slope"], header["scl_inter"] = slope, intercept
    path.write_bytes(header.binaryblock + content(kind, bytes(4))[kind.sizeof_hdr :])
    np.testing.assert_array_equal(load_volume(path).data, 2 * DATA if slope == 2 else DATA)
    assert ("the intercept is no number" in caplog.text) is (slope == 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [-16, 8, 340, 10**6, 2**30])
def test_an_offset_into_the_header_or_beyond_the_file_is_refused(
    tmp_path: Path, kind: Kind, offset: int
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(content(kind, bytes(4), offset=offset))
    with pytest.raises(BadDataError, match=r"truncated|damaged|memory") as caught:
        load_volume(path, MEMORY)
    assert str(path) in str(caught.value)


def test_the_header_of_a_pair_without_its_voxels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    header = content(nib.Nifti1Header, b"")[:348].replace(b"n+1\0", b"ni1\0")
    path.write_bytes(header)
    with pytest.raises(BadDataError, match="is truncated"):
        load_volume(path)
