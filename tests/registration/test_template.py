"""Templates: found in TemplateFlow's cache, packaged otherwise, and never waited for."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.errors import BadDataError, MissingInputError, UsageError
from bids_unires.registration import (
    DEFAULT_TEMPLATE,
    Template,
    load_template,
    template_grid,
    templateflow,
)
from bids_unires.space.affines import apply_affine
from bids_unires.space.grid import corners
from tests.paths import ROOT


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a server that refuses connections."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.setattr(templateflow, "SERVER", "http://127.0.0.1:9")
    return tmp_path / "templateflow"


@pytest.fixture(scope="module")
def packaged() -> Template:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEMPLATEFLOW_HOME", "/proc/no-such-folder")
        patch.setattr(templateflow, "SERVER", "http://127.0.0.1:9")
        return load_template()


def store(cache: Path, name: str, resolution: str = "res-02_", value: float = 1.0) -> Path:
    """A small template in the cache: a cube of one value in noise."""
    folder = cache / f"tpl-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    data = np.zeros((20, 20, 20), dtype=np.float32)
    data[5:15, 5:15, 5:15] = value
    for what in ("T1w", "desc-brain_mask"):
        path = folder / f"tpl-{name}_{resolution}{what}.nii.gz"
        nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), path)
    return folder / f"tpl-{name}_{resolution}T1w.nii.gz"


def test_packaged_head_has_its_brain_inside(packaged: Template) -> None:
    brain, head, t1w = packaged.brain.data > 0, packaged.head.data > 0, packaged.image.data
    assert packaged.source.startswith("packaged")
    assert not (brain & ~head).any()
    assert 1.6e6 < 8 * brain.sum() < 2.2e6  # mm^3: about 1.9 litres in the MNI152 space
    outside = ~head
    assert np.median(t1w[brain]) > 20 * max(t1w[outside].mean(), 1)
    # The front of the corpus callosum is bright and in the midline, the air above is not.
    bright, air = (
        tuple(np.rint(apply_affine(np.linalg.inv(packaged.image.affine), point)).astype(int))
        for point in ([0, 28, 6], [0, 0, 112])
    )
    assert t1w[bright] > 150 > 10 > t1w[air]


def test_cached_image_is_used_with_the_packaged_masks(cache: Path, packaged: Template) -> None:
    path = store(cache, DEFAULT_TEMPLATE)
    found = load_template()
    assert found.source == str(path)
    assert found.image.data.shape == (20, 20, 20)
    np.testing.assert_array_equal(found.brain.data, packaged.brain.data)
    assert template_grid(found, "brain", (1, 1, 1)) == template_grid(packaged, "brain", (1, 1, 1))


def test_placeholders_do_not_count(cache: Path) -> None:
    store(cache, "Other", "res-1_")
    (cache / "tpl-Other" / "tpl-Other_res-02_T1w.nii.gz").touch()
    assert load_template("Other").source.endswith("res-1_T1w.nii.gz")
    for path in (cache / "tpl-Other").iterdir():
        path.write_bytes(b"")
    with pytest.raises(MissingInputError, match="Other"):
        load_template("Other")


def test_damaged_cache_is_named(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    store(cache, "Other").write_bytes(b"half a download")
    with pytest.raises(BadDataError, match=r"tpl-Other_res-02_T1w"):
        load_template("Other")
    store(cache, DEFAULT_TEMPLATE).write_bytes(b"half a download")
    with caplog.at_level(logging.WARNING, logger="bids_unires"):
        assert load_template().source.startswith("packaged")
    assert "packaged" in caplog.text


def test_refused_connection_leads_to_the_packaged_template(cache: Path) -> None:
    assert load_template().source.startswith("packaged")
    assert not cache.exists()
    with pytest.raises(MissingInputError, match="TEMPLATEFLOW_HOME"):
        load_template("Other")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_silent_network_is_not_waited_for(
    cache: Path, silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templateflow, "SERVER", silent_server)
    monkeypatch.setattr(templateflow, "CONNECT_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(MissingInputError, match="does not answer"):
        load_template("Other")
    assert time.monotonic() - start < 4


def test_unwritable_cache_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "file" / "templateflow"))
    with pytest.raises(MissingInputError, match="cannot be written"):
        load_template("Other")


def test_nothing_is_written_without_a_home() -> None:
    """TemplateFlow's client, which writes where it is imported, is not."""
    code = (
        "import sys; from bids_unires.registration import load_template; "
        "assert load_template().source.startswith('packaged'); "
        "assert 'templateflow' not in sys.modules"
    )
    environment = {"HOME": "/proc/nowhere", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


def test_download_goes_through_templateflow(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templateflow, "_server_answers", lambda: True)
    monkeypatch.setattr(templateflow, "_fetch", lambda name: store(cache, name))
    assert load_template("Other").source.endswith("tpl-Other_res-02_T1w.nii.gz")
    monkeypatch.setattr(templateflow, "_fetch", lambda name: None)
    with pytest.raises(MissingInputError, match=r"no template Nowhere"):
        load_template("Nowhere")


@pytest.mark.parametrize(
    ("fov", "size", "shape"),
    [
        ("brain", (1.0, 1.0, 1.0), (192, 192, 192)),
        ("brain", (2.0, 2.0, 2.0), (96, 96, 96)),
        ("head", (1.0, 1.0, 1.0), (192, 256, 192)),
        ("brain", (0.8, 1.0, 3.0), (192, 192, 64)),
    ],
)
def test_common_grid_holds_the_field_of_view(
    packaged: Template, fov: str, size: tuple[float, ...], shape: tuple[int, ...]
) -> None:
    grid = template_grid(packaged, fov, size)
    assert grid.shape == shape
    mask = packaged.mask(fov)
    points = apply_affine(mask.affine, np.argwhere(mask.data > 0))
    faces = apply_affine(grid.affine, corners(grid.shape, 0.5))
    assert (points.min(axis=0) - 1 >= faces.min(axis=0)).all()
    assert (points.max(axis=0) + 1 <= faces.max(axis=0)).all()
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    np.testing.assert_allclose((faces.min(axis=0) + faces.max(axis=0)) / 2, middle, atol=1e-9)


def test_voxels_too_small_for_a_common_grid_are_refused(packaged: Template) -> None:
    with pytest.raises(UsageError, match=r"--voxel-size 0\.87 or more"):
        template_grid(packaged, "head", (0.5, 0.5, 0.5))
