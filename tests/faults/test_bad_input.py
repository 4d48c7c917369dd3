"""What is bad or odd in the input, and what a run says about it.

Every run is watched: nothing but its output folder may change, neither content nor times.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from bids_unires.cli.main import main
from tests.faults.heads import (
    HEAD_CENTRE,
    LINEAR,
    QUICK,
    Place,
    Told,
    affine_of,
    head,
    scan,
    voxels_of_head,
)
from tests.pages import with_pages, without_pages

WatchedRun = Callable[..., Told]
Prepare = Callable[[Place], Sequence[str] | None]
Options = Sequence[str] | None


@dataclass(frozen=True)
class Case:
    """Something that is wrong with a dataset or a command, and what has to be said."""

    name: str
    prepare: Prepare
    code: int
    says: str


def case_id(case: Case) -> str:
    return case.name.replace(" ", "-")


# ------------------------------------------------------------------ commands and folders


def _in_the_way(place: Place) -> Options:
    place.out.write_text("a file")
    return None


def _config(text: str) -> Prepare:
    def prepare(place: Place) -> Options:
        path = place.root / "config.toml"
        path.write_text(text)
        return ["--config-file", str(path)]

    return prepare


def _filters(text: str) -> Prepare:
    def prepare(place: Place) -> Options:
        path = place.root / "filter.json"
        path.write_text(text)
        return ["--bids-filter-file", str(path)]

    return prepare


def _give(*options: str) -> Prepare:
    return lambda place: [option.format(place=place) for option in options]


def _description(content: bytes) -> Prepare:
    def prepare(place: Place) -> Options:
        (place.raw / "dataset_description.json").write_bytes(content)
        return None

    return prepare


def _owned_by_another(place: Place) -> Options:
    place.out.mkdir()
    text = json.dumps({"GeneratedBy": [{"Name": "fMRIPrep"}]})
    (place.out / "dataset_description.json").write_text(text)
    return None


def _unreadable_owner(place: Place) -> Options:
    place.out.mkdir()
    (place.out / "dataset_description.json").write_text("[" * 100_000)
    return None


def _twice(place: Place) -> Options:
    place.write("sub-01_T1w.nii")
    return None


def _link_to_nowhere(place: Place) -> Options:
    place.out.symlink_to(place.root / "nowhere" / "out")
    return None


def _link_in_circles(place: Place) -> Options:
    place.out.symlink_to(place.root / "other")
    (place.root / "other").symlink_to(place.out)
    return None


def _work_links_in_circles(place: Place) -> Options:
    (place.root / "a").symlink_to(place.root / "b")
    (place.root / "b").symlink_to(place.root / "a")
    return ["-w", str(place.root / "a")]


def _labels_are_a_file(place: Place) -> Options:
    (place.root / "labels").write_text("")
    return ["--labels", str(place.root / "labels")]


def _scan_is_a_folder(place: Place) -> Options:
    place.t1w.unlink()
    place.t1w.mkdir()
    return None


REFUSED = [
    Case("level unknown", lambda p: ["LEVEL", "cohort"], 17, "'cohort' is unknown.*participant"),
    Case("option unknown", _give("--no-such-option"), 64, "--no-such-option"),
    Case("number is no number", _give("--reg-scale", "much"), 64, "--reg-scale.*much"),
    Case("number is nan", _give("--reg-scale", "nan"), 64, "--reg-scale must be above 0"),
    Case("voxels too small", _give("--voxel-size", "0.001"), 64, "--voxel-size must be 0.1 to 20"),
    Case("two voxel sizes", _give("--voxel-size", "1", "2"), 64, "one number or three"),
    Case("label escapes", _give("--participant-label", "../x"), 64, r"'\.\./x' is no BIDS label"),
    Case("label escapes by session", _give("--session-label", "a/../../b"), 64, "no BIDS label"),
    Case("label with a line break", _give("--participant-label", "0\n1"), 64, "no BIDS label"),
    Case("template escapes", _give("--template", "../../x"), 64, "--template must be a name"),
    Case("participant unknown", _give("--participant-label", "99"), 18, "no participant 99.*01"),
    Case("session unknown", _give("--session-label", "99"), 18, "no session 99.*no sessions"),
    Case("modality absent", _give("-m", "T2w"), 18, "no image of T2w"),
    Case("device absent", _give("--device", "cuda:99"), 64, "--device: no device 'cuda:99'"),
    Case("config file absent", _give("--config-file", "none.toml"), 66, "none.toml does not exist"),
    Case("config file is a folder", _give("--config-file", "."), 64, "cannot be read"),
    Case("config file no TOML", _config("voxel-size = "), 64, "config.toml is not TOML"),
    Case("config key unknown", _config("reg-scal = 2"), 64, "unknown key 'reg-scal'.*'reg-scale'"),
    Case("config nested deeply", _config("a = " + "[" * 10**5), 64, "config.toml"),
    Case("config of wrong type", _config("reg-scale = [[1]]"), 64, "config.toml.*reg-scale"),
    Case("filter file absent", _give("--bids-filter-file", "no.json"), 66, "no.json does not"),
    Case("filter file no JSON", _filters("{"), 64, "filter.json is not readable JSON"),
    Case("filter file nested deeply", _filters("[" * 100_000), 64, "filter.json is not readable"),
    Case("filter modality unknown", _filters('{"T9w": {}}'), 64, "unknown key 'T9w'"),
    Case("filter entity unknown", _filters('{"T1w": {"x": 1}}'), 64, "unknown entity x"),
    Case("filter by an object", _filters('{"T1w": {"run": {"a": 1}}}'), 64, "filter.json.*run"),
    Case("filter by a pattern", _filters('{"T1w": {"acquisition": "["}}'), 18, "no image of T1w"),
    Case("output is the input", lambda p: ["OUTPUT", str(p.raw)], 64, "lies in the dataset"),
    Case("output in the input", lambda p: ["OUTPUT", str(p.raw / "x")], 64, "lies in the dataset"),
    Case("output is a file", _in_the_way, 73, "out cannot be created: .* is not a folder"),
    Case("output links to nowhere", _link_to_nowhere, 73, "out cannot be created: .* broken link"),
    Case("output links in circles", _link_in_circles, 73, "out cannot be created"),
    Case("output of another program", _owned_by_another, 73, "a dataset of fMRIPrep"),
    Case("output of who knows whom", _unreadable_owner, 73, "not readable JSON"),
    Case("work folder in the input", _give("-w", "{place.raw}/w"), 64, "--work-dir .* lies in"),
    Case(
        "work folder links in circles",
        _work_links_in_circles,
        73,
        "--work-dir .* cannot be written to",
    ),
    Case("index in the input", _give("--bids-database-dir", "{place.raw}/i"), 64, "the index data"),
    Case("labels absent", _give("--labels", "none"), 66, "dataset of labels none does not exist"),
    Case("labels are a file", _labels_are_a_file, 66, "dataset of labels .* does not exist"),
    Case("dataset absent", lambda p: p.raw.rename(p.root / "x") and None, 66, "does not exist"),
    Case(
        "description absent", lambda p: (p.raw / "dataset_description.json").unlink(), 16, "has no"
    ),
    Case("description no JSON", _description(b"{"), 16, "is not readable JSON"),
    Case("description a list", _description(b"[]"), 16, "a JSON list, not an object"),
    Case("description of bytes", _description(b"\xff\xfe\x00"), 16, "is not readable JSON"),
    Case("description nested deeply", _description(b"[" * 10**6), 16, "nested too deeply"),
    Case("description of 10 MB", _description(b"[" * 10**7), 16, "it has 10 MiB"),
    Case("one image twice", _twice, 16, "have the same name: keep one of them"),
    Case("folder in place of a scan", _scan_is_a_folder, 18, "no image of T1w"),
]


@pytest.mark.parametrize("case", REFUSED, ids=case_id)
def test_what_cannot_begin_is_refused_in_one_line(
    case: Case, place: Place, watched_run: WatchedRun
) -> None:
    options = list(case.prepare(place) or ())
    out_before = sorted(place.out.rglob("*"))
    level, output = "participant", place.out
    if options[:1] == ["LEVEL"]:
        level, options = options[1], []
    elif options[:1] == ["OUTPUT"]:
        output, options = Path(options[1]), []
    told = watched_run(*options, level=level, output=output)
    (line,) = told.lines
    assert line.startswith("bids_unires: error: ")
    assert re.search(case.says, line), line
    assert told.code == case.code
    assert sorted(place.out.rglob("*")) == out_before


# ------------------------------------------------------------------ scans that cannot be used


def _as(make: Callable[[nib.Nifti1Image], nib.Nifti1Image]) -> Prepare:
    """Replace the scan by one made of it."""

    def prepare(place: Place) -> Options:
        make(scan()).to_filename(place.t1w)
        return None

    return prepare


def _voxels(make: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Prepare:
    def with_voxels(image: nib.Nifti1Image) -> nib.Nifti1Image:
        data = make(image.get_fdata(dtype=np.float32))
        return nib.Nifti1Image(data, image.affine, dtype=data.dtype)

    return _as(with_voxels)


def _bytes(make: Callable[[bytes], bytes]) -> Prepare:
    """Replace the bytes of the scan, before compression."""

    def prepare(place: Place) -> Options:
        place.t1w.write_bytes(gzip.compress(make(scan().to_bytes()), 1))
        return None

    return prepare


def _header(offset: int, form: str, *values: float) -> Prepare:
    packed = struct.pack(form, *values)
    return _bytes(lambda content: content[:offset] + packed + content[offset + len(packed) :])


def _sform_alone(offset: int, *values: float) -> Prepare:
    """Replace numbers of the sform, and mark the qform as unset."""
    packed = struct.pack(f"<{len(values)}f", *values)

    def prepare(content: bytes) -> bytes:
        content = content[:252] + bytes(2) + content[254:]
        return content[:offset] + packed + content[offset + len(packed) :]

    return _bytes(prepare)


def _quaternion(*values: float, sform: bytes = bytes(2)) -> Prepare:
    """Replace the quaternion, and the code of the sform."""
    packed = struct.pack("<3f", *values)
    return _bytes(lambda c: c[:254] + sform + packed + c[254 + 2 + len(packed) :])


def _compressed(make: Callable[[bytes], bytes]) -> Prepare:
    def prepare(place: Place) -> Options:
        place.t1w.write_bytes(make(place.t1w.read_bytes()))
        return None

    return prepare


def _linked(target: str) -> Prepare:
    def prepare(place: Place) -> Options:
        place.t1w.unlink()
        place.t1w.symlink_to(target)
        return None

    return prepare


def _bomb(content: bytes) -> bytes:
    """A header that promises little, and 2 GiB of zeros after it."""
    return gzip.compress(content) + 2**7 * gzip.compress(bytes(2**24), 1)


def _prepare_bomb(place: Place) -> Options:
    place.t1w.write_bytes(_bomb(scan().to_bytes()))
    return None


def _fifo(place: Place) -> Options:
    place.t1w.unlink()
    os.mkfifo(place.t1w)
    return None


def _no_permission(place: Place) -> Options:
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    place.t1w.chmod(0)
    return None


def _one_of_two_bad(place: Place) -> Options:
    place.write("sub-01_FLAIR").write_bytes(b"\0" * 1000)
    return None


def _bad_label_image(place: Place) -> Options:
    place.write("sub-01_desc-lesion_dseg", scan())
    return None


def _scans_apart(place: Place) -> Options:
    affine = affine_of()
    affine[:3, 3] += 2000
    place.write("sub-01_FLAIR", scan(affine))
    return None


def _rgb(data: NDArray[np.float32]) -> NDArray[Any]:
    return np.zeros(data.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])


UNUSABLE = [
    Case("empty", lambda p: p.t1w.write_bytes(b"") and None, 65, "is empty"),
    Case("compressed nothing", _compressed(lambda c: gzip.compress(b"")), 65, "T1w.nii.gz"),
    *(
        Case(f"truncated to {share} %", _compressed(lambda c, s=share: c[: len(c) * s // 100]), 65,
             "truncated or damaged")
        for share in (1, 10, 50, 99)
    ),
    Case("truncated at its end", _compressed(lambda c: c[:-1]), 65, "truncated or damaged"),
    Case("wrong checksum", _compressed(lambda c: c[:-8] + b"1234" + c[-4:]), 65, "damaged"),
    Case("flipped bit", _compressed(lambda c: c[:-900] + bytes([c[-900] ^ 8]) + c[-899:]), 65, ""),
    Case("truncated inside", _bytes(lambda c: c[:-1]), 65, "is truncated: .* promises"),
    Case("header alone", _bytes(lambda c: c[:352]), 65, "is truncated"),
    Case("half a header", _bytes(lambda c: c[:200]), 65, "damaged NIfTI header|truncated|not a NI"),
    Case("web page", lambda p: p.t1w.write_text("<html>404</html>" * 99) and None, 65, "not a NIf"),
    Case("bomb", _prepare_bomb, 65, "decompresses to more than"),
    Case("huge dimensions", _header(40, "<4h", 3, 32767, 32767, 32767), 65, "is truncated|memory"),
    Case("negative dimensions", _header(40, "<4h", 3, -30, 30, 10), 65, "T1w.nii.gz"),
    Case("dimension of zero", _header(40, "<4h", 3, 0, 30, 10), 65, "T1w.nii.gz"),
    Case("seventeen axes", _header(40, "<h", 17), 65, "T1w.nii.gz"),
    Case("unknown data type", _header(70, "<2h", 7777, 16), 65, "T1w.nii.gz"),
    Case("offset before data", _header(108, "<f", -5), 65, "T1w.nii.gz"),
    Case("offset beyond data", _header(108, "<f", 1e9), 65, "truncated|offset"),
    Case("offset of nan", _header(108, "<f", np.nan), 65, "T1w.nii.gz"),
    Case("affine of nan", _sform_alone(280, np.nan, 0, 0), 65, "NaN or infinity in its sform"),
    Case("affine singular", _sform_alone(280, 0, 5, 0), 65, "singular"),
    Case("affine of zeros", _sform_alone(280, 0, 0, 0), 65, "singular or absurd"),
    Case("affine in metres", _sform_alone(280, 0.005, 0, 0), 65, "singular or absurd"),
    Case("affine far away", _sform_alone(292, 1e9), 65, "distance of 1e\\+09 mm from"),
    Case("affine of 1e30", _sform_alone(280, 1e30, 0, 0), 65, "affine"),
    Case("quaternion of no rotation", _quaternion(0.8, 0.7, 0.3), 65, "quaternion of no rotation"),
    Case("quaternion of nan", _quaternion(np.nan, 0, 0), 65, "NaN or infinity"),
    Case("four axes", _voxels(lambda d: np.stack([d, d], -1)), 65, "4-D with shape 30x30x10x2"),
    Case("two axes", _voxels(lambda d: d[..., 5]), 65, "2-D"),
    Case("colour", _voxels(_rgb), 65, "RGB"),
    Case("complex", _voxels(lambda d: d.astype(np.complex64)), 65, "complex"),
    Case("zeros", _voxels(np.zeros_like), 65, "only zeros"),
    Case("constant", _voxels(lambda d: np.full_like(d, 7)), 65, "one value only"),
    Case("nothing but nan", _voxels(lambda d: np.full_like(d, np.nan)), 65, "no finite voxel"),
    Case("nothing but infinity", _voxels(lambda d: np.full_like(d, np.inf)), 65, "no finite"),
    Case("single slice", _voxels(lambda d: d[..., 5:6]), 65, "single slice"),
    Case("1e38", _voxels(lambda d: d * np.float32(1e36)), 65, "intensities up to .*: rescale it"),
    Case("1e20", _voxels(lambda d: d * np.float32(1e18)), 65, "intensities up to .*: rescale it"),
    Case("1e-36", _voxels(lambda d: d * np.float32(1e-38)), 65, "intensities up to .*: rescale"),
    Case("1e300", _voxels(lambda d: d.astype(np.float64) * 1e298), 65, "T1w.nii.gz"),
    Case("link to nowhere", _linked("none.nii.gz"), 66, "link to none.nii.gz"),
    Case("link in circles", _linked("sub-01_T1w.nii.gz"), 66, "link"),
    Case("link to an absent annex", _linked("../../.git/annex/objects/a/b"), 66, "datalad -C"),
    Case("pointer of an annex", lambda p: p.t1w.write_text("/annex/objects/MD5E-s4") and None, 66,
         "datalad -C"),
    Case("pipe", _fifo, 65, "no regular file"),
    Case("endless device", _linked("/dev/zero"), 65, "no regular file"),
    Case("no permission", _no_permission, 74, "Permission denied"),
    Case("second contrast bad", _one_of_two_bad, 65, "sub-01_FLAIR.nii.gz is not a NIfTI"),
    Case("labels of fractions", _bad_label_image, 65, "dseg.nii.gz holds .* no label"),
    Case("memory too small", _give("--mem-mb", "1"), 65, "memory"),
]  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE, ids=case_id)
def test_what_cannot_be_used_fails_its_participant_in_one_line(
    case: Case, place: Place, watched_run: WatchedRun
) -> None:
    place.write("sub-02_T1w", scan(seed=2))
    options = list(case.prepare(place) or ())
    told = watched_run(*options, "-q", "-q", "--participant-label", "01")
    failure, summary = told.lines
    assert " ERROR sub-01 failed: " in failure
    assert re.search(case.says, failure.partition(" failed: ")[2]), failure
    assert summary.endswith("1 of 1 failed: sub-01")
    assert told.code == case.code
    assert not list(place.out.rglob("sub-01*_desc-sr_*"))


# ------------------------------------------------------------------ odd, but fine


def rotation_of(*degrees: float) -> NDArray[np.float64]:
    """Rotations about x, y and z, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        rows = [other for other in range(3) if other != axis]
        c, s = np.cos(angle), np.sin(angle)
        turn[np.ix_(rows, rows)] = [[c, -s], [s, c]]
        matrix = turn @ matrix
    return matrix


