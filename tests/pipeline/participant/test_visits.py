"""Visits on one grid: what changed between them is seen as it is, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.dataset.transforms import read_transform
from bids_unires.space.affines import Affine, apply_affine
from tests.documented import blocks, documented
from tests.pipeline.conftest import write_dataset
from tests.registration.visiting_head import HEAD, TURNED, Ball, scan

# Tissue around the lesions, and the lesions.
TISSUE, BRIGHT = 140.0, 220.0
NEW: Ball = ((30, 20, 22), (9, 9, 9), BRIGHT)
SMALL: Ball = ((-26, -40, 12), (6, 6, 6), BRIGHT)
GROWN: Ball = ((-26, -40, 12), (9, 9, 9), BRIGHT)
NOTHING = ((26, -44, 8), (-28, 52, 0))
GAIN = 1.4
OPTIONS = [
    "--voxel-size",
    "2.5",
    "--device",
    "cpu",
    "--omp-nthreads",
    "1",
    "--skip-bids-validation",
    "--no-learned-detail",
    "-q",
]
UNBIASED = ["--subject-anatomical-reference", "unbiased"]
FIRST = "sub-01/ses-1/anat/sub-01_ses-1_space-individual_res-2p5mm_desc-sr_FLAIR"
SECOND = FIRST.replace("ses-1", "ses-2")
SHARED = "sub-01/anat/sub-01_space-individual_res-2p5mm_desc-fov_mask"


def image(pose: Affine, seed: int, balls: tuple[Ball, ...], gain: float = 1.0) -> nib.Nifti1Image:
    volume = scan(pose, seed, balls, gain).volume
    return nib.Nifti1Image(volume.data, volume.affine)


def ball_volume(ball: Ball) -> float:
    return float(4 / 3 * np.pi * np.prod(ball[1]))


def run(raw: Path, out: Path, *options: str) -> int:
    return main([str(raw), str(out), "participant", *OPTIONS, *options])


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two visits: the head is turned, a lesion is new, one has grown, and all is brighter."""
    scans = {
        "sub-01_ses-1_FLAIR": image(np.eye(4), 0, (*HEAD, SMALL)),
        "sub-01_ses-2_FLAIR": image(TURNED, 1, (*HEAD, GROWN, NEW), GAIN),
    }
    return write_dataset(tmp_path_factory.mktemp("visits") / "raw", scans)


@pytest.fixture(scope="module")
def labels(raw: Path) -> Path:
    """What a reader drew on each scan: all that is as bright as a lesion."""
    root = raw.parent / "drawn"
    for scanned in raw.glob("sub-01/ses-*/anat/*_FLAIR.nii.gz"):
        session, drawn = scanned.parent.parent.name, nib.load(scanned)
        bright = 0.5 * (TISSUE + BRIGHT) * (GAIN if session == "ses-2" else 1)
        path = root / "sub-01" / session / "anat" / f"sub-01_{session}_desc-bright_dseg.nii.gz"
        path.parent.mkdir(parents=True)
        data = (np.asarray(drawn.dataobj) > bright).astype(np.uint8)
        nib.Nifti1Image(data, drawn.affine).to_filename(path)
    description = {"Name": "Drawn", "BIDSVersion": "1.10.1", "DatasetType": "derivative"}
    description["GeneratedBy"] = [{"Name": "reader"}]  # type: ignore[assignment]
    (root / "dataset_description.json").write_text(json.dumps(description))
    return root


@pytest.fixture(scope="module")
def out(raw: Path, labels: Path) -> Path:
    folder = raw.parent / "out"
    command = documented(
        "docs/how-to/visits.md", "bids_unires BIDS OUT participant", {"BIDS": raw, "OUT": folder}
    )
    assert main([*command.split()[1:], *OPTIONS, "--labels", str(labels)]) == 0
    return folder


