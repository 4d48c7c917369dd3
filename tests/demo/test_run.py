import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.config import RunConfig
from bids_unires.dataset.naming import (
    derivative_path,
    sidecar_path,
    study_grid_path,
    transform_path,
)
from bids_unires.dataset.query import plan_participants
from bids_unires.dataset.reading import load_volume
from bids_unires.dataset.transforms import write_transform
from bids_unires.dataset.writing import write_image, write_json
from bids_unires.demo import run as demo
from bids_unires.demo.dataset import DemoPaths
from bids_unires.demo.phantom import Participant, TissueMaps
from bids_unires.demo.scanner import Motion
from bids_unires.errors import OutputError
from bids_unires.run import app
from bids_unires.space.affines import Affine

PEOPLE = (Participant("01", seed=1), Participant("02", size=(1.1, 1.0, 0.9), seed=2))
MOTIONS = {
    ("01", "T1w"): Motion((1.0, 0.5, -0.5), (2.0, 0.0, 1.0)),
    ("01", "T2w"): Motion((-1.5, 0.5, 0.8), (-1.0, 2.0, 0.0)),
    ("01", "FLAIR"): Motion((0.4, 1.5, -1.0), (1.0, -1.0, 2.0)),
    ("02", "T1w"): Motion(),
    ("02", "T2w"): Motion((2.0, -1.0, 0.0)),
    ("02", "FLAIR"): Motion((0.0, 0.0, 1.0), (0.0, 3.0, 0.0)),
}


@pytest.fixture(autouse=True)
def small_study(monkeypatch: pytest.MonkeyPatch, ball_maps: TissueMaps) -> None:
    monkeypatch.setattr(demo, "load_icbm152", lambda: ball_maps)
    monkeypatch.setattr(demo, "PARTICIPANTS", PEOPLE)
    monkeypatch.setattr(demo, "MOTIONS", MOTIONS)


def perfect_levels(truth_to_result: Affine) -> Callable[[RunConfig], int]:
    """A participant level that finds the truth, in a space of its own choice, and a grid."""

    def run(config: RunConfig) -> int:
        if config.level == "group":
            path = study_grid_path(config.output_dir, voxel_size=(1, 1, 1))
            about = {"Participants": ["sub-01", "sub-02"], "Shape": [64, 48, 64], "Halvings": 4}
            write_json(sidecar_path(path), {"UniRes": about})
            return 0
        paths = DemoPaths(config.bids_dir.parent)
        for plan in plan_participants(config):
            for contrast in plan.contrasts:
                suffix = str(contrast.scans[0].entities["suffix"])
                truth = load_volume(paths.true_image(plan.participant, suffix))
                image = derivative_path(
                    config.output_dir, plan, contrast, desc="sr", voxel_size=(1, 1, 1)
                )
                write_image(image, truth.data, truth_to_result @ truth.affine)
                pose = truth_to_result @ MOTIONS[plan.participant, suffix].scanner_to_head
                write_transform(transform_path(config.output_dir, plan, contrast.scans[0]), pose)
        return 0

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "truth_to_result",
    [
        np.eye(4),
        Motion((3.0, -2.0, 4.0), (5.0, -4.0, 3.0)).scanner_to_head,
    ],
    ids=["same-space", "own-space"],
)
def test_the_truth_scores_far_above_interpolation_in_any_space(
    truth_to_result: Affine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(app, "run", perfect_levels(truth_to_result))
    assert demo.run_demo(tmp_path / "out") == 0
    printed = capsys.readouterr().out
    rows = re.findall(r"^sub-(\d+) +(\w+) +(\S+) +(\S+) +(\S+) +(\S+)$", printed, re.MULTILINE)
    assert {(label, suffix) for label, suffix, *_ in rows} == set(MOTIONS)
    for *_, linear, cubic, result, _gain in rows:
        assert 10 < float(linear) < float(cubic) < 40
        assert float(result) > 60
    gains = [float(gain) for *_, gain in rows]
    (mean,) = re.findall(r"^Mean gain .*: (\S+) dB$", printed, re.MULTILINE)
    assert float(mean) == pytest.approx(np.mean(gains), abs=0.01)
    for part in ("bids", "truth", "derivatives"):
        assert str(tmp_path / "out" / part) in printed
    for level in ("participant", "group"):
        assert f"Running the {level} level" in printed
    assert "All 2 participants on one grid of 64 x 48 x 64 voxels" in printed
    assert "can be halved 4 times" in printed


@pytest.mark.parametrize("failing", ["participant", "group"])
def test_a_failing_level_decides_the_exit_code(
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    begun = []

    def run(config: RunConfig) -> int:
        begun.append(config.level)
        return 65 if config.level == failing else 0

    monkeypatch.setattr(app, "run", run)
    assert demo.run_demo(tmp_path) == 65
    assert begun[-1] == failing
    assert "PSNR" not in capsys.readouterr().out


def test_a_folder_with_other_files_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["demo", str(tmp_path)]) == OutputError.exit_code
    assert str(tmp_path) in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
