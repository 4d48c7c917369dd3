"""Reading one scan or segmentation from disk, and refusing what cannot be one."""

from __future__ import annotations

import io
import logging
import math
import os
import shlex
import stat
import warnings
import zlib
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from ..errors import BadDataError, InputOutputError, MissingInputError
from ..space.affines import Affine, apply_affine, scaling, shear_angle, voxel_size
from ..space.grid import Grid, Shape, corners
from ..space.volume import LabelVolume, Volume
from .content import POINTER_PREFIXES, is_kept_by_git

logger = logging.getLogger("bids_unires")

GZIP_MAGIC = b"\x1f\x8b"
# sform and qform count as the same when no corner of the box moves further than this.
ORIENTATION_TOLERANCE_VOXELS = 0.1
# Volume of a voxel over the product of its sides: 1 for right angles, 0 for collapsed axes.
MIN_AXIS_INDEPENDENCE = 1e-3
# Beyond these a header is damaged, or in another unit than mm.
MIN_VOXEL_SIZE_MM = 0.01
MAX_VOXEL_SIZE_MM = 1000.0
MAX_DISTANCE_MM = 1e5
# What a header says of its unit is believed where its voxels are then no larger than this.
MAX_CONVERTED_SIZE_MM = 100.0
# NIfTI's codes of metres and micrometres; of whatever else it says, scanners mean mm.
_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
# Rounding of a header leaves the axes this close to right angles.
MAX_ROUNDING_SHEAR_DEGREES = 0.1
# A compressed file that goes on for longer than this after its image is damaged, or made to fill
# the memory of whoever reads it.
MAX_EXCESS_BYTES = 2**26
# Both kinds of NIfTI have shorter headers.
_HEADER_BYTES = 1024
# The largest intensity of a scan; squares of it, summed or divided by, stay within float32.
MIN_INTENSITY = 1e-15
MAX_INTENSITY = 1e15
# Labels that were stored as floats, or scaled, are integers within this.
LABEL_TOLERANCE = 1e-3

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    # Its stubs call it an instance.
    cast("type[Exception]", isal_zlib.error),
    ImageFileError,
    HeaderDataError,
)


def load_volume(path: Path | str, memory_limit: int | None = None) -> Volume:
    """Read one 3-D scan and refuse what cannot be one.

    The file is read once. Voxels that are not finite become NaN, which means
    *missing*; their number is logged as a warning.

    Parameters
    ----------
    path
        NIfTI-1 or NIfTI-2, compressed or not.
    memory_limit
        Bytes that reading it may take; those of the machine by default.

    Returns
    -------
    Volume
        Scaled intensities (slope and intercept applied) as float32, ``(X, Y, Z)``.

    Raises
    ------
    MissingInputError
        If there is no such file, or git-annex has not fetched its content.
    BadDataError
        If the file is damaged, not a single real-valued 3-D image, too large, has no usable
        affine, or holds nothing but one value.
    """
    path = Path(path)
    image, affine = _load(path, memory_limit)
    data = _scaled_data(image, path)
    return Volume(_checked_intensities(data, path), affine, path)


def load_labels(path: Path | str, memory_limit: int | None = None) -> LabelVolume:
    """Read one 3-D segmentation.

    Voxels that are not finite count as background; their number is logged as a warning.

    Parameters
    ----------
    path
        NIfTI-1 or NIfTI-2, compressed or not; integers, or floats that hold integers.
    memory_limit
        Bytes that reading it may take; those of the machine by default.

    Returns
    -------
    LabelVolume
        Labels as int32, ``(X, Y, Z)``, to the last digit.

    Raises
    ------
    MissingInputError
        If there is no such file, or git-annex has not fetched its content.
    BadDataError
        If the file is damaged, not a single real-valued 3-D image, too large, has no usable
        affine, or holds values that are no labels: fractions, negative ones, or ones
        beyond the range of int32.
    """
    path = Path(path)
    image, affine = _load(path, memory_limit)
    return LabelVolume(_checked_labels(_stored_values(image, path), path), affine, path)


def grid_of(path: Path) -> Grid | None:
    """Grid of a three-dimensional image by its header alone; None if that cannot be read."""
    try:
        with LoggingOutputSuppressor():
            image = nib.Nifti1Image.from_filename(path)
        x, y, z = image.shape
        return Grid((x, y, z), image.affine)
    except (OSError, ValueError, EOFError, zlib.error, ImageFileError, HeaderDataError):
        return None


