"""Convert DICOM with dcm2niix (Li et al. 2016, https://doi.org/10.1016/j.jneumeth.2016.03.001)."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor

from ..dataset.metadata import SidecarError, load_object
from ..errors import InputOutputError, MissingInputError
from ..space.affines import Affine

logger = logging.getLogger("bids_unires")

CONVERTER = "dcm2niix"
# dcm2niix searches folders in folders down to this depth, which is the most it allows.
_DEPTH = "9"
# A disk with less room than this (bytes) counts as full.
_FULL = 2**20


@dataclass(frozen=True, eq=False)
class ConvertedImage:
    """An image that dcm2niix made of a series, or of one part (echo, orientation) of it.

    Parameters
    ----------
    uid
        Unique identifier of the series.
    path
        Uncompressed NIfTI file.
    metadata
        Its sidecar as dcm2niix wrote it, which may tell who the patient is.
    shape
        Number of voxels along each axis; volumes are the fourth.
    affine
        ``(4, 4)``, voxel index to world mm.
    has_b_values
        Whether it is diffusion-weighted.
    mended
        What dcm2niix resampled, in words; empty if nothing.
    """

    uid: str
    path: Path
    metadata: dict[str, Any]
    shape: tuple[int, ...]
    affine: Affine
    has_b_values: bool
    mended: str


def find_converter() -> str:
    """Path of dcm2niix: beside this Python, which need not be in PATH, or else in PATH.

    Raises
    ------
    MissingInputError
        If it is not installed.
    """
    beside = Path(sys.executable).parent / CONVERTER
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(CONVERTER)
    if found is None:
        raise MissingInputError(
            f"{CONVERTER} is not installed: pip install 'bids_unires[dicom]' brings it"
        )
    return found


def convert(folder: Path, scratch: Path) -> tuple[ConvertedImage, ...]:
    """Convert all DICOM in a folder.

    Parameters
    ----------
    folder
        Folder of DICOM files, which is only read.
    scratch
        Empty folder for the images.

    Returns
    -------
    tuple of ConvertedImage
        The images; series that dcm2niix cannot convert have none.

    Raises
    ------
    MissingInputError
        If dcm2niix is not installed.
    InputOutputError
        If it cannot be started, or the disk is full.
    """
    options = ["-b", "y", "-ba", "y", "-z", "n", "-c", "", "-w", "2", "-d", _DEPTH, "-f", "%j"]
    command = [find_converter(), *options, "-o", str(scratch), str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise InputOutputError(f"{CONVERTER} cannot be started: {error.strerror}") from error
    logger.debug("%s ended with %d:\n%s%s", CONVERTER, done.returncode, done.stdout, done.stderr)
    if done.returncode and shutil.disk_usage(scratch).free < _FULL:
        raise InputOutputError(f"{scratch} is full: name a folder with more room by --work-dir")
    images = (_converted(sidecar) for sidecar in sorted(scratch.glob("*.json")))
    return tuple(image for image in images if image is not None)


def _converted(sidecar: Path) -> ConvertedImage | None:
    """The image of a sidecar; None if it cannot be read."""
    path, mended = _best_image(sidecar)
    try:
        with LoggingOutputSuppressor():
            image: Any = nib.load(path)
        metadata = load_object(sidecar)
    except (OSError, SidecarError, ValueError, nib.filebasedimages.ImageFileError) as error:
        logger.debug("%s cannot be read: %s", path, error)
        return None
    identifier = re.match(r"[0-9.]+", sidecar.name)
    return ConvertedImage(
        uid=identifier.group().rstrip(".") if identifier else "",
        path=path,
        metadata=metadata,
        shape=tuple(int(n) for n in image.shape),
        affine=np.asarray(image.affine, dtype=np.float64),
        has_b_values=sidecar.with_suffix(".bval").exists(),
        mended=mended,
    )


def _best_image(sidecar: Path) -> tuple[Path, str]:
    """The image whose header is true: that which dcm2niix resampled, where it did.

    No affine can describe slices at uneven distances. dcm2niix then writes the slices as they are,
    and resampled ones (``_Eq``) beside them; and so with a tilted gantry (``_Tilt``).
    """
    stem = sidecar.name.removesuffix(".json")
    names = re.compile(rf"{re.escape(stem)}(_Tilt)?(_Eq)?(_\d+)?\.nii")
    found = [match for path in sidecar.parent.iterdir() if (match := names.fullmatch(path.name))]
    best = max(found, key=lambda match: len(match.group()), default=None)
    if best is None:
        return sidecar.with_suffix(".nii"), ""
    mended = [
        what
        for group, what in ((1, "the tilt of the gantry"), (2, "uneven distances of slices"))
        if best.group(group)
    ]
    return sidecar.with_name(best.group()), " and ".join(mended)
