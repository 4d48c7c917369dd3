"""CT: run all cases, print tables of accuracy and of lesions, and write ``ct.json``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bids_unires.config import ModelSettings
from bids_unires.demo.score import resample
from bids_unires.model import Reconstruction, super_resolve
from evaluation.cases import COLIN27
from evaluation.ct_cases import (
    CTCase,
    CTExamination,
    CTHead,
    Image,
    colin27,
    examine,
    icbm152,
    vessels,
)
from evaluation.ct_lesions import BLEEDING, INFARCT, LesionKind, with_balls

SETTINGS = ModelSettings(unified_rigid=False)
INTERPOLATIONS: Mapping[str, int] = {"nearest": 0, "linear": 1, "cubic": 3}
CASES = (
    *(
        CTCase(thickness, noise, colour)
        for thickness in (3.0, 5.0, 7.0)
        for noise in (4.0, 8.0)
        for colour in ("white", "coloured")
    ),
    CTCase(wanted=None),
    CTCase(turned=True),
    CTCase(3.0, 4.0, in_plane=0.4),
    CTCase(3.0, 4.0, in_plane=0.4, turned=True),
)
MIDDLE = (110, 110, 90)
"""Sides in voxels of the part of a head that `--middle` takes: half of the skull, and brain."""

Row = Mapping[str, Any]


def main() -> None:
    """Evaluate interpolation and the defaults on every case."""
    parser = argparse.ArgumentParser(prog="python -m evaluation.ct_report", description=__doc__)
    parser.add_argument("output_dir", type=Path, nargs="?", default=Path("evaluation_out"))
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument(
        "--vessels",
        nargs=2,
        metavar=("NAME", "FILE"),
        help="an angiogram of which vessels alone are left, as a further head",
    )
    parser.add_argument("--middle", action="store_true", help="only a part of each head")
    arguments = parser.parse_args()
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for head in _heads(arguments.vessels):
        part = middle(head) if arguments.middle else head
        for case in (case for case in CASES if arguments.only in f"{head.name}, {case}"):
            rows += evaluate(part, case)
    lesions = [
        row
        for kind in (BLEEDING, INFARCT)
        for noise in (4.0, 8.0)
        for row in evaluate_lesions(middle(icbm152()), kind, CTCase(noise=noise), arguments.only)
    ]
    text = json.dumps({"accuracy": rows, "lesions": lesions}, indent=2)
    (arguments.output_dir / "ct.json").write_text(text + "\n")
    print_gains(rows)
    print_lesions(lesions)


def middle(head: CTHead) -> CTHead:
    """A part of a head with half of the skull and brain, a tenth of its voxels."""
    low = [max(0, (whole - side) // 4) for whole, side in zip(_shape(head), MIDDLE, strict=True)]
    sides = [min(pair) for pair in zip(_shape(head), MIDDLE, strict=True)]
    # From the top, where the skull is closed.
    low[2] = max(0, _shape(head)[2] - 20 - sides[2])
    return head.cropped((low[0], low[1], low[2]), (sides[0], sides[1], sides[2]))


def _shape(head: CTHead) -> tuple[int, ...]:
    return head.truth.data.shape


def _heads(angiogram: tuple[str, str] | None) -> Iterable[CTHead]:
    yield icbm152()
    if COLIN27.is_file():
        yield colin27()
    else:
        print(f"Colin27 is left out, {COLIN27} is not there (apt-get install mricron-data)")
    if angiogram is not None:
        name, path = angiogram
        yield vessels(name, Path(path))


def reconstruct(examination: CTExamination) -> Reconstruction:
    """What the program makes of a scan with its defaults, the pose being known."""
    grid = examination.truth.grid
    size = float(min(grid.voxel_size))
    return super_resolve(
        [[examination.scan]],
        replace(SETTINGS, voxel_size=(size, size, size)),
        "cpu",
        modalities=["CT"],
        poses=[[examination.pose]],
        grid=grid,
    )


def evaluate(head: CTHead, case: CTCase) -> list[Row]:
    """Measure all methods on one case; print the results of each as soon as it ends."""
    print(f"\n{head.name}, {case}")
    examination = examine(head, case)
    rows: list[Row] = []

    def note(method: str, image: Image, **more: object) -> None:
        found = {name: round(value, 3) for name, value in examination.psnr(image).items()}
        rows.append({"case": f"{head.name}, {case}", "method": method, **found, **more})
        print(f"  {method:9s}", found, more or "", flush=True)

    for method, order in INTERPOLATIONS.items():
        note(method, _interpolated(examination, order))
    began = time.perf_counter()
    result = reconstruct(examination)
    residual = result.fit.residuals[0][0]
    note(
        "defaults",
        result.images[0],
        seconds=round(time.perf_counter() - began, 1),
        converged=result.fit.converged,
        residual_sd=round(residual.sd, 3),
    )
    return rows


def evaluate_lesions(head: CTHead, kind: LesionKind, case: CTCase, only: str = "") -> list[Row]:
    """Measure how much contrast lesions keep, by method; print it."""
    name = f"{head.name}, lesions of {kind.density:g} HU, {case}"
    if only not in name:
        return []
    print(f"\n{name}")
    ill = with_balls(head, kind)
    examination = examine(ill.head, case)
    methods: dict[str, Callable[[], Image]] = {
        method: lambda order=order: _interpolated(examination, order)
        for method, order in INTERPOLATIONS.items()
    }
    methods["defaults"] = lambda: np.asarray(reconstruct(examination).images[0])
    rows: list[Row] = []
    for method, make in methods.items():
        kept = ill.kept(make(), examination.truth.data)
        found = {f"{diameter:g} mm": round(share, 3) for diameter, share in kept.items()}
        rows.append({"case": name, "method": method, **found})
        print(f"  {method:9s}", found, flush=True)
    return rows


def _interpolated(examination: CTExamination, order: int) -> Image:
    into_scan = np.linalg.inv(examination.pose)
    return resample(examination.scan, examination.truth.grid, into_scan, order)


def print_gains(rows: Iterable[Row]) -> None:
    """Print a Markdown table: gain in dB of the defaults on cubic and on the best interpolation."""
    print("\n| case | head | bone | soft tissue | deep | sd of residuals | converged |")
    print("| --- |" + " --- |" * 6)
    of = {(row["case"], row["method"]): row for row in rows}
    for case in dict.fromkeys(name for name, _ in of):
        found, cells = of[case, "defaults"], []
        for region in ("head", "bone", "soft", "deep"):
            if region not in found:
                cells.append("-")
                continue
            cubic = found[region] - of[case, "cubic"][region]
            best = found[region] - max(of[case, method][region] for method in INTERPOLATIONS)
            cells.append(f"{cubic:+.2f} ({best:+.2f})")
        cells += [f"{found['residual_sd']:.2f}", "yes" if found["converged"] else "no"]
        print(f"| {case} | " + " | ".join(cells) + " |")


def print_lesions(rows: Iterable[Row]) -> None:
    """Print a Markdown table: mean share of contrast that is kept, by diameter."""
    print("\n| case | method | 3 mm | 5 mm | 7 mm | 10 mm |")
    print("| --- |" + " --- |" * 5)
    for row in rows:
        cells = [f"{row[f'{size} mm']:.2f}" for size in (3, 5, 7, 10)]
        print(f"| {row['case']} | {row['method']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
