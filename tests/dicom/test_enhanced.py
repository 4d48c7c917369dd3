"""Enhanced DICOM, in which one file holds all slices of a series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from bids_unires.dicom.conversion import convert
from bids_unires.dicom.headers import read_headers
from bids_unires.dicom.plan import plan_dataset
from bids_unires.dicom.request import Overruled
from tests.pipeline.conftest import scan_of_head


def item(**fields: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in fields.items():
        setattr(dataset, keyword, value)
    return dataset


def sequence(**fields: Any) -> Sequence:
    return Sequence([item(**fields)])


def frame(affine: np.ndarray, k: int) -> Dataset:
    """Where a slice lies."""
    position = [float(x) for x in (affine @ [0, 0, k, 1])[:3]]
    return item(
        PlanePositionSequence=sequence(ImagePositionPatient=position),
        PlaneOrientationSequence=sequence(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]),
        PixelMeasuresSequence=sequence(
            PixelSpacing=[5, 5], SliceThickness=12, SpacingBetweenSlices=15
        ),
        FrameContentSequence=sequence(
            DimensionIndexValues=[1, k + 1], StackID="1", InStackPositionNumber=k + 1
        ),
    )


def write_enhanced(path: Path, **fields: Any) -> None:
    """Write a T2w turbo spin echo of transverse slices."""
    image = scan_of_head(axis=2)
    pixels = np.round(np.asarray(image.dataobj) * 4).astype(np.uint16)
    affine = np.diag([-1, -1, 1, 1]) @ image.affine
    columns, rows, count = pixels.shape
    dataset = item(
        **{"SOPClassUID": EnhancedMRImageStorage, "SOPInstanceUID": generate_uid()},
        **{"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()},
        **{"Modality": "MR", "Manufacturer": "Philips Medical Systems", "PatientID": "77"},
        **{"SeriesNumber": 3, "InstanceNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY", "T2"]},
        **{"MRAcquisitionType": "2D", "EchoPulseSequence": "SPIN", "PulseSequenceName": "TSE"},
        **{"Rows": rows, "Columns": columns, "NumberOfFrames": count, "SamplesPerPixel": 1},
        **{"PhotometricInterpretation": "MONOCHROME2", "PixelRepresentation": 0},
        **{"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15},
        SharedFunctionalGroupsSequence=sequence(
            MRTimingAndRelatedParametersSequence=sequence(RepetitionTime=4000.0, FlipAngle=90.0),
            MREchoSequence=sequence(EffectiveEchoTime=90.0),
        ),
        PerFrameFunctionalGroupsSequence=Sequence([frame(affine, k) for k in range(count)]),
        PixelData=np.ascontiguousarray(pixels.T).tobytes(),
        **fields,
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


def test_a_file_of_all_slices_is_a_scan(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "in", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    write_enhanced(folder / "plain")
    agent = sequence(ContrastBolusAgentNumber=1)
    write_enhanced(folder / "agent", ContrastBolusAgentSequence=agent)
    series = read_headers(folder)
    plan = plan_dataset(series, convert(folder, scratch), {"77": "a"}, Overruled())
    names = {each.name.split("_", 2)[2] for each in plan}
    assert names == {"acq-tra_T2w", "acq-tra_ce-agent_T2w"}
    for each in plan:
        assert each.image is not None
        assert each.image.shape == (30, 30, 10)
        assert each.reason == "spin echo, TE 90 ms, TR 4000 ms"