def _placed(affine: NDArray[np.float64]) -> Prepare:
    def prepare(place: Place) -> Options:
        scan(affine).to_filename(place.t1w)
        return None

    return prepare


def _encoded(
    dtype: DTypeLike, endianness: str = "<", slope: float = 1, inter: float = 0
) -> Prepare:
    """Store intensities as ``(intensity - inter) / slope``."""

    def prepare(place: Place) -> Options:
        header = nib.Nifti1Header(endianness=endianness)
        header.set_data_dtype(np.dtype(dtype).newbyteorder(endianness))
        header.set_data_shape(affine_and_shape[1])
        header.set_sform(affine_and_shape[0], 1)
        header["vox_offset"], header["scl_slope"], header["scl_inter"] = 352, slope, inter
        header["magic"] = b"n+1"
        stored = np.round((voxels_of_head().astype(np.float64) - inter) / (slope or 1))
        voxels = stored.astype(header.get_data_dtype()).tobytes(order="F")
        place.t1w.write_bytes(gzip.compress(header.binaryblock + bytes(4) + voxels))
        return None

    affine_and_shape = affine_of(), (30, 30, 10)
    return prepare


def _uncompressed(place: Place) -> Options:
    place.t1w.unlink()
    place.write("sub-01_T1w.nii")
    return None


