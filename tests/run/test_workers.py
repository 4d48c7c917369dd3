from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bids_unires.config import RunConfig
from bids_unires.dataset.query import ParticipantPlan, plan_participants
from bids_unires.dataset.writing import atomic_path
from bids_unires.run.devices import AllotmentPool
from bids_unires.run.logs import logging_to_file, logging_to_stderr
from bids_unires.run.successive import OwnProcess
from bids_unires.run.workers import Workers, attempt
from bids_unires.work.allotment import Allotment
from bids_unires.work.outcome import AlreadyDone, Failure, Result
from bids_unires.work.progress import Silence, listener
from bids_unires.work.unit import UnitOfWork
from tests.paths import ROOT

DatasetMaker = Callable[..., Path]

ALLOTMENT = Allotment("cpu", 1, 2**34)


@dataclass(frozen=True)
class Outcome:
    label: str
    outputs: tuple[Path, ...] = ()
    seconds: float = 0.1
    warnings: tuple[str, ...] = ()
    missing: tuple[Path, ...] = ()


def pool() -> AllotmentPool:
    return AllotmentPool(["cpu"], ALLOTMENT.threads, ALLOTMENT.memory)


def succeed(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    return Outcome(plan.label)


def fail(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    raise MemoryError


def not_called(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    pytest.fail("work began")


def report(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    listener().phase(plan.label, f"phase in {os.getpid()}")
    return Outcome(plan.label)


@pytest.fixture
def config(make_dataset: DatasetMaker) -> RunConfig:
    bids_dir = make_dataset("sub-01_ses-a_T1w", "sub-02_T1w")
    (bids_dir.parent / "out" / "logs").mkdir(parents=True)
    return RunConfig(bids_dir, bids_dir.parent / "out", "participant", device="cpu")


@pytest.fixture
def plans(config: RunConfig) -> tuple[ParticipantPlan, ...]:
    return plan_participants(config)


def test_work_is_done_once(plans: tuple[ParticipantPlan, ...], config: RunConfig) -> None:
    assert attempt(succeed, plans[0], config, ALLOTMENT) == Outcome("sub-01_ses-a")
    assert attempt(not_called, plans[0], config, ALLOTMENT) == AlreadyDone("sub-01_ses-a")
    again = attempt(fail, plans[0], replace(config, resume=False), ALLOTMENT)
    assert isinstance(again, Failure)
    # What failed is not done, even if it was before.
    assert attempt(succeed, plans[0], config, ALLOTMENT) == Outcome("sub-01_ses-a")


def without_a_page(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    return Outcome(plan.label, missing=(config.output_dir / f"{plan.label}.html",))


def test_work_without_all_that_belongs_to_it_is_done_again(
    plans: tuple[ParticipantPlan, ...], config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bids_unires")
    assert isinstance(attempt(without_a_page, plans[1], config, ALLOTMENT), Outcome)
    assert attempt(succeed, plans[1], config, ALLOTMENT) == Outcome("sub-02")
    assert caplog.messages == ["repeated: sub-02.html could not be made"]
    assert attempt(not_called, plans[1], config, ALLOTMENT) == AlreadyDone("sub-02")


def test_failed_work_leaves_no_empty_folder(
    plans: tuple[ParticipantPlan, ...], config: RunConfig
) -> None:
    kept = config.output_dir / "sub-02" / "figures"
    kept.mkdir(parents=True)
    for plan in plans:
        result = attempt(fail, plan, config, ALLOTMENT)
        assert isinstance(result, Failure)
        assert "not enough memory" in result.message
    assert sorted(path.name for path in config.output_dir.rglob("*")) == [
        "figures",
        "logs",
        "sub-02",
    ]


def test_the_first_error_is_told_where_its_record_stays(
    plans: tuple[ParticipantPlan, ...], config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(*_: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "folder")

    monkeypatch.setattr("bids_unires.run.workers.abandon", without_memory)
    result = attempt(fail, plans[1], config, ALLOTMENT)
    assert isinstance(result, Failure)
    assert "not enough memory" in result.message
    assert "folder" not in result.message


def test_an_output_in_the_way_is_noticed_before_the_work(
    plans: tuple[ParticipantPlan, ...], config: RunConfig
) -> None:
    (config.output_dir / "sub-02").write_text("a file")
    result = attempt(not_called, plans[1], config, ALLOTMENT)
    assert isinstance(result, Failure)
    assert result.exit_code == 73
    assert f"{config.output_dir}/sub-02/anat cannot be written to" in result.message


def test_a_folder_without_permission_is_noticed_before_the_work(
    plans: tuple[ParticipantPlan, ...], config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    # Permissions on the folder itself would not keep ROOT out.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    result = attempt(not_called, plans[1], config, ALLOTMENT)
    assert isinstance(result, Failure)
    assert result.exit_code == 73
    assert result.message.endswith("sub-02/anat cannot be written to: Permission denied")


@pytest.mark.parametrize(("at_once", "beside"), [(1, False), (1, True), (2, False)])
def test_progress_is_told_in_the_process_of_the_run(
    plans: tuple[ParticipantPlan, ...],
    config: RunConfig,
    at_once: int,
    beside: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "bids_unires")
    with OwnProcess() as own:
        workers = Workers(
            report,
            config,
            pool(),
            at_once,
            successive=own if beside else None,
        )
        assert {result.label for result in workers.results(plans)} == {"sub-01_ses-a", "sub-02"}
    said = [message for message in caplog.messages if "phase in" in message]
    assert sorted(message.split(":")[0] for message in said) == ["sub-01_ses-a", "sub-02"]
    processes = {message.split()[-1] for message in said}
    assert (str(os.getpid()) in processes) == (at_once == 1 and not beside)
    assert len(processes) == (2 if at_once == 2 else 1)


def warn_of_an_error(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        logging.getLogger("bids_unires").warning("no page of %s", plan.label, exc_info=True)
    return Outcome(plan.label)


def return_a_lock(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    return Outcome(plan.label, warnings=(threading.Lock(),))  # type: ignore[arg-type]


@pytest.mark.parametrize("nprocs", [1, 2])
def test_tracebacks_of_other_processes_are_for_the_file_too(
    plans: tuple[ParticipantPlan, ...],
    config: RunConfig,
    nprocs: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = config.output_dir / "logs" / "run.log"
    with logging_to_stderr(-1), logging_to_file(path), OwnProcess() as own:
        workers = Workers(warn_of_an_error, config, pool(), nprocs, successive=own)
        assert len(list(workers.results(plans))) == 2
    printed = capsys.readouterr().err.splitlines()
    assert sorted(line.split()[-1] for line in printed) == ["sub-01_ses-a", "sub-02"]
    assert path.read_text("utf-8").count("ZeroDivisionError: by zero") == 2


def test_what_cannot_be_sent_fails_alone(
    plans: tuple[ParticipantPlan, ...], config: RunConfig
) -> None:
    with OwnProcess() as own:
        for process in (return_a_lock, lambda plan, config, allotment: Outcome(plan.label)):
            result = own.attempt(process, plans[0], config, ALLOTMENT, Silence())
            assert isinstance(result, Failure)
            assert "pickle" in result.message
        assert own.attempt(succeed, plans[1], config, ALLOTMENT, Silence()) == Outcome("sub-02")


def write_for_long(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    with atomic_path(config.output_dir / f"{plan.label}.nii.gz") as path:
        path.write_bytes(b"half")
        listener().phase(plan.label, "writing")
        time.sleep(60)
    return Outcome(plan.label)


class Interrupted(Silence):
    """A user who presses Ctrl-C as soon as anything is told."""

    def phase(self, label: str, name: str) -> None:
        raise KeyboardInterrupt


def test_interrupted_work_leaves_nothing_half(
    plans: tuple[ParticipantPlan, ...], config: RunConfig
) -> None:
    with pytest.raises(KeyboardInterrupt), OwnProcess() as own:
        own.attempt(write_for_long, plans[1], config, ALLOTMENT, Interrupted())
    assert [path.name for path in config.output_dir.iterdir()] == ["logs"]


@pytest.mark.parametrize("nprocs", ["1", "2"])
def test_a_script_needs_no_guard(config: RunConfig, nprocs: str) -> None:
    """Other processes do not run it again."""
    folders = [str(config.bids_dir), str(config.output_dir), "participant"]
    script = config.output_dir / "script.py"
    script.write_text(
        "from bids_unires.run import app\n"
        "from bids_unires.cli.main import parse_arguments\n"
        "from tests.run.test_workers import succeed\n"
        f"options = {[*folders, '--device', 'cpu', '--nprocs', nprocs, '--skip-bids-validation']}\n"
        "print('code', app.run(parse_arguments(options), succeed))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1] == "code 0", done.stderr
    assert len(list((config.output_dir / "logs").glob("*.log"))) == 1


class FirstFails:
    """Works elsewhere: the first unit fails beside the second, which ends once that is known."""

    at_once = 2

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.beside, self.known = threading.Event(), threading.Event()

    def attempt(self, process: object, unit: UnitOfWork, *_: object) -> Result:
        self.begun.append(unit.label)
        if unit.label == "sub-01":
            self.beside.wait(30)
            return Failure(unit.label, "broken", 65)
        self.beside.set()
        self.known.wait(30)
        return Outcome(unit.label)

    def give_up(self) -> None:
        raise AssertionError("nothing was interrupted")


@pytest.mark.parametrize("stop", [True, False])
def test_after_the_first_crash_nobody_else_is_begun_if_so_wanted(
    make_dataset: DatasetMaker, stop: bool
) -> None:
    bids_dir = make_dataset(*(f"sub-0{number}_T1w" for number in range(1, 6)))
    (bids_dir.parent / "out" / "logs").mkdir(parents=True)
    config = RunConfig(
        bids_dir, bids_dir.parent / "out", "participant", stop_on_first_crash=stop, verbosity=-1
    )
    elsewhere = FirstFails()
    workers = Workers(succeed, config, pool(), 2, elsewhere, None)
    for result in workers.results(plan_participants(config)):
        if isinstance(result, Failure):
            elsewhere.known.set()
    labels = [f"sub-0{number}" for number in range(1, 6)]
    assert sorted(elsewhere.begun) == (["sub-01", "sub-02"] if stop else labels)
