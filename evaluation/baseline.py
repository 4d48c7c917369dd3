"""Figures that may not get worse unnoticed: ``python -m evaluation.baseline`` renews them.

A few cases stand for all of `evaluation.cases`, with a box in the middle of the head in place of
all of it. The slow tests compare them with ``baseline.json``, whose changes are read like code.
"""

from __future__ import annotations

import json
from pathlib import Path

from bids_unires.demo.score import psnr
from evaluation.cases import Case, examine
from evaluation.methods import METHODS, measured

BASELINE = Path(__file__).with_name("baseline.json")
SIDE = 96
"""Voxels along the sides of the box."""

SCATTER = 0.1
"""PSNR in dB by which another processor or library may differ."""

CASES = (Case("one stack"), Case("three stacks", noise=0.03))
_METHODS = ("cubic", "without detail", "defaults")


def psnr_of(case: Case) -> dict[str, float]:
    """PSNR in dB of each method on a case, contrasts averaged."""
    examination = examine(case).middle(SIDE)
    inside = measured(examination)
    found = {}
    for name in _METHODS:
        images = METHODS[name](examination).images
        values = [
            psnr(image, truth.data, inside)
            for image, truth in zip(images, examination.truths, strict=True)
        ]
        found[name] = round(sum(values) / len(values), 3)
    return found


def recorded() -> dict[str, dict[str, float]]:
    """PSNR in dB by case and method, as last renewed."""
    table: dict[str, dict[str, float]] = json.loads(BASELINE.read_text("utf-8"))
    return table


def main() -> None:
    """Measure all cases anew, and write them down."""
    table = {}
    for case in CASES:
        table[str(case)] = psnr_of(case)
        print(case, table[str(case)], flush=True)
    BASELINE.write_text(json.dumps(table, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
