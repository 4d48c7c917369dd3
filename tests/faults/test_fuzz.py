"""Whatever a file holds, reading it ends well or in a readable error.

``FUZZ_SECONDS`` is how long each of these goes on; a moment by default.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bids_unires.dataset.acquisition import MAX_CONFIRMED_RATIO, acquisition_from_sidecar
from bids_unires.dataset.entities import contrast_name, parse_name
from bids_unires.dataset.ignored import ignored_files
from bids_unires.dataset.metadata import SidecarReader
from bids_unires.dataset.query import raw_entities
from bids_unires.dataset.reading import load_labels, load_volume
from bids_unires.dataset.scans import Contrast, ParticipantPlan, Scan
from bids_unires.dataset.sidecar import image_sidecar
from bids_unires.dataset.writing import write_json
from bids_unires.errors import UniResError
from bids_unires.space.volume import LabelVolume, Volume

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
MEMORY_LIMIT = 2**26
SHAPE = (5, 6, 7)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])

# Where a header keeps numbers that decide about memory, time or geometry, and their forms.
FIELDS = {
    nib.Nifti1Image: [
        *((0, "i"), (40, "h"), (42, "h"), (44, "h"), (46, "h"), (48, "h"), (70, "h"), (72, "h")),
        *((76, "f"), (80, "f"), (84, "f"), (88, "f"), (108, "f"), (112, "f"), (116, "f")),
        *((123, "B"), (252, "h"), (254, "h"), (256, "f"), (260, "f"), (264, "f"), (268, "f")),
        *((280 + 4 * index, "f") for index in range(12)),
        *((344, "i"), (348, "i"), (352, "i")),
    ],
    nib.Nifti2Image: [
        *((0, "i"), (12, "h"), (14, "h"), (16, "q"), (24, "q"), (32, "q"), (40, "q"), (48, "q")),
        *((104, "d"), (112, "d"), (120, "d"), (128, "d"), (168, "q"), (176, "d"), (184, "d")),
        *((344, "i"), (348, "i"), (352, "d"), (360, "d"), (368, "d")),
        *((400 + 8 * index, "d") for index in range(12)),
    ],
}
# Where a header keeps the offset of its voxels.
OFFSET_FIELDS = {nib.Nifti1Image: (108, "f"), nib.Nifti2Image: (168, "q")}
RANGES = {"B": (0, 2**8 - 1), "h": (-(2**15), 2**15 - 1), "i": (-(2**31), 2**31 - 1)}


def for_a_while(*strategies: st.SearchStrategy[Any]) -> Callable[..., Callable[..., None]]:
    """Run a test on ever new examples until its time is up; a failure is cut down to size."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        end: list[float] = []
        failures: list[Exception] = []

        @settings(
            max_examples=10**7,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(st.tuples(*strategies))
        def run(arguments: tuple[Any, ...]) -> None:
            end[:] = end or [time.monotonic() + SECONDS]
            # A failure is worth the time it takes to make it small.
            if time.monotonic() > end[0] and not failures:
                raise _Enough
            try:
                test(*arguments)
            except Exception as error:
                failures.append(error)
                raise

        def timed() -> None:
            with pytest.raises(_Enough):
                run()

        timed.__name__ = test.__name__
        return pytest.mark.timeout(10 * SECONDS + 120)(timed)

    return decorate


class _Enough(BaseException):
    """The time is up."""


@st.composite
def with_extensions(draw: st.DrawFn, kind: type[nib.Nifti1Image], content: bytearray) -> bytearray:
    """The same image with extensions before its voxels, whose sizes may be wrong."""
    size, (offset, form) = kind.header_class.sizeof_hdr, OFFSET_FIELDS[kind]
    lengths = draw(st.lists(st.sampled_from([8, 16, 30, 688, 2048]), max_size=3))
    between = b""
    for length in lengths:
        stated = draw(st.just(length) | st.integers(*RANGES["i"]))
        between += struct.pack("<2i", stated, draw(st.sampled_from([0, 4, 6]))) + bytes(length - 8)
    flag = draw(st.sampled_from([b"\0\0\0\0", b"\1\0\0\0", b"\1\1\1\1"]))
    whole = content[:size] + flag + between + content[size + 4 :]
    whole[offset : offset + struct.calcsize(form)] = struct.pack(
        "<" + form, size + 4 + len(between)
    )
    return whole


@st.composite
def headers_of_two_forms(draw: st.DrawFn) -> bytes:
    """An image whose sform and qform hold anything, whatever their codes."""
    kind = draw(st.sampled_from(list(FIELDS)))
    header = kind.header_class()
    header.set_data_shape(SHAPE)
    header.set_data_dtype(np.uint8)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    numbers = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 0.70711, 3.0, np.nan])
    header["sform_code"], header["qform_code"] = (draw(st.integers(-1, 6)) for _ in range(2))
    header["xyzt_units"] = draw(st.integers(0, 255))
    for row in ("srow_x", "srow_y", "srow_z"):
        header[row] = draw(st.tuples(*[numbers] * 4))
    for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
        header[field] = draw(numbers)
    header["pixdim"] = draw(st.tuples(*[numbers] * 8))
    header["scl_slope"], header["scl_inter"] = draw(numbers), draw(numbers)
    voxels = np.arange(np.prod(SHAPE), dtype=np.uint8)
    return bytes(header.binaryblock + bytes(4) + voxels.tobytes())