def _load(path: Path, memory_limit: int | None) -> tuple[nib.Nifti1Pair, Affine]:
    """An image whose data are still encoded, and where its voxels lie."""
    limit = _memory_of_machine() if memory_limit is None else memory_limit
    # What nibabel says of a header on standard error names no file.
    with LoggingOutputSuppressor(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _parse(_read_bytes(path, limit), path, limit)
        _check_kind(image, path)
        return image, _checked_affine(image, path)


def _memory_of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _read_bytes(path: Path, limit: int) -> bytes:
    """Content of a file as it is on disk."""
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
    return content


def _content_elsewhere(path: Path) -> MissingInputError:
    # DataLad finds the dataset from the folder that it works in.
    fetch = f"datalad -C {shlex.quote(str(path.parent))} get {shlex.quote(path.name)}"
    return MissingInputError(f"{path} has no content here: fetch it with: {fetch}")


def _check_size(needed: int, limit: int, path: Path) -> None:
    if needed > limit:
        raise BadDataError(
            f"{path} needs {needed / 2**30:.3g} GiB of memory to be read, of which there are "
            f"{limit / 2**30:.3g} GiB: leave it out, or give more memory"
        )


def _parse(content: bytes, path: Path, limit: int) -> nib.Nifti1Pair:
    is_compressed = content.startswith(GZIP_MAGIC)
    stream = igzip.IGzipFile(fileobj=io.BytesIO(content)) if is_compressed else io.BytesIO(content)
    try:
        start = stream.read(_HEADER_BYTES)
        kind, wanted = _promised(start, path, limit)
        whole = start + stream.read(max(wanted - len(start), 0)) if is_compressed else content
        # The checksum, which tells a damaged file, is at the very end.
        if is_compressed and len(stream.read(MAX_EXCESS_BYTES)) == MAX_EXCESS_BYTES:
            raise BadDataError(
                f"{path} decompresses to more than its header promises ({wanted} bytes): "
                "convert it again"
            )
    except BadDataError:
        raise
    except _UNREADABLE as error:
        raise BadDataError(
            f"{path} is truncated or damaged ({_one_line(error)}): copy or convert it again"
        ) from error
    if len(whole) < wanted:
        raise BadDataError(
            f"{path} is truncated: {len(whole)} bytes where its header promises {wanted}: "
            "copy or convert it again"
        )
    try:
        return kind.from_bytes(whole)
    except _UNREADABLE as error:
        raise BadDataError(f"{path} has a damaged NIfTI header ({_one_line(error)})") from error


def _promised(start: bytes, path: Path, limit: int) -> tuple[type[nib.Nifti1Image], int]:
    """Kind of an image and its size in bytes, header included, by what its header says."""
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(start[: kind.header_class.sizeof_hdr]):
            break
    else:
        raise BadDataError(f"{path} is not a NIfTI file: convert it, for example with dcm2niix")
    try:
        header = kind.header_class.from_fileobj(io.BytesIO(start))
        shape = [int(side) for side in header.get_data_shape()]
        voxels = math.prod(shape)
        wanted = int(header.get_data_offset()) + header.get_data_dtype().itemsize * voxels
    except _UNREADABLE as error:
        raise BadDataError(f"{path} has a damaged NIfTI header ({_one_line(error)})") from error
    if min(shape, default=0) < 1 or wanted < len(start[: kind.header_class.sizeof_hdr]):
        raise BadDataError(
            f"{path} has a damaged NIfTI header (shape {'x'.join(map(str, shape))}, "
            f"{wanted} bytes in all)"
        )
    # As stored, and as numbers to compute with.
    _check_size(wanted + np.dtype(np.float32).itemsize * voxels, limit, path)
    return kind, wanted


def _check_kind(image: nib.Nifti1Pair, path: Path) -> None:
    dtype = image.get_data_dtype()
    if dtype.kind == "c":
        raise BadDataError(f"{path} is a complex image: give its magnitude")
    if dtype.fields is not None or dtype.kind not in "iufb":
        raise BadDataError(f"{path} is a colour (RGB) image, not a scan: leave it out")
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise BadDataError(
            f"{path} is {len(shape)}-D with shape {'x'.join(map(str, shape))}: "
            "give one 3-D volume (select or average the others)"
        )
    if min(shape[:3]) < 2:
        raise BadDataError(
            f"{path} is a single slice (shape {'x'.join(map(str, shape))}), not a volume: "
            "leave it out"
        )


def _checked_affine(image: nib.Nifti1Pair, path: Path) -> Affine:
    """Take the sform where there is one, else the qform."""
    try:
        sform, sform_code = image.get_sform(coded=True)
        qform, qform_code = image.get_qform(coded=True)
    except _UNREADABLE as error:
        raise BadDataError(f"{path} has an unreadable orientation ({_one_line(error)})") from error
    if not sform_code and not qform_code:
        logger.warning(
            "%s: the header gives no orientation (sform and qform are unset), so that left and "
            "right cannot be known; its axes are taken to run to the left, forward and upward",
            path,
        )
    affine = np.asarray(image.affine if sform is None else sform, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise BadDataError(f"{path} has NaN or infinity in its affine: repair its header")
    into_mm = _into_mm(int(image.header["xyzt_units"]), affine, path)
    affine = into_mm @ affine
    _check_extent(affine, path)
    shear = shear_angle(affine)
    if shear > MAX_ROUNDING_SHEAR_DEGREES:
        logger.warning(
            "%s: its axes are %.1f degrees away from right angles, as in CT with a tilted gantry; "
            "they are used as they are",
            path,
            shear,
        )
    if sform_code and qform_code and np.isfinite(qform).all():
        shape = (image.shape[0], image.shape[1], image.shape[2])
        _compare_orientations(affine, into_mm @ qform, shape, path)
    return affine


def _into_mm(units: int, affine: Affine, path: Path) -> Affine:
    """Scaling from the unit that a header states to mm, unless no head was scanned in that unit."""
    # Space has three bits, and time the others.
    unit, length = _UNITS.get(units % 8, ("mm", 1.0))
    if length == 1:
        return np.eye(4)
    with np.errstate(over="ignore"):
        sizes = length * voxel_size(affine)
    if sizes.min() >= MIN_VOXEL_SIZE_MM and sizes.max() <= MAX_CONVERTED_SIZE_MM:
        logger.info("%s: its header is in %s, which are converted to mm", path, unit)
        return scaling([length] * 3)
    logger.warning(
        "%s: its header claims to be in %s, in which no head has voxels of that size; mm are "
        "assumed",
        path,
        unit,
    )
    return np.eye(4)


def _check_extent(affine: Affine, path: Path) -> None:
    """Refuse voxels that are no head's, and axes that do not span a volume."""
    with np.errstate(over="ignore"):
        sizes = voxel_size(affine)
    if sizes.min() < MIN_VOXEL_SIZE_MM or sizes.max() > MAX_VOXEL_SIZE_MM:
        raise BadDataError(
            f"{path} has a singular or absurd affine, voxels of "
            f"{' x '.join(f'{size:.3g}' for size in sizes)} mm: repair its header"
        )
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < MIN_AXIS_INDEPENDENCE:
        raise BadDataError(f"{path} has a singular affine {affine.tolist()}: repair its header")
    distance = np.abs(affine[:3, 3]).max()
    if distance > MAX_DISTANCE_MM:
        raise BadDataError(
            f"{path} lies {distance:.3g} mm from the scanner's centre by its affine: "
            "repair its header"
        )


def _compare_orientations(sform: Affine, qform: Affine, shape: Shape, path: Path) -> None:
    points = corners(shape)
    apart = np.linalg.norm(apply_affine(sform, points) - apply_affine(qform, points), axis=1).max()
    if apart > ORIENTATION_TOLERANCE_VOXELS * voxel_size(sform).min():
        logger.warning(
            "%s: sform and qform disagree by up to %.3g mm; the sform is used", path, apart
        )


def _scaled_data(image: nib.Nifti1Pair, path: Path) -> NDArray[np.float32]:
    try:
        # What is beyond float32 becomes infinite, and counts as missing.
        with np.errstate(over="ignore", invalid="ignore"):
            data = image.get_fdata(dtype=np.float32, caching="unchanged")
    except _UNREADABLE as error:
        raise BadDataError(f"{path} cannot be decoded ({_one_line(error)})") from error
    # A copy of our own: the decoded array may be a read-only view of the file's bytes.
    return np.array(data.reshape(image.shape[:3]), dtype=np.float32)


def _stored_values(image: nib.Nifti1Pair, path: Path) -> NDArray[Any]:
    """Values in the type that holds them without loss: integers unless the header scales them."""
    try:
        data = np.asanyarray(image.dataobj)
    except _UNREADABLE as error:
        raise BadDataError(f"{path} cannot be decoded ({_one_line(error)})") from error
    return data.reshape(image.shape[:3])


def _checked_labels(data: NDArray[Any], path: Path) -> NDArray[np.int32]:
    if data.dtype.kind == "f":
        finite = np.isfinite(data)
        missing = data.size - int(np.count_nonzero(finite))
        if missing:
            logger.warning(
                "%s: %d voxels are NaN or infinite and count as background", path, missing
            )
        stored = np.where(finite, data, 0)
        data = np.rint(stored)
        fraction = np.abs(stored - data) > LABEL_TOLERANCE
        if fraction.any():
            raise BadDataError(
                f"{path} holds {stored[fraction][0]:g}, which is no label: a segmentation has "
                "integers only (probability maps and intensities cannot be used)"
            )
    low, high = int(data.min()), int(data.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        outside = low if low < 0 else high
        raise BadDataError(
            f"{path} holds {outside}, which is no label: labels are 0 to "
            f"{np.iinfo(np.int32).max}; renumber them"
        )
    return np.ascontiguousarray(data, dtype=np.int32)


def _checked_intensities(data: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    finite = np.isfinite(data)
    missing = data.size - int(np.count_nonzero(finite))
    if missing == data.size:
        raise BadDataError(f"{path} has no finite voxel: leave it out or convert it again")
    if missing:
        logger.warning("%s: %d voxels are NaN or infinite and count as missing", path, missing)
        data[~finite] = np.nan
    low, high = float(np.nanmin(data)), float(np.nanmax(data))
    if low == high:
        content = "only zeros" if low == 0 else f"one value only ({low:g})"
        raise BadDataError(f"{path} holds {content}: leave it out or convert it again")
    largest = max(abs(low), abs(high))
    if not MIN_INTENSITY <= largest <= MAX_INTENSITY:
        raise BadDataError(
            f"{path} holds intensities up to {largest:.3g}, which cannot be squared in single "
            "precision: rescale it"
        )
    return data


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
