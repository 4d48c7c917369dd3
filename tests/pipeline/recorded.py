"""What both levels make of a small cohort, in figures and words that can be compared.

``python -m tests.pipeline.recorded`` renews the record; read what changes like code.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from bids_unires.dataset.transforms import read_transform
from bids_unires.space.affines import apply_affine
from tests.pipeline.study import GROUP

RECORD = Path(__file__).with_name("recorded.json")
# What differs from run to run, or from version to version.
PASSING = {"RuntimeSeconds", "PeakMemoryBytes", "Version", "runtime"}
NUMBER = r"[-+−]?\d+([.,]\d+)*(e-?\d+)?"  # noqa: RUF001
RUN = r"\d{8}-\d{6}-[0-9a-f]{6}"
QUANTILES = (5, 25, 50, 75, 95)
# Longer ones are prose, which may be said in other words at any time.
WORDS = 60


def described(out: Path) -> dict[str, Any]:
    """Names of all files, and what images, sidecars, transforms, tables and pages hold."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    names = [path.relative_to(out).as_posix() for path in files]
    return {
        "files": sorted(re.sub(RUN, "RUN", name) for name in names),
        "images": {path.name: figures_of(path) for path in files if path.name.endswith(".nii.gz")},
        "sidecars": {
            path.name: without_passing(json.loads(path.read_text()))
            for path in files
            if path.suffix == ".json" and path.name.startswith(("sub-01_", "tpl-"))
        },
        "transforms": {
            path.name: rounded(read_transform(path)) for path in files if path.suffix == ".txt"
        },
        "table": without_passing(rows_of(out / "group_unires.tsv")),
        "pages": {name: said_by(out / name) for name in ("sub-01.html", "group_unires.html")},
    }


def figures_of(path: Path) -> dict[str, Any]:
    """How bright an image is and how much it varies, where it lies, and along which axis."""
    image = nib.Nifti1Image.from_filename(path)
    values = image.get_fdata()
    weight = np.abs(values)
    at = np.moveaxis(np.indices(values.shape), 0, -1)
    centre = apply_affine(image.affine, np.average(at.reshape(-1, 3), 0, weight.ravel()))
    return {
        "type": str(image.get_data_dtype()),
        "shape": list(values.shape),
        "affine": rounded(image.affine),
        "mean": rounded(values.mean()),
        "sd": rounded(values.std()),
        "quantiles": rounded(np.percentile(values, QUANTILES)),
        "centre_mm": rounded(centre),
        "steps": rounded([np.abs(np.diff(values, axis=axis)).mean() for axis in range(3)]),
    }


def rounded(values: Any) -> Any:
    """Numbers with five figures, which is more than a processor's rounding leaves the same."""
    array = np.asarray(values, dtype=float)
    shown = [float(f"{value:.5g}") + 0.0 if abs(value) > 1e-6 else 0.0 for value in array.ravel()]
    return np.reshape(shown, array.shape).tolist()


def without_passing(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: without_passing(value) for key, value in content.items() if key not in PASSING}
    if isinstance(content, list):
        return [without_passing(item) for item in content]
    if isinstance(content, str) and " " in content:
        return re.sub(NUMBER, "#", content)
    return rounded(content) if isinstance(content, float) else content


def rows_of(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: number_or_text(value) for key, value in row.items()}
            for row in csv.DictReader(file, delimiter="\t")
        ]


def number_or_text(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


class Words(HTMLParser):
    """All that a page says, in order, but for its scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("script", "style")
        self.said += [value for key, value in attrs if key in ("alt", "aria-label") and value]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.said.append(" ".join(data.split()))


def said_by(page: Path) -> list[str]:
    """Headings, labels and cells; their numbers are those of sidecars, or of the time it took."""
    words = Words()
    words.feed(page.read_text("utf-8"))
    said = (re.sub(NUMBER, "#", text) for text in words.said)
    return [text for text in said if len(text) <= WORDS]


def differences(
    now: Any, before: Any, relative: float, absolute: float, where: str = ""
) -> Iterator[str]:
    """Where two descriptions differ, by more than a tolerance where they hold numbers."""
    if isinstance(now, Mapping) and isinstance(before, Mapping):
        yield from (f"{where}/{key} is gone" for key in before if key not in now)
        yield from (f"{where}/{key} is new" for key in now if key not in before)
        for key in (key for key in now if key in before):
            yield from differences(now[key], before[key], relative, absolute, f"{where}/{key}")
    elif are_words(now) and are_words(before):
        lines = difflib.ndiff(before, now)
        yield from (f"{where}: {line}" for line in lines if line.startswith(("+ ", "- ")))
    elif isinstance(now, list) and isinstance(before, list):
        if len(now) != len(before):
            yield f"{where}: {len(now)} in place of {len(before)}"
        for index, (one, other) in enumerate(zip(now, before, strict=False)):
            yield from differences(one, other, relative, absolute, f"{where}/{index}")
    elif is_number(now) and is_number(before):
        if not np.isclose(now, before, rtol=relative, atol=absolute):
            yield f"{where}: {now} in place of {before}"
    elif now != before:
        yield f"{where}: {now!r} in place of {before!r}"


def are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def renew(record: Path = RECORD) -> None:
    from tests.pipeline.conftest import write_participants

    with tempfile.TemporaryDirectory() as folder:
        study = write_participants(Path(folder))
        assert study.group(*GROUP) == 0
        record.write_text(json.dumps(described(study.out), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    renew(*map(Path, sys.argv[1:]))
