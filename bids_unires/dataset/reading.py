"""Read a scan or a segmentation, and refuse a file that is not usable."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.imageglobals import LoggingOutputSuppressor
from numpy.typing import NDArray

from ..errors import BadDataError
from ..space.affines import Affine
from ..space.grid import Grid, Shape
from ..space.volume import LabelVolume, Volume
from .nifti import UNREADABLE, NiftiFile, one_line, read_nifti
from .orientation import affine_of

logger = logging.getLogger("bids_unires")

# Limits of the largest intensity of a scan. Within them, sums of squares and divisions by squares
# stay within the range of float32.
MIN_INTENSITY = 1e-15
MAX_INTENSITY = 1e15
# Labels stored as floats or with a scale may differ from integers by at most this.
LABEL_TOLERANCE = 1e-3


def load_volume(path: Path | str, memory_limit: int | None = None) -> Volume:
    """Read one 3-D scan, and refuse an image that is not usable.

    The file is read once. Voxels that are not finite become NaN, which means *missing*; their
    number is logged as a warning.

    Parameters
    ----------
    path
        NIfTI-1 or NIfTI-2 file, compressed or not.
    memory_limit
        Memory in bytes that reading the file may need; by default, that of the machine.

    Returns
    -------
    Volume
        Scaled intensities (slope and intercept applied) as float32, ``(X, Y, Z)``.

    Raises
    ------
    MissingInputError
        If the file does not exist, or its content has not been fetched by git-annex.
    BadDataError
        If the file is damaged, not a single real-valued 3-D image, too large, without a usable
        affine, or constant.
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
        NIfTI-1 or NIfTI-2 file, compressed or not. Its values are integers, possibly stored as
        floats.
    memory_limit
        Memory in bytes that reading the file may need; by default, that of the machine.

    Returns
    -------
    LabelVolume
        Labels as int32, ``(X, Y, Z)``, without loss of precision.

    Raises
    ------
    MissingInputError
        If the file does not exist, or its content has not been fetched by git-annex.
    BadDataError
        If the file is damaged, not a single real-valued 3-D image, too large, without a usable
        affine, or holds values that are no labels: fractions, negative values, or values beyond
        the range of int32.
    """
    path = Path(path)
    image, affine = _load(path, memory_limit)
    return LabelVolume(_checked_labels(_stored_values(image, path), path), affine, path)


def grid_of(path: Path) -> Grid | None:
    """Grid of a 3-D image, from its header alone; None if the header cannot be read."""
    try:
        with LoggingOutputSuppressor():
            image = nib.Nifti1Image.from_filename(path)
        x, y, z = image.shape
        return Grid((x, y, z), image.affine)
    except UNREADABLE:
        return None


def _load(path: Path, memory_limit: int | None) -> tuple[NiftiFile, Affine]:
    """An image whose voxels are not decoded yet, and its affine."""
    image = read_nifti(path, _memory_of_machine() if memory_limit is None else memory_limit)
    return image, affine_of(image.header, _checked_shape(image.voxels, path), path)


def _memory_of_machine() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _checked_shape(voxels: ArrayProxy, path: Path) -> Shape:
    """Shape of an image that has to be a single real-valued volume."""
    dtype, shape = voxels.dtype, voxels.shape
    if dtype.kind == "c":
        raise BadDataError(f"{path} is a complex image: give its magnitude")
    if dtype.fields is not None or dtype.kind not in "iufb":
        raise BadDataError(f"{path} is a colour (RGB) image, not a scan: leave it out")
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
    return int(shape[0]), int(shape[1]), int(shape[2])


def _scaled_data(image: NiftiFile, path: Path) -> NDArray[np.float32]:
    try:
        # Values beyond the range of float32 become infinite and count as missing.
        with np.errstate(over="ignore", invalid="ignore"):
            data = np.asanyarray(image.voxels, dtype=np.float32)
    except UNREADABLE as error:
        raise BadDataError(f"{path} cannot be decoded ({one_line(error)})") from error
    # Copied, because the decoded array may be a read-only view of the bytes of the file.
    return np.array(data.reshape(image.voxels.shape[:3]), dtype=np.float32)


def _stored_values(image: NiftiFile, path: Path) -> NDArray[Any]:
    """Values in a type that holds them without loss: integers, unless the header scales them."""
    try:
        data = np.asanyarray(image.voxels)
    except UNREADABLE as error:
        raise BadDataError(f"{path} cannot be decoded ({one_line(error)})") from error
    return data.reshape(image.voxels.shape[:3])


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
