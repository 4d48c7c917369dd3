"""Poses of thick slices of several contrasts of a real head, against where they truly lay."""

from __future__ import annotations

import numpy as np
import pytest

from bids_unires.space.affines import translation
from evaluation.poses import (
    PoseCase,
    main,
    pose_error,
    random_motion,
    read_contrasts,
    rows_of,
    table,
)
from tests.paths import SHARED

STROKE = [str(SHARED / "data" / "stroke" / f"{name}.nii.gz") for name in ("T1w", "T2w", "FLAIR")]


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("motion", [0.0, 3.0])
def test_axial_slices_lie_where_they_lay(motion: float) -> None:
    """T2w and FLAIR of 5 mm; mutual information moves T2w by almost a millimetre."""
    images = read_contrasts(STROKE)
    cases = [PoseCase("stroke", "axial", motion, seed) for seed in range(2)]
    rows = [row for case in cases for row in rows_of(case, images)]
    assert [row["contrast"] for row in rows] == ["T2w", "FLAIR"] * 2
    # A single error depends on the noise, and a little on the processor.
    for of_contrast in (rows[::2], rows[1::2]):
        assert np.mean([row["defaults"] for row in of_contrast]) < 0.3
    for row in rows:
        assert row["defaults"] < 0.35
        assert 0.5 * row["defaults"] < row["stated"] < 0.5
    assert all(row["mutual information"] > 0.6 for row in rows[::2])


def test_errors_are_those_of_the_surface() -> None:
    pose = random_motion(4.0, np.random.default_rng(0))
    assert pose_error(pose, pose) == 0.0
    assert pose_error(pose @ translation([0, 3, 4]), pose) == pytest.approx(5.0)


def test_the_table_has_a_row_for_each_kind_of_case() -> None:
    row = {"head": "a", "planes": "axial", "motion": 3.0, "contrast": "T2w"}
    rows = [
        {**row, "mutual information": 0.8, "defaults": 0.2, "stated": 0.3},
        {**row, "mutual information": 1.0, "defaults": 0.4, "stated": None},
    ]
    assert table(rows).splitlines()[2:] == [
        "| a, axial, 3 mm and degrees | T2w | 0.90 (at most 1.00) | 0.30 (at most 0.40) | 0.30 |"
    ]


def test_help_names_the_real_heads(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--real NAME FIRST SECOND THIRD" in capsys.readouterr().out
