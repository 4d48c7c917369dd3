from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_unires.config import ModelSettings, RunConfig, SpaceSettings
from bids_unires.dataset.naming import sidecar_path
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.records import outdated_results as superseded
from bids_unires.records.work_record import begin, complete, record_path, standing
from bids_unires.run.workers import attempt
from bids_unires.space.affines import translation
from bids_unires.work.allotment import Allotment
from bids_unires.work.outcome import Failure

DatasetMaker = Callable[..., Path]

ALLOTMENT = Allotment("cpu", 1, 2**34)

ON_1MM = "space-individual_res-1mm"
MASK = f"{ON_1MM}_desc-fov_mask.nii.gz"
T1W = (f"{ON_1MM}_desc-sr_T1w.nii.gz", f"{ON_1MM}_desc-sr_T1w.json")
FLAIR = (f"{ON_1MM}_desc-sr_FLAIR.nii.gz", f"{ON_1MM}_desc-sr_FLAIR.json")
STD = tuple(name.replace("-sr_", "-srStd_") for name in T1W)
LINEAR = (f"{ON_1MM}_desc-resliced_T1w.nii.gz",)
FROM_T1W = ("from-T1w_to-individual_mode-image_xfm.txt",)
FROM_FLAIR = ("from-FLAIR_to-individual_mode-image_xfm.txt",)
LABELS = (f"{ON_1MM}_dseg.nii.gz", f"{ON_1MM}_dseg.tsv", f"{ON_1MM}_dseg.json")
ALL = (MASK, *T1W, *FLAIR, *FROM_T1W, *FROM_FLAIR)


def on_2mm(*names: str) -> tuple[str, ...]:
    return tuple(name.replace("res-1mm", "res-2mm") for name in names)


@pytest.fixture
def config(make_dataset: DatasetMaker) -> RunConfig:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_FLAIR")
    return RunConfig(bids_dir, bids_dir.parent / "out", "participant")


@pytest.fixture
def plan(config: RunConfig) -> ParticipantPlan:
    (plan,) = plan_participants(config)
    return plan


@pytest.fixture
def flair_only(config: RunConfig) -> ParticipantPlan:
    (plan,) = plan_participants(replace(config, modalities=("FLAIR",)))
    return plan


def folder_of(config: RunConfig) -> Path:
    return config.output_dir / "sub-01" / "anat"


def write(config: RunConfig, *names: str) -> list[Path]:
    paths = [folder_of(config) / f"sub-01_{name}" for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return paths


def do(plan: ParticipantPlan, config: RunConfig, *names: str) -> None:
    """Work on a unit that writes the named files, and nothing else."""
    begun = begin(plan, config)
    assert begun is not None
    complete(plan, config, begun, write(config, *names))
    assert standing(plan, config).done


def there(config: RunConfig) -> set[str]:
    return {path.name.removeprefix("sub-01_") for path in folder_of(config).iterdir()}


def with_model(config: RunConfig, model: ModelSettings) -> RunConfig:
    return replace(config, model=model)


def test_files_of_another_selection_are_removed(
    plan: ParticipantPlan,
    flair_only: ParticipantPlan,
    config: RunConfig,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "bids_unires")
    do(plan, config, *ALL)
    (strange,) = write(config, "space-individual_res-1mm_desc-mine_T1w.nii.gz")
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR, strange.name.removeprefix("sub-01_")}
    said = [message for message in caplog.messages if "removed" in message]
    assert said == ["3 files of an earlier run removed, which this one replaces"]


