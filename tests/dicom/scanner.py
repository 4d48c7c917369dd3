"""Series of DICOM files as scanners write them, of heads that are made of ellipsoids.

``python -m tests.dicom.scanner FOLDER`` writes two scans of a participant 01.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from tests.pipeline.conftest import scan_of_head

ORIGINAL = ["ORIGINAL", "PRIMARY", "M", "ND"]
# Fields of each kind of series, by the keywords of DICOM.
SPIN_ECHO: dict[str, Any] = {"ScanningSequence": "SE", "MRAcquisitionType": "2D"}
T1W = {**SPIN_ECHO, "EchoTime": 11, "RepetitionTime": 520}
T2W = {**SPIN_ECHO, "EchoTime": 98, "RepetitionTime": 5200}
FLAIR = {
    **SPIN_ECHO,
    "ScanningSequence": ["SE", "IR"],
    "EchoTime": 92,
    "RepetitionTime": 9000,
    "InversionTime": 2500,
}
PDW = {**SPIN_ECHO, "EchoTime": 14, "RepetitionTime": 3200}
T2STARW = {
    **SPIN_ECHO,
    "ScanningSequence": "GR",
    "EchoTime": 22,
    "RepetitionTime": 720,
    "FlipAngle": 20,
}
MPRAGE = {
    "ScanningSequence": ["GR", "IR"],
    "MRAcquisitionType": "3D",
    "EchoTime": 2.9,
    "RepetitionTime": 2300,
    "InversionTime": 900,
    "FlipAngle": 9,
}
DIFFUSION = {
    **SPIN_ECHO,
    "ScanningSequence": "EP",
    "EchoTime": 89,
    "RepetitionTime": 6000,
    "ImageType": ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"],
}
ADC = {**DIFFUSION, "ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC"]}


@dataclass(frozen=True)
class Patient:
    """Somebody, with what must not be found in the results."""

    name: str = "Musterfrau^Erika"
    identity: str = "PAT/0815"
    born: str = "19560321"
    study: str = field(default_factory=generate_uid)
    frame: str = field(default_factory=generate_uid)


@dataclass(frozen=True)
class Series:
    """One series.

    Parameters
    ----------
    description
        What the operator called it.
    fields
        Keywords of DICOM and their values.
    axis
        Axis of the head that its slices lie across: 2 transverse, 1 coronal, 0 sagittal.
    count
        Number of slices that are written, from the middle; None for all.
    """

    description: str
    fields: dict[str, Any]
    axis: int = 2
    count: int | None = None
    thickness: float | None = None
    seed: int = 0


def write_series(folder: Path, patient: Patient, number: int, series: Series) -> list[Path]:
    """Write a series, one file for each slice, and give the files."""
    image = scan_of_head(series.axis, seed=series.seed)
    # Columns of pixels are the last of the two axes in a plane, so that both are right-handed.
    data, affine = np.asarray(image.dataobj), np.diag([-1, -1, 1, 1]) @ image.affine
    column, row = (axis for axis in range(3) if axis != series.axis)
    slices = range(data.shape[series.axis])
    if series.count is not None:
        first = (len(slices) - series.count) // 2
        slices = slices[first : first + series.count]
    uid = generate_uid()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for instance, k in enumerate(slices, 1):
        index = np.array([0.0, 0.0, 0.0, 1.0])
        index[series.axis] = k
        pixels = np.take(data, k, axis=series.axis)
        dataset = _described(patient, number, series, uid)
        spacing = np.linalg.norm(affine[:3], axis=0)
        dataset.InstanceNumber = instance
        dataset.ImagePositionPatient = [round(float(x), 4) for x in (affine @ index)[:3]]
        dataset.ImageOrientationPatient = [
            float(x) for axis in (column, row) for x in affine[:3, axis] / spacing[axis]
        ]
        dataset.PixelSpacing = [float(spacing[row]), float(spacing[column])]
        dataset.SpacingBetweenSlices = float(spacing[series.axis])
        dataset.SliceThickness = series.thickness or float(spacing[series.axis])
        _set_pixels(dataset, pixels.T)
        path = folder / f"{number:02d}-{instance:03d}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_screenshot(folder: Path, patient: Patient, number: int) -> Path:
    """Write a picture of the screen."""
    screen = Series("", {"ImageType": ["DERIVED", "SECONDARY"]})
    dataset = _described(patient, number, screen, generate_uid())
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPClassUID, dataset.Modality = SecondaryCaptureImageStorage, "OT"
    dataset.InstanceNumber = 1
    _set_pixels(dataset, np.zeros((16, 16), np.uint16))
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / f"{number:02d}-001.dcm", enforce_file_format=True)
    return folder / f"{number:02d}-001.dcm"


def _described(patient: Patient, number: int, series: Series, uid: str) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    is_ct = series.fields.get("Modality") == "CT"
    kind = CTImageStorage if is_ct else MRImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality, dataset.Manufacturer = "MR", "SIEMENS"
    dataset.ManufacturerModelName, dataset.MagneticFieldStrength = "Avanto", 1.5
    dataset.PatientName, dataset.PatientID = patient.name, patient.identity
    dataset.PatientBirthDate, dataset.PatientPosition = patient.born, "HFS"
    dataset.InstitutionName, dataset.ReferringPhysicianName = "Klinik am Teich", "Arzt^Anna"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "20190407"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = f"10{number:02d}31"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = patient.study, uid
    dataset.FrameOfReferenceUID = patient.frame
    dataset.StudyDescription = "Kopf Musterfrau"
    dataset.SeriesDescription = dataset.ProtocolName = series.description
    dataset.SeriesNumber, dataset.AcquisitionNumber = number, 1
    dataset.ImageType = ORIGINAL
    for keyword, value in series.fields.items():
        setattr(dataset, keyword, value)
    return dataset


def _set_pixels(dataset: Dataset, pixels: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.PixelData = np.ascontiguousarray(np.round(pixels * 4), np.uint16).tobytes()


if __name__ == "__main__":
    patient = Patient()
    for number, series in enumerate((Series("t1", T1W), Series("flair", FLAIR, axis=0)), 1):
        write_series(Path(sys.argv[1]) / "01", patient, number, series)
