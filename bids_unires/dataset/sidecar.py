"""The sidecars of the output files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .naming import resolution_text
from .scans import Contrast, LabelImage, ParticipantPlan, Scan

# Fields about the scanner and the contrast, which still hold after reconstruction. Fields about
# slices, matrix, timing or the file itself are left out. Each has the types that BIDS allows; a
# value of another type is an error in the sidecar and is left out.
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
    # Of quantitative maps; images stay in the units of their scans.
    "Units": _TEXT,
    # Fields of CT.
    "KVP": _NUMBER,
    "ConvolutionKernel": (str, list),
}


# Fields about labels, which still hold after resampling.
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
        The unit of work and the reconstructed contrast. All scans of the plan are sources,
        because the prior couples the contrasts; those of this contrast come first.
    description
        How the image was made, in one sentence.
    voxel_size
        Voxel size in mm along x, y and z.
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
    """Sidecar of a mask that was made from all scans of a unit of work; see `image_sidecar`."""
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
    """Sidecar of a label image resampled to the grid of the results; see `image_sidecar`.

    Parameters
    ----------
    scan, label
        The scan whose transform was used for resampling, and the label image.
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
    """Sidecar of the transform of one scan to the space of ``spatial_reference``."""
    return {
        "Description": description,
        "Sources": [scan.uri, spatial_reference],
        "SpatialReference": spatial_reference,
    }


def inherited_metadata(scans: Sequence[Scan]) -> dict[str, Any]:
    """Metadata that still hold for the result and are the same for all repeats."""
    first, *others = [scan.metadata for scan in scans]
    return {
        key: first[key]
        for key, types in INHERITED.items()
        if key in first
        and _is_of(first[key], types)
        and all(key in other and other[key] == first[key] for other in others)
    }


def _is_of(value: Any, types: tuple[type, ...]) -> bool:
    """Whether a value has one of the types; True and False do not count as numbers."""
    return isinstance(value, types) and (isinstance(value, bool) is (types == _SWITCH))


def derivative_uri(output_dir: Path, path: Path) -> str:
    """BIDS URI of an output file, relative to its own dataset."""
    return f"bids::{path.relative_to(output_dir).as_posix()}"
