"""Lesions in thick slices: ``python -m evaluation.lesion_report`` writes table and figure.

For every head, plane and thickness it measures each method: the share of their contrast that
lesions keep, the share of lesions that are erased, false spots and PSNR. Every stack is cut twice,
half a slice apart, and lesions of both are pooled: where a lesion lies in its slices matters as
much as how an image is made.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from bids_unires.demo.scanner import Plane
from bids_unires.demo.score import psnr
from evaluation.injection import InjectionParameters
from evaluation.lesion_cases import (
    HeadWithLesions,
    head_with_injected,
    head_with_its_own,
    scanned,
)
from evaluation.lesions import SIZES, Lesions, survival
from evaluation.methods import METHODS, measured

Row = dict[str, Any]

SHIFTS = (0.0, 0.5)
"""Shifts of the slices, in slices."""

_METHODS = ("nearest", "linear", "cubic", "plain model", "defaults")
_PLANES: tuple[Plane, ...] = ("transverse", "coronal", "sagittal")
_INJECTED = InjectionParameters()


@dataclass(frozen=True, eq=False)
class Cut:
    """A head in slices of one plane and thickness, with so much noise."""

    head: HeadWithLesions
    plane: Plane
    thickness: float
    noise: float

    def __str__(self) -> str:
        """The cut in one line."""
        noise = f"noise {100 * self.noise:g} %"
        return f"{self.head.name}, {self.plane}, {self.thickness:g} mm, {noise}"


def main(words: Sequence[str] | None = None) -> None:
    """Measure all methods on all cuts."""
    arguments = _parser().parse_args(words)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for head in _heads(arguments):
        for plane in arguments.planes:
            for thickness in arguments.thickness:
                for noise in arguments.noise:
                    rows += rows_of(Cut(head, plane, thickness, noise), arguments.methods)
    (arguments.output_dir / "lesions.json").write_text(json.dumps(rows, indent=2) + "\n")
    print("\n" + table(rows))
    plot(rows, arguments.output_dir / "lesions.png")


def rows_of(cut: Cut, methods: Sequence[str]) -> list[Row]:
    """Measure methods on a cut; print the results of each as soon as it ends."""
    lesions = Lesions(cut.head.truth.data, cut.head.mask, cut.head.inside)
    examinations = [
        scanned(cut.head, cut.plane, cut.thickness, cut.noise, shift) for shift in SHIFTS
    ]
    rows = []
    for method in methods:
        kept, false, ratios = [], [], []
        for examination in examinations:
            image = METHODS[method](examination).images[0]
            kept.append(lesions.kept(image))
            false.append(lesions.false_spots(image))
            ratios.append(psnr(image, cut.head.truth.data, measured(examination)))
        found = survival(np.tile(lesions.volumes, len(SHIFTS)), np.concatenate(kept))
        row: Row = {"case": str(cut), "method": method}
        for size, of_size in found.items():
            row |= {f"lesions of {size}": of_size.count // len(SHIFTS)}
            row |= {f"kept of {size}": of_size.kept, f"erased of {size}": of_size.erased}
        row |= {"false": float(np.mean(false)), "PSNR": float(np.mean(ratios))}
        rows.append(row)
        print(_line(row), flush=True)
    return rows


def table(rows: Sequence[Row]) -> str:
    """Markdown table of all rows: share of contrast kept, and lesions erased in percent."""
    sizes = " | ".join(SIZES)
    lines = [f"| case | method | {sizes} | false spots | PSNR |"]
    lines.append("|" + " --- |" * (len(SIZES) + 4))
    return "\n".join([*lines, *map(_line, rows)])


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot the share of contrast kept and of lesions erased, by size, for every method."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cases = list(dict.fromkeys(row["case"] for row in rows))
    sizes = list(SIZES)[:2]
    measures = [(f"{key} of {size}", f"{text}\n{size}") for size in sizes for key, text in _TITLES]
    figure, axes = plt.subplots(
        1, len(measures), figsize=(13, 1.5 + 0.3 * len(cases)), sharey=True, layout="constrained"
    )
    for axis, (key, title) in zip(axes, measures, strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            values = [row[key] for row in rows if row["method"] == method]
            axis.plot(values, range(len(values)), "o", label=method, alpha=0.8)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(cases)), cases)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=8)
    figure.savefig(path, dpi=100)


_TITLES = (("kept", "contrast kept (median)"), ("erased", "lesions erased"))


def _line(row: Row) -> str:
    cells = [
        f"{row[f'kept of {size}']:.2f}; {100 * row[f'erased of {size}']:.0f} %"
        if row[f"lesions of {size}"]
        else "-"
        for size in SIZES
    ]
    shown = [row["case"], row["method"], *cells, f"{row['false']:g}", f"{row['PSNR']:.2f}"]
    return "| " + " | ".join(shown) + " |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.lesion_report", description="Lesions in thick slices."
    )
    parser.add_argument("output_dir", type=Path, nargs="?", default=Path("evaluation_out"))
    parser.add_argument(
        "--real",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "IMAGE", "MASK"),
        help="a head at 1 mm and the mask of its lesions",
    )
    for look in ("bright", "dark"):
        parser.add_argument(
            f"--inject-{look}",
            nargs=2,
            action="append",
            default=[],
            metavar=("NAME", "IMAGE"),
            help=f"a head at 1 mm that {look} lesions are put into",
        )
    parser.add_argument("--planes", nargs="+", choices=_PLANES, default=_PLANES)
    parser.add_argument("--thickness", nargs="+", type=float, default=[3.0, 5.0])
    parser.add_argument("--noise", nargs="+", type=float, default=[0.012])
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=_METHODS)
    return parser


def _heads(arguments: argparse.Namespace) -> Iterator[HeadWithLesions]:
    for name, image, mask in arguments.real:
        yield head_with_its_own(name, Path(image), Path(mask))
    for name, image in arguments.inject_bright:
        yield head_with_injected(name, Path(image), _INJECTED)
    for name, image in arguments.inject_dark:
        yield head_with_injected(name, Path(image), replace(_INJECTED, brighter=False))


if __name__ == "__main__":
    main()
