from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_unires.config import RunConfig
from bids_unires.dataset.naming import (
    derivative_path,
    fov_mask_path,
    resolution_label,
    resolution_text,
    sidecar_path,
    transform_path,
)
from bids_unires.dataset.query import Contrast, ParticipantPlan, plan_participants

DatasetMaker = Callable[..., Path]
OUT = Path("/out")
PLAIN = ParticipantPlan("01", None, ())
SESSION = ParticipantPlan("01", "a", ())


def test_images() -> None:
    contrast = Contrast("T1w", {"suffix": "T1w"}, ())
    path = derivative_path(OUT, PLAIN, contrast, desc="sr", voxel_size=(1, 1, 1))
    assert path == OUT / "sub-01/anat/sub-01_space-individual_res-1mm_desc-sr_T1w.nii.gz"
    path = derivative_path(OUT, SESSION, contrast, desc="sr", voxel_size=(1, 1, 2))
    name = "sub-01_ses-a_space-individual_res-1x1x2mm_desc-sr_T1w.nii.gz"
    assert path == OUT / "sub-01/ses-a/anat" / name


def test_entities_of_the_contrast_are_kept_in_the_order_of_bids() -> None:
    entities = {
        "part": "mag",
        "echo": "2",
        "reconstruction": "norm",
        "ceagent": "gad",
        "acquisition": "mprage",
        "suffix": "T2starw",
    }
    contrast = Contrast("any", entities, ())
    path = derivative_path(OUT, PLAIN, contrast, desc="sr", voxel_size=(1.5, 1.5, 1.5))
    assert path.name == (
        "sub-01_acq-mprage_ce-gad_rec-norm_echo-2_part-mag"
        "_space-individual_res-1p5mm_desc-sr_T2starw.nii.gz"
    )


def test_an_unknown_entity_is_not_dropped_in_silence() -> None:
    contrast = Contrast("any", {"suffix": "T1w", "colour": "red"}, ())
    with pytest.raises(ValueError, match="colour"):
        derivative_path(OUT, PLAIN, contrast, desc="sr", voxel_size=(1, 1, 1))


def test_mask() -> None:
    path = fov_mask_path(OUT, SESSION, voxel_size=(0.8, 0.8, 0.8))
    name = "sub-01_ses-a_space-individual_res-0p8mm_desc-fov_mask.nii.gz"
    assert path == OUT / "sub-01/ses-a/anat" / name


def test_every_scan_has_a_transform_of_its_own(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset(
        "sub-01_T1w",
        "sub-01_run-01_T1w",
        "sub-01_acq-sag_run-1_T1w",
        "sub-01_acq-cor_run-1_T1w",
        "sub-01_acq-cor_run-1_chunk-2_T1w",
        "sub-01_T2w",
    )
    (plan,) = plan_participants(RunConfig(bids_dir, OUT, "participant"))
    names = [transform_path(OUT, plan, scan).name for scan in plan.scans]
    assert len(set(names)) == 6
    assert "sub-01_acq-sag_run-1_from-T1w_to-individual_mode-image_xfm.txt" in names
    assert "sub-01_run-01_from-T1w_to-individual_mode-image_xfm.txt" in names
    assert "sub-01_from-T2w_to-individual_mode-image_xfm.txt" in names


@given(st.tuples(*[st.floats(0.1, 20)] * 3))
def test_resolution_labels_are_alphanumeric_and_say_the_size(
    voxel_size: tuple[float, float, float],
) -> None:
    label = resolution_label(voxel_size)
    assert re.fullmatch("[a-zA-Z0-9]+", label)
    sizes = [float(size.replace("p", ".")) for size in label.removesuffix("mm").split("x")]
    assert len(sizes) in (1, 3)
    assert (sizes * 3)[:3] == pytest.approx(voxel_size, abs=5.1e-4)
    assert [str(size) for size in sizes] == [
        str(float(size)) for size in re.findall(r"[\d.]+", resolution_text(voxel_size))
    ]


@pytest.mark.parametrize("name", ["a_T1w.nii.gz", "a_T1w.nii", "a_T1w.txt"])
def test_sidecars_take_the_place_of_every_extension(name: str) -> None:
    assert sidecar_path(OUT / name) == OUT / "a_T1w.json"
