"""Which participants are fitted robustly without being asked to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main, parse_arguments
from bids_unires.config import RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.pipeline.participant.acquired import acquire
from bids_unires.pipeline.participant.screening import screened
from bids_unires.records.image import ImageRecord
from tests.pipeline.conftest import write_dataset
from tests.registration.visiting_head import scan

DARK = 17


def image(*, damaged: bool, even: float = 0.0) -> nib.Nifti1Image:
    """A head; slices 0, 2, ... are brighter by ``exp(2 * even)``."""
    volume = scan(np.eye(4), 0).volume
    data = volume.data.copy()
    if damaged:
        data[:, :, DARK] *= 0.6
    data[:, :, ::2] *= np.float32(np.exp(2 * even))
    return nib.Nifti1Image(data, volume.affine)


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., RunConfig]:
    def configure(*options: str, damaged: bool, even: float = 0.0) -> RunConfig:
        scans = {"sub-01_T1w": image(damaged=damaged, even=even)}
        raw = write_dataset(tmp_path / "raw", scans)
        return parse_arguments([str(raw), str(tmp_path / "out"), "participant", *options])

    return configure


def after_a_look(config: RunConfig) -> RunConfig:
    (plan,) = plan_participants(config)
    return screened(acquire(plan, config.model, 2**34, reset_origin=False), config)


def test_clean_scans_are_fitted_as_ever(configured: Callable[..., RunConfig]) -> None:
    config = configured(damaged=False)
    assert after_a_look(config) is config
    assert not config.model.robust


def test_damaged_slices_make_the_fit_robust_and_are_told(
    configured: Callable[..., RunConfig], caplog: pytest.LogCaptureFixture
) -> None:
    config = configured(damaged=True)
    with caplog.at_level(logging.WARNING, "bids_unires"):
        assert after_a_look(config).model.robust
    assert f"slices seem damaged (counted from 0): sub-01_T1w.nii.gz {DARK};" in caplog.text


def test_slices_of_ct_are_calibrated_and_not_judged(tmp_path: Path) -> None:
    raw = write_dataset(tmp_path / "raw", {})
    path = raw / "sub-01" / "ct" / "sub-01_ct.nii.gz"
    path.parent.mkdir(parents=True)
    image(damaged=True).to_filename(path)
    config = parse_arguments([str(raw), str(tmp_path / "out"), "participant", "--ct"])
    assert config.may_become_robust
    assert after_a_look(config) is config


@pytest.mark.parametrize("options", [("--no-robust",), ("--slice-motion",), ("--linear",)])
def test_who_decided_is_not_overruled(
    configured: Callable[..., RunConfig], options: tuple[str, ...]
) -> None:
    config = configured(*options, damaged=True)
    assert after_a_look(config) is config
    assert not config.model.robust


@pytest.mark.parametrize(("even", "how"), [(0.02, "brighter"), (-0.03, "darker")])
def test_odd_and_even_slices_that_differ_are_evened_out_and_told(
    configured: Callable[..., RunConfig],
    caplog: pytest.LogCaptureFixture,
    even: float,
    how: str,
) -> None:
    config = configured(damaged=False, even=even)
    with caplog.at_level(logging.INFO, "bids_unires"):
        model = after_a_look(config).model
    assert model.interleave_correction
    assert not model.robust
    told = re.search(rf"sub-01_T1w.nii.gz: even slices are (\S+) % {how}", caplog.text)
    assert told is not None
    assert float(told[1]) == pytest.approx(100 * abs(np.expm1(2 * even)), abs=0.5)


def test_one_dark_slice_does_not_make_slices_uneven(configured: Callable[..., RunConfig]) -> None:
    assert not after_a_look(configured(damaged=True)).model.interleave_correction


@pytest.mark.parametrize("option", ["--no-interleave-correction", "--linear"])
def test_who_decided_keeps_uneven_slices(configured: Callable[..., RunConfig], option: str) -> None:
    config = configured(option, damaged=False, even=0.02)
    assert after_a_look(config) is config


def test_results_with_and_without_a_look_are_told_apart(
    configured: Callable[..., RunConfig],
) -> None:
    config = configured(damaged=False)
    (plan,) = plan_participants(config)
    decided = parse_arguments(
        [
            *(str(config.bids_dir), "out", "participant"),
            *("--no-robust", "--no-interleave-correction"),
        ]
    )
    for setting in ("robust", "interleave_correction"):
        assert plan.settings(config)[setting] == "auto"
        assert plan.settings(decided)[setting] is False


@pytest.mark.slow
@pytest.mark.usefixtures("pages")
def test_the_sidecar_tells_what_was_done(configured: Callable[..., RunConfig]) -> None:
    config = configured(damaged=True)
    coarse = ["--voxel-size", "2.5", "--device", "cpu", "--no-learned-detail", "-q"]
    folders = [str(config.bids_dir), str(config.output_dir)]
    assert main([*folders, "participant", *coarse, "--skip-bids-validation"]) == 0
    (path,) = config.output_dir.glob("sub-01/anat/*_desc-sr_T1w.json")
    record = ImageRecord.read(path)
    assert record.settings is not None
    assert record.settings["robust"] is True
    (told,) = record.scans or ()
    assert told.verdict is not None
    mended = told.verdict.to_json()
    assert str(DARK) in str(mended)
    assert "slices seem damaged" in (config.output_dir / "sub-01.html").read_text("utf-8")
