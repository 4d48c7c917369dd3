"""The whole demonstration: simulate scans, reconstruct images, compare them with the truth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from nitransforms import linear

from ..config import RunConfig, SpaceSettings
from ..dataset.naming import derivative_path, sidecar_path, study_grid_path, transform_path
from ..dataset.query import ParticipantPlan, Scan, plan_participants
from ..dataset.reading import load_volume
from ..records.study import StudyGridRecord
from ..run.devices import usable_cores, usable_memory
from ..space.affines import Affine
from .dataset import DemoPaths, claim, write_dataset
from .phantom import load_icbm152
from .score import Score, score
from .study import MOTIONS, PARTICIPANTS, PROTOCOLS

REFERENCE = PROTOCOLS[0].suffix
"""Contrast of the reference scan: its motion is the offset between results and truth."""

# Memory in bytes that one participant needs, with some reserve.
_MEMORY_EACH = 3 * 2**30


def run_demo(output_dir: Path) -> int:
    """Simulate a small BIDS dataset, run both levels on it, and print how good the images are.

    Parameters
    ----------
    output_dir
        A new or empty folder, or the folder of an earlier demonstration, whose files are then
        replaced.

    Returns
    -------
    int
        Exit code of the first level that failed, or 0.

    Raises
    ------
    OutputError
        If the folder holds other files.
    """
    from ..run.app import run

    start = time.monotonic()
    paths = claim(Path(output_dir))
    print(f"Simulating scans of {len(PARTICIPANTS)} participants ...", flush=True)
    write_dataset(paths, load_icbm152(), PARTICIPANTS, PROTOCOLS, MOTIONS)
    print(f"Simulated after {time.monotonic() - start:.0f} s", flush=True)
    config = _config(paths)
    for_all = replace(config, level="group", space=SpaceSettings(align="rigid"))
    for level in (config, for_all):
        print(f"Running the {level.level} level ...", flush=True)
        exit_code = run(level)
        if exit_code != 0:
            return exit_code
        print(f"The {level.level} level ended after {time.monotonic() - start:.0f} s", flush=True)
    print(_report(paths, config))
    print(f"Done in {time.monotonic() - start:.0f} s")
    return 0


def _config(paths: DemoPaths) -> RunConfig:
    """Configuration of the participant level.

    Participants run in parallel on one core each, as far as memory allows. This takes less time
    than using all cores for one participant after the other.
    """
    room = usable_memory() // _MEMORY_EACH
    at_once = max(1, min(len(PARTICIPANTS), usable_cores(), room))
    return RunConfig(paths.bids, paths.derivatives, "participant", nprocs=at_once)


def _report(paths: DemoPaths, config: RunConfig) -> str:
    """A table with the scores of every image, and the folders and files of the demonstration."""
    lines = [
        "",
        "PSNR inside the head against the truth, in dB",
        f"{'participant':<12}{'contrast':<10}{'linear':>8}{'cubic':>8}{'result':>8}{'gain':>8}",
    ]
    gains = []
    for plan in plan_participants(config):
        for contrast, outcome in score_participant(paths, config, plan):
            gains.append(outcome.gain)
            lines.append(
                f"{'sub-' + plan.participant:<12}{contrast:<10}{outcome.linear:>8.2f}"
                f"{outcome.cubic:>8.2f}{outcome.result:>8.2f}{outcome.gain:>+8.2f}"
            )
    lines += [
        f"Mean gain over cubic B-spline interpolation: {sum(gains) / len(gains):+.2f} dB",
        "",
        _grid_of_all(config),
        "",
        f"Scans:   {paths.bids}",
        f"Truth:   {paths.truth}",
        f"Results: {paths.derivatives}",
        f"Table:   {paths.derivatives / 'group_unires.tsv'}",
        *(f"Report:  {report}" for report in sorted(paths.derivatives.glob("*.html"))),
    ]
    return "\n".join(lines)


def _grid_of_all(config: RunConfig) -> str:
    """A sentence about the grid that all participants share after the group level."""
    path = study_grid_path(config.output_dir, voxel_size=config.model.voxel_size)
    record = StudyGridRecord.read(sidecar_path(path))
    return (
        f"All {len(record.participants or ())} participants on one grid of "
        f"{' x '.join(map(str, record.shape or ()))} voxels, whose sides can be halved "
        f"{record.halvings} times"
    )


def score_participant(
    paths: DemoPaths, config: RunConfig, plan: ParticipantPlan
) -> Iterator[tuple[str, Score]]:
    """Compare each contrast of one participant with the truth.

    Scans are interpolated at the poses that the participant level estimated and wrote. Errors of
    these poses therefore affect results and interpolations in the same way.

    Parameters
    ----------
    paths
        Folders and files of the demonstration.
    config
        Configuration of the participant level.
    plan
        Scans of the participant, one for each contrast.

    Yields
    ------
    tuple of str and Score
        Suffix and scores in dB of each contrast.
    """
    scans = {contrast.scans[0].entities["suffix"]: contrast.scans[0] for contrast in plan.contrasts}
    head_in_scanner = MOTIONS[plan.participant, REFERENCE].scanner_to_head
    to_truth = head_in_scanner @ _result_to_scan(config, plan, scans[REFERENCE])
    head = load_volume(paths.true_head(plan.participant))
    for contrast in plan.contrasts:
        scan = contrast.scans[0]
        result = derivative_path(
            config.output_dir, plan, contrast, desc="sr", voxel_size=config.model.voxel_size
        )
        suffix = scan.entities["suffix"]
        yield (
            suffix,
            score(
                load_volume(result),
                load_volume(scan.path),
                load_volume(paths.true_image(plan.participant, suffix)),
                head,
                to_scan=_result_to_scan(config, plan, scan),
                to_truth=to_truth,
            ),
        )


def _result_to_scan(config: RunConfig, plan: ParticipantPlan, scan: Scan) -> Affine:
    """World mm of the result to world mm of a scan, ``(4, 4)``, from the transform file."""
    path = transform_path(config.output_dir, plan, scan)
    return np.asarray(linear.load(path, fmt="itk").matrix, dtype=np.float64)
