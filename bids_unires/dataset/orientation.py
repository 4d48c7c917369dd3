"""Where the voxels of a NIfTI image lie: which of its two forms to believe, and in what unit."""

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
# Components b, c and d rounded to three digits make the square of their length exceed 1 by less.
MAX_QUATERNION_EXCESS = 2e-3
# Stored in full, they leave that length within so many units of the last place of 1.
_ROUNDINGS = 3
# Sides of voxels by sform and by pixdim that differ by less were rounded; by more than the
# second, no head was fitted to a template, but pixdim was never filled in.
MAX_ROUNDING_STRETCH = 0.01
MAX_TEMPLATE_STRETCH = 2.0


def affine_of(header: nib.Nifti1Header, shape: Shape, path: Path) -> Affine:
    """Find where voxels lie by the first of sform and qform that can be used.

    An sform that stretches or shears the voxels against ``pixdim``, as a fit to a template does,
    gives way to a qform that can be used: it has the sides that were scanned. Whatever is
    passed over is named in a warning.

    Parameters
    ----------
    header
        Of NIfTI-1 or NIfTI-2.
    shape
        Voxels along the three axes.
    path
        The file, for messages.

    Returns
    -------
    Affine
        ``(4, 4)``, voxel index to world mm.

    Raises
    ------
    BadDataError
        If neither form can be used.

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
    """The forms that a header marks as set, in its own unit, that to be preferred first."""
    forms = {}
    if header["sform_code"] > 0:
        forms["sform"] = np.asarray(header.get_sform(), dtype=np.float64)
    if header["qform_code"] > 0:
        forms["qform"] = _qform(header)
    return forms


def _qform(header: nib.Nifti1Header) -> Affine:
    """Matrix of the quaternion; NaN where no rotation has such a one.

    Rounding can leave b, c and d longer than 1; they are then shortened to it.
    """
    vector = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    affine = np.full((4, 4), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        excess = float(vector @ vector) - 1
    if not excess <= MAX_QUATERNION_EXCESS:
        return affine
    if excess > 0:
        vector /= np.linalg.norm(vector)
    # Of half a turn the real part is 0; its square root would blow up what rounding left of it.
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
    """Sides of a voxel in the unit of the header."""
    return np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))


def _mm_per_unit(header: nib.Nifti1Header, affine: Affine) -> float:
    """Length of the header's unit, unless no head was scanned in that unit."""
    _, length = _stated_unit(header)
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = length * voxel_size(affine)
    fits = sizes.min() >= MIN_VOXEL_SIZE_MM and sizes.max() <= MAX_CONVERTED_SIZE_MM
    return length if fits else 1.0


def _stated_unit(header: nib.Nifti1Header) -> tuple[str, float]:
    # Space has three bits, and time the others.
    return _UNITS.get(int(header["xyzt_units"]) % 8, ("mm", 1.0))


def _scaled(affine: Affine, length: float) -> Affine:
    scaled: Affine = affine.copy()
    scaled[:3] *= length
    return scaled


def _fault(name: str, affine: Affine) -> str | None:
    """Why a form in mm cannot be that of a head, for people; None if it can."""
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
    """Name of the form to use: the first sound one, unless it stretches what was scanned."""
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
    """Whether no scanner takes voxels of these sides (mm) so: they are stretched, or sheared.

    Slices of a tilted gantry, or of a table that moves askew, are stacked at an angle, but are
    upright themselves; their distance may be stated along the stack or across the slices.
    """
    if not (np.isfinite(sides).all() and sides.min() > 0):
        return False
    sizes = voxel_size(affine)
    if max(np.max(sizes / sides), np.max(sides / sizes)) > MAX_TEMPLATE_STRETCH:
        return False
    return not any(_fits_stack(affine, sides, axis) for axis in range(3))


def _fits_stack(affine: Affine, sides: NDArray[np.float64], axis: int) -> bool:
    """Whether slices across ``axis`` have the stated sides and right angles within."""
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
