import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.demo.dataset import DATASET_NAME, DemoPaths, claim, write_dataset
from bids_unires.demo.phantom import Participant, TissueMaps
from bids_unires.demo.scanner import Motion
from bids_unires.demo.study import MOTIONS, PARTICIPANTS, PROTOCOLS
from bids_unires.errors import OutputError

PAIR = (Participant("01", lesions=2, seed=1), Participant("02", size=(1.1, 1, 1), seed=2))
STILL = {(p.label, q.suffix): Motion() for p in PAIR for q in PROTOCOLS}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, ball_maps: TissueMaps) -> DemoPaths:
    paths = claim(tmp_path_factory.mktemp("demo") / "made" / "here")
    write_dataset(paths, ball_maps, PAIR, PROTOCOLS, STILL)
    return paths


def test_every_participant_has_every_scan_and_its_truth(paths: DemoPaths) -> None:
    for participant in PAIR:
        for protocol in PROTOCOLS:
            scan = paths.scan(participant.label, protocol.suffix)
            assert scan.is_file()
            sidecar = json.loads(scan.with_name(scan.name.replace(".nii.gz", ".json")).read_text())
            header = nib.Nifti1Image.from_filename(scan).header
            assert sidecar["SpacingBetweenSlices"] == header.get_zooms()[2] == 4.0
            truth = nib.Nifti1Image.from_filename(
                paths.true_image(participant.label, protocol.suffix)
            )
            np.testing.assert_allclose(truth.header.get_zooms(), 1.0)
        assert (
            nib.Nifti1Image.from_filename(paths.true_head(participant.label)).shape == truth.shape
        )


def test_truth_stays_out_of_the_dataset(paths: DemoPaths) -> None:
    assert {entry.name for entry in paths.bids.iterdir()} == {
        "README",
        "dataset_description.json",
        "participants.tsv",
        "sub-01",
        "sub-02",
    }


def test_geometry_is_stated_twice_and_agrees(paths: DemoPaths) -> None:
    for scan in paths.bids.rglob("*.nii.gz"):
        image = nib.Nifti1Image.from_filename(scan)
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        assert image.get_data_dtype() == np.int16


def test_scan_without_noise_would_have_the_mean_of_the_truth(paths: DemoPaths) -> None:
    scan = nib.Nifti1Image.from_filename(paths.scan("01", "T1w")).get_fdata()
    truth = nib.Nifti1Image.from_filename(paths.true_image("01", "T1w")).get_fdata()
    bright = scan > 100
    assert 4 * scan[bright].sum() == pytest.approx(truth[truth > 100].sum(), rel=0.08)


def test_the_bids_validator_finds_no_error(paths: DemoPaths) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run(
        [validator, str(paths.bids), "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_made_again_it_is_the_same(paths: DemoPaths, ball_maps: TissueMaps, tmp_path: Path) -> None:
    again = claim(tmp_path)
    write_dataset(again, ball_maps, PAIR, PROTOCOLS, STILL, workers=1)
    for scan in paths.bids.rglob("*.nii.gz"):
        twin = again.bids / scan.relative_to(paths.bids)
        np.testing.assert_array_equal(
            nib.Nifti1Image.from_filename(scan).get_fdata(),
            nib.Nifti1Image.from_filename(twin).get_fdata(),
        )


def test_an_earlier_demo_may_be_reused(paths: DemoPaths) -> None:
    assert claim(paths.root) == paths


@pytest.mark.parametrize("content", ['{"Name": "Somebody\'s scans"}', "[]", "not JSON", None])
def test_other_peoples_folders_are_left_alone(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "bids").mkdir()
    if content is not None:
        (tmp_path / "bids" / "dataset_description.json").write_text(content)
    with pytest.raises(OutputError, match="name a new or an empty folder"):
        claim(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="taken"):
        claim(tmp_path / "taken")


def test_the_study_is_complete() -> None:
    assert DATASET_NAME
    assert set(MOTIONS) == {(p.label, q.suffix) for p in PARTICIPANTS for q in PROTOCOLS}
    assert {q.plane for q in PROTOCOLS} == {"sagittal", "coronal", "transverse"}
