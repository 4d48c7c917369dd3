"""Read the slice axis, slice profile, slice gap and 2-D or 3-D acquisition from a sidecar."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from ..config import Modality
from ..space.affines import slice_axis, slice_spacing, voxel_size

logger = logging.getLogger("bids_unires")

# Ratio of SliceThickness to slice spacing. A value outside these limits is a typing error.
MIN_THICKNESS_RATIO = 0.1
MAX_THICKNESS_RATIO = 2.0
# Larger limit for CT, whose slices can be reconstructed with more overlap, and for sidecars that
# also state the slice spacing.
MAX_CONFIRMED_RATIO = 5.0
# Headers and sidecars round spacing and thickness. A ratio that exceeds a limit by less than this
# is taken as the limit.
RATIO_ROUNDING = 0.01
# Relative precision to which affines derived from DICOM agree with the slice spacing.
SPACING_PRECISION = 1e-3
# Relative difference of SpacingBetweenSlices from the affine above which a warning is logged.
SPACING_AGREEMENT = 0.02

_LENGTHS = ("SliceThickness", "SpacingBetweenSlices")

Dimensionality = Literal["2D", "3D", "unknown"]
# The slice profiles of `model.scanner.profile` that have a width.
SliceShape = Literal["rect", "triangle", "gauss"]

# A slice (2-D) is excited; a partition of a slab (3-D) is Fourier-encoded. The true profile of a
# partition is a sinc, widened by a filter of the scanner that no sidecar states. For an unfiltered
# sinc, gauss and triangle blur too much; for a filtered one, they fit a little better than rect.
# A rect as wide as the partition lies between the two cases and is the safest choice.
_THROUGH_PLANE: dict[Dimensionality, tuple[SliceShape, str]] = {
    "2D": ("rect", "2D, one slice at a time: MRAcquisitionType of the sidecar"),
    "3D": ("rect", "3D, the whole slab at once: MRAcquisitionType of the sidecar"),
    "unknown": (
        "rect",
        "assumed 2D, one slice at a time: the sidecar does not say (MRAcquisitionType)",
    ),
}
# CT excites no slice, and its sidecars state only a thickness.
_CT_SLICE: tuple[SliceShape, str] = (
    "rect",
    "CT slice: assumed to weigh all of its thickness alike",
)


@dataclass(frozen=True)
class Acquisition:
    """How the slices of a scan were acquired.

    Parameters
    ----------
    slice_axis
        The through-plane voxel axis, 0 to 2.
    through_plane
        Slice profile along that axis.
    profile_source
        How the profile was determined, for the record in the sidecar.
    gap
        Fraction of the slice spacing that was not measured,
        ``1 - thickness / spacing``; negative where slices overlap.
    gap_source
        How the gap was determined, for the record in the sidecar.
    dimensionality
        Slice-selective (2D) or slab-selective (3D) excitation; unknown for CT.
    """

    slice_axis: int
    through_plane: SliceShape
    profile_source: str
    gap: float
    gap_source: str
    dimensionality: Dimensionality


def acquisition_from_sidecar(
    metadata: Mapping[str, Any],
    affine: ArrayLike,
    name: str = "the scan",
    modality: Modality = "MR",
) -> Acquisition:
    """Find the slice geometry of a scan from its BIDS metadata and its affine.

    The slice spacing is the distance between neighbouring slices, perpendicular to them. The slice
    axis is the one that ``SliceEncodingDirection`` names; else the only axis along which the
    spacing is ``SpacingBetweenSlices``; else the axis of the largest voxel size. The spacing is
    taken from the affine, because resampling and conversion change it without changing the
    sidecar. If a value is missing or impossible, the gap is 0; an impossible value is logged as a
    warning. Partitions of a slab (3D) have no gaps.

    Parameters
    ----------
    metadata
        BIDS sidecar of the scan, lengths in mm.
    affine
        ``(4, 4)``, voxel index to world mm.
    name
        Name of the scan in warnings.
    modality
        Magnetic resonance or computed tomography.

    Examples
    --------
    >>> import numpy as np
    >>> scan = {"MRAcquisitionType": "2D", "SliceThickness": 4}
    >>> round(acquisition_from_sidecar(scan, np.diag([1.0, 1.0, 5.0, 1.0])).gap, 3)
    0.2
    """
    lengths = {field: _length(metadata, field, name) for field in _LENGTHS}
    axis = _slice_axis(metadata, affine, lengths["SpacingBetweenSlices"], name)
    spacing = slice_spacing(affine, axis)
    dimensionality: Dimensionality = "unknown" if modality == "CT" else _dimensionality(metadata)
    profile, source = _CT_SLICE if modality == "CT" else _THROUGH_PLANE[dimensionality]
    agrees = _spacing_agrees(lengths["SpacingBetweenSlices"], spacing, name)
    if dimensionality == "3D":
        gap, gap_source = 0.0, "none: 3D acquisition"
    else:
        most = MAX_CONFIRMED_RATIO if agrees or modality == "CT" else MAX_THICKNESS_RATIO
        gap, gap_source = _gap(metadata, lengths["SliceThickness"], spacing, most, name)
    return Acquisition(axis, profile, source, gap, gap_source, dimensionality)


def _length(metadata: Mapping[str, Any], field: str, name: str) -> float | None:
    """A length in mm; None if the sidecar states none, or a value that is no length."""
    stated = metadata.get(field)
    if stated is None:
        return None
    length = _positive_number(stated)
    if length is None:
        logger.warning("%s: %s is %r, not a length in mm; it is not used", name, field, stated)
    elif isinstance(stated, str):
        logger.warning(
            "%s: %s is the text %r where BIDS has a number; %g mm are used",
            name,
            field,
            stated,
            length,
        )
    return length


def _slice_axis(
    metadata: Mapping[str, Any], affine: ArrayLike, stated_spacing: float | None, name: str
) -> int:
    thickest = slice_axis(affine)
    direction = metadata.get("SliceEncodingDirection")
    if direction is None:
        return _axis_of_spacing(affine, stated_spacing, thickest)
    if not isinstance(direction, str) or not re.fullmatch("[ijk]-?", direction):
        logger.warning(
            "%s: SliceEncodingDirection is %r where BIDS has i, j or k; it is not used",
            name,
            direction,
        )
        return _axis_of_spacing(affine, stated_spacing, thickest)
    named = "ijk".index(direction[0])
    sizes = voxel_size(affine)
    # Overlapping slices are thicker than their spacing, so that the slice axis need not be the one
    # of the largest voxel size.
    overlaps = _agree(stated_spacing, slice_spacing(affine, named))
    if sizes[named] < sizes[thickest] * (1 - SPACING_AGREEMENT) and not overlaps:
        logger.warning(
            "%s: SliceEncodingDirection %s names an axis of %.3g mm, thinner than the %.3g mm of "
            "axis %s: check the sidecar if the image was reoriented",
            name,
            direction,
            sizes[named],
            sizes[thickest],
            "ijk"[thickest],
        )
    return named


def _axis_of_spacing(affine: ArrayLike, stated: float | None, otherwise: int) -> int:
    """The only axis whose slice spacing is as stated; ``otherwise`` if there is not just one."""
    fitting = [axis for axis in range(3) if _agree(stated, slice_spacing(affine, axis))]
    return fitting[0] if len(fitting) == 1 else otherwise


def _agree(stated: float | None, spacing: float) -> bool:
    return stated is not None and abs(stated - spacing) <= SPACING_AGREEMENT * spacing


def _dimensionality(metadata: Mapping[str, Any]) -> Dimensionality:
    kind = str(metadata.get("MRAcquisitionType", "")).strip().upper()
    if kind == "2D":
        return "2D"
    return "3D" if kind == "3D" else "unknown"


def _gap(
    metadata: Mapping[str, Any], thickness: float | None, spacing: float, most: float, name: str
) -> tuple[float, str]:
    """Gap as a fraction of ``spacing`` (mm), and a text that says how it was determined.

    ``most`` is the largest ratio of thickness to spacing that is taken as true.
    """
    if thickness is None:
        stated = metadata.get("SliceThickness")
        reason = (
            "no SliceThickness" if stated is None else f"SliceThickness {stated!r} is no length"
        )
        return 0.0, f"assumed none: {reason}"
    least = MIN_THICKNESS_RATIO
    if not least * (1 - RATIO_ROUNDING) <= thickness / spacing <= most * (1 + RATIO_ROUNDING):
        logger.warning(
            "%s: SliceThickness %g mm does not fit the slice spacing of %.4g mm; "
            "no slice gap is assumed",
            name,
            thickness,
            spacing,
        )
        return 0.0, f"assumed none: SliceThickness {thickness:g} mm, spacing {spacing:.4g} mm"
    source = f"SliceThickness {thickness:g} mm over slice spacing {spacing:.4g} mm"
    if abs(thickness - spacing) <= SPACING_PRECISION * spacing:
        return 0.0, source
    return 1.0 - thickness / spacing, source


def _spacing_agrees(stated: float | None, spacing: float, name: str) -> bool:
    """Whether the sidecar states the spacing of the image; a contradiction is logged."""
    agrees = _agree(stated, spacing)
    if stated is not None and not agrees:
        logger.warning(
            "%s: SpacingBetweenSlices is %g mm but the image has %.4g mm; the image is believed",
            name,
            stated,
            spacing,
        )
    return agrees


def _positive_number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    # In Python, bool is a subclass of int.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # JSON integers can exceed the range of a float.
    return float(value) if 0 < value <= sys.float_info.max else None
