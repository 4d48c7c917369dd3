from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bids_unires import app
from bids_unires.config import RunConfig
from bids_unires.dataset.query import ParticipantPlan
from bids_unires.dataset.writing import atomic_path
from bids_unires.errors import BadDataError, NothingSelectedError, UsageError

DatasetMaker = Callable[..., Path]


@dataclass(frozen=True)
class Outcome:
    label: str
    outputs: tuple[Path, ...] = ()
    seconds: float = 0.1
    warnings: tuple[str, ...] = ()


def succeed(plan: ParticipantPlan, config: RunConfig) -> Outcome:
    path = config.output_dir / plan.folder / "done.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {time.monotonic()}")
    logging.getLogger("bids_unires").info("work is done")
    return Outcome(plan.label, (path,), 0.1, ("look at the left edge",))


def fail_for_02(plan: ParticipantPlan, config: RunConfig) -> Outcome:
    if plan.participant == "02":
        raise BadDataError("sub-02_T1w.nii.gz is truncated")
    return succeed(plan, config)


def fail_differently(plan: ParticipantPlan, config: RunConfig) -> Outcome:
    if plan.participant == "01":
        return succeed(plan, config)
    if plan.participant == "02":
        raise BadDataError("sub-02_T1w.nii.gz is truncated")
    raise ZeroDivisionError("by\nzero")


def die_for_02(plan: ParticipantPlan, config: RunConfig) -> Outcome:
    if plan.participant == "02":
        os.kill(os.getpid(), signal.SIGKILL)
    return succeed(plan, config)


