"""Draw figures of this site from tables on its pages and from the program itself, at every build.

Numbers stand in one place, the page, so that figures cannot say something else.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from generated_reference import contracts
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from sphinx.application import Sphinx

from bids_unires.model.scanner.profile import profile_weights
from tests.documented import table

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "grid.alpha": 0.3,
    "svg.fonttype": "path",
    # The same figure has the same bytes.
    "svg.hashsalt": "bids_unires",
}


def draw_all(app: Sphinx) -> None:
    """Write all figures into ``figures/generated``; one that would not change is left alone."""
    folder = Path(app.srcdir) / "figures" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, figure in (
            ("slice-profiles.svg", slice_profiles()),
            ("strength.svg", losses_by_strength()),
            ("gain.svg", gains()),
            ("learned-detail.svg", gains_of_detail()),
            ("floor-plan.svg", floor_plan()),
        ):
            figure.savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
            plt.close(figure)


def slice_profiles() -> Figure:
    """Weights of the voxels of an image of 1 mm in a slice of 4 mm, and of 3 mm every 4 mm."""
    figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
    for thickness, label in ((4.0, "4 mm every 4 mm"), (3.0, "3 mm every 4 mm: a gap of 1 mm")):
        weights = profile_weights("rect", thickness)
        at = np.arange(len(weights)) - len(weights) // 2
        axes.plot(at, weights, marker="o", label=label)
    axes.set(xlabel="distance from the middle of the slice, mm", ylabel="weight", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def losses_by_strength() -> Figure:
    """Loss in dB against the best fixed strength of each case, from the table of the page."""
    rows = table("docs/explanation/strength.md", "How good the choice is")
    fixed = ("1", "2", "4", "8", "16")
    losses = np.array(
        [
            [
                max(float(row[name]) for name in fixed) - float(row[name])
                for name in (*fixed, "auto")
            ]
            for row in rows.values()
        ]
    )
    figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
    axes.boxplot(losses, tick_labels=[*fixed, "auto"], whis=(0, 100), medianprops={"color": "C0"})
    axes.set(xlabel="strength of the prior (--reg-scale)", ylabel="loss, dB")
    return figure


def gains() -> Figure:
    """Gain on cubic interpolation in dB, case by case, from the table of the page."""
    rows = table("docs/explanation/evaluation.md", "Simulated scans with known truth")
    names = list(rows)[::-1]
    methods = ("plain model", "without detail", "defaults")
    figure, axes = plt.subplots(figsize=(8, 0.24 * len(names) + 0.8), layout="constrained")
    for method, marker in zip(methods, ("x", "o", "D"), strict=True):
        gain = [float(rows[name][method]) - float(rows[name]["cubic"]) for name in names]
        axes.plot(gain, range(len(names)), marker, label=method)
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="gain on cubic interpolation, dB")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def gains_of_detail() -> Figure:
    """Gain on cubic interpolation in dB without and with learned detail, from the page's table."""
    lines = Path(__file__).parents[1].joinpath("explanation/learned-detail.md").read_text("utf-8")
    rows = [line.strip("|").split("|") for line in lines.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    measured = [row for row in cells if len(row) == 4 and row[2][:1] in "+-" and row[2] != "-"]
    at = np.arange(len(measured))[::-1]
    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    for shift, column, label in ((0.2, 2, "without learned detail"), (-0.2, 3, "with it")):
        axes.barh(at + shift, [float(row[column]) for row in measured], 0.36, label=label)
    axes.set_yticks(at, [f"{row[0]}, {row[1]}" for row in measured])
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set(xlabel="gain on cubic interpolation, dB")
    axes.legend(frameon=False)
    return figure


def floor_plan() -> Figure:
    """The floors of the package, and beside them those of the model."""
    floors = {str(one["id"]): one["layers"] for one in contracts() if "layers" in one}
    figure, halves = plt.subplots(1, 2, figsize=(8, 5.6), layout="constrained")
    for axes, name, title in zip(
        halves, ("layers", "model"), ("bids_unires", "bids_unires.model"), strict=True
    ):
        _draw_floors(axes, floors[name])
        axes.set_title(title)
    return figure


def _draw_floors(axes: plt.Axes, floors: list[str]) -> None:
    """Draw one box for each package, those of one floor beside each other."""
    axes.set(xlim=(0, 1), ylim=(0, len(floors)))
    axes.axis("off")
    for number, floor in enumerate(reversed(floors)):
        modules = floor.split(" | ")
        width = 1 / len(modules)
        for place, module in enumerate(modules):
            box = (place * width + 0.01, number + 0.08)
            axes.add_patch(
                FancyBboxPatch(
                    box,
                    width - 0.02,
                    0.84,
                    boxstyle="round,pad=0,rounding_size=0.02",
                    facecolor="#dbe9f6" if module == "model" else "#f3f3f3",
                    edgecolor="0.5",
                )
            )
            axes.text((place + 0.5) * width, number + 0.5, module, ha="center", va="center")


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw before pages are read."""
    app.connect("builder-inited", draw_all)
    return {"parallel_read_safe": True}