def _nifti2(image: nib.Nifti1Image) -> nib.Nifti2Image:
    return nib.Nifti2Image(image.dataobj, image.affine)


def _qform_only(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.set_sform(None, 0)
    return image


def _forms_disagree(image: nib.Nifti1Image) -> nib.Nifti1Image:
    other = image.affine.copy()
    other[:3, 3] += 40
    image.set_qform(other, 1)
    return image


def _stretched(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.set_sform(np.diag([1.2, 0.85, 1.15, 1]) @ image.affine, 4)
    return image


def _placed_by_rounded_quaternion(place: Place) -> Options:
    # A turn by 180 degrees: five digits make the quaternion longer than 1.
    turn = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1.0]])
    image = scan(affine_of(rotation=turn))
    image.set_sform(None, 0)
    half = struct.pack("<3f", 0.70711, 0.70711, 0)
    content = image.to_bytes()
    place.t1w.write_bytes(gzip.compress(content[:256] + half + content[268:], 1))
    return None


def _extension(length: int, stated: int) -> Prepare:
    """Put an extension of that length before the voxels, which states another."""

    def prepare(content: bytes) -> bytes:
        offset = struct.pack("<f", 352 + length)
        extension = struct.pack("<2i", stated, 4) + b"x" * (length - 8)
        return content[:108] + offset + content[112:348] + b"\1\0\0\0" + extension + content[352:]

    return _bytes(prepare)


