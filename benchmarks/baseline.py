"""Recorded times, to notice when a part becomes slower.

``python -m benchmarks.baseline`` measures and records them again.

The unit is the time of one interpolation by torch (`grid_sample`) of 181 x 217 x 181 voxels, on
the same machine in the same minute. The shortest of several measurements counts, because other
work on a machine can only make them longer.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks import kernels, solver

BASELINE = Path(__file__).with_name("baseline.json")
SLOWER = 1.3
"""Factor on the recorded time above which a part counts as slower."""


def measure(attempts: int = 3) -> dict[str, float]:
    """Shortest time of every kernel, and of the solver on the reference case.

    The unit is the time of one `grid_sample`.
    """
    device, found = torch.device("cpu"), dict[str, float]()
    for _ in range(attempts):
        rows = {str(row["kernel"]): row.get("grid_samples") for row in kernels.measure(device)}
        solved, _ = solver.reference_problem(device)
        rows["reference case"] = solved[-1]["grid_samples"]
        for name, taken in rows.items():
            if isinstance(taken, float):
                found[name] = round(min(taken, found.get(name, taken)), 3)
    return found


def recorded() -> dict[str, float]:
    """Recorded times by part, in units of one `grid_sample`."""
    table: dict[str, float] = json.loads(BASELINE.read_text("utf-8"))
    return table


def main() -> None:
    """Measure all parts again, and record their times."""
    table = measure()
    print(table)
    BASELINE.write_text(json.dumps(table, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
