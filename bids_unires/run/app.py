"""One run: check the input, plan, print the plan, and process one unit of work after the other."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from .. import __version__
from ..config import RunConfig
from ..dataset.query import ParticipantPlan, describe_plan, select_participants
from ..dataset.validation import check_folders, validate_dataset
from ..dataset.visits import RunPlan, Visits, describe_visits, plan_run
from ..errors import OutputError, UsageError
from ..records.shared_grids import remove_unused_grids
from ..work.allotment import Allotment
from ..work.outcome import AlreadyDone, Failure, Outcome, Process, WorkDone
from ..work.threads import shortage
from ..work.unit import UnitOfWork
from .configuration import write_options
from .devices import (
    AllotmentPool,
    Devices,
    check_address_space,
    choose_devices,
    find_gpus,
    limit_threads,
    memory_each,
    threads_each,
)
from .locking import sole_use
from .logs import holding_back, logging_to_file, logging_to_stderr
from .successive import OwnProcess
from .workers import Elsewhere, Successive, Workers

if TYPE_CHECKING:
    from .dask import DaskWorkers

logger = logging.getLogger("bids_unires")


def process_participant(plan: ParticipantPlan, config: RunConfig, allotment: Allotment) -> Outcome:
    """Run the participant pipeline; it is imported here, since its libraries load slowly."""
    from ..pipeline.participant.workflow import run_participant

    return run_participant(plan, config, allotment)


def process_visits(visits: Visits, config: RunConfig, allotment: Allotment) -> Outcome:
    """Place the visits of a participant in one space; see `process_participant`."""
    from ..pipeline.participant.visits import place_visits

    return place_visits(visits, config, allotment)


def run(config: RunConfig, process: Process = process_participant) -> int:
    """Do one run, as its configuration says.

    Parameters
    ----------
    config
        The configuration of the run.
    process
        Function that does one unit of work of the participant level. It must be importable by
        name, because several units are processed in other processes.

    Returns
    -------
    int
        0 if all participants succeeded; the exit code of those that failed, if it is the same
        for all of them; else 1.

    Raises
    ------
    UniResError
        If the run as a whole cannot start.
    """
    with logging_to_stderr(config.verbosity), holding_back():
        if not (config.cluster or config.scheduler):
            check_address_space()
        check_folders(config)
        _check_work_dir(config)
        limit_threads(threads_each(config, config.nprocs))
        return _run_group(config) if config.level == "group" else _run_participants(config, process)


def _run_participants(config: RunConfig, process: Process) -> int:
    if config.reports_only:
        raise UsageError(
            "--reports-only is for the group level: the page of a participant is drawn from what "
            "the fit leaves in memory, which no file keeps; to have it drawn again, process the "
            "participant again, by --no-resume --participant-label LABEL"
        )
    participants = select_participants(config)
    if not config.skip_bids_validation:
        validate_dataset(config, participants)
    plan = plan_run(config)
    description = "\n".join([describe_plan(plan.units), *describe_visits(plan, config)])
    if not config.json:
        say(description)
    if config.dry_run:
        _show_inspection(plan.units, config)
        return 0
    with _begun(config, [*plan.visits, *plan.units]) as run:
        logger.info("log in %s", run.log_file)
        logger.debug("plan: %s", description)
        done = _placed_and_done(plan, run, process)
        return _conclude(len(done.done), done.failures, len(plan.units), config.output_dir)


def _placed_and_done(plan: RunPlan, run: _Begun, process: Process) -> WorkDone:
    """Place visits that share a space, do every unit that was placed, and show visits together."""
    if not plan.visits:
        done = run.work(process, plan.units)
        remove_unused_grids(run.config.output_dir, {unit.participant for unit in plan.units})
        return done
    placed = run.work(process_visits, plan.visits)
    if placed.failures and run.config.stop_on_first_crash:
        return WorkDone(frozenset(), placed.failures)
    done = run.work(process, plan.without({failure.label for failure in placed.failures}))
    # It loads slowly, and only visits that share a space need it.
    from ..pipeline.participant.visits_reporting import show_visits, visits_pages

    in_place = [each for each in plan.visits if each.label in placed.done]
    run.work(show_visits, list(visits_pages(in_place, run.config)))
    return WorkDone(done.done, (*placed.failures, *done.failures))


def process_plans(
    config: RunConfig, plans: Sequence[ParticipantPlan], process: Process = process_participant
) -> WorkDone:
    """Do the units of work of some plans, whatever they were made from.

    Parameters
    ----------
    config
        The configuration of the run, with the folder of the derivative dataset.
    plans
        The units of work.
    process
        As for `run`.

    Raises
    ------
    UniResError
        If the run as a whole cannot start.
    """
    limit_threads(threads_each(config, config.nprocs))
    with _begun(config, plans) as run:
        return run.work(process, plans)


def _show_inspection(plans: Sequence[ParticipantPlan], config: RunConfig) -> None:
    """Print what the scans are worth, and what looks wrong with them."""
    # These load slowly, and only a dry run needs them.
    from ..pipeline.inspection.expense import unit_seconds
    from ..pipeline.inspection.inspection import inspect
    from ..pipeline.inspection.table import as_json, describe, legend

    threads = threads_each(config, config.nprocs)
    on_cpu = config.device == "cpu" or not find_gpus().names
    unit = unit_seconds() if on_cpu else None
    inspections = (inspect(plan, config, unit) for plan in plans)
    if config.json:
        say(json.dumps(as_json(list(inspections), threads), indent=2))
        return
    say(f"\n{legend()}")
    for inspection in inspections:
        say(f"\n{describe(inspection, threads)}")


def _run_group(config: RunConfig) -> int:
    # These load slowly, and only the group level needs them.
    from ..pipeline.group.cohort import describe_cohort, find_cohort
    from ..pipeline.group.workflow import run_group

    cohort = find_cohort(config)
    say(describe_cohort(cohort))
    if config.dry_run:
        return 0
    lock = config.output_dir / "logs" / ".group.lock"
    with (
        sole_use(lock, f"the group level in {config.output_dir}"),
        _begun(config, cohort.members) as run,
    ):
        logger.info("log in %s", run.log_file)
        outcome = run_group(cohort, config, run.work)
        planned = len(cohort.members)
        return _conclude(len(outcome.done), outcome.failures, planned, config.output_dir)


class _Member(Protocol):
    """A participant or session, at the participant or the group level."""

    @property
    def label(self) -> str:
        """``sub-01`` or ``sub-01_ses-a``."""

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of its results, relative to the output folder."""


