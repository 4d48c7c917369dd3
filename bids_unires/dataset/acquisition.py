"""What a sidecar says about the scanner: slice axis, slice profile and gap, 2-D or 3-D."""

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

# SliceThickness over slice spacing: outside of these it is a typing error, not a protocol.
MIN_THICKNESS_RATIO = 0.1
MAX_THICKNESS_RATIO = 2.0
# Affines derived from DICOM repeat the slice spacing to about this precision.
SPACING_PRECISION = 1e-3
# SpacingBetweenSlices further from the affine than this is worth a word.
SPACING_AGREEMENT = 0.02

Dimensionality = Literal["2D", "3D", "unknown"]
# Those of the slice profiles in `model.scanner.profile` that have a width.
SliceShape = Literal["rect", "triangle", "gauss"]

# A slice is excited, and a partition of a slab Fourier-encoded. A partition's true profile is
# a sinc, widened by whatever filter the scanner applied, which no sidecar tells. A rect as wide
# as the partition lies between an unfiltered sinc, where gauss and triangle blur too much, and
# a filtered one, where they fit a little better; it is the safest of the four.
_THROUGH_PLANE: dict[Dimensionality, tuple[SliceShape, str]] = {
    "2D": ("rect", "excited slice: MRAcquisitionType 2D"),
    "3D": ("rect", "encoded partition: MRAcquisitionType 3D"),
    "unknown": ("rect", "assumed excited slice: no MRAcquisitionType"),
}
# Of CT, which excites nothing, sidecars state a thickness only.
_CT_SLICE: tuple[SliceShape, str] = (
    "rect",
    "CT slice: assumed to weigh all of its thickness alike",
)


@dataclass(frozen=True)
class Acquisition:
    """How a scan's slices were acquired.

    Parameters
    ----------
    slice_axis
        The through-plane voxel axis, 0 to 2.
    through_plane
        Slice profile along that axis.
    profile_source
        Where the profile comes from, for the record.
    gap
        Fraction of the slice spacing that was not measured,
        ``1 - thickness / spacing``; negative where slices overlap.
    gap_source
        Where the gap comes from, for the record.
    dimensionality
        Slice-selective (2D) or slab-selective (3D) excitation; unknown of CT.
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
    """Read a scan's slice geometry off its BIDS metadata and its affine.

    The slice spacing is the distance between neighbouring slices, perpendicular to them;
    ``SpacingBetweenSlices`` is only compared to it, since resampling and
    conversion change the one and leave the other. A value that is missing or
    cannot be true gives no gap; the latter is logged as a warning. Partitions of a slab
    (3D) leave no gaps.

    Parameters
    ----------
    metadata
        BIDS sidecar of the scan, lengths in mm.
    affine
        ``(4, 4)``, voxel index to world mm.
    name
        What warnings call the scan.
    modality
        Magnetic resonance or computed tomography.

    Examples
    --------
    >>> import numpy as np
    >>> scan = {"MRAcquisitionType": "2D", "SliceThickness": 4}
    >>> round(acquisition_from_sidecar(scan, np.diag([1.0, 1.0, 5.0, 1.0])).gap, 3)
    0.2
    """
    axis = _slice_axis(metadata, affine, name)
    spacing = slice_spacing(affine, axis)
    dimensionality: Dimensionality = "unknown" if modality == "CT" else _dimensionality(metadata)
    profile, source = _CT_SLICE if modality == "CT" else _THROUGH_PLANE[dimensionality]
    _compare_spacing(metadata, spacing, name)
    if dimensionality == "3D":
        gap, gap_source = 0.0, "none: 3D acquisition"
    else:
        gap, gap_source = _gap(metadata, spacing, name)
    return Acquisition(axis, profile, source, gap, gap_source, dimensionality)


def _slice_axis(metadata: Mapping[str, Any], affine: ArrayLike, name: str) -> int:
    thickest = slice_axis(affine)
    direction = metadata.get("SliceEncodingDirection")
    if direction is None:
        return thickest
    if not isinstance(direction, str) or not re.fullmatch("[ijk]-?", direction):
        logger.warning(
            "%s: SliceEncodingDirection is %r where BIDS has i, j or k; "
            "the axis with the largest voxel size is used",
            name,
            direction,
        )
        return thickest
    named = "ijk".index(direction[0])
    sizes = voxel_size(affine)
    if sizes[named] < sizes[thickest] * (1 - SPACING_AGREEMENT):
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


def _dimensionality(metadata: Mapping[str, Any]) -> Dimensionality:
    kind = str(metadata.get("MRAcquisitionType", "")).strip().upper()
    if kind == "2D":
        return "2D"
    return "3D" if kind == "3D" else "unknown"


def _gap(metadata: Mapping[str, Any], spacing: float, name: str) -> tuple[float, str]:
    """Gap as a fraction of ``spacing`` (mm), and where it comes from."""
    stated = metadata.get("SliceThickness")
    if stated is None:
        return 0.0, "assumed none: no SliceThickness"
    thickness = _positive_number(stated)
    if thickness is None:
        logger.warning(
            "%s: SliceThickness is %r, not a length in mm; no slice gap is assumed", name, stated
        )
        return 0.0, f"assumed none: SliceThickness {stated!r} is not a length"
    if not MIN_THICKNESS_RATIO <= thickness / spacing <= MAX_THICKNESS_RATIO:
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


def _compare_spacing(metadata: Mapping[str, Any], spacing: float, name: str) -> None:
    stated = metadata.get("SpacingBetweenSlices")
    if stated is None:
        return
    length = _positive_number(stated)
    if length is None or abs(length - spacing) > SPACING_AGREEMENT * spacing:
        logger.warning(
            "%s: SpacingBetweenSlices is %s mm but the image has %.4g mm; the image is believed",
            name,
            stated,
            spacing,
        )


def _positive_number(value: Any) -> float | None:
    # bool is an int to Python, and "4" a string: neither is a length.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # JSON has integers beyond any float.
    return float(value) if 0 < value <= sys.float_info.max else None
