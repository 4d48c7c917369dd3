"""Make one image of each case with each program, and measure it: what is there is kept."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bids_unires.space.volume import Volume
from evaluation.peers import results
from evaluation.peers.cases import Case, Stack, stack_of
from evaluation.peers.peer import Job, Peer
from evaluation.peers.results import Row
from evaluation.peers.running import Run, run
from evaluation.peers.scans import read_scan, same_grid, write_scan


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


Measure = Callable[[Volume, Stack], Mapping[str, float]]


def compare(
    cases: Sequence[Case], peers: Sequence[Peer], place: Place, measure: Measure
) -> Iterator[Row | str]:
    """Yield a row for every program on every case, or a line that says why there is none.

    Parameters
    ----------
    cases, peers
        What is compared.
    place
        Where things are.
    measure
        Gives the measures of an image of a case; see `evaluation.peers.measuring.measures`.
    """
    for case in cases:
        missing = case.head.missing(place.data)
        if missing:
            yield f"{case}: left out, {missing[0]} is not there"
            continue
        work = _Work(case, place, measure)
        for peer in peers:
            try:
                yield work.row(peer)
            except (RuntimeError, OSError) as error:
                yield f"{case}, {peer.name}: {error}"


@dataclass(frozen=True)
class _Work:
    """All that is made of one case."""

    case: Case
    place: Place
    measure: Measure

    @functools.cached_property
    def stack(self) -> Stack:
        return stack_of(self.case, self.case.head.load(self.place.data))

    def row(self, peer: Peer) -> Row:
        """The row of a program: as it was kept, or made anew."""
        folder = self.place.out / self.case.folder / peer.folder
        kept = folder / "row.json"
        for row in results.load(kept):
            if (row.program, row.settings) == (peer.program, peer.settings):
                return row
        took = self._took(peer, folder)
        made = read_scan(folder / peer.image)
        row = Row(
            str(self.case),
            peer.name,
            peer.program,
            peer.settings,
            took,
            not same_grid(made, self.stack.head.truth),
            {name: round(value, 4) for name, value in self.measure(made, self.stack).items()},
        )
        results.save([row], kept)
        return row

    def _took(self, peer: Peer, folder: Path) -> Run:
        """What the program took, which is run unless its image is there."""
        told = folder / "run.json"
        if (
            told.is_file()
            and (folder / peer.image).is_file()
            and not (folder / "row.json").exists()
        ):
            return Run.load(told)
        scan = folder.parent / "scan.nii.gz"
        if not scan.is_file():
            scan.parent.mkdir(parents=True, exist_ok=True)
            write_scan(self.stack.scan, scan)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        python = Path(sys.executable)
        if peer.environment:
            python = peer.environment.folder(self.place.environments) / "bin" / "python"
        words = peer.words(Job(self.case, scan, folder, python))
        took = run(words, folder / "log.txt", self.place.threads)
        took.save(told)
        return took


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