@st.composite
def damaged_images(draw: st.DrawFn) -> bytes:
    """An image with some numbers of its header replaced, cut, or overwritten, and compressed."""
    kind = draw(st.sampled_from(list(FIELDS)))
    dtype = draw(st.sampled_from(["u1", "i2", "i4", "f4", "f8", "u8", "c8"]))
    data = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    content = bytearray(kind(data, AFFINE, dtype=data.dtype).to_bytes())
    content = draw(with_extensions(kind, content))
    for offset, form in draw(st.lists(st.sampled_from(FIELDS[kind]), max_size=4)):
        if form in "fd":
            value = draw(st.floats(width=32 if form == "f" else 64))
        else:
            value = draw(st.integers(*RANGES.get(form, (-(2**63), 2**63 - 1))))
        content[offset : offset + struct.calcsize(form)] = struct.pack("<" + form, value)
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(content)))
        content[start : start + 8] = draw(st.binary(max_size=12))
    content = content[: draw(st.none() | st.integers(0, len(content)))]
    if not draw(st.booleans()):
        return bytes(content)
    packed = bytearray(gzip.compress(bytes(content), 1))
    if draw(st.booleans()):
        start = draw(st.integers(0, len(packed)))
        packed[start : start + 4] = draw(st.binary(max_size=6))
    return bytes(packed[: draw(st.none() | st.integers(0, len(packed)))])


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("fuzz")
    return FOLDER


FOLDER = Path()


@for_a_while(damaged_images() | headers_of_two_forms() | st.binary(max_size=800))
def test_any_image(content: bytes) -> None:
    path = FOLDER / "sub-01_T1w.nii.gz"
    path.write_bytes(content)
    for load in (load_volume, load_labels):
        try:
            volume = load(path, MEMORY_LIMIT)
        except UniResError as error:
            message = str(error)
        else:
            message = f"{path} is fine"
            assert_is_a_volume(volume)
        assert str(path) in message
        assert "\n" not in message


def assert_is_a_volume(volume: Volume | LabelVolume) -> None:
    assert volume.data.ndim == 3
    assert min(volume.data.shape) >= 2
    assert np.isfinite(volume.affine).all()
    assert abs(np.linalg.det(volume.affine)) > 0
    if isinstance(volume, Volume):
        assert np.isfinite(volume.data).any()
    acquisition_from_sidecar({}, volume.affine)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
known_fields = st.sampled_from(
    [
        *("SliceThickness", "SpacingBetweenSlices", "MRAcquisitionType", "SliceEncodingDirection"),
        *("ImageType", "SkullStripped", "EchoTime", "FlipAngle", "Manufacturer", "LabelMap"),
    ]
)


