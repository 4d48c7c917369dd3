"""The report of one participant: its figures, and the page that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..dataset.naming import resolution_text
from ..dataset.writing import write_text
from ..space.volume import Volume
from . import figures, mosaic, planes
from .citation import cited, methods_text
from .content import ParticipantReport, ReportedContrast
from .detectability import odds_table, rounded
from .figure_folder import FigureFolder
from .flicker import Flicker, Layer
from .motion import motion_of
from .page import DataUrl, render_page
from .slice_motion import group_motions
from .visits import visits_page_path

RESIDUAL_LIMIT = 4.0
"""Standardised residual that is shown in full colour, without unit."""

_STAY = np.eye(4)
_SHEET_QUALITY = 75
_RESIDUAL_QUALITY = 75
# Share of inferred detail that is shown in full colour.
_MOST_INFERRED = 0.6
# Threshold between air and head, as a fraction of the window.
_DARKEST_OF_HEAD = 0.1


def write_participant_report(content: ParticipantReport, output_dir: Path) -> tuple[Path, ...]:
    """Write the figures of a participant, then the page, under ``output_dir``.

    Parameters
    ----------
    content
        Content of the report.
    output_dir
        Root of the derivative dataset.

    Returns
    -------
    tuple of Path
        The files written; the page is the last.

    Raises
    ------
    UniResError
        If a file cannot be written.
    """
    folder = FigureFolder(output_dir, content.label)
    text = methods_text(content.model, content.space, content.reference)
    page = render_page(
        "participant.html.jinja",
        {
            "report": content,
            "visits": visits_page_path(output_dir, content.label.split("_")[0]).name,
            "version": __version__,
            "resolution": resolution_text(content.grid.voxel_size.tolist()),
            "settings": {**asdict(content.model), **asdict(content.space)},
            "lesions": [
                (contrast.name, odds_table(contrast.detectability))
                for contrast in content.contrasts
                if contrast.detectability is not None
            ],
            "percent": rounded,
            **_shown_pictures(content, output_dir, folder),
            **_shown_charts(content, folder),
            "methods": text,
            "references": cited(text),
        },
    )
    return (*folder.written, write_text(page_path(output_dir, content.label), page))


def _shown_pictures(
    content: ParticipantReport, output_dir: Path, folder: FigureFolder
) -> dict[str, Any]:
    """What the page shows of the images: rows of tables and pictures, by name in the template."""
    box = planes.head_box([contrast.image for contrast in content.contrasts], content.grid)
    view, brick = planes.view_of(box), planes.brick_of(box)
    stacks = [_Stack(contrast, content, view, folder) for contrast in content.contrasts]
    is_fitted = any(scan.fit is not None for scan in content.scans)
    return {
        "contrasts": _contrast_rows(content, stacks, output_dir),
        "flickers": [stack.images() for stack in stacks],
        "windows": [stack.windows() for stack in stacks],
        "uncertainties": [stack.uncertainty() for stack in stacks],
        "measured": [stack.measured() for stack in stacks],
        "most_inferred": _MOST_INFERRED,
        "brick": brick,
        "sheets": [stack.sheet(brick) for stack in stacks],
        "registration": stacks[0].outlines(content),
        "residual_maps": [stack.residuals() for stack in stacks if is_fitted],
        "residual_limit": RESIDUAL_LIMIT,
        "brain_window": mosaic.BRAIN_WINDOW_HU,
    }


def _shown_charts(content: ParticipantReport, folder: FigureFolder) -> dict[str, Any]:
    """Charts of scans and fit, and the motions that they show, by name in the template."""
    fitted = [scan for scan in content.scans if scan.fit is not None]
    motions = [motion_of(scan.pose, content.grid) for scan in content.scans]
    groups = group_motions(content.scans, content.grid)
    charts = {
        "noise": fitted and figures.draw_noise(fitted),
        "residuals": fitted and figures.draw_residuals(fitted),
        "convergence": content.history and figures.draw_convergence(content.history),
        "poses": len(motions) > 1 and figures.draw_motions(motions),
        "slices": groups and figures.draw_slice_motions(groups),
    }
    return {
        "charts": {
            name: folder.save(name, ".svg", svg.encode("utf-8")) if svg else ""
            for name, svg in charts.items()
        },
        "motions": motions,
        "slice_groups": [
            (group.scan + 1, figures.colour_of(group.scan), content.scans[group.scan], group)
            for group in groups
        ],
    }


def page_path(output_dir: Path, label: str) -> Path:
    """Path of the page of a participant (and session)."""
    return output_dir / f"{label}.html"


@dataclass(frozen=True)
class ScanRow:
    """A scan in the tables of the page.

    Parameters
    ----------
    number
        Number of the scan among all scans, from 1.
    colour
        Colour of the scan in all charts, as ``#rrggbb``.
    transform
        URL of the file that holds its pose.
    """

    number: int
    colour: str
    transform: str


@dataclass(frozen=True)
class ContrastRows:
    """A contrast in the tables of the page.

    Parameters
    ----------
    image
        URL of the image.
    scans
        Rows of the scans, one for each.
    """

    image: str
    scans: tuple[ScanRow, ...]


def _contrast_rows(
    content: ParticipantReport, stacks: Sequence[_Stack], output_dir: Path
) -> list[ContrastRows]:
    return [
        ContrastRows(
            contrast.path.relative_to(output_dir).as_posix(),
            tuple(
                ScanRow(
                    stack.first + index + 1,
                    figures.colour_of(stack.first + index),
                    scan.transform.relative_to(output_dir).as_posix(),
                )
                for index, scan in enumerate(contrast.scans)
            ),
        )
        for contrast, stack in zip(content.contrasts, stacks, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Picture:
    """Intensities of a picture, before a window is chosen.

    Parameters
    ----------
    desc
        Its name in that of its file.
    name
        Text on its button.
    values
        ``(H, W)``.
    lines
        The same, interpolated linearly, which determine the window.
    colour
        Colour of a mark on the button; empty without a mark.
    """

    desc: str
    name: str
    values: planes.Values
    lines: planes.Values
    colour: str = ""


class _Stack:
    """The pictures of one contrast, all in the same planes."""

    def __init__(
        self,
        contrast: ReportedContrast,
        content: ParticipantReport,
        view: planes.View,
        folder: FigureFolder,
    ) -> None:
        self._contrast = contrast
        self._folder = folder
        self._key = f"c{content.contrasts.index(contrast)}"
        self.first = content.scans.index(contrast.scans[0])
        self._view = view
        self._volume = Volume(contrast.image, content.grid.affine)
        result = view.sample(self._volume, _STAY, 1)
        self._window = mosaic.window_of(result)
        self._shown = result
        self._result = self._save_grey("result", result, self._window)

    def images(self) -> Flicker:
        """Every scan as acquired, the mean of the interpolated scans, and the result."""
        several = len(self._contrast.scans) > 1
        layers = [
            # Repeats may differ in their units of intensity, so each has its own window.
            self._layer(picture, mosaic.window_of(picture.lines) if several else self._window)
            for picture in self._pictures
        ]
        layers.append(Layer("Result", self._result))
        return self._flicker(self._key, self._contrast.name, layers, self._window)

    def windows(self) -> tuple[tuple[str, Flicker], ...]:
        """The same pictures in the other windows of CT, with the name of each; none for MR."""
        if self._window != mosaic.BRAIN_WINDOW_HU:
            return ()
        result = _Picture("result", "Result", self._shown, self._shown)
        found = []
        for name, window in mosaic.OTHER_WINDOWS_HU.items():
            layers = [
                self._layer(picture, window, name.title()) for picture in (*self._pictures, result)
            ]
            alt = f"{self._contrast.name} in the window for {name}"
            found.append((name, self._flicker(f"{self._key}-{name}", alt, layers, window)))
        return tuple(found)

    @cached_property
    def _pictures(self) -> tuple[_Picture, ...]:
        """Every scan as acquired, and the mean of the interpolated scans."""
        pictures, interpolated = [], []
        for index, scan in enumerate(self._contrast.scans):
            acquired = self._view.sample(scan.volume, scan.pose, 0)
            linear = self._view.sample(scan.volume, scan.pose, 1)
            interpolated.append(linear)
            name = f"Scan {self.first + index + 1} as acquired"
            colour = figures.bright(figures.colour_of(self.first + index))
            pictures.append(_Picture(f"scan{index + 1}", name, acquired, linear, colour))
        mean = _mean_of(interpolated)
        name = "Linear, averaged" if len(interpolated) > 1 else "Linear"
        return (*pictures, _Picture("linear", name, mean, mean))

    def _layer(self, picture: _Picture, window: tuple[float, float], suffix: str = "") -> Layer:
        url = self._save_grey(picture.desc + suffix, picture.values, window)
        return Layer(picture.name, url, picture.colour)

    def _flicker(
        self, key: str, alt: str, layers: Sequence[Layer], window: tuple[float, float]
    ) -> Flicker:
        """Pictures of which the last is shown first."""
        return Flicker(key, alt, tuple(layers), len(layers) - 1, "", self._view, window)

    def uncertainty(self) -> Flicker | None:
        """Standard deviations and the result; None if there are no standard deviations."""
        if self._contrast.sds is None:
            return None
        sds = self._view.sample(Volume(self._contrast.sds, self._volume.affine), _STAY, 1)
        # The window comes from the head alone. Standard deviations are much larger where nothing
        # was measured, and the head would be dark in a window that includes them.
        window = mosaic.window_of(np.where(self._shown > self._threshold, sds, np.nan))
        layers = (
            Layer("Result", self._result),
            Layer("Standard deviation", self._save_grey("std", sds, window)),
        )
        alt = f"Standard deviation of {self._contrast.name}"
        return Flicker(f"{self._key}-std", alt, layers, 1, "", self._view, window)

    def measured(self) -> Flicker | None:
        """The result, tinted where its detail was inferred; None if that is not known."""
        if self._contrast.measured is None:
            return None
        share = self._view.sample(Volume(self._contrast.measured, self._volume.affine), _STAY, 1)
        inferred = np.where(self._shown > self._threshold, 1 - share, np.nan)
        pixels = mosaic.tinted(
            mosaic.grey(self._shown, self._window),
            (inferred / _MOST_INFERRED).astype(np.float32),
        )
        picture = mosaic.encode_webp(pixels, _RESIDUAL_QUALITY)
        url = self._folder.save("measured", ".webp", picture, self._contrast.name)
        layers = (Layer("Result", self._result), Layer("Inferred detail", url))
        alt = f"What of {self._contrast.name} was measured"
        return Flicker(f"{self._key}-measured", alt, layers, 1, "", self._view, self._window)

    @property
    def _threshold(self) -> float:
        """Intensity in the pictures that separates air from the head."""
        low, high = self._window
        return low + _DARKEST_OF_HEAD * (high - low)

    def sheet(self, brick: planes.Brick) -> str:
        """The whole result at low resolution, as a data URL.

        Browsers do not let a script of a page opened from disk read other files.
        """
        pixels = mosaic.grey(brick.sheet(self._volume), self._window)
        return DataUrl.of(mosaic.encode_webp(pixels, _SHEET_QUALITY), "image/webp")

    def outlines(self, content: ParticipantReport) -> Flicker:
        """Edges of every scan of the participant, drawn over the result of this contrast."""
        layers = []
        for index, scan in enumerate(content.scans):
            values = self._view.sample(scan.volume, scan.pose, 1)
            colour = figures.bright(figures.colour_of(index))
            lines = mosaic.edges(values, self._view.pixel_mm)
            picture = mosaic.encode_lines(lines, colour)
            url = self._folder.save(f"edges{index + 1}", ".png", picture)
            layers.append(Layer(f"Edges of scan {index + 1}", url, colour))
        alt = f"{self._contrast.name} with the edges of each scan"
        return Flicker("edges", alt, tuple(layers), 0, self._result, self._view, self._window)

    def residuals(self) -> Flicker:
        """Standardised residuals of every scan of this contrast."""
        layers = []
        for index, scan in enumerate(self._contrast.scans):
            if scan.fit is None:
                continue
            values = self._view.sample(scan.fit.residual_map, scan.pose, 0)
            picture = mosaic.encode_webp(
                mosaic.diverging(values, RESIDUAL_LIMIT), _RESIDUAL_QUALITY
            )
            url = self._folder.save(f"residual{index + 1}", ".webp", picture, self._contrast.name)
            number = self.first + index + 1
            colour = figures.bright(figures.colour_of(number - 1))
            layers.append(Layer(f"Scan {number}", url, colour))
        alt = f"Residuals of {self._contrast.name}"
        return Flicker(f"{self._key}-residual", alt, tuple(layers), 0, "", self._view, self._window)

    def _save_grey(self, desc: str, values: planes.Values, window: tuple[float, float]) -> str:
        picture = mosaic.encode_webp(mosaic.grey(values, window))
        return self._folder.save(desc, ".webp", picture, self._contrast.name)


def _mean_of(values: Sequence[planes.Values]) -> planes.Values:
    """Mean of the pictures ``(H, W)`` at each pixel, ignoring NaN; NaN where all are NaN."""
    stacked = np.stack(values)
    seen = np.isfinite(stacked)
    total = np.where(seen, stacked, 0).sum(axis=0)
    counts = seen.sum(axis=0)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan).astype(np.float32)
