"""The affine of a NIfTI image: the choice between sform and qform, and the unit of length."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from ..errors import BadDataError
from ..space.affines import Affine, apply_affine, scaling, shear_angle, slice_spacing, voxel_size
from ..space.grid import Shape, corners

logger = logging.getLogger("bids_unires")

# sform and qform count as the same if no corner of the image differs by more than this.
ORIENTATION_TOLERANCE_VOXELS = 0.1
# Least ratio of the volume of a voxel to the product of its sides. The ratio is 1 for right angles
# and 0 if the axes lie in one plane.
MIN_AXIS_INDEPENDENCE = 1e-3
# A voxel size outside these limits means a damaged header, or another unit than mm.
MIN_VOXEL_SIZE_MM = 0.01
MAX_VOXEL_SIZE_MM = 1000.0
MAX_DISTANCE_MM = 1e5
# The unit that a header states is used only if its voxels are then not larger than this.
MAX_CONVERTED_SIZE_MM = 100.0
# NIfTI codes of metres and micrometres. With any other code, scanners mean mm.
_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}
# Rounding of a header makes the axes deviate from right angles by at most this.
MAX_ROUNDING_SHEAR_DEGREES = 0.1
# If the quaternion components b, c and d are rounded to three digits, the sum of their squares
# exceeds 1 by less than this.
MAX_QUATERNION_EXCESS = 2e-3
# If they are stored in full precision, the sum differs from 1 by at most this many units in the
# last place.
_ROUNDINGS = 3
# Relative difference and ratio of the voxel sizes of sform and pixdim. A difference below the
# first is rounding. A ratio above the second does not come from a fit to a template; it means that
# pixdim was never filled in.
MAX_ROUNDING_STRETCH = 0.01
MAX_TEMPLATE_STRETCH = 2.0


def affine_of(header: nib.Nifti1Header, shape: Shape, path: Path) -> Affine:
    """Find the affine of an image from its sform, or else from its qform.

    A fit to a template can store an sform that stretches or shears the voxels relative to
    ``pixdim``. In this case, the qform is used if it is valid, because it has the voxel size of
    the scan. A form that is not used is named in a warning.

    Parameters
    ----------
    header
        Header of NIfTI-1 or NIfTI-2.
    shape
        Number of voxels along the three axes.
    path
        The file, for messages.

    Returns
    -------
    Affine
        ``(4, 4)``, voxel index to world mm.

    Raises
    ------
    BadDataError
        If neither form is valid.

    References
    ----------
    R. W. Cox et al., *A (sort of) new image data format standard: NIfTI-1*, 2004; its header
    file nifti1.h describes both forms.
    """
    stated = _stated_forms(header)
    if not stated:
        logger.warning(
            "%s: the header gives no orientation (sform and qform are unset), so that left and "
            "right cannot be known; its axes are taken to run to the left, forward and upward",
            path,
        )
        stated = {"pixdim": np.asarray(header.get_base_affine(), dtype=np.float64)}
    lengths = {name: _mm_per_unit(header, form) for name, form in stated.items()}
    forms = {name: _scaled(form, lengths[name]) for name, form in stated.items()}
    faults = {name: fault for name, form in forms.items() if (fault := _fault(name, form))}
    sound = [name for name in forms if name not in faults]
    if not sound:
        told = " and ".join(f"{fault} in its {name}" for name, fault in faults.items())
        raise BadDataError(f"{path} has {told}: repair its header")
    chosen = _less_stretched(forms, sound, header, path)
    _tell_choice(chosen, forms, faults, shape, path)
    _tell_unit(header, lengths[chosen], path)
    return forms[chosen]


def _stated_forms(header: nib.Nifti1Header) -> Mapping[str, Affine]:
    """The forms that a header marks as set, in the unit of the header, the sform first."""
    forms = {}
    if header["sform_code"] > 0:
        forms["sform"] = np.asarray(header.get_sform(), dtype=np.float64)
    if header["qform_code"] > 0:
        forms["qform"] = _qform(header)
    return forms


def _qform(header: nib.Nifti1Header) -> Affine:
    """The affine of the quaternion in a header; NaN if the quaternion is no rotation.

    Rounding can make the vector (b, c, d) longer than 1; it is then scaled to length 1.
    """
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    affine = np.full((4, 4), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        excess = float(vector @ vector) - 1
    if not excess <= MAX_QUATERNION_EXCESS:
        return affine
    if excess > 0:
        vector /= np.linalg.norm(vector)
    # For a rotation by 180 degrees the real part is 0. The square root would enlarge its rounding
    # error.
    rounding = _ROUNDINGS * float(np.finfo(header["quatern_b"].dtype).eps)
    real = math.sqrt(-excess) if -excess > rounding else 0.0
    sides = _pixdim(header)
    if header["pixdim"][0] < 0:
        sides[2] = -sides[2]
    affine[:] = np.eye(4)
    affine[:3, :3] = quat2mat([real, *vector]) * sides
    affine[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def _pixdim(header: nib.Nifti1Header) -> NDArray[np.float64]:
    """Voxel size, ``(3,)``, in the unit of the header."""
    return np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))


def _mm_per_unit(header: nib.Nifti1Header, affine: Affine) -> float:
    """Length in mm of the unit of the header; 1 if that unit is not possible for a head."""
    _, length = _stated_unit(header)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = length * voxel_size(affine)
    fits = sizes.min() >= MIN_VOXEL_SIZE_MM and sizes.max() <= MAX_CONVERTED_SIZE_MM
    return length if fits else 1.0


def _stated_unit(header: nib.Nifti1Header) -> tuple[str, float]:
    # The lowest three bits are the unit of length; the others are the unit of time.
    return _UNITS.get(int(header["xyzt_units"]) % 8, ("mm", 1.0))


def _scaled(affine: Affine, length: float) -> Affine:
    scaled: Affine = affine.copy()
    scaled[:3] *= length
    return scaled


def _fault(name: str, affine: Affine) -> str | None:
    """The reason, in words, why an affine in mm cannot be used; None if it can."""
    if not np.isfinite(affine).all():
        return "NaN or infinity" + (" or a quaternion of no rotation" if name == "qform" else "")
    with np.errstate(over="ignore"):
        sizes = voxel_size(affine)
    if sizes.min() < MIN_VOXEL_SIZE_MM or sizes.max() > MAX_VOXEL_SIZE_MM:
        return (
            "a singular or absurd affine (voxels of "
            f"{' x '.join(f'{size:.3g}' for size in sizes)} mm)"
        )
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < MIN_AXIS_INDEPENDENCE:
        return "a singular affine (axes that span no volume)"
    distance = np.abs(affine[:3, 3]).max()
    if distance > MAX_DISTANCE_MM:
        return f"a distance of {distance:.3g} mm from the scanner's centre"
    return None


def _less_stretched(
    forms: Mapping[str, Affine], sound: list[str], header: nib.Nifti1Header, path: Path
) -> str:
    """Name of the form to use: the first valid one, unless it stretches the voxels of the scan."""
    first, *others = sound
    if first != "sform":
        return first
    length = _mm_per_unit(header, scaling(_pixdim(header)))
    sides = length * _pixdim(header)
    if not _is_stretched(forms["sform"], sides):
        return first
    logger.warning(
        "%s: its sform has voxels of %s mm and axes %.1f degrees off right angles, but pixdim says "
        "that %s mm were scanned, as where a fit to a template was stored; %s",
        path,
        _sides(voxel_size(forms["sform"])),
        shear_angle(forms["sform"]),
        _sides(sides),
        "the qform, which has these, is used"
        if others
        else "the sform is used, since there is no qform: check the size of the head",
    )
    return others[0] if others else first


def _sides(sizes: NDArray[np.float64]) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)


def _is_stretched(affine: Affine, sides: NDArray[np.float64]) -> bool:
    """Whether an affine stretches or shears voxels of the given sides (mm) as no scanner does.

    With a tilted CT gantry or an oblique table movement, the slice axis is not perpendicular to
    the slices, but the two axes within a slice are perpendicular to each other. The stated slice
    distance may then be measured along the slice axis or perpendicular to the slices.
    """
    if not (np.isfinite(sides).all() and sides.min() > 0):
        return False
    sizes = voxel_size(affine)
    if max(np.max(sizes / sides), np.max(sides / sizes)) > MAX_TEMPLATE_STRETCH:
        return False
    return not any(_fits_stack(affine, sides, axis) for axis in range(3))


def _fits_stack(affine: Affine, sides: NDArray[np.float64], axis: int) -> bool:
    """Whether slices stacked along ``axis`` have the given sides (mm) and right angles in plane."""
    sizes = voxel_size(affine)
    first, second = (other for other in range(3) if other != axis)
    cosine = affine[:3, first] @ affine[:3, second] / (sizes[first] * sizes[second])
    upright = abs(cosine) <= np.sin(np.radians(MAX_ROUNDING_SHEAR_DEGREES))
    steps = [float(sizes[axis]), slice_spacing(affine, axis)]
    return bool(
        upright
        and np.allclose(sizes[[first, second]], sides[[first, second]], MAX_ROUNDING_STRETCH)
        and np.isclose(steps, sides[axis], MAX_ROUNDING_STRETCH).any()
    )


def _tell_choice(
    chosen: str,
    forms: Mapping[str, Affine],
    faults: Mapping[str, str],
    shape: Shape,
    path: Path,
) -> None:
    for name, fault in faults.items():
        logger.warning(
            "%s: its %s cannot be used, it has %s; the %s is used", path, name, fault, chosen
        )
    shear = shear_angle(forms[chosen])
    if shear > MAX_ROUNDING_SHEAR_DEGREES:
        logger.warning(
            "%s: its axes are %.1f degrees away from right angles, as in CT with a tilted gantry; "
            "they are used as they are",
            path,
            shear,
        )
    if chosen == "sform" and "qform" in forms and "qform" not in faults:
        _compare(forms["sform"], forms["qform"], shape, path)


def _compare(sform: Affine, qform: Affine, shape: Shape, path: Path) -> None:
    points = corners(shape)
    apart = np.linalg.norm(apply_affine(sform, points) - apply_affine(qform, points), axis=1).max()
    if apart > ORIENTATION_TOLERANCE_VOXELS * voxel_size(sform).min():
        is_mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
        logger.warning(
            "%s: sform and qform disagree by up to %.3g mm%s; the sform is used",
            path,
            apart,
            ", and one shows the mirror image of the other" if is_mirrored else "",
        )


def _tell_unit(header: nib.Nifti1Header, used: float, path: Path) -> None:
    unit, length = _stated_unit(header)
    if length == 1:
        return
    if used == length:
        logger.info("%s: its header is in %s, which are converted to mm", path, unit)
        return
    logger.warning(
        "%s: its header claims to be in %s, in which no head has voxels of that size; mm are "
        "assumed",
        path,
        unit,
    )
