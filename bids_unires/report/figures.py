"""Charts of a report as SVG, in one style."""

from __future__ import annotations

import contextlib
import io
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import i0e

from ..model.intensity.histogram import grey_level_step, sample_voxels, square_root_histogram
from ..model.intensity.rice_mixture import RiceMixture, fit_rice_mixture
from .content import FitHistory, ReportedScan
from .motion import Motion
from .slice_motion import GroupMotion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""Colours that people with colour-vision deficiency can distinguish (Okabe & Ito)."""

_INK = "#333a45"
_FAINT = "#c9ced6"
_COLUMNS = 3
_WIDTH_INCHES = 11.0
_BINS = 160
# Most values in a histogram: more would give the same picture.
_LARGEST_SAMPLE = 400_000
_RESIDUAL_REACH = 6.0
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_STYLE: Any = {
    # Text stays text, so that it can be searched and uses a font of the reader.
    "svg.fonttype": "none",
    # With a fixed salt the same data give the same file.
    "svg.hashsalt": "bids_unires",
    # Dollar signs in file names must not start a formula.
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.titlecolor": _INK,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.6,
}


def colour_of(index: int) -> str:
    """Colour of a scan throughout the report, as ``#rrggbb``."""
    return PALETTE[index % len(PALETTE)]


def bright(colour: str) -> str:
    """The brightest colour with the same hue, to be visible on dark pictures.

    Examples
    --------
    >>> bright("#0072b2")
    '#00a3ff'
    """
    parts = bytes.fromhex(colour.removeprefix("#"))
    return "#" + bytes(255 * part // max(parts) for part in parts).hex()


def draw_noise(scans: Sequence[ReportedScan]) -> str:
    """Histogram of every scan, with the curves and means from which its noise was estimated.

    Parameters
    ----------
    scans
        Scans with a fit, at least one.

    Returns
    -------
    str
        The chart as SVG.
    """
    with _canvas(len(scans), height=2.7, left=0.2) as (figure, axes):
        for index, (scan, ax) in enumerate(zip(scans, axes, strict=True)):
            _draw_histogram(ax, scan, colour_of(index))
        return _svg(figure)


def draw_convergence(history: FitHistory) -> str:
    """Objective over time, and its relative decrease compared with the tolerance, as SVG."""
    seconds = [state.seconds for state in history.states]
    values = np.array([state.objective for state in history.states])
    with _canvas(2, height=2.7) as (figure, axes):
        axes[0].plot(seconds, values, color=PALETTE[0], marker="o", markersize=2.5)
        axes[0].set(xlabel="time (s)", ylabel="objective", title="Objective")
        decrease = np.maximum(-np.diff(values) / np.abs(values[1:]), 1e-12)
        axes[1].semilogy(
            np.arange(1, values.size), decrease, color=PALETTE[0], marker="o", markersize=2.5
        )
        axes[1].axhline(history.tolerance, color=PALETTE[1], linestyle="--", label="tolerance")
        axes[1].set(xlabel="iteration", ylabel="share of the objective", title="Relative decrease")
        axes[1].legend()
        _plain_decades(axes[1])
        return _svg(figure)


def draw_residuals(scans: Sequence[ReportedScan]) -> str:
    """Distribution of the standardised residuals of each scan, compared with noise alone, as SVG.

    Parameters
    ----------
    scans
        Scans with a fit, at least one.
    """
    edges = np.linspace(-_RESIDUAL_REACH, _RESIDUAL_REACH, _BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    with _canvas(1, height=3.2) as (figure, (ax,)):
        normal = np.exp(-(middles**2) / 2) / np.sqrt(2 * np.pi)
        ax.fill_between(middles, normal, color="#e6e9ee", label="noise alone")
        for index, scan in enumerate(scans):
            if scan.fit is None:
                continue
            values = scan.fit.residual_map.data
            values = values[np.isfinite(values)]
            density = np.histogram(values, edges)[0] / max(values.size, 1) / np.diff(edges)
            ax.plot(middles, density, color=colour_of(index), label=scan.name)
        ax.set(yscale="log", ylim=(1e-5, 2), xlabel="residual / noise sd", ylabel="density")
        ax.legend(loc="upper right")
        _plain_decades(ax)
        return _svg(figure)


def draw_motions(motions: Sequence[Motion]) -> str:
    """Shift in mm and rotation in degrees of every scan, in the order of the scans, as SVG."""
    with _canvas(2, height=0.9 + 0.42 * len(motions)) as (figure, axes):
        for ax, what, unit in zip(axes, ("shift", "rotation"), ("mm", "degrees"), strict=True):
            ax.axvline(0, color=_FAINT, linewidth=1)
            for row, motion in enumerate(motions):
                values = motion.shift if what == "shift" else motion.rotation
                for marker, axis, value in zip("os^", "xyz", values, strict=True):
                    ax.plot(
                        value,
                        row,
                        marker,
                        color=colour_of(row),
                        alpha=0.85,
                        label=axis if row == 0 else None,
                    )
            ax.set(ylim=(len(motions) - 0.4, -0.6), xlabel=f"{what} ({unit})")
            ax.set_yticks(range(len(motions)), [str(row + 1) for row in range(len(motions))])
            ax.set_ylabel("scan")
        legend = axes[0].legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        for handle in legend.get_lines():
            handle.set_color(_INK)
        return _svg(figure)


def draw_slice_motions(groups: Sequence[GroupMotion]) -> str:
    """Shift in mm of every slice, one chart for each scan whose slices moved, as SVG.

    Parameters
    ----------
    groups
        Groups of slices of all these scans, at least one.
    """
    scans = sorted({group.scan for group in groups})
    with _canvas(len(scans), height=2.7) as (figure, axes):
        for ax, scan in zip(axes, scans, strict=True):
            ax.axhline(0, color=_FAINT, linewidth=1)
            own = [group for group in groups if group.scan == scan]
            slices = [index for group in own for index in group.slices]
            for k, (marker, axis) in enumerate(zip("os^", "xyz", strict=True)):
                shifts = [group.motion.shift[k] for group in own for _ in group.slices]
                colour = PALETTE[k]
                ax.plot(slices, shifts, marker, markersize=4, color=colour, label=axis)
            ax.set(xlabel="slice", ylabel="shift (mm)", title=f"Scan {scan + 1}")
        axes[0].legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        return _svg(figure)


def _draw_histogram(ax: Axes, scan: ReportedScan, colour: str) -> None:
    from matplotlib.ticker import NullLocator

    if scan.fit is None:
        return
    noise = scan.fit.noise
    values = sample_voxels(scan.volume.data)
    values = values[:: 1 + values.size // _LARGEST_SAMPLE]
    if noise.method != "gaussian-mixture":
        values = values[values > 0]
    low, high = np.percentile(values, [0.1, 99.8]).tolist()
    # Each bin holds the same number of grey levels; otherwise the histogram would have gaps.
    step = grey_level_step(values)
    width = step * max(1, math.ceil((high - low) / _BINS / step))
    counts, edges = np.histogram(values, np.arange(low - step / 2, high + width, width))
    density = counts / (values.size * width)
    ax.stairs(density, edges, fill=True, color=colour, alpha=0.35)
    if noise.method == "rice-mixture":
        mixture = fit_rice_mixture(square_root_histogram(values))
        at = np.linspace(max(low, 1e-3 * high), high, 400)
        parts = _rice_densities(mixture, at)
        for part, style in zip(parts, (":", "--"), strict=True):
            ax.plot(at, part, style, color=_INK, linewidth=1)
        ax.plot(at, parts.sum(axis=0), color=_INK, linewidth=1.3)
    for mean, name in ((noise.background_mean, "air"), (noise.foreground_mean, "head")):
        ax.axvline(mean, color=PALETTE[1], linewidth=1, linestyle="-.")
        ax.text(
            mean,
            0.98,
            f" {name}",
            transform=ax.get_xaxis_transform(),
            va="top",
            color=PALETTE[1],
            fontsize=9,
        )
    # Logarithmic, since the peak of air is much higher than the tail of tissue.
    ax.set(yscale="log", ylim=(density[density > 0].min() / 2, density.max() * 3))
    ax.set(xlabel="intensity", title=scan.name)
    ax.yaxis.set_major_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())


def _plain_decades(ax: Axes) -> None:
    """Label the vertical axis with powers of ten in plain text: typesetting formulas is slow."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ax.yaxis.set_major_locator(LogLocator(numticks=6))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "10" + str(round(math.log10(value))).translate(_RAISED))
    )


def _rice_densities(mixture: RiceMixture, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted Rice densities of both classes at intensities ``(N,)``: ``(2, N)``."""
    location, scale, weight = (
        tensor.numpy()[:, None] for tensor in (mixture.location, mixture.scale, mixture.weight)
    )
    variance = scale**2
    bessel = i0e(at * location / variance)
    return np.asarray(
        weight * at / variance * np.exp(-((at - location) ** 2) / (2 * variance)) * bessel
    )


@contextmanager
def _canvas(
    count: int, *, height: float, left: float = 0.65
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with ``count`` charts in rows of at most three; each row is ``height`` inches tall.

    A margin of ``left`` inches holds the labels of the vertical axis.
    """
    with _private_cache():
        import matplotlib as mpl
        from matplotlib.figure import Figure

    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    tall = rows * height
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, tall))
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        # Fixed margins, since computing them from the labels takes time.
        figure.subplots_adjust(
            left=left / _WIDTH_INCHES,
            right=1 - 0.15 / _WIDTH_INCHES,
            bottom=0.5 / tall,
            top=1 - 0.35 / tall,
            wspace=0.2,
            hspace=1.0 / height,
        )
        for unused in axes[count:]:
            unused.set_visible(False)
        yield figure, axes[:count]


@contextmanager
def _private_cache() -> Iterator[None]:
    """Let matplotlib write its list of fonts to a temporary folder while it loads.

    It needs a writable home folder and warns if there is none.
    """
    with contextlib.ExitStack() as stack:
        if "MPLCONFIGDIR" not in os.environ and not os.access(os.path.expanduser("~"), os.W_OK):
            os.environ["MPLCONFIGDIR"] = stack.enter_context(tempfile.TemporaryDirectory())
            stack.callback(os.environ.pop, "MPLCONFIGDIR", None)
        yield


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
    return file.getvalue()
