"""What to cite, and how to say in a paper what was done."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import __version__
from ..config import NO_TEMPLATE, ModelSettings, SpaceSettings
from ..dataset.naming import resolution_text
from ..dataset.writing import write_text
from .group_content import SharedGrid

_ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Reference:
    """A publication.

    Parameters
    ----------
    key
        What the text refers to it by.
    kind
        BibTeX's kind of entry.
    fields
        BibTeX's fields and their values, in the order they are written.
    """

    key: str
    kind: str
    fields: dict[str, str]

    @property
    def bibtex(self) -> str:
        """The entry."""
        lines = [f"  {name} = {{{value}}}" for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", ",\n".join(lines), "}"])

    @property
    def text(self) -> str:
        """Authors, year, title and where to find it, in one line."""
        authors = self.fields["author"].replace(" and ", "; ")
        where = self.fields.get("journal") or self.fields.get("booktitle") or "arXiv"
        found = f"doi:{self.fields['doi']}" if "doi" in self.fields else self.fields.get("url", "")
        return (
            f"{authors} ({self.fields['year']}). {self.fields['title']}. {where}. {found}".strip()
        )


@cache
def references() -> Mapping[str, Reference]:
    """All publications by key, in the order of the text."""
    table = tomllib.loads((_ASSETS / "references.toml").read_text("utf-8"))
    return {key: Reference(key, fields.pop("kind"), fields) for key, fields in table.items()}


def methods_text(model: ModelSettings, space: SpaceSettings) -> str:
    """What was done, for the methods section of a paper; references as ``[@key]``.

    Parameters
    ----------
    model, space
        Settings of the run.
    """
    return _filled_in(model=model, space=space, shared=None, methods=())


def group_methods_text(
    model: ModelSettings, shared: SharedGrid | None, methods: Collection[str]
) -> str:
    """What was done with a whole cohort; as `methods_text`.

    Parameters
    ----------
    model
        Settings that the participants' images were made with.
    shared
        The grid that they all came to, if there is one.
    methods
        How they came to it: ``refit``, ``reslice`` or both.
    """
    stated = None
    if shared is not None:
        grid = {"shape": shared.grid.shape, "voxel_size": shared.grid.voxel_size.tolist()}
        stated = {**asdict(shared.settings), **grid}
    return _filled_in(model=model, space=SpaceSettings(), shared=stated, methods=methods)


def _filled_in(**content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_ASSETS), autoescape=False, undefined=StrictUndefined
    )
    environment.filters |= {"resolution": resolution_text, "power": _power}
    environment.globals |= {"version": __version__, "no_template": NO_TEMPLATE}
    text = environment.get_template("methods.txt.jinja").render(content)
    return " ".join(text.split())


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-")


def cited(text: str) -> tuple[Reference, ...]:
    """The publications that a text refers to, in the order of `references`."""
    return tuple(reference for key, reference in references().items() if f"@{key}" in text)


def write_citation(output_dir: Path, text: str) -> None:
    """Write ``logs/CITATION.md`` and ``logs/CITATION.bib``, of this run and of those before it.

    Runs into one folder may differ in method and version, and what earlier ones made may still
    be there.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    text
        What this run did: `methods_text` or `group_methods_text`.

    Raises
    ------
    UniResError
        If they cannot be written.
    """
    path = output_dir / "logs" / "CITATION.md"
    before = path.read_text("utf-8", errors="replace") if path.is_file() else ""
    texts = [text, *(line for line in before.splitlines() if line.startswith(_BEGINNING))]
    texts = list(dict.fromkeys(texts))
    found = cited("".join(texts))
    listed = "\n".join(f"- [@{each.key}] {each.text}" for each in found)
    heading = ["# Methods", _SEVERAL] if len(texts) > 1 else ["# Methods"]
    content = "\n\n".join([*heading, *texts, "# References", listed]) + "\n"
    bibtex = "\n\n".join(each.bibtex for each in found) + "\n"
    # Participants of one run, which say the same, do not write over each other's.
    if content != before or not path.with_suffix(".bib").is_file():
        write_text(path.with_suffix(".bib"), bibtex)
        write_text(path, content)


# Of a methods text, which tells its line from others.
_BEGINNING = "Scans organised as BIDS [@gorgolewski2016] were processed with bids_unires"
_SEVERAL = (
    "Of all runs into this folder, the latest first. The sidecar of an image tells which version "
    "and settings it was made with."
)