def _in_unit(unit: str, per_mm: float) -> Prepare:
    def prepare(image: nib.Nifti1Image) -> nib.Nifti1Image:
        converted = nib.Nifti1Image(image.dataobj, np.diag([per_mm] * 3 + [1]) @ image.affine)
        converted.set_qform(converted.affine, 1)
        converted.header.set_xyzt_units(unit, "sec")
        return converted

    return _as(prepare)


def _no_orientation(image: nib.Nifti1Image) -> nib.Nifti1Image:
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    return image


def _some_missing(data: NDArray[np.float32]) -> NDArray[np.float32]:
    data[3:5, 3:5, 2] = np.nan
    data[0, 0, 0] = -np.inf
    return data


def _two_members(content: bytes) -> bytes:
    plain = gzip.decompress(content)
    return gzip.compress(plain[:5000]) + gzip.compress(plain[5000:])


def _linked_in_circles(place: Place) -> Options:
    (place.raw / "sub-01" / "sub-01").symlink_to("../..")
    (place.anat / "anat").symlink_to(".")
    (place.raw / "derivatives").symlink_to(".")
    return None


def _stray_names(place: Place) -> Options:
    for name in (
        b"sub-01_T1w (copy).nii.gz",
        b"\xff\xfe_T1w.nii.gz",
        "sub-01_acq-é_T1w.nii.gz".encode(),
        b"sub-01_run-x_T1w.nii.gz",
        b"sub-01_acq-'$(touch x)_T1w.nii.gz",
        b"a\nb_T1w.nii.gz",
    ):
        (place.anat / os.fsdecode(name)).write_bytes(place.t1w.read_bytes())
    for folder in ("sub-", "sub-..", "sub-0 2", "sub-<b>", "sub-é"):
        (place.raw / folder / "anat").mkdir(parents=True)
        (place.raw / folder / "anat" / f"{folder}_T1w.nii.gz").write_bytes(place.t1w.read_bytes())
    return None  # fmt: skip


