"""Sidecars: what a reader of a result has to know about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .naming import resolution_text
from .scans import Contrast, LabelImage, ParticipantPlan, Scan

# Statements about the scanner and the contrast, which reconstruction leaves true.
# Whatever describes slices, matrix, timing or the file itself is not among them.
# To each the types that BIDS gives it; a value of another type is a slip and is left out.
_TEXT = (str,)
_NUMBER = (int, float)
_SWITCH = (bool,)
INHERITED: Mapping[str, tuple[type, ...]] = {
    "Manufacturer": _TEXT,
    "ManufacturersModelName": _TEXT,
    "DeviceSerialNumber": _TEXT,
    "StationName": _TEXT,
    "SoftwareVersions": _TEXT,
    "MagneticFieldStrength": _NUMBER,
    "ImagingFrequency": _NUMBER,
    "ReceiveCoilName": _TEXT,
    "InstitutionName": _TEXT,
    "InstitutionAddress": _TEXT,
    "InstitutionalDepartmentName": _TEXT,
    "Modality": _TEXT,
    "BodyPart": _TEXT,
    "BodyPartExamined": _TEXT,
    "ContrastBolusIngredient": _TEXT,
    "PulseSequenceType": _TEXT,
    "ScanningSequence": (str, list),
    "SequenceVariant": (str, list),
    "ScanOptions": (str, list),
    "SequenceName": _TEXT,
    "EchoTime": (int, float, list),
    "RepetitionTime": _NUMBER,
    "InversionTime": _NUMBER,
    "FlipAngle": (int, float, list),
    "SpoilingState": _SWITCH,
    "SpoilingType": _TEXT,
    "MTState": _SWITCH,
    "PixelBandwidth": _NUMBER,
    # Of CT.
    "KVP": _NUMBER,
    "ConvolutionKernel": (str, list),
}


# Statements about the labels, which resampling leaves true.
LABEL_FIELDS = ("LabelMap", "Manual", "Atlas")


def image_sidecar(
    plan: ParticipantPlan,
    contrast: Contrast,
    *,
    description: str,
    voxel_size: Sequence[float],
    spatial_reference: str,
) -> dict[str, Any]:
    """Sidecar of a reconstructed image.

    Parameters
    ----------
    plan, contrast
        What was reconstructed. All scans of the plan are sources, since the
        prior couples the contrasts; those of this contrast come first.
    description
        How the image came about, in a sentence.
    voxel_size
        In mm along x, y and z.
    spatial_reference
        BIDS URI of the image that defines the grid.
    """
    others = [scan for scan in plan.scans if scan not in contrast.scans]
    return {
        "Description": description,
        "Sources": [scan.uri for scan in (*contrast.scans, *others)],
        "SpatialReference": spatial_reference,
        "Resolution": resolution_text(voxel_size),
        "SkullStripped": any(scan.metadata.get("SkullStripped") is True for scan in contrast.scans),
        **inherited_metadata(contrast.scans),
    }


def mask_sidecar(
    plan: ParticipantPlan,
    *,
    description: str,
    voxel_size: Sequence[float],
    spatial_reference: str,
) -> dict[str, Any]:
    """Sidecar of a mask made from all scans of a unit of work; see `image_sidecar`."""
    return {
        "Type": "ROI",
        "Description": description,
        "Sources": [scan.uri for scan in plan.scans],
        "SpatialReference": spatial_reference,
        "Resolution": resolution_text(voxel_size),
    }


def label_sidecar(
    scan: Scan,
    label: LabelImage,
    *,
    description: str,
    voxel_size: Sequence[float],
    spatial_reference: str,
) -> dict[str, Any]:
    """Sidecar of a label image brought to the grid of the results; see `image_sidecar`.

    Parameters
    ----------
    scan, label
        The label image, and the scan whose transform brought it there.
    description, voxel_size, spatial_reference
        As for `image_sidecar`.
    """
    kept = {key: label.metadata[key] for key in LABEL_FIELDS if key in label.metadata}
    return {
        "Description": description,
        "Sources": [label.uri, scan.uri],
        "SpatialReference": spatial_reference,
        "Resolution": resolution_text(voxel_size),
        **kept,
    }


def transform_sidecar(scan: Scan, *, description: str, spatial_reference: str) -> dict[str, Any]:
    """Sidecar of the transform that takes one scan to the grid of ``spatial_reference``."""
    return {
        "Description": description,
        "Sources": [scan.uri, spatial_reference],
        "SpatialReference": spatial_reference,
    }


def inherited_metadata(scans: Sequence[Scan]) -> dict[str, Any]:
    """Metadata that hold for the result: still true, and the same for every repeat."""
    first, *others = [scan.metadata for scan in scans]
    return {
        key: first[key]
        for key, types in INHERITED.items()
        if key in first
        and _is_of(first[key], types)
        and all(key in other and other[key] == first[key] for other in others)
    }


def _is_of(value: Any, types: tuple[type, ...]) -> bool:
    """Whether a value has one of the types; True and False are no numbers."""
    return isinstance(value, types) and (isinstance(value, bool) is (types == _SWITCH))


def derivative_uri(output_dir: Path, path: Path) -> str:
    """BIDS URI of one of our own files, from within the dataset it is in."""
    return f"bids::{path.relative_to(output_dir).as_posix()}"
