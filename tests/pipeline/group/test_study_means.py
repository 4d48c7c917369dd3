"""Means over participants count everybody where they were scanned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import parse_arguments
from bids_unires.dataset.writing import write_image, write_mask
from bids_unires.pipeline.group.study_means import StudyImage, write_mean
from bids_unires.records.image import ImageRecord, QualityRecord
from bids_unires.space.grid import Grid

GRID = Grid((4, 4, 8), np.diag([5.0, 5.0, 5.0, 1.0]))


def write_participant(out: Path, number: int, suffix: str, seen: int, values: float) -> StudyImage:
    """An image of one value in its first slices, and of what stands for air in the others."""
    image = np.full(GRID.shape, -1000.0 if suffix == "ct" else 0.0, dtype=np.float32)
    measured = np.zeros(GRID.shape, dtype=bool)
    measured[:, :, :seen] = True
    image[measured] = values
    label = f"sub-{number}_space-study_res-5mm_desc"
    path = write_image(out / f"{label}-sr_{suffix}.nii.gz", image, GRID.affine)
    mask = write_mask(out / f"{label}-fov_mask.nii.gz", measured, GRID.affine)
    return StudyImage(suffix, {"suffix": suffix}, path, ImageRecord(), False, mask)


@pytest.mark.parametrize(("suffix", "air"), [("ct", -1000), ("T1w", 0)])
def test_who_was_not_scanned_somewhere_does_not_count_there(
    tmp_path: Path, suffix: str, air: float
) -> None:
    config = parse_arguments([str(tmp_path), str(tmp_path), "group", "--voxel-size", "5"])
    images = [
        write_participant(tmp_path, number, suffix, seen, values)
        for number, seen, values in ((1, 6, 40.0), (2, 2, 20.0))
    ]
    written = write_mean(images, GRID, tmp_path / "grid.nii.gz", config)
    mean = nib.load(written[-1]).get_fdata()
    np.testing.assert_allclose(mean[0, 0], [30, 30, 40, 40, 40, 40, air, air], atol=0.01)


def test_ct_beyond_the_field_of_view_of_other_contrasts_is_no_air(tmp_path: Path) -> None:
    config = parse_arguments([str(tmp_path), str(tmp_path), "group", "--voxel-size", "5"])
    image = write_participant(tmp_path, 1, "ct", 7, 40.0)
    short = np.zeros(GRID.shape, dtype=bool)
    short[:, :, :3] = True
    write_mask(tmp_path / "sub-1_space-study_res-5mm_desc-fov_mask.nii.gz", short, GRID.affine)
    written = write_mean([image], GRID, tmp_path / "grid.nii.gz", config)
    mean = nib.load(written[-1]).get_fdata()
    np.testing.assert_allclose(mean[0, 0], [*[40] * 7, -1000], atol=0.01)


def test_a_brighter_participant_outweighs_nobody(tmp_path: Path) -> None:
    config = parse_arguments([str(tmp_path), str(tmp_path), "group", "--voxel-size", "5"])
    images = []
    for number, seen, values in ((1, 7, 100.0), (2, 4, 300.0)):
        image = write_participant(tmp_path, number, "T1w", seen, values)
        quality = QualityRecord("brain", 100, values, 0.1)
        images.append(replace(image, record=ImageRecord(quality=quality)))
    written = write_mean(images, GRID, tmp_path / "grid.nii.gz", config)
    # Wherever one or both measured, the mean is as bright as brains are on average.
    mean = nib.load(written[-1]).get_fdata()
    np.testing.assert_allclose(mean[0, 0], [*[200] * 7, 0], atol=0.01)
