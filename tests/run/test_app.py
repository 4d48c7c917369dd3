from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bids_unires.cli.main import parse_arguments
from bids_unires.config import ModelSettings, RunConfig
from bids_unires.dataset.query import ParticipantPlan
from bids_unires.dataset.writing import atomic_path
from bids_unires.errors import BadDataError, NothingSelectedError, OutputError, UsageError
from bids_unires.run import app
from bids_unires.run import devices as resources
from bids_unires.run.devices import Gpus, usable_memory
from bids_unires.work.allotment import Allotment

DatasetMaker = Callable[..., Path]


@dataclass(frozen=True)
class Outcome:
    label: str
    outputs: tuple[Path, ...] = ()
    seconds: float = 0.1
    warnings: tuple[str, ...] = ()
    missing: tuple[Path, ...] = ()


def succeed(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    path = config.output_dir / plan.folder / "done.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"{os.getpid()} {os.environ['OMP_NUM_THREADS']} {allotment.device} {tempfile.gettempdir()}"
    )
    logging.getLogger("bids_unires").info("work is done")
    return Outcome(plan.label, (path,), 0.1, ("look at the left edge",))


def note_memory(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    path = config.output_dir / plan.folder / "done.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(allotment.memory // 10**6))
    return Outcome(plan.label, (path,))


def fail_for_02(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    if plan.participant == "02":
        raise BadDataError("sub-02_T1w.nii.gz is truncated")
    return succeed(plan, config, allotment)


def fail_differently(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    if plan.participant == "01":
        return succeed(plan, config, allotment)
    if plan.participant == "02":
        raise BadDataError("sub-02_T1w.nii.gz is truncated")
    raise ZeroDivisionError("by\nzero")


def die_for_02(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    if plan.participant == "02":
        os.kill(os.getpid(), signal.SIGKILL)
    return succeed(plan, config, allotment)


@pytest.fixture
def three(make_dataset: DatasetMaker, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run over three participants, whose changes to the environment are undone."""
    for variable in resources.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")
    bids_dir = make_dataset("sub-01_T1w", "sub-02_T1w", "sub-03_T1w")
    return RunConfig(bids_dir, bids_dir.parent / "out", "participant", skip_bids_validation=True)


@pytest.fixture
def one(three: RunConfig) -> RunConfig:
    """As `three` for one participant, which is done in this process."""
    return changed(three, participant_label=("01",))


def changed(config: RunConfig, **options: Any) -> RunConfig:
    return RunConfig(**{**vars(config), **options})


def done(config: RunConfig) -> list[str]:
    return sorted(path.parent.name for path in config.output_dir.glob("sub-*/done.txt"))


def marks(config: RunConfig, column: int) -> list[str]:
    """What the processes of participants noted about themselves."""
    paths = sorted(config.output_dir.glob("sub-*/done.txt"))
    return [path.read_text().split()[column] for path in paths]


def log(config: RunConfig) -> str:
    (file,) = (config.output_dir / "logs").glob("*.log")
    return file.read_text("utf-8")


def test_a_run_from_the_plan_to_the_log(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(three, succeed) == 0
    assert done(three) == ["sub-01", "sub-02", "sub-03"]
    printed = capsys.readouterr()
    assert printed.out.startswith(
        "3 scans of 3 participants, each with images of its own\nsub-01\n  T1w: 1 scan\n"
    )
    for text in ("sub-02 starts (2 of 3)", "sub-03 done", "1 warning above", "3 of 3 done"):
        assert text in printed.err
        assert text in log(three)
    assert '"reg_scale": "auto"' in log(three)
    assert (three.output_dir / "dataset_description.json").is_file()
    assert not logging.getLogger("bids_unires").handlers


def test_the_pipeline_is_what_runs(one: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = types.ModuleType("bids_unires.pipeline.participant.workflow")
    pipeline.run_participant = succeed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bids_unires.pipeline.participant.workflow", pipeline)
    assert app.run(one) == 0
    assert done(one) == ["sub-01"]


def test_what_the_plan_passes_over_is_in_the_log(
    one: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (one.bids_dir / "sub-01" / "anat" / "sub-01_T1w.json").write_text("{broken")
    assert app.run(one, succeed) == 0
    assert "it is not JSON" in capsys.readouterr().err
    assert log(one).count("it is not JSON") == 1


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


@pytest.mark.parametrize(("nprocs", "named"), [(1, ""), (2, "sub-01 ")])
def test_a_killed_process_takes_no_other_with_it(
    three: RunConfig, nprocs: int, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(changed(three, nprocs=nprocs, omp_nthreads=3), die_for_02) == 1
    assert done(three) == ["sub-01", "sub-03"]
    assert "sub-02 failed: its process was killed" in capsys.readouterr().err
    assert len({*marks(three, 0), str(os.getpid())}) == 3
    assert set(marks(three, 1)) == {"3"}
    # What the workers say is in the log of the run, with the name of the participant where
    # others speak in between.
    assert f"INFO {named}work is done" in log(three)


def test_participants_one_after_the_other_share_a_process(three: RunConfig) -> None:
    assert app.run(three, succeed) == 0
    (process,) = {*marks(three, 0)}
    assert process != str(os.getpid())
    # For a single one, nothing is loaded twice.
    assert app.run(changed(three, participant_label=("01",), resume=False), succeed) == 0
    assert marks(three, 0) == [str(os.getpid()), process, process]


@pytest.mark.parametrize("place", ["", "logs", "logs/participant", "sub-01/anat"])
def test_leftovers_of_killed_runs_are_cleared(one: RunConfig, place: str) -> None:
    folder = one.output_dir / place
    with atomic_path(folder / "a.nii.gz") as temporary:
        leftover = folder / temporary.name.replace("a.nii", "b.nii")
        leftover.write_bytes(b"half")
        assert app.run(one, succeed) == 0
        assert temporary.exists()
    assert not leftover.exists()


def test_several_runs_share_an_output(three: RunConfig) -> None:
    for label in ("01", "02"):
        assert app.run(changed(three, participant_label=(label,)), succeed) == 0
    assert done(three) == ["sub-01", "sub-02"]
    assert len(list((three.output_dir / "logs").glob("*.log"))) == 2


def test_quiet_runs_say_only_what_went_wrong(
    one: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(changed(one, verbosity=-2), succeed) == 0
    assert capsys.readouterr().err == ""
    assert "1 of 1 done" in log(one)


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(three: RunConfig) -> None:
    with pytest.raises(UsageError, match="--device: no device 'cuda:77'"):
        app.run(changed(three, device="cuda:77"), succeed)
    assert not three.output_dir.exists()


def sleep_long(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    (config.output_dir / f"{plan.label}.pid").write_text(str(os.getpid()))
    time.sleep(120)
    return Outcome(plan.label)


@pytest.mark.slow
@pytest.mark.parametrize("nprocs", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_run(three: RunConfig, how: signal.Signals, nprocs: int) -> None:
    run = multiprocessing.get_context("spawn").Process(
        target=app.run, args=(changed(three, nprocs=nprocs), sleep_long)
    )
    run.start()
    workers = wait_for(lambda: [p.read_text() for p in three.output_dir.glob("*.pid")], nprocs)
    os.kill(run.pid or 0, how)
    run.join(20)
    assert not run.is_alive()
    wait_for(lambda: [pid for pid in workers if not is_running(pid)], nprocs)
    if (nprocs, how) == (1, signal.SIGTERM):
        # Nor does a lock of it, which it removes itself.
        assert not list((three.output_dir / "logs").glob(".*.lock"))


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


@pytest.mark.parametrize(
    ("device", "nprocs", "used", "said"),
    [
        ("cuda", 1, ["cuda:0"] * 2, "device: cuda:0; --nprocs 2 would use more (as asked for)"),
        ("auto", 1, ["cuda:0"] * 2, "--nprocs 2 would use more (2 GPUs are usable)"),
        ("cuda:1", 1, ["cuda:1"], "device: cuda:1 (as asked for)"),
        ("cpu", 1, ["cpu"], "device: cpu (as asked for)"),
        ("cuda", 3, ["cuda:0", "cuda:0", "cuda:1"], "device: cuda:0, cuda:1 (as asked for)"),
    ],
)
def test_participants_share_the_gpus(
    three: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    nprocs: int,
    used: list[str],
    said: str,
) -> None:
    two = Gpus(("cuda:0", "cuda:1"), "2 GPUs are usable")
    monkeypatch.setattr(app, "find_gpus", lambda: two)
    labels = ("01", "02", "03")[: len(used)]
    config = changed(three, device=device, nprocs=nprocs, participant_label=labels)
    assert app.run(config, succeed) == 0
    assert sorted(marks(three, 2)) == used
    assert said in log(three)


@pytest.mark.parametrize(
    ("nprocs", "labels", "mem_mb", "each"),
    [
        (16, ("01",), 900, ["900"]),
        (16, ("01", "02"), 900, ["450"] * 2),
        (2, ("01", "02", "03"), 900, ["450"] * 3),
        (1, ("01", "02", "03"), 900, ["900"] * 3),
        (16, ("01",), None, None),
    ],
)
def test_memory_is_shared_by_the_participants_at_once(
    three: RunConfig, nprocs: int, labels: tuple[str, ...], mem_mb: int | None, each: list[str]
) -> None:
    config = changed(three, nprocs=nprocs, participant_label=labels, mem_mb=mem_mb, device="cpu")
    assert app.run(config, note_memory) == 0
    everything = [str(usable_memory() // 10**6)]
    assert sorted(marks(three, 0)) == (each or everything)
    # What is written down is what was asked for.
    (file,) = (three.output_dir / "logs").glob("*.toml")
    assert parse_arguments(["--config-file", str(file)]) == config


def test_without_a_gpu_the_log_says_why_the_cpu(
    one: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "find_gpus", lambda: Gpus((), "no GPU is usable: there is none"))
    assert app.run(one, succeed) == 0
    assert marks(one, 2) == ["cpu"]
    assert "device: cpu (no GPU is usable: there is none)" in log(one)


def test_the_configuration_is_kept_and_repeats_the_run(three: RunConfig) -> None:
    config = changed(three, participant_label=("02",), device="cpu", mem_mb=900)
    assert app.run(config, succeed) == 0
    (file,) = (three.output_dir / "logs").glob("*.toml")
    assert file.with_suffix(".log").is_file()
    assert parse_arguments(["--config-file", str(file)]) == config


@pytest.mark.parametrize("nprocs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_temporary_files_go_to_the_work_folder(
    three: RunConfig, tmp_path: Path, nprocs: int
) -> None:
    before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    work = tmp_path / "a" / "work"
    assert app.run(changed(three, work_dir=work, nprocs=nprocs, device="cpu"), succeed) == 0
    assert set(marks(three, 3)) == {str(work)}
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before


def test_work_folders_that_cannot_be_are_refused(three: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--work-dir .* lies in the dataset"):
        app.run(changed(three, work_dir=three.bids_dir / "work"), succeed)
    assert not three.output_dir.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"--work-dir .* cannot be written to"):
        app.run(changed(three, work_dir=tmp_path / "file" / "work"), succeed)


def test_the_same_command_again_does_the_rest(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(three, fail_for_02) == 65
    first = marks(three, 0)
    inodes = [path.stat().st_mtime_ns for path in sorted(three.output_dir.glob("sub-*/done.txt"))]
    capsys.readouterr()
    assert app.run(three, succeed) == 0
    printed = capsys.readouterr().err
    for label in ("sub-01", "sub-03"):
        assert f"{label} skipped: finished earlier" in printed
    assert "sub-02 starts (2 of 3)" in printed
    assert "3 of 3 done" in printed
    assert len(marks(three, 0)) == 3 > len(first)
    after = [path.stat().st_mtime_ns for path in sorted(three.output_dir.glob("sub-*/done.txt"))]
    assert [after[0], after[2]] == inodes


@pytest.mark.parametrize("nprocs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_other_settings_are_work_to_do(
    three: RunConfig, capsys: pytest.CaptureFixture[str], nprocs: int
) -> None:
    labels = ("02",) if nprocs == 1 else ("01", "02")
    config = changed(three, nprocs=nprocs, device="cpu", participant_label=labels)
    assert app.run(config, succeed) == 0
    assert app.run(changed(config, model=ModelSettings(reg_scale=2)), succeed) == 0
    logs = sorted((config.output_dir / "logs").glob("*.log"), key=lambda log: log.stat().st_mtime)
    assert "repeated: reg_scale is 2 now, was auto" in logs[-1].read_text("utf-8")
    assert app.run(changed(config, model=ModelSettings(reg_scale=2)), succeed) == 0
    assert "sub-02 skipped: finished earlier" in capsys.readouterr().err
    again = changed(config, model=ModelSettings(reg_scale=2), resume=False)
    assert app.run(again, succeed) == 0
    assert "finished earlier" not in capsys.readouterr().err


def run_one(config: RunConfig, label: str) -> None:
    sys.exit(app.run(changed(config, participant_label=(label,)), succeed))


@pytest.mark.slow
def test_ten_processes_share_an_output(make_dataset: DatasetMaker) -> None:
    labels = [f"{number:02}" for number in range(10)]
    bids_dir = make_dataset(*(f"sub-{label}_T1w" for label in labels))
    config = RunConfig(bids_dir, bids_dir.parent / "out", "participant", skip_bids_validation=True)
    # Imports once what all of them need; this process has threads, which a fork does not like.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["bids_unires.run.app", "bids.layout"])
    runs = [
        server.Process(target=run_one, args=(changed(config, device="cpu"), label))
        for label in labels
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0] * 10
    assert done(config) == [f"sub-{label}" for label in labels]
    description = json.loads((config.output_dir / "dataset_description.json").read_text("utf-8"))
    assert description["DatasetType"] == "derivative"
    assert len(list((config.output_dir / "logs").glob("*.log"))) == 10
    # Neither locks nor half-written files.
    assert [path.name for path in config.output_dir.rglob(".*")] == [".bidsignore"]


def meet(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    if plan.participant == "02":
        code = app.run(changed(config, participant_label=("02",)), succeed)
        (config.output_dir / "second").write_text(str(code))
    return succeed(plan, config, allotment)


def test_a_participant_is_worked_on_once_at_a_time(
    three: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(three, meet) == 0
    assert (three.output_dir / "second").read_text() == "73"
    assert "sub-02 failed: another process is working on sub-02 in" in capsys.readouterr().err


def test_without_a_place_for_temporary_files_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"no temporary folder can be created.*--work-dir"):
        app.scratch_folder()


@pytest.mark.slow
def test_the_environment_may_be_bare(three: RunConfig) -> None:
    command = [sys.executable, "-m", "bids_unires", str(three.bids_dir), "out", "participant"]
    dry = subprocess.run(
        [*command, "--dry-run", "--skip-bids-validation"],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C"},
        cwd=three.bids_dir.parent,
    )
    assert (dry.returncode, dry.stderr) == (0, b"")
    assert dry.stdout.startswith(b"3 scans of 3 participants, each with images of its own")


def test_a_plan_that_nobody_reads_stops_no_run(
    one: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patch, os.fdopen(writer, "w") as stdout:
        patch.setattr(sys, "stdout", stdout)
        assert app.run(changed(one, device="cpu"), succeed) == 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)
    assert len(done(one)) == 1


def test_another_dataset_leaves_the_results_of_the_first_alone(
    one: RunConfig, make_dataset: DatasetMaker
) -> None:
    assert app.run(one, succeed) == 0
    before = marks(one, 0)
    other = make_dataset("sub-03_T1w", "sub-01_T1w", root="site2")
    with pytest.raises(OutputError, match="choose another output folder for"):
        app.run(changed(one, bids_dir=other, participant_label=()), fail_differently)
    assert marks(one, 0) == before


def test_other_scans_of_another_dataset_replace_no_result(
    one: RunConfig, make_dataset: DatasetMaker
) -> None:
    assert app.run(one, succeed) == 0
    other = make_dataset("sub-01_FLAIR", root="site2")
    with pytest.raises(OutputError, match="choose another output folder for"):
        app.run(changed(one, bids_dir=other), fail_differently)
    assert done(one) == ["sub-01"]
