"""Compare with other programs: ``python -m evaluation.peers`` (``make peers``).

Each program runs on each case, once: what is there is kept, so that the command goes on where it
was stopped. The figures are in ``evaluation/peers/results.json``, the page in
``docs/explanation/peers.md``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from evaluation.peers import results
from evaluation.peers.cases import CASES
from evaluation.peers.comparison import Place, compare, made_environments
from evaluation.peers.eclare import CPU_PATCHES, GPU_PATCHES, eclare
from evaluation.peers.environments import ROOT
from evaluation.peers.interpolations import interpolations
from evaluation.peers.measuring import measures
from evaluation.peers.own import own
from evaluation.peers.peer import Peer
from evaluation.peers.results import RESULTS, Row
from evaluation.peers.table import IMAGE, page

PAGE = ROOT / "docs" / "explanation" / "peers.md"


def main(words: Sequence[str] | None = None) -> int:
    """Run all programs on all cases, and write the page; 1 if a program failed."""
    arguments = _parser().parse_args(words)
    kept = results.load(arguments.results)
    told = []
    if arguments.collect:
        made = [row for file in arguments.out.glob("*/*/row.json") for row in results.load(file)]
        kept = _sorted(results.merged(kept, made))
        results.save(kept, arguments.results)
    elif not arguments.page_only:
        place = Place(arguments.data, arguments.out, arguments.environments, arguments.threads)
        peers = [peer for peer in _peers(arguments) if _named(peer.name, arguments.method)]
        cases = [case for case in CASES if _named(str(case), arguments.case)]
        ready = [*made_environments(peers, place)]
        told = [line for line in ready if isinstance(line, str)]
        peers = [peer for peer in ready if isinstance(peer, Peer)]
        for found in compare(cases, peers, place, measures):
            print(_line(found) if isinstance(found, Row) else found, flush=True)
            if isinstance(found, Row):
                kept = _sorted(results.merged(kept, [found]))
                results.save(kept, arguments.results)
            else:
                told.append(found)
    if kept:
        arguments.page.write_text(page(kept), "utf-8")
    for line in told:
        print(line, file=sys.stderr)
    return 1 if told else 0


def _peers(arguments: argparse.Namespace) -> tuple[Peer, ...]:
    patches = arguments.patches or (GPU_PATCHES if arguments.gpu else CPU_PATCHES)
    return (*own(), *interpolations(), eclare(patches, arguments.gpu))


def _named(name: str, parts: Sequence[str] | None) -> bool:
    """Whether a name has one of these in it; without any, all have."""
    return not parts or any(part in name for part in parts)


def _sorted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Rows in the order of cases, and of methods in each: ours first, ECLARE last."""
    cases = [str(case) for case in CASES]
    methods = [peer.name for peer in (*own(), *interpolations())]
    return tuple(
        sorted(rows, key=lambda row: (_place(row.case, cases), _place(row.method, methods)))
    )


def _place(name: str, names: Sequence[str]) -> int:
    return names.index(name) if name in names else len(names)


def _line(row: Row) -> str:
    figures = "  ".join(f"{column.title} {column.shown(row)}" for column in IMAGE[:3])
    return f"{row.case}, {row.method}: {figures}  {row.run.processor_seconds:.0f} s of processor"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation.peers", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("peers_out"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv" / "peers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--page-only", action="store_true", help="make the page, and run nothing")
    parser.add_argument(
        "--collect", action="store_true", help="take the figures that were made, and run nothing"
    )
    parser.add_argument("--case", nargs="+", help="cases whose name has one of these in it")
    parser.add_argument("--method", nargs="+", help="methods whose name has one of these in it")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--gpu", action="store_true", help="ECLARE on a GPU, at its default")
    parser.add_argument("--patches", type=int, help="patches that ECLARE learns from")
    return parser


if __name__ == "__main__":
    sys.exit(main())
