"""Scans that show little of the head do not decide where it lies in the study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from bids_unires.cli.main import main
from bids_unires.dataset.derivatives import ParticipantResult, ResultImage
from bids_unires.dataset.transforms import read_transform
from bids_unires.pipeline.group.cohort import Member, head_share
from bids_unires.pipeline.group.study_alignment import measured_in
from bids_unires.registration import packaged_template
from bids_unires.space.affines import Affine, apply_affine, translation
from bids_unires.space.volume import Volume

DatasetMaker = Callable[..., Path]

COARSE = ["--voxel-size", "4", "--device", "cpu", "--skip-bids-validation", "-q"]
LIES = translation([6.0, 15.0, -25.0])
RESULT = ParticipantResult("01", None, "individual", "1mm", (), (), None, (), ())


def seen(low: tuple[int, int, int], high: tuple[int, int, int]) -> nib.Nifti1Image:
    """The template's head between two corners (mm), where it lies in the scanner."""
    template = packaged_template().image
    affine = translation(np.array(low)) @ np.diag([4.0, 4, 4, 1])
    shape = tuple((np.array(high) - low) // 4)
    into_image = np.linalg.inv(template.affine) @ affine
    data = ndimage.affine_transform(template.data, into_image, output_shape=shape, order=1)
    noise = np.random.default_rng(0).normal(scale=2, size=shape)
    return nib.Nifti1Image((data + 3 + np.abs(noise)).astype(np.float32), lies() @ affine)


def lies() -> Affine:
    return np.asarray(np.linalg.inv(LIES))


@pytest.mark.slow
def test_the_head_is_aligned_by_the_image_that_shows_most_of_it(
    tmp_path: Path, make_head_dataset: DatasetMaker
) -> None:
    scans = {
        "sub-01_acq-a_T1w": seen((-80, -40, -70), (80, 0, 70)),
        "sub-01_acq-b_T1w": seen((-96, -132, -80), (96, 96, 112)),
    }
    raw, out = make_head_dataset(tmp_path / "raw", scans), tmp_path / "out"
    assert main([str(raw), str(out), "participant", "--linear", *COARSE]) == 0
    assert main([str(raw), str(out), "group", *COARSE]) == 0
    to_scan = read_transform(next(out.rglob("*_acq-b_*to-individual*xfm.txt")))
    to_study = read_transform(next(out.rglob("*_to-study_mode-image_xfm.txt")))
    points = np.array([[0, 0, 0], [60, 0, 0], [0, -80, 0], [0, 0, 60]])
    found = apply_affine(to_study @ to_scan @ lies(), points)
    assert np.linalg.norm(found - points, axis=1).max() < 2.0
    grid = nib.load(next(out.glob("tpl-study/anat/*_desc-grid_mask.nii.gz")))
    assert min(np.array(grid.shape) * grid.header.get_zooms()) > 120


def image(contrast: str, suffix: str, share: object) -> ResultImage:
    metadata = {"UniRes": {} if share is None else {"HeadShare": share}}
    return ResultImage(contrast, {"suffix": suffix}, "sr", Path(f"{contrast}.nii.gz"), metadata)


@pytest.mark.parametrize(
    ("shares", "aligned"),
    [((1, 1), 0), ((0.95, 1), 0), ((0.2, 0.9), 1), ((None, 0.5), 0), (("x", 1), 0), ((0, 0), 0)],
)
def test_the_first_image_stands_for_all_unless_it_shows_less(
    shares: tuple[object, object], aligned: int
) -> None:
    known = (image("T1w", "T1w", shares[0]), image("FLAIR", "FLAIR", shares[1]))
    member = Member("01", None, RESULT, known, known, {}, None, "")
    assert member.aligned is known[aligned]
    assert 0 <= head_share(known[0]) <= 1


@pytest.mark.parametrize(("suffix", "dark"), [("T1w", 0.0), ("ct", -1000.0)])
def test_what_was_not_measured_is_told_from_single_dark_voxels(suffix: str, dark: float) -> None:
    data = np.full((20, 16, 12), dark, np.float32)
    data[:, 4:] = 50
    data[5, 9, 6] = dark
    volume = Volume(data, np.eye(4))
    measured = measured_in(image("a", suffix, 0.5), volume)
    assert measured is not None
    np.testing.assert_array_equal(
        measured, np.broadcast_to(np.arange(16)[:, None] >= 4, (20, 16, 12))
    )
    assert measured_in(image("a", suffix, 1.0), volume) is None
    assert measured_in(replace(image("a", suffix, None), metadata={}), volume) is None
