"""Visits that share a space go to the study together."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.dataset.derivatives import ParticipantResult, ResultImage
from bids_unires.dataset.transforms import read_transform
from bids_unires.pipeline.group.cohort import Member, first_visit_of
from tests.documented import documented
from tests.pipeline.conftest import scan_of_head, write_dataset

OPTIONS = [
    "--voxel-size",
    "5",
    "--device",
    "cpu",
    "--omp-nthreads",
    "1",
    "--skip-bids-validation",
    "-q",
]
FIT = ["--linear", "--subject-anatomical-reference", "first-lex"]


@pytest.mark.slow
def test_the_documented_command(tmp_path: Path) -> None:
    scans = {
        f"sub-{label}_ses-{session}_T1w": scan_of_head(axis=2, offset=offset, seed=seed)
        for seed, (label, session, offset) in enumerate(
            [("01", "1", (0, 0, 0)), ("01", "2", (4, -3, 2)), ("02", "1", (1, 0, 0))]
        )
    }
    raw, out = write_dataset(tmp_path / "raw", scans), tmp_path / "out"
    assert main([str(raw), str(out), "participant", *OPTIONS, *FIT]) == 0
    command = documented(
        "docs/how-to/visits.md", "bids_unires BIDS OUT group", {"BIDS": raw, "OUT": out}
    )
    # Heads that are made of ellipsoids hold no brain, and the template is none of them.
    no_brain = ["--template", "none", "--fov", "head", "--group-mode", "reslice"]
    assert main([*command.split()[1:], *OPTIONS, *no_brain]) == 0
    first, second = (
        read_transform(
            next(out.glob(f"sub-01/ses-{session}/anat/*_from-individual_to-study_*_xfm.txt"))
        )
        for session in ("1", "2")
    )
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, np.eye(4))
    images = [
        nib.load(next(out.glob(f"sub-01/ses-{session}/anat/*_space-study_*_T1w.nii.gz")))
        for session in ("1", "2")
    ]
    np.testing.assert_array_equal(images[0].affine, images[1].affine)
    one, two = (image.get_fdata() for image in images)
    seen = (one > 0) & (two > 0)
    assert np.corrcoef(one[seen], two[seen])[0, 1] > 0.97


def visit(session: str, grid: str) -> Member:
    image = ResultImage("T1w", {"suffix": "T1w"}, "sr", Path("x.nii"), {"SpatialReference": grid})
    result = ParticipantResult("01", session, "individual", "1mm", (image,), (), None, (), ())
    return Member("01", session, result, (image,), (image,), {}, None, "")


def test_only_visits_on_one_grid_are_aligned_together() -> None:
    alone, first, second = (
        visit("0", "bids::own"),
        visit("1", "bids::both"),
        visit("2", "bids::both"),
    )
    everybody = (second, alone, first)
    assert first_visit_of(alone, everybody) is None
    assert first_visit_of(first, everybody) is None
    assert first_visit_of(second, everybody) is first
