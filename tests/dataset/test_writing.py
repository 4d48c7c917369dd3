from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import struct
import time
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bids_unires.dataset.writing import (
    atomic_path,
    copy_text,
    remove_leftovers,
    write_image,
    write_json,
    write_labels,
    write_mask,
    write_once,
    write_text,
)
from bids_unires.errors import BadDataError, InputOutputError, OutputError

SPAWN = multiprocessing.get_context("spawn")


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "sub-01" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.name.startswith(".")
        assert not list(path.parent.glob("*.txt"))
    assert path.read_text() == "half"
    assert contents(path.parent) == {"a.txt"}


def test_a_loss_of_power_leaves_no_half_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on the disk when it is told to keep something, which is before the name is given."""
    kept = []

    def keep(descriptor: int) -> None:
        at = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        kept.append((at, at.read_text() if at.is_file() else contents(at)))

    monkeypatch.setattr(os, "fsync", keep)
    write_text(tmp_path / "a.txt", "all")
    (file, text), (folder, listed) = kept
    assert (file.name.endswith(".part"), text) == (True, "all")
    assert (folder, listed) == (tmp_path, {"a.txt"})
    kept.clear()
    assert write_once(tmp_path / "b.txt", "once")
    assert kept[0][0].name.endswith(".part")
    assert kept[0][1] == "once"


def test_nothing_remains_of_a_failure(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.txt", "before")
    with suppress(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("after")
        raise RuntimeError
    assert contents(tmp_path) == {"a.txt"}
    assert path.read_text() == "before"


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InputOutputError, match=r"a\.txt could not be written: No space left"),
        atomic_path(tmp_path / "a.txt"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not contents(tmp_path)


def test_errors_of_ours_pass_through(tmp_path: Path) -> None:
    with pytest.raises(BadDataError), atomic_path(tmp_path / "a.txt"):
        raise BadDataError("damaged")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be created"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def hold(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        time.sleep(60)


def test_leftovers_of_the_dead_are_removed_and_of_the_living_not(tmp_path: Path) -> None:
    killed, alive = (
        SPAWN.Process(target=hold, args=(tmp_path / name,), daemon=True) for name in ("a", "b")
    )
    for process in (killed, alive):
        process.start()
    deadline = time.monotonic() + 30
    while len([path for path in tmp_path.iterdir() if path.stat().st_size]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert remove_leftovers(tmp_path) == 1
    (left,) = contents(tmp_path)
    assert left.endswith("-b.part")
    alive.terminate()
    alive.join()
    assert remove_leftovers(tmp_path) == 1
    assert remove_leftovers(tmp_path / "absent") == 0


def write_own_id(path: Path, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    text = f"{os.getpid()}\n" * 1000
    assert write_once(path, text) is (path.read_text() == text)


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    barrier = SPAWN.Barrier(3)
    path = tmp_path / "shared.json"
    writers = [SPAWN.Process(target=write_own_id, args=(path, barrier)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert contents(tmp_path) == {"shared.json"}
    assert len(set(path.read_text().split())) == 1


def test_what_was_written_once_stays(tmp_path: Path) -> None:
    assert write_once(tmp_path / "a.txt", "first")
    assert not write_once(tmp_path / "a.txt", "second")
    assert (tmp_path / "a.txt").read_text() == "first"


def test_json_of_arrays_and_of_what_json_cannot_say(tmp_path: Path) -> None:
    content = {
        "array": np.eye(2, dtype=np.float32),
        "scalar": np.float64(0.5),
        "count": np.int64(3),
        "nan": float("nan"),
        "infinite": np.array([np.inf, 1]),
        "path": Path("a/b"),
        "tuple": ("x", None, True),
        "text": "Größe",
    }
    assert json.loads(write_json(tmp_path / "a.json", content).read_text("utf-8")) == {
        "array": [[1.0, 0.0], [0.0, 1.0]],
        "scalar": 0.5,
        "count": 3,
        "nan": None,
        "infinite": [None, 1.0],
        "path": "a/b",
        "tuple": ["x", None, True],
        "text": "Größe",
    }


@settings(max_examples=20, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    sizes=st.tuples(*[st.floats(0.5, 5)] * 3),
    flip=st.booleans(),
)
def test_nibabel_and_itk_agree_on_the_geometry(
    tmp_path_factory: pytest.TempPathFactory,
    angles: tuple[float, float, float],
    sizes: tuple[float, float, float],
    flip: bool,
) -> None:
    affine = np.eye(4)
    axes = Rotation.from_euler("xyz", angles).as_matrix()
    affine[:3, :3] = axes * np.array(sizes) * [-1 if flip else 1, 1, 1]
    affine[:3, 3] = [-80, 100, -60]
    data = np.random.default_rng(0).normal(size=(4, 5, 6))
    path = write_image(tmp_path_factory.mktemp("geometry") / "a.nii.gz", data, affine)
    image = nib.Nifti1Image.from_filename(path)
    np.testing.assert_allclose(image.get_sform(), affine, atol=1e-4)
    np.testing.assert_allclose(image.get_qform(), affine, atol=1e-3)
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
    itk = SimpleITK.ReadImage(str(path))
    for index in ((0, 0, 0), (3, 4, 5)):
        world = itk.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(
            np.array([-1, -1, 1]) * world, (affine @ [*index, 1])[:3], atol=2e-3
        )
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk).T, data.astype(np.float32))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_images_on_disk(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(0).normal(size=(4, 5, 6))
    path = write_image(tmp_path / name, data, np.eye(4))
    raw = nib.Nifti1Image.from_filename(path)
    assert raw.get_data_dtype() == np.float32
    with nib.openers.Opener(str(path)) as file:
        header = file.read(348)
    assert struct.unpack_from("<2f", header, 112) == (1, 0)
    assert raw.header.get_xyzt_units()[0] == "mm"
    again = write_image(tmp_path / f"again-{name}", np.asfortranarray(data), np.eye(4))
    assert again.read_bytes() == path.read_bytes()


def test_masks_on_disk(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).normal(size=(4, 5, 6)) > 0
    image = nib.Nifti1Image.from_filename(write_mask(tmp_path / "a.nii.gz", mask, np.eye(4)))
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj), mask)


def test_images_have_three_axes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="three axes"):
        write_image(tmp_path / "a.nii.gz", np.zeros((2, 2)), np.eye(4))
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("most", "kind"), [(255, np.uint8), (256, np.int16), (40_000, np.int32), (-1, np.int16)]
)
def test_labels_keep_their_values(tmp_path: Path, most: int, kind: type) -> None:
    labels = np.zeros((3, 4, 5))
    labels[1, 2, 3] = most
    image = nib.Nifti1Image.from_filename(write_labels(tmp_path / "a.nii.gz", labels, np.eye(4)))
    assert image.get_data_dtype() == kind
    np.testing.assert_array_equal(np.asarray(image.dataobj), labels)


@pytest.mark.parametrize("value", [0.5, np.nan, 2.0**40])
def test_labels_are_integers(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="labels"):
        write_labels(tmp_path / "a.nii.gz", np.full((2, 2, 2), value), np.eye(4))
    assert not contents(tmp_path)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_copies_of_texts_are_utf8(tmp_path: Path, codec: str) -> None:
    text = "index\tname\r\n1\tK\u00f6rper\r\n"
    (tmp_path / "a.tsv").write_bytes(text.encode(codec))
    copy = copy_text(tmp_path / "a.tsv", tmp_path / "deep" / "b.tsv")
    assert copy.read_bytes() == text.encode()


@pytest.mark.parametrize(("shear", "code"), [(1e-6, 1), (0.3, 0)])
def test_a_sheared_grid_is_told_by_the_sform_alone(tmp_path: Path, shear: float, code: int) -> None:
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    affine[1, 2] = 4 * shear
    image = nib.load(write_image(tmp_path / "image.nii.gz", np.ones((3, 4, 5)), affine))
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert int(image.header["sform_code"]) == 1
    assert int(image.header["qform_code"]) == code