def sidecar(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


@pytest.mark.slow
def test_the_documented_subtraction(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert documented("docs/how-to/visits.md", "bids_unires BIDS OUT participant").endswith(
        UNBIASED[1]
    )
    (example,) = blocks("docs/how-to/visits.md", frozenset({"python"}))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OUT").symlink_to(out)
    exec(compile(example.replace("res-1mm", "res-2p5mm"), "docs/how-to/visits.md", "exec"), {})
    written = nib.load("change.nii.gz").get_fdata()
    difference, _ = change(out)
    seen = np.asarray(nib.load(out / f"{SHARED}.nii.gz").dataobj) > 0
    np.testing.assert_allclose(written[seen], difference[seen], atol=1e-3)


def change(out: Path) -> tuple[np.ndarray, Affine]:
    """Second visit minus first, on the scale of the first, and the affine of both."""
    first, second = (nib.load(out / f"{name}.nii.gz") for name in (FIRST, SECOND))
    np.testing.assert_array_equal(first.affine, second.affine)
    ratio = sidecar(out / f"{SHARED}.json")["UniRes"]["Visits"][1]["Brightness"]["FLAIR"]
    return second.get_fdata() / ratio - first.get_fdata(), first.affine


def changed_volume(out: Path, centre: tuple[float, float, float], radius: float) -> float:
    """Volume in mm3 of what became a lesion within a ball around a place in the first visit."""
    difference, affine = change(out)
    to_space = read_transform(
        out / "sub-01/ses-1/anat/sub-01_ses-1_from-FLAIR_to-individual_mode-image_xfm.txt"
    )
    indices = np.moveaxis(np.indices(difference.shape), 0, -1)
    at = apply_affine(np.linalg.inv(to_space) @ affine, indices)
    near = np.linalg.norm(at - np.array(centre), axis=-1) < radius
    voxel = abs(np.linalg.det(affine[:3, :3]))
    return float(difference[near].sum() * voxel / (BRIGHT - TISSUE))


@pytest.mark.slow
def test_a_new_lesion_has_its_volume(out: Path) -> None:
    assert changed_volume(out, NEW[0], 18) == pytest.approx(ball_volume(NEW), rel=0.05)


@pytest.mark.slow
def test_a_lesion_that_grew_has_grown_by_its_volume(out: Path) -> None:
    truth = ball_volume(GROWN) - ball_volume(SMALL)
    assert changed_volume(out, GROWN[0], 18) == pytest.approx(truth, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("place", NOTHING)
def test_where_nothing_changed_nothing_is_seen(
    out: Path, place: tuple[float, float, float]
) -> None:
    assert abs(changed_volume(out, place, 18)) < 0.05 * ball_volume(NEW)
    difference, _ = change(out)
    assert difference.std() < 0.2 * (BRIGHT - TISSUE)


@pytest.mark.slow
def test_files_of_visits_refer_to_one_grid(out: Path) -> None:
    grids = {sidecar(path)["SpatialReference"] for path in out.glob("sub-01/ses-*/anat/*.json")}
    assert grids == {f"bids::{SHARED}.nii.gz"}
    assert (out / f"{SHARED}.nii.gz").is_file()


@pytest.mark.slow
def test_the_validator_finds_no_error(out: Path) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run([validator, out, "--json"], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert done.returncode == 0


@pytest.mark.slow
def test_a_visit_that_cannot_be_read_leaves_the_others_undone(raw: Path, tmp_path: Path) -> None:
    broken = tmp_path / "raw"
    shutil.copytree(raw, broken)
    scanned = broken / "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz"
    scanned.write_bytes(scanned.read_bytes()[:5000])
    shutil.copytree(broken / "sub-01/ses-1", broken / "sub-02/ses-1")
    alone = broken / "sub-02/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz"
    alone.rename(alone.with_name("sub-02_ses-1_FLAIR.nii.gz"))
    out = tmp_path / "out"
    assert run(broken, out, *UNBIASED, "--linear") == 65
    assert not list(out.glob("sub-01/**/*.nii.gz"))
    assert list(out.glob("sub-02/ses-1/anat/*_desc-resliced_FLAIR.nii.gz"))


@pytest.mark.slow
def test_transforms_take_each_visit_half_way(out: Path) -> None:
    first, second = (
        read_transform(
            out / f"sub-01/{ses}/anat/sub-01_{ses}_from-FLAIR_to-individual_mode-image_xfm.txt"
        )
        for ses in ("ses-1", "ses-2")
    )
    np.testing.assert_allclose(first @ second, np.eye(4), atol=1e-4)
    points = np.random.default_rng(0).normal(scale=40, size=(100, 3))
    wrong = apply_affine(np.linalg.inv(second) @ first, points) - apply_affine(TURNED, points)
    assert np.linalg.norm(wrong, axis=1).mean() < 0.1


@pytest.mark.slow
def test_labels_of_all_visits_lie_where_the_lesion_is(out: Path) -> None:
    first, second = (
        nib.load(next(out.glob(f"sub-01/{ses}/anat/*_dseg.nii.gz"))) for ses in ("ses-1", "ses-2")
    )
    np.testing.assert_array_equal(first.affine, second.affine)
    was, now = (np.asarray(drawn.dataobj) > 0 for drawn in (first, second))
    assert (was & now).sum() > 0.8 * was.sum()
    grown = (now & ~was).sum() * 2.5**3
    truth = ball_volume(NEW) + ball_volume(GROWN) - ball_volume(SMALL)
    assert grown == pytest.approx(truth, rel=0.3)


@pytest.mark.slow
def test_the_same_command_again_does_nothing(raw: Path, labels: Path, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.glob("sub-01*/**/*.*")}
    assert run(raw, out, *UNBIASED, "--labels", str(labels)) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("sub-01*/**/*.*")} == before


@pytest.mark.slow
def test_files_of_a_shared_grid_go_with_its_last_image(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(raw, out, *UNBIASED, "--linear") == 0
    page = out / "sub-01_visits.html"
    assert page.is_file()
    assert (out / f"{SHARED}.json").is_file()
    assert run(raw, out, "--linear", "--session-label", "1") == 0
    assert (out / f"{SHARED}.nii.gz").is_file()
    assert run(raw, out, "--linear") == 0
    assert not page.exists()
    assert not (out / "sub-01/anat").exists()
    assert not list(out.glob("sub-01/figures/sub-01_desc-visit*"))
    assert list(out.glob("sub-01/ses-*/anat/*_desc-resliced_FLAIR.nii.gz"))


@pytest.mark.slow
def test_nothing_of_one_visit_enters_the_image_of_another(raw: Path, tmp_path: Path) -> None:
    """Whatever the second visit shows, the first one, which stays, has the same image."""
    other = tmp_path / "raw"
    shutil.copytree(raw, other)
    second = other / "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz"
    image(TURNED, 7, HEAD, 5.0).to_filename(second)
    content = []
    for root in (raw, other):
        out = tmp_path / f"out-{root.parent.name}"
        assert run(root, out, "--subject-anatomical-reference", "first-lex", "--max-iter", "5") == 0
        content.append(nib.load(out / f"{FIRST}.nii.gz"))
    one, two = content
    np.testing.assert_array_equal(one.affine, two.affine)
    np.testing.assert_array_equal(one.get_fdata(), two.get_fdata())