FINE = [
    Case("uncompressed", _uncompressed, 0, ""),
    Case("NIfTI-2", _as(_nifti2), 0, ""),
    Case("two gzip members", _compressed(_two_members), 0, ""),
    Case("bytes after the image", _bytes(lambda c: c + bytes(999)), 0, ""),
    Case("bytes after the compressed image", _compressed(lambda c: c + bytes(999)), 0, ""),
    Case("big-endian", _encoded(np.int16, ">"), 0, ""),
    Case("big-endian float64", _encoded(np.float64, ">"), 0, ""),
    Case("int8", _encoded(np.int8, slope=2.5, inter=150), 0, ""),
    Case("int8 to its ends", _encoded(np.int8, slope=1.1, inter=140), 0, ""),
    Case("uint64", _encoded(np.uint64, slope=1e-16), 0, ""),
    Case("int64", _encoded(np.int64, slope=1e-16, inter=-100), 0, ""),
    Case("slope of zero", _encoded(np.int16, slope=0), 0, ""),
    Case("slope of infinity", _header(112, "<2f", np.inf, 0), 0, ""),
    Case("slope of nan", _header(112, "<2f", np.nan, np.nan), 0, ""),
    Case("units of 1e12", _voxels(lambda d: d * np.float32(1e12)), 0, ""),
    Case("units of 1e-16", _voxels(lambda d: d * np.float32(1e-16)), 0, ""),
    Case("slope and intercept", _encoded(np.int16, slope=0.05, inter=-3), 0, ""),
    Case("negative slope", _encoded(np.int16, slope=-0.1), 0, ""),
    Case("qform alone", _as(_qform_only), 0, ""),
    Case("forms disagree", _as(_forms_disagree), 0, "sform and qform disagree by up to 69.3 mm"),
    Case("sform of nan", _header(280, "<4f", np.nan, 0, 0, 0), 0, "sform cannot be used"),
    Case("sform of zeros", _header(280, "<12f", *[0] * 12), 0, "its sform .*; the qform is used"),
    Case("sform far away", _header(292, "<f", 1e9), 0, "sform cannot be used, it has a distance"),
    Case("sform of a template", _as(_stretched), 0, "its sform has voxels of .*the qform"),
    Case("impossible quaternion", _quaternion(0.8, 0.7, 0.3, sform=b"\1\0"), 0, "qform cannot be"),
    Case("rounded quaternion", _placed_by_rounded_quaternion, 0, ""),
    Case("extension of 2 kB", _extension(2000, 2000), 0, ""),
    Case("damaged extension", _extension(2000, -7), 0, "an extension of its header is damaged"),
    Case("micrometres", _in_unit("micron", 1e3), 0, "T1w.nii.gz: its header is in micrometres"),
    Case("metres", _in_unit("meter", 1e-3), 0, "T1w.nii.gz: its header is in metres"),
    Case("mm called metres", _in_unit("meter", 1), 0, "T1w.nii.gz: .*mm are assumed"),
    Case("mm called micrometres", _in_unit("micron", 1), 0, "T1w.nii.gz: .*mm are assumed"),
    Case("some voxels missing", _voxels(_some_missing), 0, "5 voxels are NaN or infinite"),
    Case("left-handed", _placed(affine_of(rotation=np.diag([-1.0, 1, 1]))), 0, ""),
    Case("oblique", _placed(affine_of(rotation=rotation_of(40, -35, 30))), 0, ""),
    Case("upside down", _placed(affine_of(rotation=rotation_of(170, 10, 95))), 0, ""),
    Case("axes permuted", _placed(affine_of(rotation=np.eye(3)[[1, 2, 0]])), 0, ""),
    Case("links in circles", _linked_in_circles, 0, ""),
    Case("stray names", _stray_names, 0, "is skipped"),
]
# What a page has to show in its own way; every page takes longer than the fit.
DRAWN = {"units of 1e12", "units of 1e-16", "some voxels missing", "left-handed", "oblique"}


