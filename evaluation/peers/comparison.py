"""Make one image of each case with each program, and measure it: what is there is kept."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.peers import results
from evaluation.peers.cases import HEADS, Case, Stack, stack_of
from evaluation.peers.measuring import measures, same_grid
from evaluation.peers.peer import Job, Peer
from evaluation.peers.results import Row
from evaluation.peers.running import Run, run
from evaluation.peers.scans import read_scan, write_scan


@dataclass(frozen=True)
class Place:
    """Where things are, and what programs may use.

    Parameters
    ----------
    data
        Folder of the example data.
    out
        Folder for scans, images and figures.
    environments
        Folder of the environments.
    threads
        Threads for each program.
    """

    data: Path
    out: Path
    environments: Path
    threads: int


def compare(cases: Sequence[Case], peers: Sequence[Peer], place: Place) -> Iterator[Row | str]:
    """Yield a row for every program on every case, or a line that says why there is none."""
    for case in cases:
        missing = HEADS[case.head].missing(place.data)
        if missing:
            yield f"{case}: left out, {missing[0]} is not there"
            continue
        stack = functools.cache(functools.partial(_stack, case, place.data))
        for peer in peers:
            try:
                yield row_of(case, peer, place, stack)
            except (RuntimeError, OSError) as error:
                yield f"{case}, {peer.name}: {error}"


def row_of(case: Case, peer: Peer, place: Place, stack: Callable[[], Stack]) -> Row:
    """The row of a program on a case: as it was kept, or made anew.

    Raises
    ------
    RuntimeError
        If the program fails.
    """
    folder = place.out / case.folder / peer.folder
    kept = folder / "row.json"
    for row in results.load(kept):
        if (row.program, row.settings) == (peer.program, peer.settings):
            return row
    image = folder / peer.image
    took = folder / "run.json"
    if not (took.is_file() and image.is_file()):
        scan = place.out / case.folder / "scan.nii.gz"
        if not scan.is_file():
            scan.parent.mkdir(parents=True, exist_ok=True)
            write_scan(stack().scan, scan)
        _make(Job(case, scan, folder, _python(peer, place)), peer, place.threads).save(took)
    made = read_scan(image)
    row = Row(
        str(case),
        peer.name,
        peer.program,
        peer.settings,
        Run.load(took),
        not same_grid(made, stack().head.truth),
        {name: round(value, 4) for name, value in measures(made, stack()).items()},
    )
    results.save([row], kept)
    return row


def _stack(case: Case, data: Path) -> Stack:
    return stack_of(case, HEADS[case.head].load(data))


def _make(job: Job, peer: Peer, threads: int) -> Run:
    """Run the program in an empty folder."""
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(parents=True)
    return run(peer.words(job), job.folder / "log.txt", threads)


def _python(peer: Peer, place: Place) -> Path:
    folder = peer.environment.folder(place.environments) if peer.environment else Path()
    return folder / "bin" / "python"


def made_environments(peers: Iterable[Peer], place: Place) -> Iterator[Peer | str]:
    """Make the environments; yield the programs that have one, and why others have none."""
    for peer in peers:
        try:
            if peer.environment:
                peer.environment.make(place.environments)
        except RuntimeError as error:
            yield f"{peer.name}: {error}"
        else:
            yield peer
