"""Run all benchmarks, print tables, and write ``bench.json`` and ``bench.png``."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch

from benchmarks import kernels, participant, solver
from bids_unires.kernels.device import usable_device
from bids_unires.model import Progress

REFERENCE_FINAL = 480_500


def main() -> None:
    """Measure everything on one device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("output_dir", type=Path, nargs="?", default=Path("bench"))
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    arguments = parser.parse_args()
    device = usable_device(arguments.device)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": machine(device)}
    print(found["machine"])
    found["kernels"] = table("Kernels, 181 x 217 x 181 voxels", kernels.measure(device))
    rows, history = solver.reference_problem(device)
    found["solver"] = table("Three contrasts of 112 x 127 x 112 voxels (jtv2mm)", rows)
    found["history"] = [state._asdict() for state in history]
    found["growth"] = table("Growth of one iteration", solver.growth(device))
    found["three contrasts"] = table("Three contrasts, 1 mm", [solver.three_contrasts(device)])
    found["participant"] = table(
        "A whole participant (demonstration)", [participant.measure(str(device))]
    )
    (arguments.output_dir / "bench.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    plot(history, arguments.output_dir / "bench.png")


def machine(device: torch.device) -> str:
    """Name of the processor or GPU, and number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def table(title: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Print each row as soon as it is measured; return all rows."""
    print(f"\n{title}")
    kept = []
    for row in rows:
        cells = [f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()]
        print("  " + ", ".join(cells), flush=True)
        kept.append(dict(row))
    return kept


def plot(history: list[Progress], path: Path) -> None:
    """Plot the objective, above its smallest value, over time in s."""
    mpl.use("Agg")
    from matplotlib import pyplot

    best = min(state.objective for state in history)
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    axes.semilogy(
        [state.seconds for state in history], [state.objective - best + 1 for state in history]
    )
    axes.axhline(REFERENCE_FINAL - best, color="grey", linestyle=":", label="end of the reference")
    axes.set(xlabel="seconds", ylabel=f"objective - {best:,.0f} + 1", title="jtv2mm")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
