"""What the user asks for of a folder of DICOM files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..config import CT_SUFFIX, MRI_SUFFIXES
from ..errors import UsageError

LabelSource = Literal["hash", "folder"]
SUFFIXES = (*MRI_SUFFIXES, CT_SUFFIX)


@dataclass(frozen=True)
class Overruled:
    """What the user decides.

    A series is named by its number, its description or its unique identifier; where several
    participants have a number, by the label of the participant and the number, ``01:5``.

    Parameters
    ----------
    taken
        Series and the BIDS suffixes that they are taken for.
    skipped
        Series that are left out.
    """

    taken: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()

    @staticmethod
    def read_take(text: str) -> tuple[str, str]:
        """Read ``SERIES=SUFFIX``.

        Raises
        ------
        UsageError
            If it is something else, or the suffix is unknown.
        """
        series, _, suffix = text.rpartition("=")
        known = {each.lower(): each for each in SUFFIXES}
        if not series or suffix.lower() not in known:
            raise UsageError(
                f"--take {text!r} is not SERIES=SUFFIX, with one of {', '.join(SUFFIXES)}"
            )
        return series, known[suffix.lower()]


@dataclass(frozen=True)
class DicomRequest:
    """A folder of DICOM files, and where the dataset and the results go.

    Parameters
    ----------
    folder
        The folder, which is only read.
    output
        Folder for ``bids`` and ``derivatives``.
    overruled
        What the user decides of single series.
    label_by
        What labels of participants are made of: a hash of the patient, or the name of the folder
        directly in ``folder`` that holds the patient's files.
    key_file
        File that says who the participants are; None for ``key.json`` in ``output``.
    overwrite
        Whether another dataset in ``output`` is replaced.
    """

    folder: Path
    output: Path
    overruled: Overruled = field(default_factory=Overruled)
    label_by: LabelSource = "hash"
    key_file: Path | None = None
    overwrite: bool = False

    @property
    def bids(self) -> Path:
        """Root of the raw dataset."""
        return self.output / "bids"

    @property
    def derivatives(self) -> Path:
        """Root of the dataset of results."""
        return self.output / "derivatives"

    @property
    def key(self) -> Path:
        """File that says who the participants are."""
        return self.key_file or self.output / "key.json"
