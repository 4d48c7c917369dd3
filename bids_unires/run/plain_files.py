"""One run on plain files: the participant pipeline, and its results under the names of the files.

The pipeline writes its derivative dataset into a temporary folder, so that the folder of the
scans never holds anything but finished results.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..config import RunConfig
from ..dataset.entities import image_stem
from ..dataset.plain_files import FilesPlan, FilesRequest, plan_files
from ..dataset.writing import remove_leftovers
from ..errors import OutputError, UsageError
from ..work.outcome import Process
from .app import process_participant, process_plans, say, scratch_folder, temporary_files_in
from .logs import holding_back, logging_to_stderr
from .publishing import ResultNames, publish

logger = logging.getLogger("bids_unires")


def run_files(
    request: FilesRequest, config: RunConfig, process: Process = process_participant
) -> int:
    """Make images of plain files.

    Parameters
    ----------
    request
        The files.
    config
        The options of the participant level. Its folders are not used.
    process
        Function that does the one unit of work.

    Returns
    -------
    int
        0, or the exit code of the failure.

    Raises
    ------
    UniResError
        If a file is missing, or a result would overwrite a file.
    """
    with logging_to_stderr(config.verbosity), holding_back():
        plan = plan_files(request)
        names = ResultNames(request.results_folder, request.prefix, plan)
        results = names.all(
            with_deviations=config.model.uncertainty is not None,
            with_measured=config.measured_map and config.model.method != "linear",
        )
        _refuse_inputs(results, plan)
        if not request.overwrite:
            _refuse_existing(results)
        _check_writable(request.results_folder)
        say(_described(names))
        if config.dry_run:
            return 0
        remove_leftovers(request.results_folder)
        with temporary_files_in(config.work_dir), scratch_folder() as scratch:
            out = Path(scratch) / "derivatives"
            ours = replace(config, bids_dir=request.scans_folder, output_dir=out)
            done = process_plans(ours, [plan], process)
            if done.failures:
                return done.failures[0].exit_code
            publish(out, names)
        for path in (*map(names.image, plan.contrasts), names.page):
            if path.exists():
                logger.info("written: %s", path)
        return 0


def _described(names: ResultNames) -> str:
    """Text that lists the scans of every contrast, and its result."""
    lines = []
    for contrast in names.plan.contrasts:
        ct = ", taken for CT" if contrast.modality == "CT" else ""
        lines.append(f"{contrast.name}{ct}: result {names.image(contrast)}")
        for scan in contrast.scans:
            sidecar = f", with {image_stem(scan.path)}.json" if scan.metadata else ""
            lines.append(f"  {scan.path}{sidecar}")
            lines += [f"    label image {label.path}" for label in scan.labels]
    return "\n".join(lines)


def _refuse_inputs(results: Iterable[Path], plan: FilesPlan) -> None:
    """Refuse results that would replace a scan, or a file that was read with it."""
    inputs = {path.absolute() for _, path in plan.inputs}
    sidecars = {path.with_name(f"{image_stem(path)}.json") for path in inputs}
    for path in results:
        if path.absolute() in inputs | sidecars or any(_is_same(path, other) for other in inputs):
            raise UsageError(
                f"the result {path} would replace a file of the input: name another folder by -o, "
                "or another --prefix"
            )


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _refuse_existing(results: Sequence[Path]) -> None:
    there = [path for path in results if os.path.lexists(path)]
    if there:
        more = f" and {len(there) - 1} more results" if len(there) > 1 else ""
        raise OutputError(
            f"{there[0]}{more} exist{'' if more else 's'} already: replace by --overwrite, or name "
            "another folder by -o"
        )


def _check_writable(folder: Path) -> None:
    """Raise an error if results could not be written, before the fit and without writing."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{folder} cannot be created: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(
            f"{folder} cannot be written to: no permission in {existing}; name another folder by -o"
        )
