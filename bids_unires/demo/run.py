"""The demonstration from top to bottom: simulate, reconstruct, compare."""

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
"""The contrast whose scan shows the head where the truth has it, but for its motion."""

# Bytes that one of the participants takes, and some more.
_MEMORY_EACH = 3 * 2**30


def run_demo(output_dir: Path) -> int:
    """Make a small BIDS dataset, run both levels on it, and say how they did.

    Parameters
    ----------
    output_dir
        A new or empty folder, or that of an earlier demonstration, whose files are
        then replaced.

    Returns
    -------
    int
        That of the first level that failed, or 0.

    Raises
    ------
    OutputError
        If the folder holds anything else.
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
    """A participant to a core takes less time than all cores for one after the other."""
    room = usable_memory() // _MEMORY_EACH
    at_once = max(1, min(len(PARTICIPANTS), usable_cores(), room))
    return RunConfig(paths.bids, paths.derivatives, "participant", nprocs=at_once)


def _report(paths: DemoPaths, config: RunConfig) -> str:
    """Scores of every image as a table, and where everything is."""
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
    """The grid that the group level brought everybody to, in words."""
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

    Scans are interpolated at the poses that the participant level estimated and wrote,
    so that results and interpolations share whatever error those have.

    Parameters
    ----------
    paths
        Of the demonstration.
    config
        What the participant level was run with.
    plan
        The participant's scans, one of each contrast.

    Yields
    ------
    tuple of str and Score
        Suffix and scores of each contrast.
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
    """``(4, 4)``: world of the result to world of a scan, mm, as the run wrote it."""
    path = transform_path(config.output_dir, plan, scan)
    return np.asarray(linear.load(path, fmt="itk").matrix, dtype=np.float64)
