"""Maps of standard deviations, from the command line to the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.config_file import read_options
from bids_unires.cli.main import main, parse_arguments
from bids_unires.cli.parser import build_parser
from bids_unires.config import ModelSettings
from bids_unires.dataset.derivatives import find_results
from bids_unires.errors import UsageError
from bids_unires.run.configuration import write_options
from tests.pages import with_pages

MAP = "sub-01_space-individual_res-5mm_desc-srStd_T1w.nii.gz"
COARSE = ["--voxel-size", "5", "--reg-scale", "20"]
BRIEF = [
    "--learning-effort",
    "brief",
    "--max-iter",
    "10",
    "--device",
    "cpu",
    "--skip-bids-validation",
]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    make_head_scan: Callable[..., nib.Nifti1Image],
    make_head_dataset: Callable[..., Path],
) -> list[str]:
    folder = tmp_path_factory.mktemp("uncertainty")
    raw = make_head_dataset(folder / "raw", {"sub-01_T1w": make_head_scan(2)})
    arguments = [str(raw), str(folder / "out"), "participant", *COARSE, *BRIEF]
    arguments += ["--uncertainty", "3"]
    with with_pages():
        assert main([*arguments, "-q"]) == 0
    return arguments


def out_of(finished: list[str]) -> Path:
    return Path(finished[1])


def test_the_map_lies_beside_its_image(finished: list[str]) -> None:
    folder = out_of(finished) / "sub-01" / "anat"
    sds, image = nib.load(folder / MAP), nib.load(folder / MAP.replace("Std", ""))
    assert sds.get_data_dtype() == np.float32
    assert sds.shape == image.shape
    np.testing.assert_array_equal(sds.affine, image.affine)
    data = sds.get_fdata()
    assert np.all(data > 0)
    head = image.get_fdata() > 60
    assert 0.5 < np.median(data[head]) < 60
    sidecar = json.loads((folder / MAP.replace(".nii.gz", ".json")).read_text())
    assert sidecar["UniRes"]["Samples"] == 3
    assert sidecar["UniRes"]["CalibrationScale"] > 0
    assert sidecar["UniRes"]["Units"] == "those of the scans"
    assert "Standard deviation" in sidecar["Description"]


def test_the_validator_finds_no_error(finished: list[str]) -> None:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    done = subprocess.run(
        [validator, out_of(finished), "--json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


def test_the_page_shows_it(finished: list[str]) -> None:
    page = (out_of(finished) / "sub-01.html").read_text("utf-8")
    assert "How far T1w may be off" in page
    assert "sub-01/figures/sub-01_desc-std_T1w.webp" in page
    assert (out_of(finished) / "sub-01" / "figures" / "sub-01_desc-std_T1w.webp").is_file()


def test_it_is_no_image_of_the_participant_to_the_group_level(finished: list[str]) -> None:
    (result,) = find_results(out_of(finished))
    assert [image.desc for image in result.images] == ["sr"]
    assert result.problems == ()


def test_a_map_that_is_gone_is_made_again_and_the_same(
    finished: list[str],
) -> None:
    path = out_of(finished) / "sub-01" / "anat" / MAP
    before = nib.load(path).get_fdata()
    path.unlink()
    assert main([*finished, "-q"]) == 0
    np.testing.assert_array_equal(nib.load(path).get_fdata(), before)


def settings_of(*options: str, level: str = "participant") -> ModelSettings:
    return parse_arguments(["raw", "out", level, *options]).model


def test_without_a_number_there_are_eight_samples() -> None:
    assert settings_of().uncertainty is None
    assert settings_of("--uncertainty").uncertainty == 8
    assert settings_of("--uncertainty", "20").uncertainty == 20
    assert settings_of("--denoise", "--uncertainty").uncertainty == 8


@pytest.mark.parametrize(
    ("options", "level", "said"),
    [
        (["--linear"], "participant", "--linear"),
        ([], "group", "participant level"),
    ],
)
def test_where_there_is_no_such_map_it_is_refused(
    options: list[str], level: str, said: str
) -> None:
    with pytest.raises(UsageError, match=f"--uncertainty .*{said}"):
        settings_of("--uncertainty", *options, level=level)


@pytest.mark.parametrize("number", ["1", "-3", "257", "many"])
def test_a_number_that_is_none_of_samples_is_refused(number: str) -> None:
    with pytest.raises(UsageError, match="--uncertainty"):
        settings_of(f"--uncertainty={number}")


def test_a_configuration_file_keeps_it(tmp_path: Path) -> None:
    config = parse_arguments(["raw", "out", "participant", "--uncertainty", "5"])
    write_options(tmp_path / "run.toml", config)
    assert read_options(tmp_path / "run.toml", build_parser())["uncertainty"] == 5
