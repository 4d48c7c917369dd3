from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bids_unires.config import RunConfig
from bids_unires.dataset.naming import (
    aligned_space,
    derivative_path,
    fov_mask_path,
    in_space,
    label_path,
    mask_path,
    present_study_name,
    resolution_label,
    resolution_text,
    sidecar_path,
    study_grid_path,
    study_image_path,
    template_transform_path,
    transform_path,
)
from bids_unires.dataset.query import Contrast, LabelImage, ParticipantPlan, Scan, plan_participants

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


CT = Contrast("ct", {"suffix": "ct"}, ())
CT_ONLY = ParticipantPlan("01", None, (CT,))
MILLIMETRE = (1, 1, 1)


def relative(path: Path) -> str:
    return path.relative_to(OUT).as_posix()


def test_ct_has_a_folder_of_its_own() -> None:
    path = derivative_path(OUT, SESSION, CT, desc="sr", voxel_size=MILLIMETRE)
    name = "sub-01_ses-a_space-individual_res-1mm_desc-sr_ct.nii.gz"
    assert relative(path) == f"sub-01/ses-a/ct/{name}"
    mask = "sub-01_space-individual_res-1mm_desc-fov_mask.nii.gz"
    mixed = ParticipantPlan("01", None, (Contrast("T1w", {"suffix": "T1w"}, ()), CT))
    assert relative(fov_mask_path(OUT, CT_ONLY, voxel_size=MILLIMETRE)) == f"sub-01/ct/{mask}"
    assert relative(fov_mask_path(OUT, mixed, voxel_size=MILLIMETRE)) == f"sub-01/anat/{mask}"
    scan = Scan(Path("x"), {"subject": "01", "suffix": "ct", "datatype": "ct"}, {}, "")
    assert relative(transform_path(OUT, mixed, scan)) == (
        "sub-01/ct/sub-01_from-ct_to-individual_mode-image_xfm.txt"
    )


def test_every_name_can_be_of_another_space() -> None:
    space = aligned_space("MNI152NLin2009cAsym", "similarity")
    assert space == "MNI152NLin2009cAsymSimilarity"
    contrast = Contrast("T1w", {"suffix": "T1w"}, ())
    scan = Scan(Path("x"), {"suffix": "T1w"}, {}, "")
    paths = [
        derivative_path(OUT, PLAIN, contrast, desc="sr", voxel_size=MILLIMETRE, space=space),
        mask_path(OUT, PLAIN, desc="brain", voxel_size=MILLIMETRE, space=space),
        transform_path(OUT, PLAIN, scan, space=space),
        template_transform_path(OUT, PLAIN, "MNI152NLin2009cAsym", space=space),
    ]
    assert [path.name for path in paths] == [
        f"sub-01_space-{space}_res-1mm_desc-sr_T1w.nii.gz",
        f"sub-01_space-{space}_res-1mm_desc-brain_mask.nii.gz",
        f"sub-01_from-T1w_to-{space}_mode-image_xfm.txt",
        f"sub-01_from-{space}_to-MNI152NLin2009cAsym_mode-image_xfm.txt",
    ]
    assert template_transform_path(OUT, SESSION, "study").name == (
        "sub-01_ses-a_from-individual_to-study_mode-image_xfm.txt"
    )


def test_names_of_the_group() -> None:
    assert relative(study_grid_path(OUT, voxel_size=MILLIMETRE)) == (
        "tpl-study/anat/tpl-study_res-1mm_desc-grid_mask.nii.gz"
    )
    contrast = {"ceagent": "gad", "acquisition": "x", "suffix": "T1w"}
    means = [
        study_image_path(OUT, each, voxel_size=(1, 1, 2))
        for each in (contrast, {"suffix": "FLAIR"}, {"suffix": "ct"})
    ]
    assert [relative(path) for path in means] == [
        "tpl-study/anat/tpl-study_acq-x_ce-gad_res-1x1x2mm_T1w.nii.gz",
        "tpl-study/anat/tpl-study_res-1x1x2mm_FLAIR.nii.gz",
        "tpl-study/ct/tpl-study_res-1x1x2mm_ct.nii.gz",
    ]
    cohort = study_image_path(OUT, {"suffix": "T1w"}, desc="cohort", voxel_size=(8, 8, 8))
    assert cohort.name == "tpl-study_res-8mm_desc-cohort_T1w.nii.gz"