@pytest.mark.parametrize("case", FINE, ids=case_id)
def test_what_is_odd_but_fine_gives_the_head_where_it_was(
    case: Case, place: Place, watched_run: WatchedRun
) -> None:
    case.prepare(place)
    drawn = case.name in DRAWN
    with with_pages() if drawn else without_pages():
        told = watched_run()
    assert told.code == 0, told.err
    assert all(re.match(r"\d{4}-.* (INFO|WARNING) ", line) for line in told.lines), told.err
    assert re.search(case.says, told.err), told.err
    assert_is_the_head(place.image())
    assert any(place.out.glob("sub-01/figures/*")) == drawn


def test_the_cases_with_pages_are_there() -> None:
    assert {case.name for case in FINE} > DRAWN


def test_the_page_says_that_left_and_right_cannot_be_known(
    place: Place, watched_run: WatchedRun
) -> None:
    _as(_no_orientation)(place)
    assert watched_run().code == 0
    (page,) = place.out.glob("sub-01*.html")
    said = page.read_text("utf-8")
    assert "T1w.nii.gz: the header gives no orientation" in said
    assert "left and right cannot be known" in said


def assert_is_the_head(image: nib.Nifti1Image) -> None:
    """Compare with the head that was scanned, voxel by voxel of the world."""
    data = image.get_fdata()
    at = np.moveaxis(np.indices(image.shape), 0, -1) @ image.affine[:3, :3].T + image.affine[:3, 3]
    truth = head(at)
    assert np.corrcoef(truth.ravel(), data.ravel())[0, 1] > 0.9
    centres = [(values[..., None] * at).sum((0, 1, 2)) / values.sum() for values in (truth, data)]
    np.testing.assert_allclose(centres[1], centres[0], atol=2.5)
    assert np.linalg.norm(centres[0] - HEAD_CENTRE) < 20