def test_nothing_is_said_where_nothing_is_removed(
    plan: ParticipantPlan, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bids_unires")
    do(plan, config, *ALL)
    do(plan, config, *ALL)
    assert there(config) == set(ALL)
    assert caplog.messages == []
    assert json.loads(record_path(plan, config).read_text("utf-8"))["Earlier"] == []


def test_a_map_that_is_not_made_again_is_removed(plan: ParticipantPlan, config: RunConfig) -> None:
    do(plan, with_model(config, ModelSettings(uncertainty=8)), *ALL, *STD)
    do(plan, config, *ALL)
    assert there(config) == set(ALL)


def test_transforms_and_labels_of_scans_that_are_gone_are_removed(
    plan: ParticipantPlan, flair_only: ParticipantPlan, config: RunConfig
) -> None:
    do(plan, config, MASK, *FLAIR, *FROM_FLAIR, *FROM_T1W, *LABELS)
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


def test_folders_that_are_empty_then_are_removed(plan: ParticipantPlan, config: RunConfig) -> None:
    ct = config.output_dir / "sub-01" / "ct" / f"sub-01_{ON_1MM}_desc-sr_ct.nii.gz"
    begun = begin(plan, config)
    assert begun is not None
    ct.parent.mkdir(parents=True)
    ct.write_bytes(b"1")
    complete(plan, config, begun, [*write(config, *ALL), ct])
    do(plan, config, *ALL)
    assert not ct.parent.exists()


def test_results_with_other_voxels_stay(
    plan: ParticipantPlan, flair_only: ParticipantPlan, config: RunConfig
) -> None:
    coarse = with_model(config, ModelSettings(voxel_size=(2, 2, 2)))
    do(plan, config, *ALL)
    do(plan, coarse, *on_2mm(*ALL))
    assert there(config) == {*ALL, *on_2mm(*ALL)}
    # The transform has no resolution in its name, and now it is that of the later run.
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


def test_results_with_other_voxels_that_share_no_transform_stay(
    flair_only: ParticipantPlan, config: RunConfig
) -> None:
    (t1w_only,) = plan_participants(replace(config, modalities=("T1w",)))
    do(t1w_only, config, MASK, *T1W, *FROM_T1W)
    coarse = with_model(config, ModelSettings(voxel_size=(2, 2, 2)))
    do(flair_only, coarse, *on_2mm(MASK, *FLAIR), *FROM_FLAIR)
    assert there(config) == {MASK, *T1W, *FROM_T1W, *on_2mm(MASK, *FLAIR), *FROM_FLAIR}


def place(config: RunConfig, image: str, plan: ParticipantPlan, shift: float) -> None:
    """Let an image be one, and its sidecar say where the FLAIR lies."""
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    path = folder_of(config) / f"sub-01_{image}"
    nib.Nifti1Image(np.ones((4, 5, 6), np.float32), affine).to_filename(path)
    pose = translation([shift, 0, 0]).tolist()
    scans = [{"Source": scan.uri, "Pose": pose} for scan in plan.scans if "FLAIR" in scan.uri]
    sidecar_path(path).write_text(json.dumps({"UniRes": {"Scans": scans}}), "utf-8")


@pytest.mark.parametrize(("shift", "stays"), [(0.3, True), (3.0, False)])
def test_results_with_other_voxels_stay_where_their_scans_lie_in_the_same_place(
    plan: ParticipantPlan,
    flair_only: ParticipantPlan,
    config: RunConfig,
    caplog: pytest.LogCaptureFixture,
    shift: float,
    stays: bool,
) -> None:
    do(plan, config, *ALL)
    place(config, FLAIR[0], plan, 0.0)
    coarse = with_model(config, ModelSettings(voxel_size=(2, 2, 2)))
    begun = begin(flair_only, coarse)
    assert begun is not None
    outputs = write(config, *on_2mm(MASK, *FLAIR), *FROM_FLAIR)
    place(config, on_2mm(FLAIR[0])[0], flair_only, shift)
    complete(flair_only, coarse, begun, outputs)
    new = {*on_2mm(MASK, *FLAIR), *FROM_FLAIR}
    assert there(config) == (new | set(ALL) if stays else new)
    said = f"sub-01_{T1W[0]}, sub-01_{FLAIR[0]} of an earlier run removed" in caplog.text
    assert said is not stays


def test_results_in_another_space_stay(plan: ParticipantPlan, config: RunConfig) -> None:
    do(plan, config, *ALL)
    aligned = [name.replace("individual", "MNI152NLin2009cAsymRigid") for name in ALL]
    do(plan, replace(config, space=SpaceSettings(align="rigid")), *aligned)
    assert there(config) == {*ALL, *aligned}


def test_another_method_stays_for_comparison_as_long_as_it_is_of_the_same_scans(
    plan: ParticipantPlan, flair_only: ParticipantPlan, config: RunConfig
) -> None:
    linear = with_model(config, ModelSettings(method="linear"))
    do(plan, config, *ALL)
    do(plan, linear, MASK, *LINEAR, *FROM_T1W, *FROM_FLAIR)
    assert there(config) == {*ALL, *LINEAR}
    do(plan, config, *ALL)
    assert there(config) == {*ALL, *LINEAR}
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


def test_another_method_in_another_place_gives_way(
    plan: ParticipantPlan, config: RunConfig
) -> None:
    do(plan, config, *ALL)
    linear = with_model(config, ModelSettings(method="linear"))
    moved = replace(linear, reset_origin=True)
    do(plan, moved, MASK, *LINEAR, *FROM_T1W)
    assert there(config) == {MASK, *LINEAR, *FROM_T1W}


def test_a_run_that_fails_removes_nothing_and_forgets_nothing(
    plan: ParticipantPlan, flair_only: ParticipantPlan, config: RunConfig
) -> None:
    def fail(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> None:
        write(config, *FLAIR)
        raise MemoryError

    do(plan, config, *ALL)
    for _ in range(2):
        assert isinstance(attempt(fail, flair_only, config, ALLOTMENT), Failure)  # type: ignore[arg-type]
        assert there(config) == set(ALL)
        assert not standing(flair_only, config).done
        assert not standing(plan, config).done
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


def test_a_run_that_is_killed_while_it_removes_forgets_nothing(
    plan: ParticipantPlan,
    flair_only: ParticipantPlan,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    do(plan, config, *ALL)
    remove = superseded._remove
    calls: list[str] = []

    def die_at_the_second(name: str, output_dir: Path) -> bool:
        calls.append(name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return remove(name, output_dir)

    begun = begin(flair_only, config)
    assert begun is not None
    monkeypatch.setattr(superseded, "_remove", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        complete(flair_only, config, begun, write(config, MASK, *FLAIR, *FROM_FLAIR))
    assert not standing(flair_only, config).done
    assert len(there(config)) == len(ALL) - 1
    monkeypatch.undo()
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


def test_nothing_is_removed_for_outputs_that_are_not_there(
    plan: ParticipantPlan, flair_only: ParticipantPlan, config: RunConfig
) -> None:
    do(plan, config, *ALL)
    begun = begin(flair_only, config)
    assert begun is not None
    complete(flair_only, config, begun, [folder_of(config) / f"sub-01_{ON_1MM}_desc-sr_T2w.nii.gz"])
    assert there(config) == set(ALL)
    assert not standing(flair_only, config).done


def test_a_file_that_cannot_be_removed_is_named_and_tried_again(
    plan: ParticipantPlan,
    flair_only: ParticipantPlan,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    do(plan, config, *ALL)
    begun = begin(flair_only, config)
    assert begun is not None
    outputs = write(config, MASK, *FLAIR, *FROM_FLAIR)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        complete(flair_only, config, begun, outputs)
    assert f"sub-01_{T1W[0]} is of an earlier run" in caplog.text
    assert there(config) == set(ALL)
    assert standing(flair_only, config).done
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


def test_files_outside_of_the_results_stay_whatever_a_record_says(
    plan: ParticipantPlan, flair_only: ParticipantPlan, config: RunConfig
) -> None:
    do(plan, config, *ALL)
    outside = [config.output_dir.parent / name for name in ("a.nii.gz", "b.nii.gz")]
    for path in outside:
        path.write_bytes(b"1")
    record = json.loads(record_path(plan, config).read_text("utf-8"))
    record["Outputs"] |= {"../a.nii.gz": 1, str(outside[1].absolute()): 1}
    record_path(plan, config).write_text(json.dumps(record), "utf-8")
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert all(path.is_file() for path in outside)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"Outputs": 1}', '{"Begun": true, "Earlier": [{"Outputs": 7}]}', "\0"]
)
def test_a_damaged_record_removes_nothing(
    flair_only: ParticipantPlan, config: RunConfig, content: str
) -> None:
    write(config, *ALL)
    record_path(flair_only, config).parent.mkdir(parents=True)
    record_path(flair_only, config).write_text(content, "utf-8")
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == set(ALL)


def test_records_of_versions_that_remembered_nothing_are_read(
    plan: ParticipantPlan, flair_only: ParticipantPlan, config: RunConfig
) -> None:
    do(plan, config, *ALL)
    record = json.loads(record_path(plan, config).read_text("utf-8"))
    del record["Earlier"]
    record_path(plan, config).write_text(json.dumps(record | {"Version": "0.1"}), "utf-8")
    do(flair_only, config, MASK, *FLAIR, *FROM_FLAIR)
    assert there(config) == {MASK, *FLAIR, *FROM_FLAIR}


def test_files_that_results_of_another_method_share_stay(
    plan: ParticipantPlan, config: RunConfig
) -> None:
    interpolated = with_model(config, ModelSettings(method="linear"))
    do(plan, interpolated, MASK, *LINEAR, *FROM_T1W, *LABELS)
    do(plan, config, *ALL, *LABELS)
    do(plan, with_model(config, ModelSettings(max_iter=7)), *ALL)
    assert there(config) == {*ALL, *LINEAR, *LABELS}
