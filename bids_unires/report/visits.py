"""The page that shows the visits of a participant beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from .. import __version__
from ..dataset.naming import resolution_text
from ..dataset.writing import write_text
from ..space.grid import Grid
from ..space.volume import Volume
from . import mosaic, planes
from .figure_folder import FigureFolder
from .flicker import Flicker, Layer
from .motion import Motion
from .page import DataUrl, render_page

DIFFERENCE_LIMIT = 0.25
"""Difference between visits that is shown in full colour, as a share of the window of intensity."""

_STAY = np.eye(4)
_SHEET_QUALITY = 75
_DIFFERENCE_QUALITY = 80


@dataclass(frozen=True, eq=False)
class VisitImage:
    """The image of a contrast at one visit.

    Parameters
    ----------
    session
        Label of the session, without ``ses-``.
    values
        Intensities, ``(X, Y, Z)``.
    path
        The file, for a link.
    brightness
        Ratio of its intensities to those of the first visit of the contrast; None if the two were
        not compared. It scales what the page shows; files are not scaled.
    """

    session: str
    values: planes.Values
    path: Path
    brightness: float | None

    @property
    def name(self) -> str:
        """Name of the visit, ``ses-a``."""
        return f"ses-{self.session}"


@dataclass(frozen=True)
class ComparedContrast:
    """A contrast that several visits have, in their order.

    Parameters
    ----------
    name
        Name of the contrast.
    images
        Its image at each visit, at least two.
    """

    name: str
    images: tuple[VisitImage, ...]


@dataclass(frozen=True)
class VisitRow:
    """A visit in the table of the page.

    Parameters
    ----------
    session
        Label of the session.
    page
        URL of its own page; empty if there is none.
    motion
        How its first scan was moved from where its file has it.
    """

    session: str
    page: str
    motion: Motion


@dataclass(frozen=True, eq=False)
class VisitsReport:
    """Content of the page.

    Parameters
    ----------
    label
        ``sub-01``.
    dataset
        Name of the dataset.
    reference
        Where the shared space lies: ``first-lex`` or ``unbiased``.
    grid
        Grid of all images.
    seen
        Voxels that all visits show, ``(X, Y, Z)``.
    contrasts
        The contrasts that several visits have.
    visits
        The visits.
    """

    label: str
    dataset: str
    reference: str
    grid: Grid
    seen: planes.Values
    contrasts: tuple[ComparedContrast, ...]
    visits: tuple[VisitRow, ...]


@dataclass(frozen=True)
class _Named:
    name: str


def visits_page_path(output_dir: Path, label: str) -> Path:
    """Path of the page of the visits of a participant."""
    return output_dir / f"{label}_visits.html"


def write_visits_report(content: VisitsReport, output_dir: Path) -> tuple[Path, ...]:
    """Write the pictures of the visits of a participant, then the page, under ``output_dir``.

    Raises
    ------
    UniResError
        If a file cannot be written.
    """
    folder = FigureFolder(output_dir, content.label)
    images = [image.values for contrast in content.contrasts for image in contrast.images]
    box = planes.head_box(images, content.grid)
    view, brick = planes.view_of(box), planes.brick_of(box)
    stacks = [_Stack(contrast, content, view, folder) for contrast in content.contrasts]
    page = render_page(
        "visits.html.jinja",
        {
            "report": content,
            "version": __version__,
            "resolution": resolution_text(content.grid.voxel_size.tolist()),
            "stacks": [(stack.beside(), stack.visits(), stack.differences()) for stack in stacks],
            "links": [stack.links(output_dir) for stack in stacks],
            "brick": brick,
            "explored": [
                _Named(f"{contrast.name} {image.name}")
                for contrast in content.contrasts
                for image in contrast.images
            ],
            "sheets": [sheet for stack in stacks for sheet in stack.sheets(brick)],
            "difference_limit": DIFFERENCE_LIMIT,
        },
    )
    return (*folder.written, write_text(visits_page_path(output_dir, content.label), page))


class _Stack:
    """The pictures of one contrast, all in the same planes and as bright as each other."""

    def __init__(
        self,
        contrast: ComparedContrast,
        content: VisitsReport,
        view: planes.View,
        folder: FigureFolder,
    ) -> None:
        self._contrast = contrast
        self._key = f"c{content.contrasts.index(contrast)}"
        self._view = view
        self._folder = folder
        affine = content.grid.affine
        self._volumes = [
            Volume(image.values / np.float32(image.brightness or 1), affine)
            for image in contrast.images
        ]
        self._shown = [view.sample(volume, _STAY, 1) for volume in self._volumes]
        self._window = mosaic.window_of(self._shown[0])
        seen = view.sample(Volume(content.seen, affine), _STAY, 1)
        self._unseen = ~(seen > 0.5)
        self._layers = tuple(
            Layer(image.name, self._save(f"visit{index + 1}", mosaic.grey(values, self._window)))
            for index, (image, values) in enumerate(zip(contrast.images, self._shown, strict=True))
        )

    def beside(self) -> tuple[Layer, ...]:
        """The visits, to show beside each other."""
        return self._layers

    def visits(self) -> Flicker:
        """The visits in one place, to switch between."""
        alt = f"{self._contrast.name} at each visit"
        last = len(self._layers) - 1
        return Flicker(self._key, alt, self._layers, last, "", self._view, self._window)

    def differences(self) -> Flicker:
        """Each visit minus the one before it."""
        low, high = self._window
        limit = DIFFERENCE_LIMIT * (high - low)
        pairs = pairwise(zip(self._contrast.images, self._shown, strict=True))
        layers = []
        for index, ((before, earlier), (after, later)) in enumerate(pairs):
            change = np.where(self._unseen, np.float32(np.nan), later - earlier)
            picture = mosaic.diverging(change, limit, lifted=False)
            url = self._save(f"change{index + 1}", picture, _DIFFERENCE_QUALITY)
            layers.append(Layer(f"{after.name} minus {before.name}", url))
        alt = f"Change of {self._contrast.name}"
        shown = len(layers) - 1
        return Flicker(
            f"{self._key}-change", alt, tuple(layers), shown, "", self._view, self._window
        )

    def links(self, output_dir: Path) -> list[tuple[str, str, float | None]]:
        """Name, URL and relative brightness of every image."""
        return [
            (image.name, image.path.relative_to(output_dir).as_posix(), image.brightness)
            for image in self._contrast.images
        ]

    def sheets(self, brick: planes.Brick) -> list[str]:
        """Every visit at low resolution, as data URLs."""
        pixels = (mosaic.grey(brick.sheet(volume), self._window) for volume in self._volumes)
        return [
            DataUrl.of(mosaic.encode_webp(each, _SHEET_QUALITY), "image/webp") for each in pixels
        ]

    def _save(self, desc: str, pixels: mosaic.Pixels, quality: int | None = None) -> str:
        content = (
            mosaic.encode_webp(pixels) if quality is None else mosaic.encode_webp(pixels, quality)
        )
        return self._folder.save(desc, ".webp", content, self._contrast.name)
