"""Tables of the documentation, made from the figures alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from evaluation.lesions import SIZES
from evaluation.peers.cases import HEADS
from evaluation.peers.own import OURS
from evaluation.peers.results import Row

PAGE = Path(__file__).with_name("page.md")
"""The page with its text; tables take the place of words that begin with a dollar."""


@dataclass(frozen=True)
class Column:
    """One figure of a row.

    Parameters
    ----------
    title
        Head of the column.
    value
        The figure of a row, in the units that are shown; None where the row has none.
    places
        Decimal places that are shown.
    distance
        How far a figure is from perfect: the smaller, the better.
    """

    title: str
    value: Callable[[Row], float | None]
    places: int
    distance: Callable[[float], float]

    def shown(self, row: Row) -> str:
        """The figure as tables show it."""
        value = self.value(row)
        return "-" if value is None else f"{value:.{self.places}f}"

    def badness(self, row: Row) -> float | None:
        """Distance from perfect of the figure as it is shown."""
        value = self.value(row)
        return None if value is None else round(self.distance(value), self.places)


def _measure(name: str, factor: float = 1.0) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        found = row.values.get(name)
        return None if found is None else factor * found

    return value


def _more_is_better(value: float) -> float:
    return -value


def _less_is_better(value: float) -> float:
    return value


def _one_is_best(value: float) -> float:
    return abs(value - 1)


IMAGE = (
    Column("PSNR in dB", _measure("PSNR"), 2, _more_is_better),
    Column("SSIM", _measure("SSIM"), 3, _more_is_better),
    Column("similarity of gradients", _measure("GMS"), 3, _more_is_better),
    Column("gradient energy", _measure("edges"), 2, _one_is_best),
    Column("Dice at borders", _measure("Dice"), 3, _more_is_better),
    Column("error of tissue volumes in %", _measure("tissues"), 1, _less_is_better),
)
LESIONS = (
    *(Column(f"kept, {size}", _measure(f"kept of {size}"), 2, _one_is_best) for size in SIZES),
    *(
        Column(f"erased in %, {size}", _measure(f"erased of {size}", 100), 0, _less_is_better)
        for size in SIZES
    ),
    Column("false spots", _measure("false"), 0, _less_is_better),
)
COST = (
    Column("wall time in s", lambda row: row.run.seconds, 0, _less_is_better),
    Column("processor time in s", lambda row: row.run.processor_seconds, 0, _less_is_better),
    Column("memory in MiB", lambda row: row.run.peak_mib, 0, _less_is_better),
)


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Markdown table of figures; the best of each case are bold.

    Parameters
    ----------
    rows
        Rows of one or more cases.
    columns
        Figures to show.
    """
    lines = [
        "| case | method | " + " | ".join(column.title for column in columns) + " |",
        "| --- | --- |" + " ---: |" * len(columns),
    ]
    for row in rows:
        beside = [other for other in rows if other.case == row.case]
        cells = (_cell(row, beside, column) for column in columns)
        lines.append(f"| {row.case} | {row.method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(row: Row, beside: Sequence[Row], column: Column) -> str:
    badness = column.badness(row)
    if badness is None:
        return column.shown(row)
    all_of_case = [found for other in beside if (found := column.badness(other)) is not None]
    best = badness <= min(all_of_case)
    return f"**{column.shown(row)}**" if best and len(beside) > 1 else column.shown(row)


def standing(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Markdown table of where ours is better than every other program, and where it is not.

    Figures are compared as they are shown. Each is compared with that of the program that is best
    in it, which may be another one for each case and each figure.
    """
    lines = [
        "| figure | best or equal | ahead by | where another program is better: ours, theirs |"
    ]
    lines.append("| --- | --- | --- | --- |")
    for column in columns:
        found = [_rival(rows, case, column) for case in _cases(rows)]
        compared = [pair for pair in found if pair is not None]
        if not compared:
            continue
        leads = [_lead(pair, column) for pair in compared]
        text = "; ".join(
            f"{ours.case}: {column.shown(ours)}, {column.shown(theirs)} ({theirs.method})"
            for (ours, theirs), lead in zip(compared, leads, strict=True)
            if lead < 0
        )
        best = f"{sum(lead >= 0 for lead in leads)} of {len(leads)}"
        least, most = (f"{lead:+.{column.places}f}" for lead in (min(leads), max(leads)))
        lines.append(f"| {column.title} | {best} | {least} to {most} | {text or '-'} |")
    return "\n".join(lines)


def _cases(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.case for row in rows))


def _rival(rows: Sequence[Row], case: str, column: Column) -> tuple[Row, Row] | None:
    """Our row of a case, and that of the program that is best in a figure."""
    of_case = [row for row in rows if row.case == case and column.badness(row) is not None]
    ours = [row for row in of_case if row.method == OURS]
    theirs = [row for row in of_case if row.method != OURS]
    if not ours or not theirs:
        return None
    return ours[0], min(theirs, key=lambda row: column.badness(row) or 0.0)


def _lead(pair: tuple[Row, Row], column: Column) -> float:
    """How much nearer to perfect our figure is than theirs, in the units that are shown."""
    ours, theirs = (column.badness(row) or 0.0 for row in pair)
    return round(theirs - ours, column.places)


def programs(rows: Sequence[Row]) -> str:
    """Markdown table of programs, versions and settings."""
    lines = ["| method | program | settings | threads, cores | measured |", "|" + " --- |" * 5]
    told: dict[str, list[Row]] = {}
    for row in rows:
        told.setdefault(row.method, []).append(row)
    for method, of_method in told.items():
        for program, settings in dict.fromkeys((row.program, row.settings) for row in of_method):
            same = [
                row.run for row in of_method if (row.program, row.settings) == (program, settings)
            ]
            threads = ", ".join(dict.fromkeys(f"{run.threads} of {run.cores}" for run in same))
            dates = sorted({run.date for run in same})
            days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
            lines.append(f"| {method} | {program} | {settings} | {threads} | {days} |")
    return "\n".join(lines)


def heads(rows: Sequence[Row]) -> str:
    """Markdown list of the heads of the cases."""
    there = [head for head in HEADS if any(head.name in row.case for row in rows)]
    return "\n".join(f"- {head.name}: {head.note};" for head in there).removesuffix(";") + "."


def eclare(rows: Sequence[Row]) -> str:
    """What readers have to know of ECLARE's rows."""
    if not any(row.method.startswith("ECLARE") for row in rows):
        return "ECLARE (Remedios et al. 2024) is not in the figures yet; `make peers` adds it."
    return (
        "ECLARE (Remedios et al. 2024) is told the true slice profile and thickness. It learns its "
        "network anew for each scan, from as many patches as it is told; by default from a\n"
        "million, which takes many hours on a CPU. With fewer, its schedule of learning is as much "
        "shorter, and its images are not the best that it can make:\nrows with fewer patches say "
        "what it makes in the time that they show. `make peers PEERS_ARGS=--gpu` measures its "
        "default on a GPU."
    )


def page(rows: Sequence[Row]) -> str:
    """The page of the documentation."""
    resampled = sorted({row.method for row in rows if row.resampled})
    text = Template(PAGE.read_text("utf-8")).substitute(
        heads=heads(rows),
        eclare=eclare(rows),
        programs=programs(rows),
        image=table(rows, IMAGE),
        lesions=table(rows, LESIONS),
        cost=table(rows, COST),
        standing=standing(rows, (*IMAGE, *LESIONS)),
        resampled=(
            "No image was interpolated to be compared."
            if not resampled
            else f"Images of {', '.join(resampled)} were on another grid, and interpolated."
        ),
    )
    return "<!-- Made by `make peers` from evaluation/peers/results.json. -->\n" + text
