"""Both levels on the demonstration's heads, on coarse voxels: nothing cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bids_unires.config import GroupSettings, ModelSettings, RunConfig, SpaceSettings
from bids_unires.dataset.metadata import load_object
from bids_unires.dataset.naming import sidecar_path, study_grid_path
from bids_unires.dataset.reading import load_volume
from bids_unires.dataset.transforms import read_transform
from bids_unires.demo.dataset import DemoPaths, claim, write_dataset
from bids_unires.demo.phantom import build_anatomy, load_icbm152
from bids_unires.demo.scanner import Motion
from bids_unires.demo.score import resample
from bids_unires.demo.study import PARTICIPANTS, PROTOCOLS
from bids_unires.run import app
from bids_unires.space.affines import Affine, apply_affine
from bids_unires.space.grid import Grid
from bids_unires.space.volume import Volume

pytestmark = pytest.mark.slow

VOXEL_MM = 2
SIZES = (float(VOXEL_MM),) * 3


@dataclass(frozen=True)
class BothLevels:
    """The demonstration's files, and how the group level was run."""

    paths: DemoPaths
    config: RunConfig

    def images(self, suffix: str) -> list[Path]:
        name = f"*_space-study_res-{VOXEL_MM}mm_desc-sr_{suffix}.nii.gz"
        return sorted(self.paths.derivatives.glob(f"sub-*/anat/{name}"))

    def all_images(self) -> list[Path]:
        return [path for protocol in PROTOCOLS for path in self.images(protocol.suffix)]

    def grid(self) -> Grid:
        path = study_grid_path(self.paths.derivatives, voxel_size=SIZES)
        about = load_object(sidecar_path(path))["UniRes"]
        x, y, z = about["Shape"]
        return Grid((x, y, z), np.array(about["Affine"]))

    def truth_to_study(self, label: str) -> Affine:
        folder = self.paths.derivatives / f"sub-{label}" / "anat"
        scan, study = (
            read_transform(folder / f"sub-{label}_from-{start}_to-{end}_mode-image_xfm.txt")
            for start, end in (("T1w", "individual"), ("individual", "study"))
        )
        return study @ scan


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> BothLevels:
    """Two heads that keep still between their scans, which then need no coregistration."""
    paths = claim(tmp_path_factory.mktemp("demo") / "both")
    still = {(who.label, what.suffix): Motion() for who in PARTICIPANTS for what in PROTOCOLS}
    write_dataset(paths, load_icbm152(), PARTICIPANTS, PROTOCOLS, still)
    config = RunConfig(
        paths.bids,
        paths.derivatives,
        "participant",
        skip_bids_validation=True,
        device="cpu",
        model=ModelSettings(SIZES, reg_scale=4, learned_detail=False, coregister=False),
    )
    assert app.run(config) == 0
    for_all = replace(config, level="group", space=SpaceSettings(align="rigid"))
    assert app.run(for_all) == 0
    return BothLevels(paths, for_all)


def test_all_images_of_a_contrast_make_one_tensor_that_halves_four_times(both: BothLevels) -> None:
    images = [load_volume(path) for path in both.images("T1w")]
    assert len(images) == len(PARTICIPANTS)
    assert all(image.grid == images[0].grid for image in images)
    stack = torch.stack([torch.from_numpy(image.data) for image in images])[:, None]
    for _ in range(4):
        assert all(side % 2 == 0 for side in stack.shape[2:])
        stack = torch.nn.functional.avg_pool3d(stack, 2)


def test_no_voxel_of_a_brain_is_cut(both: BothLevels) -> None:
    grid = both.grid()
    for participant in PARTICIPANTS:
        anatomy = build_anatomy(load_icbm152(), participant)
        brain = anatomy.fractions["grey"] + anatomy.fractions["white"] > 0.5
        into_grid = np.linalg.inv(grid.affine) @ both.truth_to_study(participant.label)
        at = apply_affine(into_grid @ anatomy.grid.affine, np.argwhere(brain))
        assert at.min() > 0
        assert (at < np.array(grid.shape) - 1).all()
        folder = both.paths.derivatives / f"sub-{participant.label}" / "anat"
        (mask_path,) = folder.glob("*_space-study_*_desc-brain_mask.nii.gz")
        mask = load_volume(mask_path).data > 0
        true = resample(
            Volume(brain.astype(np.float32), anatomy.grid.affine),
            grid,
            np.linalg.inv(both.truth_to_study(participant.label)),
            order=0,
            mode="constant",
        )
        assert mask[true > 0].mean() > 0.97


def test_interpolated_images_show_the_same_heads(both: BothLevels) -> None:
    refitted = {path.name: load_volume(path) for path in both.all_images()}
    assert len(refitted) == len(PARTICIPANTS) * len(PROTOCOLS)
    assert app.run(replace(both.config, group=GroupSettings("reslice"))) == 0
    for path in both.all_images():
        resliced, reconstructed = load_volume(path), refitted[path.name]
        assert resliced.grid == reconstructed.grid
        inside = (resliced.data > 0) & (reconstructed.data > 0)
        alike = np.corrcoef(resliced.data[inside], reconstructed.data[inside])[0, 1]
        assert 0.97 < alike < 1
