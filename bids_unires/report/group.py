"""The report of a cohort: one page that contains its pictures, so that it can be shared."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..dataset.naming import resolution_text
from ..dataset.reading import load_labels, load_volume
from ..dataset.writing import write_text
from ..errors import UniResError
from ..space.volume import Volume
from . import mosaic, planes, quality_table
from .citation import cited, group_methods_text
from .flicker import Flicker, Layer
from .group_content import GroupReport, MeanPicture, MemberPicture, Reach, SharedGrid
from .outliers import LEAST_ROWS, MAD_TO_SD, SCORE_LIMIT, Outlier
from .page import DataUrl, render_page

logger = logging.getLogger("bids_unires")

PAGE_NAME = "group_unires.html"

_STAY = np.eye(4)
# Width of the planes of one participant in pixels: a page has to hold hundreds of participants.
_TILE_WIDTH = 460
_TILE_QUALITY = 70
_OUTLINE_COLOUR = "#ffb000"
_MEAN_QUALITY = 85
# Margin around the head in the mean image, for heads that are larger or lie elsewhere.
_MARGIN_MM = 14.0


@dataclass(frozen=True)
class Tile:
    """Picture of one participant in the overview of all participants.

    Parameters
    ----------
    label, contrast
        Participant (and session), and contrast of the image.
    page
        URL of the participant's own page; empty if there is none.
    picture
        URL of the picture of the planes; empty if the image cannot be read.
    outline
        URL of the outline of the mask, drawn over the picture; empty without a mask.
    mean
        Index of the mean image of the same contrast among all mean images; None if there is none.
    problem
        Reason why the picture or its outline is missing; empty if neither is.
    marks
        Names of the columns in which the participant is an outlier.
    """

    label: str
    contrast: str
    page: str
    picture: str
    outline: str
    mean: int | None
    problem: str
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Absence:
    """Images that are missing on the shared grid, all for the same reason.

    Parameters
    ----------
    status
        ``failed``, or ``missing`` if the group level had no image to use.
    contrasts
        Names of the contrasts; empty for all contrasts of a participant.
    reason
        The reason.
    labels
        Labels of the participants (and sessions).
    """

    status: str
    contrasts: tuple[str, ...]
    reason: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class TableRow:
    """A row of the table.

    Parameters
    ----------
    label
        Label of the participant (and session).
    page
        URL of the participant's own page; empty if there is none.
    cells
        Cells, one for each column.
    """

    label: str
    page: str
    cells: list[quality_table.Cell]


@dataclass(frozen=True)
class Side:
    """One axis of the shared grid.

    Parameters
    ----------
    name
        Names of its two directions.
    voxels
        Number of voxels along the axis.
    millimetres
        Length in mm.
    low, high
        How far the participants extend in both directions.
    """

    name: str
    voxels: int
    millimetres: float
    low: Reach
    high: Reach

    @property
    def before(self) -> float:
        """Free space between the low face and the participants, in % of the length."""
        return max(0.0, 100 * self.low.room / self.millimetres)

    @property
    def filled(self) -> float:
        """Extent of all participants, in % of the length."""
        return min(100.0, 100 * (self.high.position - self.low.position) / self.millimetres)


def write_group_report(content: GroupReport, output_dir: Path) -> Path:
    """Write the page of a cohort under ``output_dir``, with one image in memory at a time.

    If an image cannot be read, the page shows the reason instead of the picture.

    Parameters
    ----------
    content
        Content of the report.
    output_dir
        Root of the derivative dataset.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UniResError
        If the page cannot be written.
    """
    outliers: dict[int, dict[str, Outlier]] = defaultdict(dict)
    for outlier in content.outliers:
        outliers[outlier.row][outlier.column] = outlier
    marks: dict[str, list[str]] = defaultdict(list)
    for index, found in outliers.items():
        marks[label_of(content.rows[index])] += found
    pictures = _Pictures(content, output_dir, marks)
    text = group_methods_text(content.model, content.shared, content.methods)
    page = render_page(
        "group.html.jinja",
        {
            "report": content,
            "version": __version__,
            "counts": _counts(content),
            "absences": _absences(content.rows),
            **_shown_grid(content.shared, output_dir),
            "means": pictures.means(),
            "small_means": pictures.small_means,
            "tile_view": pictures.view,
            "tiles": list(pictures.tiles()),
            "masks": sorted({member.mask_name for member in content.members} - {""}),
            **_shown_table(content, output_dir, outliers),
            "methods": text,
            "references": cited(text),
        },
    )
    return write_text(output_dir / PAGE_NAME, page)


def _shown_grid(shared: SharedGrid | None, output_dir: Path) -> dict[str, Any]:
    """What the page shows of the shared grid, by name in the template."""
    return {
        "sides": _sides(shared) if shared else [],
        "resolution": shared and resolution_text(shared.grid.voxel_size.tolist()),
        "grid_image": shared and shared.path.relative_to(output_dir).as_posix(),
    }


def _shown_table(
    content: GroupReport, output_dir: Path, outliers: Mapping[int, Mapping[str, Outlier]]
) -> dict[str, Any]:
    """The table of quality and its outliers, by name in the template."""
    columns = quality_table.columns_of(content.columns, content.rows)
    labels = map(label_of, content.rows)
    return {
        "columns": columns,
        "empty_columns": sorted(set(content.columns) - {column.name for column in columns}),
        "table": [
            TableRow(
                label,
                _page_of(label, output_dir),
                quality_table.cells_of(row, columns, outliers.get(index, {})),
            )
            for index, (label, row) in enumerate(zip(labels, content.rows, strict=True))
        ],
        "outlier_rows": len(outliers),
        "rule": {"limit": SCORE_LIMIT, "least": LEAST_ROWS, "factor": MAD_TO_SD},
    }


def label_of(row: Mapping[str, Any]) -> str:
    """Label of the participant (and session) of a row of the table.

    Examples
    --------
    >>> label_of({"participant_id": "sub-01", "session_id": "ses-a"})
    'sub-01_ses-a'
    """
    return "_".join(part for part in (row["participant_id"], row.get("session_id")) if part)


class _Pictures:
    """Pictures of mean images and participants, all in the same planes of the shared grid."""

    def __init__(
        self, content: GroupReport, output_dir: Path, marks: Mapping[str, Sequence[str]]
    ) -> None:
        self._content = content
        self._output_dir = output_dir
        self._marks = marks
        self._numbers: dict[str, int] = {}
        self.small_means: list[DataUrl] = []
        self.view: planes.View | None = None

    def means(self) -> Flicker | None:
        """Large pictures of the mean of every contrast; the first mean determines the planes."""
        shared = self._content.shared
        if shared is None:
            return None
        layers, large, window = [], None, (0.0, 1.0)
        for mean, volume in self._readable_means():
            if large is None:
                box = planes.head_box([volume.data], volume.grid, _MARGIN_MM)
                large, self.view = planes.view_of(box), planes.view_of(box, _TILE_WIDTH)
            values = large.sample(volume, _STAY, 1)
            window = mosaic.window_of(values)
            name = f"{mean.contrast} ({mean.participants})"
            layers.append(Layer(name, _grey(values, window, _MEAN_QUALITY)))
            self._numbers[mean.contrast] = len(self.small_means)
            self.small_means.append(_grey(self._small(volume), window, _TILE_QUALITY))
        if large is None:
            self.view = planes.view_of(planes.grid_box(shared.grid), _TILE_WIDTH)
            return None
        return Flicker("mean", "Mean of all participants", tuple(layers), 0, "", large, window)

    def tiles(self) -> Iterator[Tile]:
        """One picture of each participant; call `means` first."""
        for member in self._content.members if self.view else ():
            picture = outline = problem = ""
            try:
                values = self._small(load_volume(member.image))
                picture = _grey(values, mosaic.window_of(values), _TILE_QUALITY)
                outline = self._outline(member)
            except UniResError as error:
                problem = str(error)
                logger.warning("the report cannot show %s as it should: %s", member.label, error)
            yield Tile(
                member.label,
                member.contrast,
                _page_of(member.label, self._output_dir),
                picture,
                outline,
                self._numbers.get(member.contrast),
                problem,
                tuple(dict.fromkeys(self._marks.get(member.label, ()))),
            )

    def _readable_means(self) -> Iterator[tuple[MeanPicture, Volume]]:
        for mean in self._content.means:
            try:
                yield mean, load_volume(mean.image)
            except UniResError as error:
                logger.warning("the report has no mean of %s: %s", mean.contrast, error)

    def _outline(self, member: MemberPicture) -> str:
        if member.mask is None:
            return ""
        mask = load_labels(member.mask)
        values = self._small(Volume((mask.data > 0).astype(np.float32), mask.affine))
        lines = mosaic.encode_lines(mosaic.outline(values), _OUTLINE_COLOUR)
        return DataUrl.of(lines, "image/png")

    def _small(self, volume: Volume) -> planes.Values:
        if self.view is None:
            raise ValueError("where the planes are is not known yet")
        return self.view.sample(volume, _STAY, 1)


def _grey(values: planes.Values, window: tuple[float, float], quality: int) -> DataUrl:
    return DataUrl.of(mosaic.encode_webp(mosaic.grey(values, window), quality), "image/webp")


def _page_of(label: str, output_dir: Path) -> str:
    name = f"{label}.html"
    return name if (output_dir / name).is_file() else ""


def _counts(content: GroupReport) -> dict[str, int]:
    done = [row for row in content.rows if row.get("status") == "done"]
    failed = {label_of(row) for row in content.rows if row.get("status") == "failed"}
    present = {label_of(row) for row in done}
    return {
        "participants": len({row["participant_id"] for row in done}),
        "sessions": len({label_of(row) for row in done if row.get("session_id")}),
        "images": len(done),
        "failed": len(failed),
        "left_out": len({label_of(row) for row in content.rows} - present - failed),
    }


def _absences(rows: Sequence[Mapping[str, Any]]) -> list[Absence]:
    """Images that are missing on the shared grid, grouped by reason; failures come first."""
    reasons: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get("status") not in (None, "done"):
            contrasts = reasons[row["status"], row.get("reason") or ""]
            contrasts[row.get("contrast") or ""].append(label_of(row))
    absences = []
    for (status, reason), contrasts in sorted(reasons.items()):
        shared: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for contrast, labels in contrasts.items():
            shared[tuple(labels)].append(contrast)
        absences += [
            Absence(status, tuple(filter(None, names)), reason, labels)
            for labels, names in shared.items()
        ]
    return absences


def _sides(shared: SharedGrid) -> list[Side]:
    reaches = shared.reaches
    return [
        Side(
            f"{low.direction} – {high.direction}",  # noqa: RUF001
            shared.grid.shape[axis],
            abs(high.face - low.face),
            low,
            high,
        )
        for axis, (low, high) in enumerate(zip(reaches[::2], reaches[1::2], strict=True))
    ]
