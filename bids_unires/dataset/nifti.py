"""Read a NIfTI file: its header, and its voxels as stored."""

from __future__ import annotations

import io
import logging
import math
import os
import shlex
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError

from ..errors import BadDataError, InputOutputError, MissingInputError
from .content import POINTER_PREFIXES, is_kept_by_git
from .other_formats import is_other_format, nifti_content

logger = logging.getLogger("bids_unires")

GZIP_MAGIC = b"\x1f\x8b"
# A compressed file with more bytes than this after its image is damaged, or was made to fill the
# memory of the reader.
MAX_EXCESS_BYTES = 2**26
# Size of the NIfTI-2 header, which is longer than that of NIfTI-1.
_HEADER_BYTES = 540
# Four bytes follow the header; the first says whether there are extensions. An extension begins
# with eight bytes: its size, which includes them, and its code.
_FLAG_BYTES = 4
_EXTENSION_HEAD_BYTES = 8

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    # The type stubs of the library declare it as an instance, not a class.
    cast("type[Exception]", isal_zlib.error),
    ImageFileError,
    HeaderDataError,
)


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """An image whose voxels are still encoded.

    Parameters
    ----------
    header
        The header as stored. Fields that do not affect how voxels are read are not checked.
    voxels
        The stored values with their slope and intercept.
    """

    header: nib.Nifti1Header
    voxels: ArrayProxy


def read_nifti(path: Path, limit: int) -> NiftiFile:
    """Read a whole NIfTI file, and refuse a file that is not valid.

    Extensions of the header are not used. A damaged extension is logged as a warning.

    Parameters
    ----------
    path
        NIfTI-1 or NIfTI-2 file, compressed or not, or an image in one of `other_formats`, which
        the extension of its name tells. Other extensions do not matter.
    limit
        Memory in bytes that reading the file may need.

    Raises
    ------
    MissingInputError
        If the file does not exist, or its content has not been fetched by git-annex.
    InputOutputError
        If the system cannot read the file.
    BadDataError
        If the file is damaged, not NIfTI or too large.
    """
    content = _read_bytes(path, limit)
    # nibabel prints messages about headers that do not name the file.
    with LoggingOutputSuppressor():
        whole, layout = _decompressed(content, path, limit)
    if fault := _extension_fault(whole, layout):
        logger.warning(
            "%s: an extension of its header is damaged (%s); it is skipped, and the voxels are "
            "read from where the header says",
            path,
            fault,
        )
    if not np.isfinite(layout.header["scl_inter"]) and layout.checked.get_slope_inter()[0]:
        logger.warning(
            "%s: its header scales intensities, but the intercept is no number; it is taken for 0",
            path,
        )
    return NiftiFile(layout.header, ArrayProxy(io.BytesIO(whole), layout.checked))


