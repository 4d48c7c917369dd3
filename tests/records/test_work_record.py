from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bids_unires.config import ModelSettings, RunConfig, SpaceSettings
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.dataset.scans import LabelImage
from bids_unires.records import work_record as completion
from bids_unires.records.work_record import (
    Standing,
    abandon,
    begin,
    changed_since,
    complete,
    record_path,
    standing,
    unfinished,
)

DatasetMaker = Callable[..., Path]


@pytest.fixture
def config(make_dataset: DatasetMaker) -> RunConfig:
    bids_dir = make_dataset("sub-01_T1w", "sub-01_FLAIR", T1w={"EchoTime": 0.003})
    return RunConfig(bids_dir, bids_dir.parent / "out", "participant")


@pytest.fixture
def plan(config: RunConfig) -> ParticipantPlan:
    """A unit of work that is done."""
    (plan,) = plan_participants(config)
    outputs = [config.output_dir / "sub-01" / "anat" / f"{name}.nii.gz" for name in "ab"]
    begun = begin(plan, config)
    assert begun is not None
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    complete(plan, config, begun, outputs)
    return plan


def with_scan(plan: ParticipantPlan, **changes: Any) -> ParticipantPlan:
    """The same plan, but for something about its first scan."""
    first, *others = plan.contrasts
    scan = replace(first.scans[0], **changes)
    return replace(plan, contrasts=(replace(first, scans=(scan,)), *others))


@dataclass(frozen=True)
class GroupUnit:
    """A unit of work at the group level, with one input."""

    inputs: tuple[tuple[str, Path], ...]
    label: str = "group"
    stage: str = "group"
    folders: tuple[Path, ...] = (Path("sub-01/anat"),)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        return {"voxel_size": config.model.voxel_size}


def test_what_is_begun_again_at_the_group_level_is_not_done(config: RunConfig) -> None:
    """A run that is killed after this leaves a mixture of old and new images."""
    unit = GroupUnit(tuple((path.name, path) for path in config.bids_dir.glob("sub-01/anat/*")))
    image = config.output_dir / "sub-01" / "anat" / "a.nii.gz"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"12345")
    begun = begin(unit, config)
    assert begun is not None
    assert not standing(unit, config).done
    complete(unit, config, begun, [image])
    assert standing(unit, config).done
    assert begin(unit, config) is not None
    assert not standing(unit, config).done


def test_what_nobody_did_is_not_done(config: RunConfig) -> None:
    (plan,) = plan_participants(config)
    assert standing(plan, config) == Standing(False, ())


def test_what_is_done_is_done(plan: ParticipantPlan, config: RunConfig) -> None:
    assert standing(plan, config) == Standing(True, ())
    # None of these changes a result.
    other = replace(config, nprocs=7, mem_mb=100, device="cpu", verbosity=2, resume=False)
    assert standing(plan, other).done


def test_paths_may_be_written_in_other_ways(
    plan: ParticipantPlan, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.output_dir)
    assert standing(plan, replace(config, output_dir=Path("."))).done


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": ModelSettings(reg_scale=2.0)}, "reg_scale is 2.0 now, was auto"),
        ({"model": ModelSettings(voxel_size=(1, 1, 2))}, "voxel_size is [1, 1, 2] now, was"),
        ({"model": ModelSettings(method="linear")}, "method is linear now, was super-resolution"),
        ({"space": SpaceSettings(align="rigid")}, "align is rigid now, was none"),
        ({"reset_origin": True}, "reset_origin is True now, was False"),
    ],
)
def test_other_settings_are_named(
    plan: ParticipantPlan, config: RunConfig, changes: dict[str, Any], reason: str
) -> None:
    now = standing(plan, replace(config, **changes))
    assert not now.done
    assert str(now).startswith(reason)


def test_another_version_is_named(
    plan: ParticipantPlan, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "__version__", "99.0")
    assert "version 99.0 now" in str(standing(plan, config))


def test_another_content_of_a_scan_is_named(plan: ParticipantPlan, config: RunConfig) -> None:
    path = plan.scans[0].path
    written = path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert str(standing(plan, config)) == f"{plan.scans[0].uri} changed"
    path.write_bytes(content + b"more")
    os.utime(path, ns=(written, written))
    assert str(standing(plan, config)) == f"{plan.scans[0].uri} changed"


def test_a_copy_of_a_scan_is_the_scan(plan: ParticipantPlan, config: RunConfig) -> None:
    os.utime(plan.scans[0].path, (1, 1))
    assert standing(plan, config).done


def test_other_inputs_are_named(plan: ParticipantPlan, config: RunConfig, tmp_path: Path) -> None:
    fewer = replace(plan, contrasts=plan.contrasts[:1])
    assert str(standing(fewer, config)) == (
        "a sidecar of the scans changed; bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz is gone"
    )
    label = LabelImage(plan.scans[0].path, {}, {}, "bids:labels:a_dseg.nii", None)
    more = with_scan(plan, labels=(label,))
    assert "bids:labels:a_dseg.nii is new" in str(standing(more, config))


def test_another_sidecar_is_noticed(plan: ParticipantPlan, config: RunConfig) -> None:
    changed = with_scan(plan, metadata={"EchoTime": 0.004})
    assert str(standing(changed, config)) == "a sidecar of the scans changed"


