"""The dataset is valid, tells nothing of the patients, and is there as a whole or not at all."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.dataset.acquisition import acquisition_from_sidecar
from bids_unires.dataset.validation import find_validator
from bids_unires.dicom import raw_dataset
from bids_unires.dicom.plan import PlannedImage, plan_dataset
from bids_unires.dicom.raw_dataset import write_raw_dataset
from bids_unires.dicom.request import Overruled
from bids_unires.errors import InputOutputError, OutputError
from tests.dicom.conftest import FIRST, SECOND, Scanned
from tests.pipeline.conftest import scan_of_head

Plan = tuple[PlannedImage, ...]
# What the headers hold of people, places and times.
PRIVATE = (
    *(FIRST.name, FIRST.identity, SECOND.name, SECOND.identity, "Muster", "1956", "1961"),
    *(FIRST.study, "2019", "10:0", "1002", "Klinik", "Arzt", "t1_se_tra", "Gadovist"),
)


@pytest.fixture(scope="module")
def plan(scanned: Scanned) -> Plan:
    labels = {FIRST.identity: "a1", SECOND.identity: "b2"}
    return plan_dataset(scanned.series, scanned.images, labels, Overruled())


@pytest.fixture(scope="module")
def dataset(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("out") / "bids"
    write_raw_dataset(root, plan, overwrite=False)
    return root


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_the_validator_finds_no_error(dataset: Path) -> None:
    validator = find_validator()
    assert validator is not None
    done = subprocess.run(
        [validator, "--json", str(dataset)], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_nothing_tells_of_the_patients(dataset: Path) -> None:
    for name, content in files(dataset).items():
        plain = gzip.decompress(content) if name.endswith(".gz") else content
        # Of an image, the header: among voxels any bytes may be.
        text = f"{name} {plain[:352] if name.endswith('.gz') else plain!r}"
        assert [word for word in PRIVATE if word in text] == []
    assert not any(word in str(dataset) for word in PRIVATE)


@pytest.mark.parametrize(("name", "axis", "seed"), [("T1w", 2, 1), ("T2w", 1, 2), ("FLAIR", 0, 3)])
def test_scans_are_those_of_the_scanner(name: str, axis: int, seed: int, dataset: Path) -> None:
    (path,) = (path for path in dataset.rglob(f"sub-a1_*_{name}.nii.gz") if "ce-" not in path.name)
    image, wanted = nib.load(path), scan_of_head(axis, seed=seed)
    metadata = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    acquisition = acquisition_from_sidecar(metadata, image.affine)
    assert acquisition.gap == pytest.approx(0.2)
    assert acquisition.dimensionality == "2D"
    # Turned into the order of the axes that the head was simulated in.
    image = nib.as_closest_canonical(image)
    np.testing.assert_allclose(image.affine, wanted.affine, atol=1e-3)
    np.testing.assert_allclose(image.get_fdata() / 4, wanted.get_fdata(), atol=0.13)


def test_the_same_again_changes_nothing(plan: Plan, dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    write_raw_dataset(dataset, plan, overwrite=False)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before
    assert list(dataset.parent.iterdir()) == [dataset]


def test_other_scans_are_replaced_only_if_told(plan: Plan, tmp_path: Path) -> None:
    root = tmp_path / "bids"
    write_raw_dataset(root, plan[:3], overwrite=False)
    before = files(root)
    with pytest.raises(OutputError, match="holds other scans"):
        write_raw_dataset(root, plan, overwrite=False)
    assert files(root) == before
    write_raw_dataset(root, plan, overwrite=True)
    assert len(files(root)) > len(before)
    assert list(tmp_path.iterdir()) == [root]


def test_a_full_disk_leaves_nothing(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(raw_dataset, "_compress", full)
    with pytest.raises(InputOutputError, match="No space left"):
        write_raw_dataset(tmp_path / "bids", plan, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / ".unires-bids.part" / "sub-x").mkdir(parents=True)
    write_raw_dataset(tmp_path / "bids", plan[:2], overwrite=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "bids"]
    assert not (tmp_path / "bids" / "sub-x").exists()


def test_a_place_that_cannot_be_is_named(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be created"):
        write_raw_dataset(tmp_path / "file" / "bids", plan, overwrite=False)