def one_line(error: BaseException) -> str:
    """Message of an error, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _read_bytes(path: Path, limit: int) -> bytes:
    """Content of a file as stored, which may be compressed."""
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)
        if is_kept_by_git(target):
            raise _content_elsewhere(path)
        raise MissingInputError(f"{path} is a link to {target}, which does not exist")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadDataError(f"{path} is no regular file: leave it out")
        _check_size(status.st_size, limit, path)
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputOutputError(f"{path} cannot be read: {error.strerror or error}") from error
    if content.startswith(POINTER_PREFIXES):
        raise _content_elsewhere(path)
    if not content:
        raise BadDataError(f"{path} is empty (0 bytes): copy or convert it again")
    return nifti_content(path) if is_other_format(path) else content


def _content_elsewhere(path: Path) -> MissingInputError:
    # The command works from any folder: DataLad looks for the dataset from the folder of -C.
    fetch = f"datalad -C {shlex.quote(str(path.parent))} get {shlex.quote(path.name)}"
    return MissingInputError(f"{path} has no content here: fetch it with: {fetch}")


def _check_size(needed: int, limit: int, path: Path) -> None:
    if needed > limit:
        raise BadDataError(
            f"{path} needs {needed / 2**30:.3g} GiB of memory to be read, of which there are "
            f"{limit / 2**30:.3g} GiB: leave it out, or give more memory"
        )


@dataclass(frozen=True, eq=False)
class _Layout:
    """The header of a file, and the place of the voxels in the file.

    Parameters
    ----------
    header, checked
        The header as stored, and a copy in which the fields that decide how voxels are read
        are repaired.
    offset
        Number of bytes before the voxels.
    size
        Number of bytes of the uncompressed file up to the end of its voxels.
    """

    header: nib.Nifti1Header
    checked: nib.Nifti1Header
    offset: int
    size: int


def _decompressed(content: bytes, path: Path, limit: int) -> tuple[bytes, _Layout]:
    """Uncompressed content of a file, and its layout."""
    is_compressed = content.startswith(GZIP_MAGIC)
    stream = igzip.IGzipFile(fileobj=io.BytesIO(content)) if is_compressed else io.BytesIO(content)
    try:
        start = stream.read(_HEADER_BYTES)
        layout = _layout(start, path, limit)
        whole = start + stream.read(max(layout.size - len(start), 0)) if is_compressed else content
        # Reading to the end also checks the checksum, which shows whether the file is damaged.
        if is_compressed and len(stream.read(MAX_EXCESS_BYTES)) == MAX_EXCESS_BYTES:
            raise BadDataError(
                f"{path} decompresses to more than its header promises ({layout.size} bytes): "
                "convert it again"
            )
    except BadDataError:
        raise
    except UNREADABLE as error:
        raise BadDataError(
            f"{path} is truncated or damaged ({one_line(error)}): copy or convert it again"
        ) from error
    if len(whole) < layout.size:
        raise BadDataError(
            f"{path} is truncated: {len(whole)} bytes where its header promises {layout.size}: "
            "copy or convert it again"
        )
    return whole, layout


def _layout(start: bytes, path: Path, limit: int) -> _Layout:
    """Read the header from the first bytes of a file."""
    kind = _kind(start, path)
    try:
        header = kind(start[: kind.sizeof_hdr], check=False)
        checked = header.copy()
        # Some programs write 0 and mean that the voxels follow the header directly.
        if checked["vox_offset"] == 0:
            checked["vox_offset"] = kind.single_vox_offset
        if not np.isfinite(checked["scl_inter"]):
            checked["scl_inter"] = 0
        checked.check_fix()
        shape = [int(side) for side in checked.get_data_shape()]
        voxels = math.prod(shape)
        offset = int(checked.get_data_offset())
        size = offset + checked.get_data_dtype().itemsize * voxels
    except UNREADABLE as error:
        raise BadDataError(f"{path} has a damaged NIfTI header ({one_line(error)})") from error
    if min(shape, default=0) < 1 or size < kind.sizeof_hdr:
        raise BadDataError(
            f"{path} has a damaged NIfTI header (shape {'x'.join(map(str, shape))}, "
            f"{size} bytes in all)"
        )
    # Memory for the voxels as stored and for a float32 copy.
    _check_size(size + np.dtype(np.float32).itemsize * voxels, limit, path)
    return _Layout(header, checked, offset, size)


def _kind(start: bytes, path: Path) -> type[nib.Nifti1Header]:
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(start[: kind.sizeof_hdr]):
            return kind
    raise BadDataError(f"{path} is not a NIfTI file: convert it, for example with dcm2niix")


def _extension_fault(whole: bytes, layout: _Layout) -> str | None:
    """The fault of the extensions between header and voxels, in words; None if they are valid."""
    position = layout.header.sizeof_hdr
    if position + _FLAG_BYTES > layout.offset or whole[position] == 0:
        return None
    position += _FLAG_BYTES
    integer = np.dtype(f"{layout.header.endianness}i4")
    # Some programs reserve space for extensions and fill it with zeros.
    while whole[position : layout.offset].strip(b"\0"):
        left = layout.offset - position
        if left < _EXTENSION_HEAD_BYTES:
            return f"{left} bytes after the last one"
        size = int(np.frombuffer(whole, integer, 1, position)[0])
        if not _EXTENSION_HEAD_BYTES <= size <= left:
            return f"its size is {size} bytes where {left} are left before the voxels"
        position += size
    return None
