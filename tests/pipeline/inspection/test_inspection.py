"""Scans that a careful reader would leave out are named before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.config import RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.pipeline.inspection.inspection import InspectedScan, inspect
from bids_unires.pipeline.inspection.table import as_json, describe
from tests.documented import documented
from tests.pipeline.conftest import head, scan_of_head, write_dataset

Image = nib.Nifti1Image
Inspect = Callable[..., dict[str, InspectedScan]]

MM = 3.0


def fine_scan(
    slab: slice = slice(None),
    offset: Sequence[float] = (0, 0, 0),
    noise: float = 3.0,
    seed: int = 0,
) -> Image:
    """The head of ellipsoids in 3 mm voxels, axial slices; or only some of the slices."""
    shape, affine = np.array([44, 56, 46]), np.diag([MM, MM, MM, 1.0])
    affine[:3, 3] = -MM * (shape - 1) / 2
    points = np.moveaxis(np.indices(shape), 0, -1) * MM + affine[:3, 3]
    clean = head(points)[:, :, slab]
    affine[2, 3] += MM * (slab.start or 0)
    affine[:3, 3] += offset
    parts = np.random.default_rng(seed).normal(scale=noise, size=(2, *clean.shape))
    return Image(np.hypot(clean + parts[0], parts[1]).astype(np.float32), affine)


@pytest.fixture
def inspected(tmp_path: Path) -> Inspect:
    """Give a function that inspects named scans of a participant, by the names of the files."""

    def look(**scans: Image) -> dict[str, InspectedScan]:
        root = write_dataset(tmp_path / "raw", {f"sub-01_{key}": scans[key] for key in scans})
        config = RunConfig(root, tmp_path / "out", "participant")
        (plan,) = plan_participants(config)
        found = inspect(plan, config)
        return {each.scan.path.name.split(".")[0][7:]: each for each in found.scans}

    return look


def test_good_scans_have_no_remarks(inspected: Inspect) -> None:
    found = inspected(T1w=fine_scan(), FLAIR=scan_of_head(0), T2w=scan_of_head(2, seed=5))
    assert {name: each.remarks for name, each in found.items()} == dict.fromkeys(found, ())
    assert all(each.coverage == pytest.approx(1, abs=0.02) for each in found.values())


def test_the_most_useful_scan_of_a_contrast_comes_first(inspected: Inspect) -> None:
    found = inspected(
        **{"acq-ax_run-1_T1w": scan_of_head(2), "acq-sag_T1w": fine_scan(), "FLAIR": fine_scan()}
    )
    assert list(found) == ["acq-sag_T1w", "acq-ax_run-1_T1w", "FLAIR"]
    assert found["FLAIR"].told.adds == 1
    assert "adds little" in " ".join(found["acq-ax_run-1_T1w"].remarks)


def test_equal_repeats_are_not_called_useless(inspected: Inspect) -> None:
    found = inspected(**{f"run-{n}_T1w": fine_scan(seed=n) for n in range(1, 5)})
    assert all(each.remarks == () for each in found.values())


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("slab", fine_scan(slice(18, 32)), "shows"),
        ("localiser", fine_scan(slice(20, 24)), "a localiser? It has 4 slices"),
        ("far", fine_scan(offset=(0, 0, 90)), "its header places the head"),
        ("noisy", fine_scan(noise=25.0), "noisy"),
    ],
)
def test_what_looks_wrong_is_named(inspected: Inspect, name: str, image: Image, said: str) -> None:
    found = inspected(T1w=fine_scan(), T2w=fine_scan(seed=1), FLAIR=image)
    assert said in " ".join(found["FLAIR"].remarks)
    if name != "far":
        assert found["T1w"].remarks == ()


def test_whole_heads_are_compared_with_whole_heads(inspected: Inspect) -> None:
    """However many slabs there are, the head that is whole is no other one."""
    slabs = {f"run-{n}_T2w": fine_scan(slice(18, 30), seed=n) for n in range(1, 4)}
    found = inspected(T1w=fine_scan(), FLAIR=fine_scan(seed=9), **slabs)
    for name in ("T1w", "FLAIR"):
        assert "another head" not in " ".join(found[name].remarks)


def test_a_phantom_is_named(inspected: Inspect) -> None:
    image = fine_scan()
    data = np.where(image.get_fdata() > 40, 100, 0) + np.random.default_rng(0).uniform(
        0, 4, image.shape
    )
    found = inspected(T1w=Image(data.astype(np.float32), image.affine))
    assert "a phantom?" in " ".join(found["T1w"].remarks)


def test_a_smaller_head_is_named(inspected: Inspect) -> None:
    small = fine_scan()
    small = Image(np.asarray(small.dataobj), small.affine @ np.diag([0.6, 0.6, 0.6, 1]))
    found = inspected(T1w=fine_scan(), T2w=fine_scan(seed=1), FLAIR=small)
    text = " ".join(found["FLAIR"].remarks)
    assert "another head" in text or "shows" in text


def test_damaged_slices_are_named_with_what_mends_them(inspected: Inspect) -> None:
    image = fine_scan()
    data = np.asarray(image.dataobj).copy()
    data[:, :, 20] *= 0.5
    found = inspected(T1w=Image(data, image.affine))
    (remark,) = found["T1w"].remarks
    assert "20" in remark
    assert "--robust" in remark


def test_scans_that_cannot_be_used_are_named_and_the_others_shown(
    inspected: Inspect, tmp_path: Path
) -> None:
    constant = Image(np.full((9, 9, 9), 7, dtype=np.int16), np.eye(4))
    found = inspected(T1w=fine_scan(), FLAIR=constant)
    (remark,) = found["FLAIR"].remarks
    assert remark.startswith("cannot be used: ")
    assert found["FLAIR"].measured is None
    assert found["T1w"].told.adds == 1


@pytest.fixture
def study(tmp_path: Path) -> Path:
    scans = {
        "sub-01_T1w": scan_of_head(2),
        "sub-02_T1w": scan_of_head(0),
        "sub-02_T2w": fine_scan(),
    }
    return write_dataset(tmp_path / "BIDS", scans, T2w={"SliceThickness": 3})


def shown(study: Path, command: str) -> list[str]:
    words = command.split()
    assert words[:1] == ["bids_unires"]
    stand_ins = {"BIDS": str(study), "OUT": str(study.parent / "OUT")}
    return [*(stand_ins.get(word, word) for word in words[1:]), "--skip-bids-validation"]


def test_the_documented_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = documented("docs/how-to/check-scans.md", "bids_unires BIDS OUT participant --dry-run")
    assert main(shown(study, command)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 scans of 2 participants")
    lines = printed.splitlines()
    (line,) = (line for line in lines if line.startswith("  T2w ") and ".nii" in line)
    assert line.split()[:3] == ["T2w", "sub-02_T2w.nii.gz", "axial"]
    assert line.split()[-1] == "%"
    assert not (study.parent / "OUT").exists()


def test_the_documented_json(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = documented("docs/how-to/check-scans.md", "bids_unires BIDS OUT participant --json")
    words = shown(study, command.partition(">")[0])
    assert main(words) == 0
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [each["label"] for each in content["participants"]] == ["sub-01", "sub-02"]
    (scan,) = (each for each in content["participants"][1]["scans"] if each["contrast"] == "T2w")
    assert scan["scan"] == "sub-02/anat/sub-02_T2w.nii.gz"
    assert scan["voxel_size"] == [3, 3, 3]
    assert scan["gap"] == 0
    assert scan["damaged_slices"] == []
    assert 0 < scan["adds"] <= 1


def test_json_is_for_a_dry_run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "out", "participant", "--json"]) == 64
    assert main([str(study), "out", "group", "--json", "--dry-run"]) == 64
    assert "--json is for --dry-run" in capsys.readouterr().err


def test_columns_of_the_table_are_aligned(study: Path, tmp_path: Path) -> None:
    config = RunConfig(study, tmp_path / "out", "participant")
    inspection = inspect(plan_participants(config)[1], config)
    header, *rows = (line for line in describe(inspection).splitlines()[1:] if "   " in line[:12])
    assert json.dumps(as_json([inspection]))
    assert len({len(header), *map(len, rows)}) == 1