@pytest.mark.parametrize("suffix", ["T1w", "ct"])
@pytest.mark.parametrize("desc", ["mean", "cohort", "grid"])
def test_former_names_of_the_group_become_the_present_ones(suffix: str, desc: str) -> None:
    if desc == "grid":
        former, now = "", study_grid_path(OUT, voxel_size=(1, 1, 2))
        suffix = "mask"
    else:
        contrast = {"ceagent": "gad", "acquisition": "x", "suffix": suffix}
        kind = None if desc == "mean" else desc
        former, now = (
            "acq-x_ce-gad_",
            study_image_path(OUT, contrast, desc=kind, voxel_size=(1, 1, 2)),
        )
    name = f"{former}space-study_res-1x1x2mm_desc-{desc}_{suffix}.nii.gz"
    assert present_study_name(name) == relative(now)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_space-study_res-1mm_desc-sr_T1w.nii.gz",
        "space-study_res-1mm_desc-lesions_mask.nii.gz",
        "space-study_notes.txt",
        "tpl-study_res-1mm_T1w.nii.gz",
    ],
)
def test_files_of_others_have_no_former_name(name: str) -> None:
    assert present_study_name(name) is None


def test_results_keep_their_names_in_another_space() -> None:
    path = derivative_path(OUT, SESSION, CT, desc="sr", voxel_size=MILLIMETRE)
    moved = in_space(path, space="study", voxel_size=(2, 2, 2))
    assert moved == derivative_path(
        OUT, SESSION, CT, desc="sr", voxel_size=(2, 2, 2), space="study"
    )
    with pytest.raises(ValueError, match="no space and res"):
        in_space(OUT / "sub-01_T1w.nii.gz", space="study", voxel_size=MILLIMETRE)


def labelled(entities: dict[str, str], *labels: dict[str, str]) -> Scan:
    name = "-".join(entities.values())
    images = tuple(
        LabelImage(Path("x"), label, {}, f"bids:raw:{name}-{number}", None)
        for number, label in enumerate(labels)
    )
    return Scan(Path("x"), entities, {}, f"bids:raw:{name}", images)


@pytest.mark.parametrize(
    ("scan", "label", "name"),
    [
        ({}, {}, "sub-01_space-individual_res-1mm_dseg"),
        ({}, {"desc": "x"}, "sub-01_space-individual_res-1mm_desc-x_dseg"),
        (
            {"acquisition": "y", "run": "2"},
            {"run": "2", "seg": "tissue", "desc": "x", "space": "orig"},
            "sub-01_acq-y_run-2_space-individual_seg-tissue_res-1mm_desc-x_dseg",
        ),
        (
            {"chunk": "3"},
            {"atlas": "AAL", "label": "WM"},
            "sub-01_space-individual_chunk-3_atlas-AAL_res-1mm_desc-WM_dseg",
        ),
        (
            {"inv": "1", "echo": "2"},
            {"desc": "x"},
            "sub-01_echo-2_space-individual_res-1mm_desc-xinv1_dseg",
        ),
    ],
)
def test_labels(scan: dict[str, str], label: dict[str, str], name: str) -> None:
    image = labelled({**scan, "suffix": "T1w"}, label)
    plan = ParticipantPlan("01", None, (Contrast("T1w", {"suffix": "T1w"}, (image,)),))
    path = label_path(OUT, plan, image, image.labels[0], voxel_size=MILLIMETRE)
    assert relative(path) == f"sub-01/anat/{name}.nii.gz"


def test_no_two_labels_share_a_name() -> None:
    scans = (
        labelled({"suffix": "T1w"}, {"desc": "x"}, {"desc": "x", "space": "orig"}, {}),
        labelled({"suffix": "T1w", "run": "1"}, {"desc": "x"}),
    )
    others = (labelled({"suffix": "T2w"}, {"desc": "x"}, {}),)
    contrasts = (
        Contrast("T1w", {"suffix": "T1w"}, scans),
        Contrast("T2w", {"suffix": "T2w"}, others),
    )
    plan = ParticipantPlan("01", None, contrasts)
    names = [
        label_path(OUT, plan, scan, label, voxel_size=MILLIMETRE).name.split("res-1mm_")[1]
        for scan in plan.scans
        for label in scan.labels
    ]
    assert [name.removesuffix("_dseg.nii.gz") for name in names] == [
        "desc-xT1w1",
        "desc-xT1w2",
        "desc-T1w",
        "desc-x",
        "desc-xT2w",
        "desc-T2w",
    ]


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


@pytest.mark.parametrize("entities", ["", "space-a_", "res-1mm_"])
def test_names_without_a_space_or_a_size_have_none_on_another_grid(entities: str) -> None:
    """A name that kept either would say of an image what it is not."""
    path = OUT / f"sub-01_{entities}desc-sr_T1w.nii.gz"
    with pytest.raises(ValueError, match="no space and res to replace"):
        in_space(path, space="study", voxel_size=(2, 2, 2))
