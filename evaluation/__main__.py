"""Run all cases, print tables, and write ``evaluation.json`` and ``evaluation.png``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from evaluation.cases import CASES, COLIN27, Case, Examination, examine
from evaluation.measures import measure
from evaluation.methods import FIXED_STRENGTHS, METHODS, STRENGTHS, Method, measured

Row = Mapping[str, Any]

# Side in voxels of the box in the middle of the head that `--middle` reconstructs.
MIDDLE_SIDE = 96


def main() -> None:
    """Evaluate every method on every case."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    parser.add_argument("output_dir", type=Path, nargs="?", default=Path("evaluation_out"))
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument(
        "--strengths",
        action="store_true",
        help="compare fixed strengths of the prior with the chosen one",
    )
    parser.add_argument(
        "--middle",
        action="store_true",
        help="only a box in the middle of the head, which takes a tenth of the time",
    )
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    methods = STRENGTHS if arguments.strengths else METHODS
    name = "strengths" if arguments.strengths else "evaluation"
    rows: list[Row] = []
    for case in (case for case in CASES if arguments.only in str(case)):
        if case.head == "Colin27" and not COLIN27.is_file():
            print(f"{case}: left out, {COLIN27} is not there (apt-get install mricron-data)")
            continue
        examination = examine(case)
        rows += evaluate(
            case, examination.middle(MIDDLE_SIDE) if arguments.middle else examination, methods
        )
    (arguments.output_dir / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n")
    print_strengths(rows) if arguments.strengths else print_gains(rows)
    plot(rows, arguments.output_dir / f"{name}.png", methods)


def evaluate(
    case: Case, examination: Examination, methods: Mapping[str, Method] = METHODS
) -> list[Row]:
    """Measure all methods on one case; print the results of each as soon as it ends."""
    print(f"\n{case}")
    inside = measured(examination)
    rows = []
    for name, method in methods.items():
        made = method(examination)
        found = [
            measure(image, truth.data, inside)
            for image, truth in zip(made.images, examination.truths, strict=True)
        ]
        for contrast, values in enumerate(found):
            rows.append(
                {
                    "case": str(case),
                    "kind": case.kind,
                    "method": name,
                    "contrast": contrast,
                    "seconds": round(made.seconds, 2),
                    **{key: round(value, 4) for key, value in values.items()},
                }
            )
        cells = " | ".join(
            " ".join(f"{key} {value:.3f}" for key, value in values.items()) for values in found
        )
        print(f"  {name:12s} {made.seconds:5.1f} s  {cells}", flush=True)
    return rows


def means(
    rows: Sequence[Row], case: str, key: str, methods: Iterable[str] = METHODS
) -> dict[str, float]:
    """Mean of a measure over all contrasts, for each method."""
    found = {}
    for method in methods:
        values = [row[key] for row in rows if row["case"] == case and row["method"] == method]
        found[method] = sum(values) / len(values)
    return found


def print_gains(rows: Sequence[Row]) -> None:
    """Print a Markdown table: PSNR in dB of every method on every case, averaged over contrasts."""
    print("\n| case | " + " | ".join(METHODS) + " | gain on cubic |")
    print("| --- |" + " --- |" * (len(METHODS) + 1))
    for case in dict.fromkeys(row["case"] for row in rows):
        of = means(rows, case, "PSNR")
        cells = " | ".join(f"{value:.2f}" for value in of.values())
        print(f"| {case} | {cells} | {of['defaults'] - of['cubic']:+.2f} |")


def print_strengths(rows: Sequence[Row]) -> None:
    """Print PSNR in dB at fixed strengths, and the loss of the chosen strength against the best."""
    print("\n| case | " + " | ".join(STRENGTHS) + " | auto over best | auto over 4 |")
    print("| --- |" + " --- |" * (len(STRENGTHS) + 2))
    losses, gains = [], []
    for case in dict.fromkeys(row["case"] for row in rows):
        of = means(rows, case, "PSNR", STRENGTHS)
        losses.append(of["auto"] - max(of[f"{scale:g}"] for scale in FIXED_STRENGTHS))
        gains.append(of["auto"] - of["4"])
        cells = " | ".join(f"{value:.2f}" for value in of.values())
        print(f"| {case} | {cells} | {losses[-1]:+.2f} | {gains[-1]:+.2f} |")
    print(f"\nworst {min(losses):+.2f} dB, mean over the fixed 4 {np.mean(gains):+.2f} dB")


def plot(rows: Sequence[Row], path: Path, methods: Iterable[str] = METHODS) -> None:
    """Plot the measures of every method on every case."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    keys = ("PSNR", "SSIM", "GMS", "Dice")
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, axes = plt.subplots(
        1, len(keys), figsize=(13, 1.5 + 0.25 * len(cases)), sharey=True, layout="constrained"
    )
    for axis, key in zip(axes, keys, strict=True):
        for method in methods:
            values = [means(rows, case, key, [method])[method] for case in cases]
            axis.plot(values, range(len(cases)), "o", label=method, alpha=0.8)
        axis.set_title("PSNR in dB" if key == "PSNR" else key)
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(cases)), cases)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=8)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
