"""Two patients as a scanner leaves them: scans, and all that is no scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bids_unires.dicom.conversion import ConvertedImage, convert
from bids_unires.dicom.headers import SeriesHeader, read_headers
from tests.dicom import scanner
from tests.dicom.scanner import Patient, Series, write_screenshot, write_series

LOCALISER = {
    **scanner.SPIN_ECHO,
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "LOCALIZER"],
    "EchoTime": 5,
    "RepetitionTime": 10,
}
AGENT = {**scanner.T1W, "ContrastBolusAgent": "Gadovist 7 ml"}
FIRST = Patient()
SECOND = Patient("Mustermann^Max", "PAT_0815", "19610405")
PROTOCOL = {
    1: Series("survey", LOCALISER, count=3),
    2: Series("t1_se_tra", scanner.T1W, thickness=12, seed=1),
    3: Series("t2_tse_cor", scanner.T2W, axis=1, thickness=12, seed=2),
    4: Series("t2_tirm_sag", scanner.FLAIR, axis=0, thickness=12, seed=3),
    5: Series("ep2d_3scan", scanner.DIFFUSION),
    6: Series("ep2d_3scan", scanner.ADC),
    7: Series("t1_se_tra", AGENT, thickness=12, seed=4),
}


def write_patients(root: Path) -> Path:
    """Write the protocol of the first patient, and two of its scans of the second."""
    for number, series in PROTOCOL.items():
        write_series(root / "A 1", FIRST, number, series)
    write_screenshot(root / "A 1", FIRST, 30)
    for number in (2, 4):
        write_series(root / "B2" / "x" / "y", SECOND, number, PROTOCOL[number])
    (root / "B2" / "notes.txt").write_text("not DICOM")
    return root


@dataclass(frozen=True)
class Scanned:
    """A folder of DICOM, its series, and the images that dcm2niix makes of them."""

    folder: Path
    series: tuple[SeriesHeader, ...]
    images: tuple[ConvertedImage, ...]


@pytest.fixture(scope="session")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Scanned:
    folder = write_patients(tmp_path_factory.mktemp("patients"))
    scratch = tmp_path_factory.mktemp("converted")
    return Scanned(folder, read_headers(folder), convert(folder, scratch))


HEADER = SeriesHeader(
    uid="1.2",
    number=5,
    description="",
    modality="MR",
    kind="MR Image Storage",
    image_type=("ORIGINAL", "PRIMARY", "M"),
    body_part="",
    has_agent=False,
    patient="P",
    is_phantom=False,
    study="1",
    date="",
    folder=Path("in"),
    count=20,
)
IMAGE = ConvertedImage(
    uid="1.2",
    path=Path("1.2.nii"),
    metadata={},
    shape=(256, 256, 24),
    affine=np.diag([1.0, 1.0, 5.0, 1.0]),
    has_b_values=False,
    mended="",
)


@pytest.fixture
def make_header() -> Callable[..., SeriesHeader]:
    return lambda **known: replace(HEADER, **known)


@pytest.fixture
def make_image() -> Callable[..., ConvertedImage]:
    def make(**known: object) -> ConvertedImage:
        fields = {name: known.pop(name) for name in list(known) if hasattr(IMAGE, name)}
        return replace(IMAGE, metadata=known, **fields)

    return make
