"""Images in other formats than a single NIfTI file, turned into the content of such a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.openers import ImageOpener
from numpy.typing import NDArray

from ..errors import BadDataError, MissingInputError

logger = logging.getLogger("bids_unires")

_PAIR = {".img": ".hdr", ".hdr": ".img"}
_FREESURFER = (".mgz", ".mgh")
# Types of voxels that NIfTI has; others are stored as the next one in this list that holds them.
_STORED = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64)


def is_other_format(path: Path) -> bool:
    """Whether the name of an image is that of a pair (``.img``, ``.hdr``) or of FreeSurfer."""
    extension = _extension(path)
    return extension in _PAIR or extension in _FREESURFER


def nifti_content(path: Path) -> bytes:
    """Read an image with nibabel, and give the content of a NIfTI file with the same voxels.

    Parameters
    ----------
    path
        One of the files of a NIfTI or Analyze pair, or a file of FreeSurfer; compressed or not.

    Returns
    -------
    bytes
        An uncompressed NIfTI-1 file, with the affine as sform and, where it can be one, as qform.

    Raises
    ------
    MissingInputError
        If the file, or the other one of its pair, does not exist.
    BadDataError
        If nibabel cannot read it.
    """
    for needed in (path, *_other_of_pair(path)):
        if not needed.exists():
            raise MissingInputError(f"{needed} does not exist")
    try:
        with LoggingOutputSuppressor():
            image = _loaded(path)
            voxels = np.asanyarray(image.dataobj)
    # nibabel raises whatever a damaged header leads to.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadDataError(f"{path} cannot be read ({reason}): copy or convert it again") from error
    if type(image) in (nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage):
        logger.warning(
            "%s is in the Analyze format, whose header does not say which side is left: compare "
            "the result with another image of this head, or convert the scan to NIfTI again",
            path,
        )
    voxels = _storable(voxels)
    converted = nib.Nifti1Image(voxels, None, _nifti_header(image), dtype=voxels.dtype)
    if not isinstance(image, nib.Nifti1Pair):
        converted.set_sform(image.affine, code=1)
        converted.set_qform(image.affine, code=1)
    content: bytes = converted.to_bytes()
    return content


def _loaded(path: Path) -> Any:
    if _extension(path) not in _FREESURFER:
        return nib.load(path)
    # By nibabel's own way these files stay open.
    with ImageOpener(str(path)) as file:
        return nib.MGHImage.from_bytes(file.read())


def _extension(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _other_of_pair(path: Path) -> tuple[Path, ...]:
    compressed = path.name.endswith(".gz")
    plain = Path(path.name.removesuffix(".gz"))
    if plain.suffix.lower() not in _PAIR:
        return ()
    other = plain.with_suffix(_PAIR[plain.suffix.lower()]).name
    return (path.with_name(other + ".gz" if compressed else other),)


def _nifti_header(image: Any) -> nib.Nifti1Header | None:
    """Header of a NIfTI pair without its scaling, which the voxels have already."""
    if not isinstance(image, nib.Nifti1Pair):
        return None
    header: nib.Nifti1Header = nib.Nifti1Header.from_header(image.header)
    header.set_slope_inter(1, 0)
    return header


def _storable(voxels: NDArray[Any]) -> NDArray[Any]:
    if voxels.dtype.kind not in "iufb" or voxels.dtype in [np.dtype(kind) for kind in _STORED]:
        return voxels
    kind = next((kind for kind in _STORED if np.can_cast(voxels.dtype, kind)), np.float64)
    return voxels.astype(kind)
