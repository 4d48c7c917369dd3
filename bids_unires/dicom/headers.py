"""Read the headers of DICOM files, and group them into series."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MissingInputError

_FIELDS = (
    "SOPClassUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "ProtocolName",
    "Modality",
    "ImageType",
    "BodyPartExamined",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "StudyDate",
    "StudyTime",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
)
# Words that operators write where there was no contrast agent.
_NO_AGENT = frozenset({"", "no", "none", "n", "0", "nil", "without", "ohne", "nein", "native"})


@dataclass(frozen=True)
class SeriesHeader:
    """What the headers of a series say that dcm2niix does not hand on.

    Parameters
    ----------
    uid
        Unique identifier of the series.
    number
        Its number within the study; None if it has none.
    description
        What the operator called it.
    modality
        ``MR``, ``CT``, ...
    kind
        Kind of object, such as ``Secondary Capture Image Storage``.
    image_type
        Values of ImageType.
    body_part
        The examined part of the body, in capital letters; empty if it is not said.
    has_agent
        Whether a contrast agent is stated.
    patient
        What identifies the patient. It must not be written to the dataset.
    is_phantom
        Whether the patient is called a phantom.
    study
        Unique identifier of the study.
    date
        Date and time of the study, as in DICOM; empty if they were removed.
    folder
        Folder of its first file.
    count
        Number of files.
    """

    uid: str
    number: int | None
    description: str
    modality: str
    kind: str
    image_type: tuple[str, ...]
    body_part: str
    has_agent: bool
    patient: str
    is_phantom: bool
    study: str
    date: str
    folder: Path
    count: int

    @property
    def title(self) -> str:
        """Number and description of the series, for messages."""
        number = "without number" if self.number is None else str(self.number)
        return f"series {number}" + (f" ({self.description})" if self.description else "")


def read_headers(folder: Path) -> tuple[SeriesHeader, ...]:
    """Read the headers of all DICOM files in a folder and the folders in it.

    Files that are not DICOM are passed over. A series is described by the first of its files, in
    the order of their paths.

    Returns
    -------
    tuple of SeriesHeader
        The series, by study and number.

    Raises
    ------
    MissingInputError
        If the folder does not exist, or holds no DICOM file, or pydicom is not installed.
    """
    if find_spec("pydicom") is None:
        raise MissingInputError(
            "pydicom is not installed: pip install 'bids_unires[dicom]' brings it"
        )
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise MissingInputError(f"{folder} {what}: name a folder of DICOM files")
    found: dict[str, SeriesHeader] = {}
    counts: Counter[str] = Counter()
    with _quiet_reader():
        for header in filter(None, map(_read, _files(folder))):
            found.setdefault(header.uid, header)
            counts[header.uid] += 1
    if not found:
        raise MissingInputError(f"{folder} holds no DICOM file")
    series = [_counted(header, counts[uid]) for uid, header in found.items()]
    return tuple(
        sorted(series, key=lambda each: (each.patient, each.date, each.study, each.number or 0))
    )


@contextmanager
def _quiet_reader() -> Iterator[None]:
    """Keep pydicom from telling of each file that does not follow the standard."""
    reader = logging.getLogger("pydicom")
    before = reader.disabled
    reader.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        reader.disabled = before


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def _read(path: Path) -> SeriesHeader | None:
    """Header of a file; None if it is no DICOM image."""
    import pydicom

    try:
        # Scanners and archives also write files without the preamble that marks DICOM.
        header: Any = pydicom.dcmread(
            path, stop_before_pixels=True, force=True, specific_tags=list(_FIELDS)
        )
        return _described(header, path) if "SeriesInstanceUID" in header else None
    # Other files are read as if they were DICOM, which fails in any way.
    except Exception:
        return None


def _described(header: Any, path: Path) -> SeriesHeader:
    identity = _text(header, "PatientID")
    name = _text(header, "PatientName")
    unnamed = f"{name} {_text(header, 'PatientBirthDate')}".strip()
    number = _text(header, "SeriesNumber")
    return SeriesHeader(
        uid=_text(header, "SeriesInstanceUID"),
        number=int(number) if number.lstrip("-").isdecimal() else None,
        description=_text(header, "SeriesDescription") or _text(header, "ProtocolName"),
        modality=_text(header, "Modality").upper(),
        kind=str(getattr(header.get("SOPClassUID"), "name", "")),
        image_type=tuple(str(word).upper() for word in header.get("ImageType") or ()),
        body_part=_text(header, "BodyPartExamined").upper(),
        has_agent=_has_agent(header),
        patient=identity or unnamed or _text(header, "StudyInstanceUID"),
        is_phantom="phantom" in f"{identity} {name}".lower(),
        study=_text(header, "StudyInstanceUID"),
        date=f"{_text(header, 'StudyDate')} {_text(header, 'StudyTime')}".strip(),
        folder=path.parent,
        count=1,
    )


def _has_agent(header: Any) -> bool:
    agents = header.get("ContrastBolusAgentSequence")
    return bool(agents) or _text(header, "ContrastBolusAgent").lower() not in _NO_AGENT


def _text(header: Any, keyword: str) -> str:
    value = header.get(keyword)
    return "" if value is None else str(value).strip()


def _counted(header: SeriesHeader, count: int) -> SeriesHeader:
    return replace(header, count=count)
