"""The text and JSON of an inspection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .expense import Expense
from .inspection import InspectedScan, Inspection

_COLUMNS = (
    "contrast",
    "scan",
    "plane",
    "voxels, mm",
    "gap",
    "head",
    "signal/noise",
    "alone",
    "adds",
)
_LEGEND = """\
gap: unknown where no sidecar has SliceThickness; none is assumed then. head: share of the head that
the scan measured, as all scans of the participant show it where their headers place them.
signal/noise: head minus air over the standard deviation of the noise. alone, adds: of what the
scans of the contrast tell together, down to 1 mm, the share that this one would tell alone, and the
share that only this one tells. Nothing is aligned or fitted. Time and memory are right within a
factor of about two. To leave a contrast out, name the others: -m T1w FLAIR. To leave a scan out:
--bids-filter-file, .bidsignore."""


def legend() -> str:
    """What the columns mean."""
    return _LEGEND


def describe(inspection: Inspection, threads: int = 1) -> str:
    """A table of the scans, the most useful of each contrast first, with remarks below each.

    Time and memory of the fit follow, with a number of threads.
    """
    rows = [_cells(each) for each in inspection.scans]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    lines = [inspection.label, _line(_COLUMNS, widths)]
    for each, cells in zip(inspection.scans, rows, strict=True):
        lines.append(_line(cells, widths))
        lines += [f"      {remark}" for remark in each.remarks]
    if inspection.expense is not None:
        lines.append(f"  takes about {_in_words(inspection.expense, threads)}")
    return "\n".join(lines)


def as_json(inspections: Sequence[Inspection], threads: int = 1) -> dict[str, Any]:
    """The same, in the types of JSON; shares are from 0 to 1, lengths in mm, bytes and seconds."""
    return {
        "participants": [
            {
                "label": inspection.label,
                "scans": [_object(each) for each in inspection.scans],
                **_estimates(inspection.expense, threads),
            }
            for inspection in inspections
        ]
    }


def _estimates(expense: Expense | None, threads: int) -> dict[str, Any]:
    seconds = None if expense is None else expense.seconds(threads)
    return {
        "estimated_memory": None if expense is None else expense.memory,
        "estimated_seconds": None if seconds is None else round(seconds, 1),
    }


def _in_words(expense: Expense, threads: int) -> str:
    memory = f"{expense.memory / 1e9:.1f} GB of memory"
    seconds = expense.seconds(threads)
    if seconds is None:
        return memory
    time = f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
    plural = "s" if threads > 1 else ""
    return f"{time} with {threads} thread{plural}, and {memory}"


def _cells(each: InspectedScan) -> tuple[str, ...]:
    name = each.scan.path.name
    found = each.measured
    if found is None:
        return (each.contrast, name, *("-" for _ in _COLUMNS[2:]))
    return (
        each.contrast,
        name,
        found.plane,
        " x ".join(f"{size:.3g}" for size in found.volume.grid.voxel_size),
        f"{100 * found.acquisition.gap:.0f} %" if _states_gap(each) else "unknown",
        f"{100 * each.coverage:.0f} %",
        f"{found.signal_to_noise:.0f}",
        f"{100 * each.told.alone:.0f} %",
        f"{100 * each.told.adds:.0f} %",
    )


def _states_gap(each: InspectedScan) -> bool:
    """Whether the sidecar says how thick the slices are."""
    return "SliceThickness" in each.scan.metadata


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells in columns, the first four flush left, numbers flush right."""
    padded = [
        cell.ljust(width) if number < 4 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  " + "  ".join(padded).rstrip()


def _object(each: InspectedScan) -> dict[str, Any]:
    content: dict[str, Any] = {
        "scan": each.scan.uri.removeprefix("bids:raw:"),
        "contrast": each.contrast,
        "usable": each.measured is not None,
        "remarks": list(each.remarks),
    }
    found = each.measured
    if found is None:
        return content
    look = found.look
    return content | {
        "alone": round(each.told.alone, 4),
        "adds": round(each.told.adds, 4),
        "head_share": round(each.coverage, 4),
        "plane": found.plane,
        "shape": list(found.volume.grid.shape),
        "voxel_size": [round(float(size), 4) for size in found.volume.grid.voxel_size],
        "slice_axis": found.acquisition.slice_axis,
        "gap": round(found.acquisition.gap, 4) if _states_gap(each) else None,
        "gap_source": found.acquisition.gap_source,
        "signal_to_noise": round(found.signal_to_noise, 2),
        "noise_sd": found.noise.noise_sd,
        "head_litres": round(found.head_litres, 3),
        "damaged_slices": None if look is None else list(look.damaged),
        "interleave_log_scale": None if look is None else round(look.interleave, 4),
        "slices_seem_moved": None if look is None else look.seems_moved,
    }
