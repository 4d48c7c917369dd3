"""Where participants lie in the study, and which of their voxels are brain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main, parse_arguments
from bids_unires.config import Alignment
from bids_unires.dataset.derivatives import ParticipantResult, ResultImage
from bids_unires.dataset.transforms import read_transform
from bids_unires.dataset.writing import write_image
from bids_unires.pipeline.group.cohort import Member
from bids_unires.pipeline.group.study_alignment import (
    Placing,
    place_in_study,
    study_transform_path,
)
from bids_unires.registration import load_template
from bids_unires.space.affines import Affine, apply_affine, scaling, translation
from bids_unires.work.allotment import Allotment

DatasetMaker = Callable[..., Path]

COARSE = ["--voxel-size", "3", "--device", "cpu", "--skip-bids-validation", "-q"]
SIZE = 0.9
# World mm of the template -> of a small head beside the origin.
LIES = translation([6.0, 15.0, -25.0]) @ scaling([SIZE] * 3)


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--align", "rigid"), ("--align", "similarity")])
def test_brains_are_as_large_as_they_are_wherever_the_images_lie(
    tmp_path: Path, make_head_dataset: DatasetMaker, options: tuple[str, ...]
) -> None:
    template = load_template()
    head = nib.Nifti1Image(template.image.data, np.diag([SIZE] * 3 + [1]) @ template.image.affine)
    raw, out = make_head_dataset(tmp_path / "raw", {"sub-01_T1w": head}), tmp_path / "out"
    assert main([str(raw), str(out), "participant", "--linear", *options, *COARSE]) == 0
    align = options or ("--align", "rigid")
    assert main([str(raw), str(out), "group", *align, *COARSE]) == 0
    (path,) = out.rglob("*_space-study_*_desc-brain_mask.nii.gz")
    mask = nib.load(path)
    volume = np.count_nonzero(mask.get_fdata()) * np.prod(mask.header.get_zooms())
    size = 1.0 if "similarity" in options else SIZE
    voxel_volume = np.abs(np.linalg.det(template.brain.affine[:3, :3]))
    true = np.count_nonzero(template.brain.data) * voxel_volume * size**3
    assert volume == pytest.approx(true, rel=0.05)


def placed(out: Path, space: str, align: Alignment) -> Affine:
    """How a small head that lies elsewhere is placed; its image is said to be in a space."""
    template = load_template()
    coarse = template.image.data[::4, ::4, ::4]
    affine = LIES @ template.image.affine @ scaling([4, 4, 4])
    path = write_image(out / "sub-01" / "anat" / "sub-01_T1w.nii.gz", coarse, affine)
    image = ResultImage("T1w", {"suffix": "T1w"}, "sr", path, {})
    result = ParticipantResult("01", None, space, "1mm", (image,), (), None, (), ())
    member = Member("01", None, result, (image,), (image,), {}, None, "")
    config = parse_arguments([str(out), str(out), "group"])
    unit = Placing(member, align, config.space.template, None, "head")
    place_in_study(unit, config, Allotment("cpu", 1, 2**33))
    return read_transform(study_transform_path(out, member))


def test_heads_go_to_the_template_unless_they_are_there(tmp_path: Path) -> None:
    points = np.array([[0, 0, 0], [50, 0, 0], [0, -70, 0], [0, 0, 50]])
    found = placed(tmp_path / "away", "individual", "similarity")
    assert np.linalg.norm(apply_affine(found @ LIES, points) - points, axis=1).max() < 3
    there = placed(tmp_path / "there", "MNI152NLin2009cAsymSimilarity", "similarity")
    np.testing.assert_array_equal(there, np.eye(4))
