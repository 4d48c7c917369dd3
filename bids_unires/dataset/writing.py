"""Write files so that none is ever incomplete under its final name.

A file is written under a hidden temporary name in the same folder, and renamed when it is complete
and on disk. The process that writes it holds a lock on it, which distinguishes it from a file that
a killed process left.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import ArrayLike, NDArray

from ..errors import InputOutputError, OutputError, UniResError
from ..space.affines import shear_angle
from .encoding import decode

# The leading dot hides temporary files from pybids and the validator; the suffix hides them from
# patterns such as *.nii.gz.
TEMPORARY_PREFIX = ".unires-"
TEMPORARY_SUFFIX = ".part"
# On a file system without locks, a temporary file of at least this age (s) counts as abandoned.
ABANDONED_SECONDS = 24 * 3600.0
# Of the levels 0 to 3 of ISA-L, this is the fastest that still compresses well.
GZIP_LEVEL = 2
UNKNOWN_SPACE, SCANNER_ANATOMICAL = 0, 1
# Rounding in a header makes the axes deviate from right angles by less than this.
LARGEST_SHEAR_DEGREES = 0.05


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to ``path`` if the block succeeds.

    The parent folder is created if necessary. If the block raises, no file remains.

    Raises
    ------
    OutputError
        If the folder or the file cannot be created.
    InputOutputError
        If writing fails, for example because the disk is full.
    """
    path = Path(path)
    temporary, lock = _create_temporary(path)
    try:
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)
        # Some network file systems cannot sync a folder. The file itself has been synced.
        with suppress(OSError):
            _flush_to_disk(path.parent)
    except UniResError:
        raise
    except OSError as error:
        if error.filename is None or Path(error.filename) in (temporary, path):
            raise InputOutputError(
                f"{path} could not be written: {error.strerror or error}"
            ) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(lock)


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically; see `atomic_path` for the errors."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8")
    return path


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a JSON object atomically; arrays become lists, NaN and infinity become null."""
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def write_once(path: Path, text: str) -> bool:
    """Write text unless the file exists, also if several processes try at the same time.

    Returns
    -------
    bool
        Whether this call created the file.

    Raises
    ------
    OutputError
        If the folder or a file in it cannot be created.
    InputOutputError
        If the text cannot be written.
    """
    if path.exists():
        return False
    temporary, lock = _create_temporary(path)
    try:
        temporary.write_text(text, "utf-8")
        _flush_to_disk(temporary)
        try:
            # Unlike a rename, a link never replaces a file that another process wrote first.
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # For file systems without hard links. Replacing is harmless, because all processes
            # write the same text.
            os.replace(temporary, path)
        return True
    except OSError as error:
        raise InputOutputError(f"{path} could not be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(lock)


def write_image(path: Path, data: ArrayLike, affine: ArrayLike) -> Path:
    """Write intensities as float32 NIfTI-1, atomically.

    sform and qform are the same, in scanner coordinates; a sheared grid has no qform. The slope is
    1. The same data always give the same bytes.

    Parameters
    ----------
    path
        The file; its name ends in ``.nii`` or ``.nii.gz``.
    data
        Intensities, ``(X, Y, Z)``.
    affine
        ``(4, 4)``, voxel index to world mm, without shear.
    """
    return _write_nifti(path, np.asarray(data, dtype=np.float32), affine)


def write_scaled_integers(path: Path, data: ArrayLike, affine: ArrayLike) -> Path:
    """Write intensities as int16 with a slope in the header; otherwise like `write_image`.

    The intercept is 0, so that 0 stays exactly 0. Other values change by half a step at most; a
    step is the largest absolute intensity divided by 32767.

    Parameters
    ----------
    path, data, affine
        As for `write_image`; NaN becomes 0.
    """
    values = np.nan_to_num(np.asarray(data, dtype=np.float64))
    largest = float(np.abs(values).max(initial=0.0))
    # The slope of a NIfTI header has 32 bits; the values are divided by what will be stored.
    step = float(np.float32(largest / np.iinfo(np.int16).max)) or 1.0
    limit = np.iinfo(np.int16).max
    integers = np.clip(np.rint(values / step), -limit, limit).astype(np.int16)
    return _write_nifti(path, integers, affine, step)


def write_mask(path: Path, mask: ArrayLike, affine: ArrayLike) -> Path:
    """Write a mask ``(X, Y, Z)`` as 0 and 1 in uint8; otherwise like `write_image`."""
    return _write_nifti(path, (np.asarray(mask) != 0).astype(np.uint8), affine)


def write_labels(path: Path, labels: ArrayLike, affine: ArrayLike) -> Path:
    """Write integer labels ``(X, Y, Z)`` in the smallest type; otherwise like `write_image`.

    Raises
    ------
    ValueError
        If a label is not an integer of at most 32 bits.
    """
    array = np.asarray(labels)
    if not np.array_equal(array, np.round(array)):
        raise ValueError("labels are integers, got some that are not")
    least, most = int(array.min(initial=0)), int(array.max(initial=0))
    for kind in (np.uint8, np.int16, np.int32):
        if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
            return _write_nifti(path, array.astype(kind), affine)
    raise ValueError(f"labels have at most 32 bits, got {least} to {most}")


def copy_file(source: Path, path: Path) -> Path:
    """Copy a file byte by byte, atomically; see `atomic_path` for the errors."""
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
    return path


def link_file(source: Path, path: Path) -> Path:
    """Make ``path`` a relative symbolic link to ``source``, in place of what is there.

    Raises
    ------
    OutputError
        If the folder or the link cannot be created.
    """
    temporary, lock = _create_temporary(path)
    try:
        temporary.unlink()
        temporary.symlink_to(os.path.relpath(source.resolve(), path.parent.resolve()))
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be created: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(lock)
    return path


def copy_text(source: Path, path: Path) -> Path:
    """Copy a text file, such as a table of labels, as UTF-8, atomically; see `atomic_path`."""
    content = decode(source.read_bytes()).content.encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def remove_leftovers(folder: Path) -> int:
    """Delete the incomplete files of killed runs in one folder; return their number.

    Files that a running process is writing are kept.
    """
    removed = 0
    for path in sorted(folder.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}")):
        # Another process may complete or remove the same file at the same time.
        with suppress(OSError):
            if _is_abandoned(path):
                path.unlink()
                removed += 1
    return removed


def _create_temporary(path: Path) -> tuple[Path, int]:
    """Create an empty file beside ``path``; also return the descriptor that holds its lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            token = secrets.token_hex(4)
            temporary = path.with_name(f"{TEMPORARY_PREFIX}{token}-{path.name}{TEMPORARY_SUFFIX}")
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Before the lock was set, another process may have removed the file as abandoned.
            if temporary.exists():
                return temporary, descriptor
            os.close(descriptor)
    except OSError as error:
        raise OutputError(f"{path} cannot be created: {error.strerror or error}") from error


def _is_abandoned(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return time.time() - os.fstat(descriptor).st_mtime > ABANDONED_SECONDS
    finally:
        os.close(descriptor)
    return True


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_nifti(
    path: Path, data: NDArray[Any], affine: ArrayLike, slope: float | None = None
) -> Path:
    if data.ndim != 3:
        raise ValueError(f"an image has three axes, got shape {data.shape}")
    matrix = np.asarray(affine, dtype=np.float64)
    image = nib.Nifti1Image(data, matrix)
    image.set_sform(matrix, code=SCANNER_ANATOMICAL)
    # A qform cannot describe shear. With a tilted gantry it would contradict the sform.
    sheared = shear_angle(matrix) > LARGEST_SHEAR_DEGREES
    image.set_qform(matrix, code=UNKNOWN_SPACE if sheared else SCANNER_ANATOMICAL)
    image.header.set_xyzt_units("mm")
    if slope is not None:
        image.header.set_slope_inter(slope, 0.0)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.name.endswith(".gz"):
            # Without a file name and a time in the gzip header, the same data give the same bytes.
            with igzip.IGzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as compressed:
                image.to_stream(compressed)
        else:
            image.to_stream(file)
    return path


def _plain(value: Any) -> Any:
    """A value in the types of JSON."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
