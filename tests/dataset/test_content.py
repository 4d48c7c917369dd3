from __future__ import annotations

from pathlib import Path

import pytest

from bids_unires.dataset.content import awaits_download, unavailable

ANNEXED = "../../.git/annex/objects/aa/bb/MD5E-s9--5f.nii.gz/MD5E-s9--5f.nii.gz"


@pytest.mark.parametrize("size", [1, 300, 400, 5000])
def test_content_is_available(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(b"x" * size)
    assert unavailable(path) is None
    assert not awaits_download(path)


@pytest.mark.parametrize(
    "pointer",
    [
        b"/annex/objects/MD5E-s9--5f.nii.gz\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:5f\nsize 9\n",
    ],
)
def test_files_that_stand_in_for_others(tmp_path: Path, pointer: bytes) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(pointer)
    assert awaits_download(path)


def test_links(tmp_path: Path) -> None:
    (tmp_path / "annexed.nii.gz").symlink_to(ANNEXED)
    (tmp_path / "dead.nii.gz").symlink_to("nowhere.nii.gz")
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    assert awaits_download(tmp_path / "annexed.nii.gz")
    for name, says in {"dead": "nowhere", "loop": "link", "absent": "cannot be read"}.items():
        path = tmp_path / f"{name}.nii.gz"
        assert says in str(unavailable(path))
        assert not awaits_download(path)


def test_empty_files(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    assert "empty" in str(unavailable(tmp_path / "a.nii"))