@dataclass(frozen=True)
class _Begun:
    """A run whose folders, log and devices are ready."""

    config: RunConfig
    log_file: Path
    allotments: AllotmentPool
    at_once: int
    elsewhere: Elsewhere | None
    successive: Successive

    def work(self, process: Process, units: Sequence[UnitOfWork]) -> WorkDone:
        """Do units of work, and log the result of each."""
        workers = Workers(
            process,
            self.config,
            self.allotments,
            self.at_once,
            self.elsewhere,
            self.successive,
        )
        done, failures = [], []
        for result in workers.results(units):
            if isinstance(result, Failure):
                failures.append(result)
                logger.error("%s failed: %s", result.label, result.message)
            else:
                done.append(result.label)
                _report(result)
        return WorkDone(frozenset(done), tuple(failures))


@contextmanager
def _begun(config: RunConfig, members: Sequence[_Member]) -> Iterator[_Begun]:
    """Prepare the output folder, log, threads and devices of a run."""
    units = len(members)
    # Chosen first, so that a GPU that does not exist is reported before anything is written.
    if config.cluster or config.scheduler:
        devices = Devices((config.device,), "of each worker")
    else:
        devices = choose_devices(config.device, find_gpus)
    log_file = _prepare_output(config, members)
    with (
        logging_to_file(log_file),
        _termination_as_interrupt(),
        temporary_files_in(config.work_dir),
        _workers_elsewhere(config, units) as elsewhere,
        OwnProcess() as successive,
    ):
        at_once = max(1, min(elsewhere.at_once if elsewhere else config.nprocs, units))
        threads = threads_each(config, at_once)
        limit_threads(threads)
        if lacking := shortage(threads * at_once):
            logger.warning("there may be too few threads and processes: %s", lacking)
        logger.info(
            "bids_unires %s: %s, %s",
            __version__,
            f"{at_once} participants at once" if at_once > 1 else "one participant at a time",
            f"{threads} threads" if threads > 1 else "1 thread" + (" each" if at_once > 1 else ""),
        )
        logger.info("device: %s (%s)", _listed(devices, at_once, units), devices.reason)
        logger.debug("settings: %s", json.dumps(config.as_dict()))
        allotments = AllotmentPool(devices.names, threads, memory_each(config, at_once))
        yield _Begun(config, log_file, allotments, at_once, elsewhere, successive)


def _workers_elsewhere(config: RunConfig, units: int) -> AbstractContextManager[DaskWorkers | None]:
    if config.cluster is None and config.scheduler is None:
        return nullcontext()
    from .dask import workers_elsewhere

    return workers_elsewhere(config, units)