# ------------------------------------------------------------------ sidecars, names, tiny images


def _sidecar(content: bytes) -> Prepare:
    def prepare(place: Place) -> Options:
        (place.anat / "sub-01_T1w.json").write_bytes(content)
        return None

    return prepare


def _sidecar_is_a_pipe(place: Place) -> Options:
    os.mkfifo(place.anat / "sub-01_T1w.json")
    return None


def _sidecar_links_in_circles(place: Place) -> Options:
    (place.anat / "sub-01_T1w.json").symlink_to("sub-01_T1w.json")
    return None


SIDECARS = [
    Case("no JSON", _sidecar(b"{'a': 1}"), 0, r"T1w.json is not used: it is not JSON \(line 1"),
    Case("empty", _sidecar(b""), 0, "T1w.json is not used"),
    Case("list", _sidecar(b"[1]"), 0, "T1w.json is not used: it holds a JSON list"),
    Case("other bytes", _sidecar(b'{"a": "\xe9"}'), 0, "T1w.json: it is no UTF-8 and is read as W"),
    Case("UTF-16", _sidecar('{"a": 1}'.encode("utf-16")), 0, "it is no UTF-8 and is read as U"),
    Case("cut UTF-16", _sidecar('{"a": 1}'.encode("utf-16")[:-1]), 0, "T1w.json is not used"),
    Case("nested deeply", _sidecar(b"[" * 10**6), 0, "T1w.json is not used: .*nested too deeply"),
    Case("10 MB of nesting", _sidecar(b'{"a":' * 2 * 10**6), 0, "is not used: it has 10 MiB"),
    Case("nested object", _sidecar(b'{"a":{"b":{"c":{"d":1}}}}'), 0, "'a' not used"),
    Case("thickness of text", _sidecar(b'{"SliceThickness": "4"}'), 0,
         r"WARNING sub-01_T1w.nii.gz: SliceThickness is the text '4' where BIDS has a number"),
    Case("thickness of words", _sidecar(b'{"SliceThickness": "4 mm"}'), 0,
         r"WARNING sub-01_T1w.nii.gz: SliceThickness is '4 mm', no"),
    Case("thickness of nan", _sidecar(b'{"SliceThickness": NaN}'), 0, "'SliceThickness' not used"),
    Case("thickness of 1e999", _sidecar(b'{"SliceThickness": 1e999}'), 0, "'SliceThickness' not"),
    Case("thickness beyond floats", _sidecar(b'{"SliceThickness": 1%s}' % (b"0" * 400)), 0,
         "SliceThickness is 1000"),
    Case("axis of numbers", _sidecar(b'{"SliceEncodingDirection": [1]}'), 0, "Direction is"),
    Case("pipe", _sidecar_is_a_pipe, 0, "T1w.json is not used: it is no regular file"),
    Case("link in circles", _sidecar_links_in_circles, 0, "T1w.json is not used"),
]  # fmt: skip


