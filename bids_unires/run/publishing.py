"""Bring the results of one unit of work under the names of the plain files they were made from."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..dataset.entities import image_stem
from ..dataset.naming import MEASURED, STD, lookup_path, sidecar_path
from ..dataset.plain_files import FilesPlan
from ..dataset.scans import Contrast, LabelImage, Scan
from ..dataset.writing import atomic_path
from ..errors import UsageError
from ..report.page import url_of

_MEDIA = {".svg": "image/svg+xml", ".webp": "image/webp", ".png": "image/png"}


@dataclass(frozen=True)
class ResultNames:
    """Names of the results of plain files.

    Parameters
    ----------
    folder
        Folder of the results.
    prefix
        What all names begin with.
    plan
        The unit of work.
    """

    folder: Path
    prefix: str
    plan: FilesPlan

    def image(self, contrast: Contrast) -> Path:
        """Path of the image of a contrast."""
        return self._path(f"{contrast.name}.nii.gz")

    def deviations(self, contrast: Contrast) -> Path:
        """Path of the map of standard deviations of a contrast."""
        return self._path(f"{contrast.name}_std.nii.gz")

    def measured(self, contrast: Contrast) -> Path:
        """Path of the map of how much of the detail of a contrast was measured."""
        return self._path(f"{contrast.name}_measured.nii.gz")

    def label(self, label: LabelImage) -> Path:
        """Path of a label image; its own name, or a longer one where an image has that."""
        stem = image_stem(label.path)
        taken = {contrast.name for contrast in self.plan.contrasts}
        return self._path(f"{stem}_labels.nii.gz" if stem in taken else f"{stem}.nii.gz")

    def transform(self, contrast: Contrast, scan: Scan) -> Path:
        """Path of the transform of a scan; repeats are numbered."""
        several = len(contrast.scans) > 1
        number = f"_{contrast.scans.index(scan) + 1}" if several else ""
        return self._path(f"{contrast.name}{number}_xfm.txt")

    @property
    def mask(self) -> Path:
        """Path of the mask of the field of view."""
        return self._path(f"{self.plan.label}_fov.nii.gz")

    @property
    def page(self) -> Path:
        """Path of the page."""
        return self._path(f"{self.plan.label}.html")

    def all(self, *, with_deviations: bool, with_measured: bool = False) -> tuple[Path, ...]:
        """Paths of all results, the images first.

        Raises
        ------
        UsageError
            If two results would have the same path.
        """
        images = [self.image(contrast) for contrast in self.plan.contrasts]
        if with_deviations:
            images += [self.deviations(contrast) for contrast in self.plan.contrasts]
        if with_measured:
            images += [self.measured(contrast) for contrast in self.plan.contrasts]
        labels = [label for scan in self.plan.scans for label in scan.labels]
        images += [*map(self.label, labels), self.mask]
        tables = [lookup_path(self.label(label)) for label in labels if label.lookup is not None]
        transforms = [
            self.transform(contrast, scan)
            for contrast in self.plan.contrasts
            for scan in contrast.scans
        ]
        paths = [*images, *map(_sidecar, images), *tables, *transforms, self.page]
        path, count = Counter(paths).most_common(1)[0]
        if count > 1:
            raise UsageError(
                f"two results would be called {path}: give a contrast another name (NAME=FILE)"
            )
        return tuple(paths)

    def _path(self, name: str) -> Path:
        return self.folder / f"{self.prefix}{name}"


def publish(derivatives: Path, names: ResultNames) -> None:
    """Copy the results from a derivative dataset of one unit of work, all of them or none.

    The figures become part of the page, so that it is one file.

    Parameters
    ----------
    derivatives
        Root of the derivative dataset.
    names
        The names of the results.

    Raises
    ------
    OutputError, InputOutputError
        If a file cannot be written. None of the results is then replaced.
    """
    renamed = dict(_renamed(derivatives, names))
    page = derivatives / f"{names.plan.label}.html"
    with ExitStack() as stack:

        def temporary(path: Path) -> Path:
            return stack.enter_context(atomic_path(path))

        for source, path in renamed.items():
            if source.suffix == ".json":
                content = _with_references(json.loads(source.read_text("utf-8")), names)
                temporary(path).write_text(
                    json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8"
                )
            else:
                shutil.copyfile(source, temporary(path))
        if page.exists():
            text = _one_file(page.read_text("utf-8"), derivatives, renamed)
            temporary(names.page).write_text(text, "utf-8")


def _sidecar(image: Path) -> Path:
    return image.with_name(f"{image_stem(image)}.json")


def _renamed(derivatives: Path, names: ResultNames) -> Iterator[tuple[Path, Path]]:
    """Files of the derivative dataset, and what they are called among the results."""
    for image in sorted((derivatives / names.plan.folder).glob("*/*.nii.gz")):
        path = _name_of_image(image, names)
        yield image, path
        yield sidecar_path(image), _sidecar(path)
        if lookup_path(image).exists():
            yield lookup_path(image), lookup_path(path)
    scans = {
        scan.uri: names.transform(contrast, scan)
        for contrast in names.plan.contrasts
        for scan in contrast.scans
    }
    for transform in sorted((derivatives / names.plan.folder).glob("*/*_xfm.txt")):
        yield transform, scans[_first_source(transform)]


def _name_of_image(image: Path, names: ResultNames) -> Path:
    stem = image_stem(image)
    if stem.endswith("_mask"):
        return names.mask
    source = _first_source(image)
    if stem.endswith("_dseg"):
        labels = (label for scan in names.plan.scans for label in scan.labels)
        return next(names.label(label) for label in labels if label.uri == source)
    contrast = next(each for each in names.plan.contrasts if each.scans[0].uri == source)
    if f"{STD}_" in stem:
        return names.deviations(contrast)
    return names.measured(contrast) if f"{MEASURED}_" in stem else names.image(contrast)


def _first_source(path: Path) -> str:
    """What a result was made from, first of all, as its sidecar says."""
    return str(json.loads(sidecar_path(path).read_text("utf-8"))["Sources"][0])


def _with_references(content: Any, names: ResultNames) -> Any:
    """A sidecar with the name of the mask where it refers to that of the derivative dataset."""
    if isinstance(content, dict):
        return {key: _with_references(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_references(value, names) for value in content]
    if isinstance(content, str) and content.startswith("bids::"):
        return names.mask.name
    return content


def _one_file(page: str, derivatives: Path, renamed: Mapping[Path, Path]) -> str:
    """The page with its figures inside, and with links to the results beside it."""
    for figure in sorted(derivatives.glob("*/figures/*")):
        encoded = base64.b64encode(figure.read_bytes()).decode("ascii")
        address = f"data:{_MEDIA[figure.suffix]};base64,{encoded}"
        page = _relinked(page, figure.relative_to(derivatives), address)
    for source, path in renamed.items():
        page = _relinked(page, source.relative_to(derivatives), url_of(path.name))
    return page


def _relinked(page: str, path: Path, address: str) -> str:
    return page.replace(f'"{url_of(path.as_posix())}"', f'"{address}"')