def say(text: str) -> None:
    """Print to standard output; the run continues if nobody reads it any more (broken pipe)."""
    try:
        print(text, flush=True)
    except OSError:
        # The text stays in the buffer, and the next flush would fail again. Python flushes
        # whenever a process is started.
        with suppress(OSError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _check_work_dir(config: RunConfig) -> None:
    if config.work_dir is None:
        return
    try:
        there = config.work_dir.resolve()
        # From Python 3.13 on, a path in a loop of symbolic links is resolved without an error.
        with suppress(FileNotFoundError):
            there.stat()
    # A loop of symbolic links; which of the two is raised depends on the version of Python.
    except (OSError, RuntimeError) as error:
        raise OutputError(f"--work-dir {config.work_dir} cannot be written to: {error}") from error
    if there.is_relative_to(config.bids_dir.resolve()):
        raise UsageError(
            f"--work-dir {config.work_dir} lies in the dataset {config.bids_dir}, where its "
            "files would be taken for raw data: choose a place outside of it"
        )


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end a run like Ctrl-C does; schedulers and container engines send it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for files of this run alone, which is removed in the end.

    Raises
    ------
    OutputError
        If there is no place for it.
    """
    try:
        return tempfile.TemporaryDirectory(prefix="bids_unires-")
    except OSError as error:
        raise OutputError(
            f"no temporary folder can be created ({error.strerror or error}): name one by "
            "--work-dir FOLDER"
        ) from error


@contextmanager
def temporary_files_in(folder: Path | None) -> Iterator[None]:
    """Let all libraries, also in worker processes, write their temporary files to one folder.

    Raises
    ------
    OutputError
        If the folder cannot be created or written to.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"--work-dir {folder} cannot be written to: {error.strerror or error}"
        ) from error
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder.absolute())
    try:
        yield
    finally:
        os.environ.pop("TMPDIR")
        if before[0] is not None:
            os.environ["TMPDIR"] = before[0]
        tempfile.tempdir = before[1]


def _prepare_output(config: RunConfig, members: Sequence[_Member]) -> Path:
    """Write the files of the dataset and the configuration; remove files of killed runs.

    Returns
    -------
    Path
        The log file of this run.
    """
    from ..dataset.description import write_dataset_files
    from ..dataset.naming import study_folders
    from ..dataset.writing import remove_leftovers
    from ..records.raw_dataset import follow_raw

    logs = config.output_dir / "logs"
    log_file = logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}.log"
    settings_file = log_file.with_suffix(".toml")
    try:
        logs.mkdir(parents=True, exist_ok=True)
        write_options(settings_file, config)
    except OSError as error:
        raise OutputError(
            f"{error.filename or logs} cannot be created: {error.strerror or error}"
        ) from error
    folders = (config.output_dir / folder for member in members for folder in member.folders)
    # The records of each stage have a folder of their own.
    records = (path for path in logs.iterdir() if path.is_dir())
    for folder in (config.output_dir, logs, *records, *folders, *study_folders(config.output_dir)):
        remove_leftovers(folder)
    # Only the participant level replaces results that were made from other scans.
    replaced = [member.label for member in members] if config.level == "participant" else []
    follow_raw(config.output_dir, config.bids_dir, replaced)
    write_dataset_files(config.output_dir, config.bids_dir, config.labels)
    return log_file


def _listed(devices: Devices, at_once: int, units: int) -> str:
    """Names of the devices in use, and the option that makes use of the others."""
    names = ", ".join(devices.names[:at_once])
    if at_once < min(units, len(devices.names)):
        names += f"; --nprocs {min(units, len(devices.names))} would use more"
    return names


def _report(result: Outcome | AlreadyDone) -> None:
    if isinstance(result, AlreadyDone):
        logger.info(
            "%s skipped: finished earlier with the same inputs and settings "
            "(--no-resume repeats it)",
            result.label,
        )
        return
    count = len(result.warnings)
    noted = f", {count} warning{'s' if count > 1 else ''} above" if count else ""
    logger.info(
        "%s done in %.0f s, %d files written%s",
        result.label,
        result.seconds,
        len(result.outputs),
        noted,
    )


def _conclude(done: int, failures: Sequence[Failure], planned: int, output_dir: Path) -> int:
    """Log how many units succeeded and failed; return the exit code of the run."""
    if done:
        logger.info("%d of %d done, results in %s", done, planned, output_dir)
    if not failures:
        return 0
    left_out = planned - done - len(failures)
    logger.error(
        "%d of %d failed%s: %s",
        len(failures),
        planned,
        f", {left_out} not started" if left_out else "",
        ", ".join(failure.label for failure in failures),
    )
    codes = {failure.exit_code for failure in failures}
    return codes.pop() if len(codes) == 1 else 1
