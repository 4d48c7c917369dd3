"""The report as part of a participant's run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.config import Method, ModelSettings, RunConfig
from bids_unires.dataset.query import plan_participants
from bids_unires.errors import InputOutputError
from bids_unires.pipeline.participant import reporting
from bids_unires.pipeline.participant.workflow import ParticipantOutcome, run_participant
from bids_unires.report import ParticipantReport
from bids_unires.work.allotment import Allotment

ScanMaker = Callable[..., nib.Nifti1Image]
DatasetMaker = Callable[..., Path]
Runner = Callable[..., tuple[ParticipantOutcome, list[ParticipantReport]]]

pytestmark = pytest.mark.usefixtures("pages")


@pytest.fixture
def run_and_report(
    tmp_path: Path,
    make_head_scan: ScanMaker,
    make_head_dataset: DatasetMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> Runner:
    """Give a function that runs one participant and returns what reports were made of."""
    scans = {
        "sub-01_acq-ax_run-1_T1w": make_head_scan(2, seed=1),
        "sub-01_acq-cor_run-2_T1w": make_head_scan(1, seed=2, gain=1.3),
        "sub-01_FLAIR": make_head_scan(0, seed=3),
    }
    raw = make_head_dataset(tmp_path / "raw", scans)
    told: list[ParticipantReport] = []
    write = reporting.write_participant_report

    def remember(content: ParticipantReport, output_dir: Path) -> tuple[Path, ...]:
        told.append(content)
        return write(content, output_dir)

    monkeypatch.setattr(reporting, "write_participant_report", remember)

    def run(
        method: Method = "super-resolution",
    ) -> tuple[ParticipantOutcome, list[ParticipantReport]]:
        model = ModelSettings(
            (5.0, 5.0, 5.0),
            20.0,
            max_iter=25,
            method=method,
            coregister=False,
            learning_effort="brief",
        )
        config = RunConfig(raw, tmp_path / "out", "participant", device="cpu", model=model)
        (plan,) = plan_participants(config)
        return run_participant(plan, config, Allotment("cpu", 2, 2**34)), told

    return run


@pytest.mark.parametrize(
    "method", ["super-resolution", pytest.param("denoise", marks=pytest.mark.slow), "linear"]
)
def test_every_method_has_a_report(run_and_report: Runner, method: Method) -> None:
    outcome, (content,) = run_and_report(method)
    page = outcome.outputs[-1]
    assert page.name == "sub-01.html"
    assert all(path.is_file() for path in outcome.outputs)
    assert not outcome.missing
    assert "could not be made" not in " ".join(outcome.warnings)
    assert (content.history is None) == (method == "linear")
    for contrast in content.contrasts:
        assert contrast.path in outcome.outputs
        assert all(scan.transform in outcome.outputs for scan in contrast.scans)
    logs = page.parent / "logs"
    assert (logs / "CITATION.bib").is_file()


@pytest.mark.slow
def test_residual_maps_agree_with_the_statements(run_and_report: Runner) -> None:
    _, (content,) = run_and_report()
    for scan in content.scans:
        assert scan.fit is not None
        shown = scan.fit.residual_map.data
        inside = shown[np.isfinite(shown)]
        stated = scan.fit.residual
        assert inside.size == pytest.approx(stated.voxels, rel=0.1)
        assert inside.mean() == pytest.approx(stated.mean, abs=0.3 * stated.sd)
        assert inside.std() == pytest.approx(stated.sd, rel=0.35)


def test_results_survive_a_report_that_fails(
    run_and_report: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise InputOutputError("sub-01.html could not be written: No space left on device")

    monkeypatch.setattr(reporting, "write_citation", fail)
    outcome, told = run_and_report("linear")
    assert told == []
    assert outcome.outputs[-1].name.endswith("_FLAIR.nii.gz")
    assert outcome.missing == (tmp_path / "out" / "sub-01.html",)
    assert "No space left" in outcome.warnings[-1]
    assert "the results are complete" in caplog.text
