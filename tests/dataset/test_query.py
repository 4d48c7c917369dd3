from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import (
    ParticipantPlan,
    describe_plan,
    known_participants,
    plan_participants,
)
from bids_unires.errors import InvalidDatasetError, NothingSelectedError, UsageError

DatasetMaker = Callable[..., Path]
FileAdder = Callable[..., Path]


def plan(bids_dir: Path, **options: Any) -> tuple[ParticipantPlan, ...]:
    return plan_participants(RunConfig(bids_dir, bids_dir.parent / "out", "participant", **options))


def names(plans: tuple[ParticipantPlan, ...]) -> dict[str, dict[str, list[str]]]:
    """Label to contrast to what sets its scans apart in their file names."""
    return {
        unit.label: {
            contrast.name: [
                scan.path.name.removeprefix(f"{unit.label}_").removesuffix(".nii.gz")
                for scan in contrast.scans
            ]
            for contrast in unit.contrasts
        }
        for unit in plans
    }


def test_contrasts_and_repeats(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset(
        "sub-01_FLAIR",
        "sub-01_run-2_T1w",
        "sub-01_run-10_T1w",
        "sub-01_acq-sag_T1w",
        "sub-01_acq-AX2_T1w",
        "sub-01_acq-mprage_T1w",
        "sub-01_ce-gad_T1w",
        "sub-01_rec-norm_T2w",
        "sub-01_echo-1_T2starw",
        "sub-01_echo-2_T2starw",
        "sub-01_T2w",
        "sub-01_PDw",
    )
    assert names(plan(bids_dir)) == {
        "sub-01": {
            "T1w": ["acq-AX2_T1w", "acq-sag_T1w", "run-2_T1w", "run-10_T1w"],
            "acq-mprage_T1w": ["acq-mprage_T1w"],
            "ce-gad_T1w": ["ce-gad_T1w"],
            "T2w": ["T2w"],
            "rec-norm_T2w": ["rec-norm_T2w"],
            "PDw": ["PDw"],
            "FLAIR": ["FLAIR"],
            "echo-1_T2starw": ["echo-1_T2starw"],
            "echo-2_T2starw": ["echo-2_T2starw"],
        }
    }
    assert list(names(plan(bids_dir))["sub-01"])[:4] == [
        "T1w",
        "acq-mprage_T1w",
        "ce-gad_T1w",
        "T2w",
    ]


def test_sessions_are_units_of_their_own(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-02_T1w", "sub-01_ses-b_T1w", "sub-01_ses-a_T1w", "sub-10_T2w")
    assert list(names(plan(bids_dir))) == ["sub-01_ses-a", "sub-01_ses-b", "sub-02", "sub-10"]
    assert list(names(plan(bids_dir, session_label=("b",)))) == ["sub-01_ses-b"]
    assert plan(bids_dir, session_label=("b",))[0].folder == Path("sub-01/ses-b")


def test_labels_and_modalities_select(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-1_T1w", "sub-1_T2w", "sub-10_T1w", "sub-2_T2w")
    assert list(names(plan(bids_dir, participant_label=("1",)))) == ["sub-1"]
    selected = names(plan(bids_dir, modalities=("T2w",)))
    assert selected == {"sub-1": {"T2w": ["T2w"]}, "sub-2": {"T2w": ["T2w"]}}


def test_only_raw_images_are_found(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    scan = (bids_dir / "sub-01/anat/sub-01_T1w.nii.gz").read_bytes()
    for elsewhere in (
        "derivatives/bids_unires/sub-01/anat/sub-01_space-individual_desc-sr_T1w.nii.gz",
        "derivatives/bids_unires/sub-01/anat/sub-01_run-7_T1w.nii.gz",
        "sourcedata/sub-01/anat/sub-01_T1w.nii.gz",
        "code/sub-01/anat/sub-01_T1w.nii.gz",
        ".git/sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/func/sub-01_task-rest_T1w.nii.gz",
        "sub-01/anat/sub-01_desc-old_T1w.nii.gz",
        "sub-01/anat/old/sub-01_run-2_T1w.nii.gz",
        "sub-01/anat/sub-01_part-phase_T1w.nii.gz",
    ):
        (bids_dir / elsewhere).parent.mkdir(parents=True, exist_ok=True)
        (bids_dir / elsewhere).write_bytes(scan)
    assert names(plan(bids_dir)) == {"sub-01": {"T1w": ["T1w"]}}
    assert "the entity desc" in caplog.text


def test_folders_above_the_dataset_say_nothing(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w", root="sub-99/ses-x/func/acq-odd_run-3/raw")
    (unit,) = plan(bids_dir)
    assert unit.label == "sub-01"
    assert unit.contrasts[0].name == "T1w"
    assert "run" not in unit.scans[0].entities
    assert unit.scans[0].uri == "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"


def test_metadata_are_inherited(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset(
        "sub-01_T1w", "sub-02_T1w", T1w={"EchoTime": 0.002, "SliceThickness": 4}
    )
    sidecar = bids_dir / "sub-02/anat/sub-02_T1w.json"
    sidecar.write_text(json.dumps({"SliceThickness": 5}))
    first, second = (unit.scans[0].metadata for unit in plan(bids_dir))
    assert first == {"EchoTime": 0.002, "SliceThickness": 4}
    assert second == {"EchoTime": 0.002, "SliceThickness": 5}


def test_plans_travel_to_other_processes(make_dataset: DatasetMaker) -> None:
    plans = plan(make_dataset("sub-01_run-01_T1w", T1w={"EchoTime": 0.002}))
    assert pickle.loads(pickle.dumps(plans)) == plans
    assert plans[0].scans[0].entities["run"] == "01"


def test_unknown_labels_list_the_known(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_ses-a_T1w")
    with pytest.raises(NothingSelectedError, match="participant 03; it has 01, 02"):
        plan(bids_dir, participant_label=("01", "03"))
    with pytest.raises(NothingSelectedError, match="there are a"):
        plan(bids_dir, session_label=("z",))
    with pytest.raises(NothingSelectedError, match="no sessions"):
        plan(bids_dir, participant_label=("01",), session_label=("a",))


def test_participants_without_images_are_told(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T2w")
    assert list(names(plan(bids_dir, modalities=("T1w",)))) == ["sub-01"]
    assert "participant 02" in caplog.text
    with pytest.raises(NothingSelectedError, match=r"FLAIR.*; there are T1w, T2w$"):
        plan(bids_dir, modalities=("FLAIR",))


def test_datasets_that_are_none(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset()
    with pytest.raises(InvalidDatasetError, match="no participant"):
        plan(bids_dir)


@pytest.mark.parametrize("content", ["{", "[1]", "", '{"run": 7, "subject": "99"}', "[" * 10**5])
def test_a_broken_sidecar_costs_only_its_metadata(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    bids_dir = make_dataset("sub-01_run-1_T1w", "sub-02_run-1_T1w", T1w={"EchoTime": 0.002})
    (bids_dir / "sub-01/anat/sub-01_run-1_T1w.json").write_text(content)
    first, second = (unit.scans[0] for unit in plan(bids_dir))
    assert second.metadata == {"EchoTime": 0.002}
    assert first.metadata["EchoTime"] == 0.002
    assert first.entities == {**second.entities, "subject": "01"}
    assert ("sub-01_run-1_T1w.json" in caplog.text) is not content.startswith('{"')


def test_ct_joins_the_mr_of_its_participant(
    make_dataset: DatasetMaker, add_image: FileAdder
) -> None:
    bids_dir = make_dataset("sub-01_T2w", "sub-02_ses-a_T1w")
    add_image(bids_dir, "sub-01_ct", {"KVP": 120}, datatype="ct")
    add_image(bids_dir, "sub-01_acq-cor_run-2_ct", datatype="ct")
    add_image(bids_dir, "sub-02_ses-a_ct", datatype="ct")
    add_image(bids_dir, "sub-03_ct", datatype="ct")
    add_image(bids_dir, "sub-03_run-2_ct", datatype="anat")
    plans = plan(bids_dir, modalities=("ct", "T1w", "T2w"))
    assert names(plans) == {
        "sub-01": {"T2w": ["T2w"], "ct": ["acq-cor_run-2_ct", "ct"]},
        "sub-02_ses-a": {"T1w": ["T1w"], "ct": ["ct"]},
        "sub-03": {"ct": ["ct"]},
    }
    assert [contrast.modality for contrast in plans[0].contrasts] == ["MR", "CT"]
    assert plans[0].scans[-1].metadata == {"KVP": 120}
    assert "sub-03" not in names(plan(bids_dir))
    # Whatever its suffix, an MR image is the reference of the coregistration.
    make_dataset("sub-03_inplaneT2")
    (*_, unit) = plan(bids_dir, modalities=("ct", "inplaneT2"))
    assert [contrast.name for contrast in unit.contrasts] == ["inplaneT2", "ct"]


# What the trees that BIDS shows as examples hold beside plain T1w and T2w, empty files and all.
# To every tree the contrasts of its first unit, or None where nothing can be done with it.
TREES: dict[str, tuple[list[str], dict[str, list[str]] | None]] = {
    "sessions": (
        ["sub-01_ses-1_T1w", "sub-01_ses-2_T1w"],
        {"T1w": ["T1w"]},
    ),
    "acquisitions": (
        ["sub-01_acq-highres_T1w", "sub-01_acq-lowres_T1w", "sub-01_acq-cor_T1w"],
        {
            "T1w": ["acq-cor_T1w"],
            "acq-highres_T1w": ["acq-highres_T1w"],
            "acq-lowres_T1w": ["acq-lowres_T1w"],
        },
    ),
    "runs": (
        ["sub-01_run-01_T1w", "sub-01_run-02_T1w", "sub-01_run-1_T2w"],
        {"T1w": ["run-01_T1w", "run-02_T1w"], "T2w": ["run-1_T2w"]},
    ),
    "contrast agent and reconstruction": (
        ["sub-01_T1w", "sub-01_ce-gad_T1w", "sub-01_rec-norm_T1w"],
        {"T1w": ["T1w"], "ce-gad_T1w": ["ce-gad_T1w"], "rec-norm_T1w": ["rec-norm_T1w"]},
    ),
    "magnitude and phase": (
        ["sub-01_part-mag_T2starw", "sub-01_part-phase_T2starw", "sub-01_part-real_T2starw"],
        {"part-mag_T2starw": ["part-mag_T2starw"]},
    ),
    "phase alone": (["sub-01_part-phase_T1w", "sub-01_part-imag_T1w"], None),
    "echoes": (
        ["sub-01_echo-1_T2starw", "sub-01_echo-2_T2starw"],
        {"echo-1_T2starw": ["echo-1_T2starw"], "echo-2_T2starw": ["echo-2_T2starw"]},
    ),
    "MP2RAGE": (
        [
            "sub-01_inv-1_part-mag_MP2RAGE",
            "sub-01_inv-1_part-phase_MP2RAGE",
            "sub-01_inv-2_MP2RAGE",
            "sub-01_UNIT1",
            "sub-01_T1map",
        ],
        None,
    ),
    "MP2RAGE beside T1w": (
        ["sub-01_UNIT1", "sub-01_inv-1_MP2RAGE", "sub-01_T1w"],
        {"T1w": ["T1w"]},
    ),
    "quantitative": (
        ["sub-01_echo-1_flip-1_mt-on_MPM", "sub-01_flip-2_VFA", "sub-01_echo-1_MEGRE"],
        None,
    ),
    "older suffixes": (["sub-01_inplaneT2", "sub-01_angio", "sub-01_defacemask"], None),
    "masks": (["sub-01_T1w", "sub-01_mod-T1w_defacemask"], {"T1w": ["T1w"]}),
    "no image at all": (["sub-01_dseg"], None),
}


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("scans", "contrasts"), TREES.values(), ids=TREES)
def test_trees_of_examples(
    make_dataset: DatasetMaker,
    scans: list[str],
    contrasts: dict[str, list[str]] | None,
    extension: str,
) -> None:
    bids_dir = make_dataset()
    for scan in scans:
        unit = [part for part in scan.split("_") if part.startswith(("sub-", "ses-"))]
        path = bids_dir.joinpath(*unit, "anat", scan + extension)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if contrasts is None:
        with pytest.raises(NothingSelectedError, match="no image of T1w"):
            plan(bids_dir)
        return
    plans = plan(bids_dir)
    found = names(plans)[plans[0].label]
    assert {name: [s.removesuffix(".nii") for s in found[name]] for name in found} == contrasts
    assert describe_plan(plans).splitlines()[1] == plans[0].label
    assert "phase" not in describe_plan(plans)


def test_inversions_are_contrasts_when_asked_for(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_inv-1_MP2RAGE", "sub-01_inv-2_part-mag_MP2RAGE", "sub-01_UNIT1")
    (unit,) = plan(bids_dir, modalities=("MP2RAGE",))
    assert [contrast.name for contrast in unit.contrasts] == [
        "inv-1_MP2RAGE",
        "inv-2_part-mag_MP2RAGE",
    ]


def test_phase_is_refused_however_it_is_asked_for(
    make_dataset: DatasetMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_part-phase_T1w", "sub-01_run-2_T1w")
    (bids_dir / "sub-01/anat/sub-01_run-2_T1w.json").write_text(
        '{"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}'
    )
    (bids_dir / "sub-01/anat/sub-01_T1w.json").write_text(
        '{"ImageType": ["ORIGINAL", "PRIMARY", "M", "P"]}'
    )
    assert names(plan(bids_dir)) == {"sub-01": {"T1w": ["T1w"]}}
    assert "sub-01_run-2_T1w.nii.gz is skipped" in caplog.text
    filters = tmp_path / "filters.json"
    filters.write_text('{"t1w": {"part": "phase"}}')
    with pytest.raises(NothingSelectedError):
        plan(bids_dir, bids_filter_file=filters)
    assert "part-phase holds no intensities" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "sub-01_acq-my scan_T1w.nii.gz",
        "sub-01_acq-it's_T1w.nii.gz",
        'sub-01_acq-"x"_T1w.nii',
        "sub-01_acq-Größe_T1w.nii.gz",
        "sub-01_part-Phase_T1w.nii.gz",
        "sub-01_run-1b_T1w.nii.gz",
        "sub-02_T1w.nii.gz",
        "sub-01_ses-a_T1w.nii.gz",
        "T1w_T1w.nii.gz",
        "sub-01_acq-';--_T1w.nii.gz",
    ],
)
def test_odd_names_are_passed_over_and_told(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    (bids_dir / "sub-01" / "anat" / name).touch()
    assert names(plan(bids_dir)) == {"sub-01": {"T1w": ["T1w"]}}
    assert name in caplog.text


@pytest.mark.parametrize("label", ["../sub-01", "..", "/etc", "01/../02", "0*", "", "01 ", "."])
def test_labels_cannot_lead_elsewhere(make_dataset: DatasetMaker, label: str) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w")
    with pytest.raises(NothingSelectedError):
        plan(bids_dir, participant_label=(label,))
    with pytest.raises(NothingSelectedError):
        plan(bids_dir, session_label=(label,))


def test_folders_that_are_no_participants(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    for name in ("sub-02 (copy)", "sub-", "sub-a_b"):
        (bids_dir / name / "anat").mkdir(parents=True)
    (bids_dir / "sub-03").touch()
    (bids_dir / "sub-04").symlink_to("sub-04")
    assert known_participants(bids_dir) == ("01",)
    assert list(names(plan(bids_dir))) == ["sub-01"]


def test_files_to_fetch_are_listed_before_work_starts(
    make_dataset: DatasetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_T2w", "sub-02_T1w", root="my data")
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz"):
        (bids_dir / name).unlink()
    (bids_dir / "sub-01/anat/sub-01_T1w.nii.gz").symlink_to("../../.git/annex/objects/a/b/c.nii.gz")
    (bids_dir / "sub-02/anat/sub-02_T1w.nii.gz").touch()
    assert len(plan(bids_dir)) == 2
    fetch, broken = (record.getMessage() for record in caplog.records)
    assert fetch.endswith(f"datalad -C '{bids_dir}' get sub-01/anat/sub-01_T1w.nii.gz")
    assert "sub-02_T1w.nii.gz (it is empty)" in broken


def test_the_same_image_twice_is_refused(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset("sub-01_T1w")
    scan = bids_dir / "sub-01/anat/sub-01_T1w.nii.gz"
    scan.with_name("sub-01_T1w.nii").write_bytes(scan.read_bytes())
    with pytest.raises(InvalidDatasetError, match="same name"):
        plan(bids_dir)


def test_a_kept_index_is_used_again(make_dataset: DatasetMaker, tmp_path: Path) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w", T1w={"EchoTime": 0.002})
    database = tmp_path / "index"
    options = {"bids_database_dir": database}
    assert list(names(plan(bids_dir, participant_label=("01",), **options))) == ["sub-01"]
    written = {path: path.stat().st_mtime_ns for path in database.rglob("*")}
    second = plan(bids_dir, participant_label=("02",), **options)
    assert second[0].scans[0].metadata["EchoTime"] == 0.002
    assert {path: path.stat().st_mtime_ns for path in database.rglob("*")} == written
    (bids_dir / "sub-02/anat/sub-02_T1w.nii.gz").rename(tmp_path / "away.nii.gz")
    with pytest.raises(UsageError, match=r"sub-02_T1w.nii.gz is not there any more: delete"):
        plan(bids_dir, participant_label=("02",), **options)
    with pytest.raises(UsageError, match="holds the index of"):
        plan(make_dataset("sub-01_T1w", root="other"), **options)


@pytest.mark.parametrize(
    ("scans", "told"),
    [
        (["sub-01_T1w"], "1 scan of 1 participant"),
        (["sub-01_ses-a_T1w"], "1 scan of 1 session"),
        (
            ["sub-01_ses-a_T1w", "sub-01_ses-b_T1w", "sub-02_T1w"],
            "3 scans of 1 participant and 2 sessions, each with images of its own",
        ),
    ],
)
def test_the_plan_counts_participants_and_sessions(
    make_dataset: DatasetMaker, scans: list[str], told: str
) -> None:
    assert describe_plan(plan(make_dataset(*scans))).splitlines()[0] == told


def test_the_plan_names_every_scan(
    make_dataset: DatasetMaker, add_image: FileAdder, caplog: pytest.LogCaptureFixture
) -> None:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_run-2_T1w", "sub-02_T2w")
    add_image(bids_dir, "sub-01_run-2_desc-x_dseg")
    with caplog.at_level(logging.WARNING):
        text = describe_plan(plan(bids_dir))
    assert text.splitlines() == [
        "3 scans of 2 participants, each with images of its own",
        "sub-01",
        "  T1w: 2 scans",
        "    sub-01_T1w.nii.gz",
        "    sub-01_run-2_T1w.nii.gz",
        "      label image sub-01_run-2_desc-x_dseg.nii.gz",
        "sub-02",
        "  T2w: 1 scan",
        "    sub-02_T2w.nii.gz",
    ]
    assert not caplog.records


def test_orientations_in_any_spelling_are_repeats(make_dataset: DatasetMaker) -> None:
    bids_dir = make_dataset(
        *("sub-01_acq-axi_T2w", "sub-01_acq-corT2_T2w", "sub-01_acq-obliqueSag_run-2_T2w"),
        *("sub-01_acq-TSEax_T2w", "sub-01_acq-sagTSE_T2w", "sub-01_acq-corrected_T2w"),
        "sub-02_acq-corrected_T2w",
    )
    plans = plan(bids_dir)
    assert names(plans)["sub-01"] == {
        "T2w": ["acq-axi_T2w", "acq-corT2_T2w", "acq-obliqueSag_run-2_T2w"],
        "acq-TSE_T2w": ["acq-TSEax_T2w", "acq-sagTSE_T2w"],
        "acq-corrected_T2w": ["acq-corrected_T2w"],
    }
    # Only where it could have been meant as a repeat of something.
    told = [line for line in describe_plan(plans).splitlines() if "acq-corrected is not" in line]
    assert told == [
        "    (acq-corrected is not taken for the orientation of its slices, so that it makes a "
        "contrast of its own, not repeats of another T2w)"
    ]
