"""Write a raw BIDS dataset of converted images, without anything that tells who was scanned."""

from __future__ import annotations

import filecmp
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from isal import igzip

from ..dataset.description import BIDS_VERSION, generated_by
from ..dataset.entities import natural_key
from ..dataset.writing import GZIP_LEVEL, write_json, write_text
from ..errors import InputOutputError, OutputError
from .plan import PlannedImage

# Fields of a sidecar that describe how a scan was acquired. All others are left out: names of
# series and studies are free text, in which operators write names, and dcm2niix keeps those of
# institutions and times of day even where it strips dates.
TECHNICAL = frozenset(
    (
        *("Modality", "MagneticFieldStrength", "ImagingFrequency", "Manufacturer"),
        *("ManufacturersModelName", "SoftwareVersions", "BodyPart", "PatientPosition"),
        *("MRAcquisitionType", "ScanningSequence", "SequenceVariant", "ScanOptions"),
        *("SequenceName", "PulseSequenceType", "PulseSequenceName", "ImageType"),
        *("SliceThickness", "SpacingBetweenSlices", "SliceTiming", "SliceEncodingDirection"),
        *("EchoTime", "EchoNumber", "RepetitionTime", "InversionTime", "FlipAngle"),
        *("EchoTrainLength", "NumberOfAverages", "PixelBandwidth", "DwellTime", "SAR"),
        *("PercentPhaseFOV", "PercentSampling", "PartialFourier", "ParallelReductionFactorInPlane"),
        *("AcquisitionMatrixPE", "ReconMatrixPE", "BaseResolution", "PhaseResolution"),
        *("PhaseEncodingDirection", "PhaseEncodingAxis", "InPlanePhaseEncodingDirectionDICOM"),
        *("ReceiveCoilName", "CoilString", "MTState", "SpoilingState"),
        *("ConvolutionKernel", "KVP", "ExposureTime", "XRayTubeCurrent", "XRayExposure"),
        *("ConversionSoftware", "ConversionSoftwareVersion"),
    )
)
# Fields of a NIfTI header that hold text. dcm2niix writes times of day and comments there.
_TEXTS = ("data_type", "db_name", "descrip", "aux_file", "intent_name")
README = """\
# Scans converted from DICOM

Made by bids_unires with dcm2niix. Names, dates and free text of the DICOM headers are not here; the
face is still in the images. Of several studies of a participant, each is a session. `acq-` names
the plane of the slices (`tra`, `cor`, `sag`) or a 3-D sequence, `ce-agent` scans with a contrast
agent.
"""
# CT has no place in BIDS yet.
_IGNORED = "ct\n*_ct.*\n"


def write_raw_dataset(root: Path, planned: Sequence[PlannedImage], *, overwrite: bool) -> None:
    """Write the dataset, completely or not at all.

    Only one process at a time may write it.

    Parameters
    ----------
    root
        Root of the dataset. A dataset that is there already stays if it is the same.
    planned
        The images; those that are left out are not written.
    overwrite
        Whether another dataset that is there is replaced.

    Raises
    ------
    OutputError
        If the folder cannot be created, or holds something else.
    InputOutputError
        If writing fails.
    """
    building = root.with_name(f".unires-{root.name}.part")
    try:
        # Of a run that was killed.
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{root} cannot be created: {error.strerror or error}") from error
    try:
        _write_files(building, planned)
        if not root.exists():
            building.rename(root)
        elif not _is_same(building, root):
            _replace(building, root, overwrite=overwrite)
    except OSError as error:
        if isinstance(error, OutputError | InputOutputError):
            raise
        raise InputOutputError(f"{root} could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _replace(building: Path, root: Path, *, overwrite: bool) -> None:
    if not overwrite:
        raise OutputError(
            f"{root} holds other scans, or was changed: replace it by --overwrite, or name another "
            "output folder"
        )
    before = root.with_name(f"{building.name}-before")
    root.rename(before)
    building.rename(root)
    shutil.rmtree(before, ignore_errors=True)


def _write_files(root: Path, planned: Sequence[PlannedImage]) -> None:
    used = [each for each in planned if each.suffix]
    write_json(root / "dataset_description.json", _description(used))
    write_text(root / "README", README)
    write_text(root / ".bidsignore", _IGNORED)
    labels = sorted({f"sub-{each.participant}" for each in used}, key=natural_key)
    write_text(root / "participants.tsv", "\n".join(["participant_id", *labels]) + "\n")
    for each in used:
        assert each.image is not None
        stem = root / each.path
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_json(stem.with_name(f"{stem.name}.json"), technical(each.image.metadata))
        _compress(each.image.path, stem.with_name(f"{stem.name}.nii.gz"))


def technical(metadata: dict[str, Any]) -> dict[str, Any]:
    """The fields of a sidecar that tell how a scan was acquired, and not of whom and when."""
    return {key: value for key, value in metadata.items() if key in TECHNICAL}


def _description(used: Sequence[PlannedImage]) -> dict[str, Any]:
    versions = {
        str(each.image.metadata.get("ConversionSoftwareVersion", "")).removeprefix("v")
        for each in used
        if each.image is not None
    }
    converter = {"Name": "dcm2niix", "Version": ", ".join(sorted(versions))}
    return {
        "Name": "Scans converted from DICOM",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [generated_by(), converter],
    }


def _compress(source: Path, path: Path) -> None:
    """Compress a NIfTI file, without the texts in its header."""
    content = source.read_bytes()
    is_long = int.from_bytes(content[:4], sys.byteorder) == nib.Nifti2Header.sizeof_hdr
    kind: Any = nib.Nifti2Header if is_long else nib.Nifti1Header
    header = kind(content[: kind.sizeof_hdr], check=False)
    for name in set(_TEXTS).intersection(header.keys()):
        header[name] = b""
    with path.open("wb") as file, igzip.IGzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
        packed.write(header.binaryblock + content[kind.sizeof_hdr :])


def _is_same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names = {str(path.relative_to(one)) for path in one.rglob("*") if path.is_file()}
    if names != {str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()}:
        return False
    _, different, unread = filecmp.cmpfiles(one, other, sorted(names), shallow=False)
    return not different and not unread