@pytest.mark.parametrize("case", SIDECARS, ids=case_id)
def test_a_sidecar_that_cannot_be_used_is_named_and_passed_over(
    case: Case, place: Place, watched_run: WatchedRun
) -> None:
    case.prepare(place)
    with without_pages():
        told = watched_run(*LINEAR, "-q")
    assert told.code == 0, told.err
    assert all(re.match(r"\d{4}-.* WARNING ", line) for line in told.lines), told.err
    assert re.search(case.says, told.err), told.err
    assert_is_the_head(place.image())


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


def test_markup_stays_text_in_reports(place: Place, watched_run: WatchedRun) -> None:
    place.describe(Name=EVIL)
    fields = {"Manufacturer": EVIL, "SliceThickness": EVIL, "MRAcquisitionType": EVIL}
    (place.raw / "T1w.json").write_text(json.dumps(fields))
    told = watched_run()
    assert told.code == 0, told.err
    pages = [path.read_text("utf-8") for path in place.out.rglob("*.html")]
    assert len(pages) == 1
    for page in pages:
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert(1)" not in page
        assert "<img src=x" not in page


@pytest.mark.parametrize("name", ["a b", 'it\'s "quoted" $HOME;', "ünï脳", "-q", "%s {0}", "[1]"])
def test_folders_may_have_any_name(
    name: str, place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = place.root / "cwd"
    monkeypatch.chdir(here)
    (here / name).mkdir()
    place.raw.rename(here / name / "raw")
    arguments = [str(here / name / "raw"), str(here / name / "out"), "participant", *QUICK]
    assert main([*arguments, *LINEAR, "-w", str(here / name / "work")]) == 0
    assert "Traceback" not in capfd.readouterr().err
    assert_is_the_head(Place(here / name).image())
    assert [path.name for path in here.iterdir()] == [name]


@pytest.mark.parametrize("shape", [(2, 2, 2), (30, 30, 2), (2, 30, 10)])
def test_tiny_images_give_an_image_or_a_reason(
    shape: tuple[int, ...], place: Place, watched_run: WatchedRun
) -> None:
    affine = affine_of(shape)
    nib.Nifti1Image(voxels_of_head(shape, affine), affine).to_filename(place.t1w)
    told = watched_run("-q", "-q")
    if told.code:
        failure, _ = told.lines
        assert told.code == 65, failure
        assert "sub-01_T1w.nii.gz" in failure
        return
    data = place.image().get_fdata()
    assert np.isfinite(data).all()
    assert data.max() > 0