def test_outputs_that_are_not_as_written_are_named(
    plan: ParticipantPlan, config: RunConfig
) -> None:
    folder = config.output_dir / "sub-01" / "anat"
    (folder / "a.nii.gz").write_bytes(b"123")
    (folder / "b.nii.gz").unlink()
    assert standing(plan, config).reasons == (
        "sub-01/anat/a.nii.gz changed its size",
        "sub-01/anat/b.nii.gz is missing",
    )


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"Version": 1, "Settings": 2}', "\0"])
def test_a_damaged_record_means_to_do_it_again(
    plan: ParticipantPlan, config: RunConfig, content: str
) -> None:
    record_path(plan, config).write_text(content)
    now = standing(plan, config)
    assert not now.done
    assert "sub-01.json is not readable" in str(now)


@pytest.mark.parametrize("size", ["5", None, -1, 5.5, [5]])
def test_outputs_whose_size_is_not_known_are_not_taken_for_done(
    plan: ParticipantPlan, config: RunConfig, size: object
) -> None:
    path = record_path(plan, config)
    record = json.loads(path.read_text())
    record["Outputs"]["sub-01/anat/a.nii.gz"] = size
    path.write_text(json.dumps(record))
    (config.output_dir / "sub-01" / "anat" / "a.nii.gz").unlink()
    assert not standing(plan, config).done


def test_work_that_began_again_is_not_done(plan: ParticipantPlan, config: RunConfig) -> None:
    begin(plan, config)
    assert standing(plan, config) == Standing(False, ())


def test_work_that_began_and_did_not_end_is_told(plan: ParticipantPlan, config: RunConfig) -> None:
    assert unfinished(config.output_dir) == set()
    begun = begin(plan, config)
    assert begun is not None
    assert unfinished(config.output_dir) == {"sub-01"}
    complete(plan, config, begun, [])
    assert unfinished(config.output_dir) == set()


def test_failed_work_is_told_if_anything_was_made(plan: ParticipantPlan, config: RunConfig) -> None:
    record_path(plan, config).unlink()
    shutil.rmtree(config.output_dir / "sub-01", ignore_errors=True)
    begin(plan, config)
    abandon(plan, config)
    assert not record_path(plan, config).parent.exists()
    begin(plan, config)
    image = config.output_dir / "sub-01" / "anat" / "sub-01_space-individual_desc-sr_T1w.nii.gz"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()
    abandon(plan, config)
    assert unfinished(config.output_dir) == {"sub-01"}


def test_an_input_that_cannot_be_read_is_left_to_the_work(
    plan: ParticipantPlan, config: RunConfig
) -> None:
    scan = plan.scans[0].path
    content, status = scan.read_bytes(), scan.stat()
    scan.unlink()
    (reason,) = standing(plan, config).reasons
    assert reason.endswith(f"{scan.name} cannot be read")
    assert begin(plan, config) is None
    # As where `datalad get` follows `datalad drop`.
    scan.write_bytes(content)
    os.utime(scan, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert standing(plan, config).done


def test_a_record_that_cannot_be_written_fails_no_work(
    plan: ParticipantPlan, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    begun = begin(plan, config)
    assert begun is not None
    complete(plan, config, begun, [config.output_dir / "none.nii"])
    assert "sub-01 will be processed again by the next run" in caplog.text
    assert not standing(plan, config).done


def test_long_lists_of_reasons_are_cut() -> None:
    assert str(Standing(False, tuple("abcde"))) == "a; b; c; and 2 more"


def test_a_record_is_plain_json(plan: ParticipantPlan, config: RunConfig) -> None:
    record = json.loads(record_path(plan, config).read_text("utf-8"))
    assert record["Outputs"] == {f"sub-01/anat/{name}.nii.gz": 5 for name in "ab"}
    assert set(record["Inputs"]) == {scan.uri for scan in plan.scans}


@pytest.mark.parametrize("is_latest", [True, False])
def test_inputs_that_changed_since_a_result_are_named(
    plan: ParticipantPlan, config: RunConfig, is_latest: bool
) -> None:
    (output, _) = sorted((config.output_dir / "sub-01" / "anat").iterdir())
    if not is_latest:
        # With other voxels; of the earlier result only checksums are remembered.
        record = json.loads(record_path(plan, config).read_text("utf-8"))
        results = {"Settings": record["Settings"], "Outputs": list(record["Outputs"])}
        results["Inputs"] = {name: about["SHA256"] for name, about in record["Inputs"].items()}
        record |= {"Outputs": {"sub-01/anat/other.nii.gz": 1}, "Inputs": {}, "Earlier": [results]}
        record_path(plan, config).write_text(json.dumps(record), "utf-8")
    scans = [(scan.uri, scan.path) for scan in plan.scans]
    os.utime(scans[0][1], ns=(1, 1))
    assert changed_since(plan, config, output, scans) == ()
    content = scans[1][1].read_bytes()
    scans[1][1].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(scans[1][1], ns=(1, 1))
    assert changed_since(plan, config, output, scans) == (scans[1][0],)
    assert changed_since(plan, config, output.with_name("strange.nii.gz"), scans) == ()


def test_nothing_is_known_to_have_changed_without_a_record(
    plan: ParticipantPlan, config: RunConfig
) -> None:
    (output, _) = sorted((config.output_dir / "sub-01" / "anat").iterdir())
    record_path(plan, config).unlink()
    plan.scans[0].path.write_bytes(b"other")
    scans = [(scan.uri, scan.path) for scan in plan.scans]
    assert changed_since(plan, config, output, scans) == ()