CODECS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "cp1252"]


def _spelled(value: Any, codec: str = "utf-8") -> bytes:
    text = json.dumps(value, ensure_ascii=codec in ("latin-1", "cp1252"))
    return text.encode(codec, "surrogatepass")


@for_a_while(
    st.binary(max_size=60)
    | st.builds(_spelled, json_values, st.sampled_from(CODECS))
    | st.builds(
        _spelled,
        st.dictionaries(known_fields | st.text(), json_values, max_size=6),
        st.sampled_from(CODECS),
    )
    | st.text(max_size=20).map(lambda text: f'{{"A": "{text}"}}'.encode("latin-1", "replace")),
    st.sampled_from(["sub-01/anat/sub-01_T1w.json", "T1w.json", "sub-01/sub-01_T1w.json"]),
)
def test_any_sidecar(content: bytes, name: str) -> None:
    raw = FOLDER / "raw"
    image = raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    image.parent.mkdir(parents=True, exist_ok=True)
    for path in raw.rglob("*.json"):
        path.unlink()
    (raw / name).write_bytes(content)
    metadata = SidecarReader(raw).metadata(image)
    acquisition = acquisition_from_sidecar(metadata, AFFINE)
    assert acquisition.slice_axis in (0, 1, 2)
    assert 1 - 1.02 * MAX_CONFIRMED_RATIO <= acquisition.gap < 1
    scan = Scan(image, {"subject": "01", "suffix": "T1w"}, metadata, "bids:raw:a")
    contrast = Contrast("T1w", {"suffix": "T1w"}, (scan,))
    sidecar = image_sidecar(
        ParticipantPlan("01", None, (contrast,)),
        contrast,
        description="",
        voxel_size=(1, 1, 1),
        spatial_reference="",
    )
    json.loads(write_json(FOLDER / "out.json", sidecar).read_text("utf-8"))


patterns = st.lists(
    st.text(max_size=12)
    | st.text("!*?[]/\\#.-_sub01anct ", max_size=12)
    | st.sampled_from(["sub-01/", "*_T1w.nii.gz", "!sub-01*", "**/anat/**", "ct", "\r", "\ufeff"]),
    max_size=5,
)


@for_a_while(patterns, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.binary(max_size=9))
def test_any_patterns_of_ignored_files(lines: list[str], codec: str, more: bytes) -> None:
    content = "\n".join(lines).encode(codec, "surrogatepass") + more
    (FOLDER / ".bidsignore").write_bytes(content)
    ignored = ignored_files(FOLDER)
    for path in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01/ct/sub-01_ct.nii.gz", "a"):
        assert ignored.leaves_out(Path(path)) in (True, False)


entities = st.sampled_from(["sub", "ses", "acq", "ce", "rec", "run", "echo", "inv", "part", "x"])
labels = st.sampled_from(["01", "a", "mag", "phase", "1", "", "ax", "²", "\u0661"]) | st.text(
    max_size=4
)
names = st.builds(
    lambda pairs, suffix, ending: "_".join([f"{k}-{v}" for k, v in pairs] + [suffix]) + ending,
    st.lists(st.tuples(entities, labels), max_size=5),
    st.sampled_from(["T1w", "ct", "dseg", ""]) | st.text(max_size=4),
    st.sampled_from([".nii", ".nii.gz", ".json", "", ".", ".nii.gz.nii"]) | st.text(max_size=4),
)


@for_a_while(names | st.text())
def test_any_name(name: str) -> None:
    try:
        parsed = parse_name(name)
    except ValueError:
        return
    spelled = "_".join([*(f"{k}-{v}" for k, v in parsed.entities.items()), parsed.suffix])
    assert spelled + parsed.extension == name
    assert parsed.comparable.keys() == parsed.entities.keys()
    assert not {"/", "\0", ".."} & set(spelled)
    for folder in ("anat", "ct"):
        try:
            found = raw_entities(Path("sub-01") / folder / name)
        except ValueError:
            continue
        assert contrast_name(found).endswith(parsed.suffix)
