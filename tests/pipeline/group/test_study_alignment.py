"""Where participants lie in the study, and which of their voxels are brain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.cli.main import main
from bids_unires.registration import load_template

DatasetMaker = Callable[..., Path]

COARSE = ["--voxel-size", "3", "--device", "cpu", "--skip-bids-validation", "-q"]
SIZE = 0.9


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