@pytest.fixture
def three(make_dataset: DatasetMaker, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run over three participants, whose changes to the environment are undone."""
    for variable in app.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w", "sub-03_T1w")
    return RunConfig(bids_dir, bids_dir.parent / "out", "participant", skip_bids_validation=True)


def changed(config: RunConfig, **options: Any) -> RunConfig:
    return RunConfig(**{**vars(config), **options})


def done(config: RunConfig) -> list[str]:
    return sorted(path.parent.name for path in config.output_dir.glob("sub-*/done.txt"))


def log(config: RunConfig) -> str:
    (file,) = (config.output_dir / "logs").glob("*.log")
    return file.read_text("utf-8")


def test_a_run_from_the_plan_to_the_log(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(three, succeed) == 0
    assert done(three) == ["sub-01", "sub-02", "sub-03"]
    printed = capsys.readouterr()
    assert printed.out.startswith("3 scans in 3 units of work\nsub-01\n  T1w: 1 scan\n")
    for text in ("sub-02 starts (2 of 3)", "sub-03 done", "1 warning above", "3 of 3 done"):
        assert text in printed.err
        assert text in log(three)
    assert '"reg_scale": 4.0' in log(three)
    assert (three.output_dir / "dataset_description.json").is_file()
    assert not logging.getLogger("bids_unires").handlers


def test_the_pipeline_is_what_runs(three: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = types.ModuleType("bids_unires.pipeline.participant")
    pipeline.run_participant = succeed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bids_unires.pipeline.participant", pipeline)
    assert app.run(three) == 0
    assert len(done(three)) == 3


def test_a_dry_run_writes_nothing(three: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(changed(three, dry_run=True), succeed) == 0
    assert "sub-03_T1w.nii.gz" in capsys.readouterr().out
    assert not three.output_dir.exists()


def test_what_is_refused_writes_nothing(three: RunConfig) -> None:
    with pytest.raises(NothingSelectedError):
        app.run(changed(three, participant_label=("99",)), succeed)
    with pytest.raises(UsageError):
        app.run(changed(three, output_dir=three.bids_dir / "out"), succeed)
    assert not three.output_dir.exists()
    assert not (three.bids_dir / "out").exists()


@pytest.mark.parametrize("nprocs", [1, 2])
def test_one_failure_does_not_stop_the_others(
    three: RunConfig, nprocs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(changed(three, nprocs=nprocs), fail_for_02) == 65
    assert done(three) == ["sub-01", "sub-03"]
    printed = capsys.readouterr().err
    assert "sub-02 failed: sub-02_T1w.nii.gz is truncated" in printed
    assert printed.splitlines()[-1].endswith("1 of 3 failed: sub-02")
    assert "Traceback" not in printed
    assert "Traceback" in log(three)


def test_failures_of_several_kinds_end_in_one(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(changed(three, verbosity=1), fail_differently) == 1
    printed = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: by zero" in printed
    assert "Traceback" in printed
    assert done(three) == ["sub-01"]


def test_the_first_failure_can_be_the_last(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(changed(three, stop_on_first_crash=True), fail_for_02) == 65
    assert done(three) == ["sub-01"]
    assert "1 of 3 failed, 1 not started: sub-02" in capsys.readouterr().err


def test_a_killed_process_takes_no_other_with_it(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(changed(three, nprocs=2, omp_nthreads=3), die_for_02) == 1
    assert done(three) == ["sub-01", "sub-03"]
    assert "sub-02 failed: its process was killed" in capsys.readouterr().err
    marks = [path.read_text().split() for path in three.output_dir.glob("sub-*/done.txt")]
    assert len({process for process, _, _ in marks} | {str(os.getpid())}) == 3
    assert {threads for _, threads, _ in marks} == {"3"}
    # What the workers say is in the log of the run, with the name of the participant.
    assert "INFO sub-01 work is done" in log(three)


def test_leftovers_of_killed_runs_are_cleared(three: RunConfig) -> None:
    folder = three.output_dir / "sub-01" / "anat"
    with atomic_path(folder / "a.nii.gz") as temporary:
        leftover = folder / temporary.name.replace("a.nii", "b.nii")
        leftover.write_bytes(b"half")
        assert app.run(three, succeed) == 0
        assert temporary.exists()
    assert not leftover.exists()


def test_several_runs_share_an_output(three: RunConfig) -> None:
    for label in ("01", "02"):
        assert app.run(changed(three, participant_label=(label,)), succeed) == 0
    assert done(three) == ["sub-01", "sub-02"]
    assert len(list((three.output_dir / "logs").glob("*.log"))) == 2


def test_quiet_runs_say_only_what_went_wrong(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(changed(three, verbosity=-2), succeed) == 0
    assert capsys.readouterr().err == ""
    assert "3 of 3 done" in log(three)


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("", 8)])
def test_cores_are_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(app, "CGROUP_CPU_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert app.usable_cores() == cores
    config = RunConfig(Path("in"), Path("out"), "participant")
    assert app.threads_per_participant(config, 2) == cores // 2
    assert app.threads_per_participant(config, 100) == 1
    assert app.threads_per_participant(changed(config, omp_nthreads=5), 2) == 5


def test_thread_limits_reach_loaded_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    import SimpleITK
    import torch

    for variable in app.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")
    before = torch.get_num_threads(), SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        app.limit_threads(3)
        assert torch.get_num_threads() == 3
        assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == 3
        assert os.environ["OMP_NUM_THREADS"] == "3"
    finally:
        torch.set_num_threads(before[0])
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(three: RunConfig) -> None:
    with pytest.raises(UsageError, match="--device: no device 'cuda:77'"):
        app.run(changed(three, device="cuda:77"), succeed)
    assert not three.output_dir.exists()


def sleep_long(plan: ParticipantPlan, config: RunConfig) -> Outcome:
    (config.output_dir / f"{plan.label}.pid").write_text(str(os.getpid()))
    time.sleep(120)
    return Outcome(plan.label)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_run(three: RunConfig, how: signal.Signals) -> None:
    run = multiprocessing.get_context("spawn").Process(
        target=app.run, args=(changed(three, nprocs=2), sleep_long)
    )
    run.start()
    workers = wait_for(lambda: [p.read_text() for p in three.output_dir.glob("*.pid")], 2)
    os.kill(run.pid or 0, how)
    run.join(20)
    assert not run.is_alive()
    wait_for(lambda: [pid for pid in workers if not is_running(pid)], 2)


def wait_for(found: Callable[[], list[str]], count: int) -> list[str]:
    """Poll until there are ``count``, for 30 s at most."""
    for _ in range(300):
        values = [value for value in found() if value]
        if len(values) == count:
            return values
        time.sleep(0.1)
    pytest.fail(f"not {count} within 30 s")


def is_running(pid: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
