"""Text for the methods section of a paper, and the references to cite."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import __version__
from ..config import NO_TEMPLATE, AnatomicalReference, ModelSettings, SpaceSettings
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
        Key by which the text cites it.
    kind
        Type of the BibTeX entry, such as ``article``.
    fields
        BibTeX fields and their values, in the order in which they are written.
    """

    key: str
    kind: str
    fields: dict[str, str]

    @property
    def bibtex(self) -> str:
        """The BibTeX entry."""
        lines = [f"  {name} = {{{value}}}" for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", ",\n".join(lines), "}"])

    @property
    def text(self) -> str:
        """Authors, year, title, journal and DOI or URL, in one line."""
        authors = self.fields["author"].replace(" and ", "; ")
        where = self.fields.get("journal") or self.fields.get("booktitle") or "arXiv"
        found = f"doi:{self.fields['doi']}" if "doi" in self.fields else self.fields.get("url", "")
        return (
            f"{authors} ({self.fields['year']}). {self.fields['title']}. {where}. {found}".strip()
        )


@cache
def references() -> Mapping[str, Reference]:
    """All publications by key, in the order in which the text cites them."""
    table = tomllib.loads((_ASSETS / "references.toml").read_text("utf-8"))
    return {key: Reference(key, fields.pop("kind"), fields) for key, fields in table.items()}


def methods_text(
    model: ModelSettings, space: SpaceSettings, reference: AnatomicalReference = "sessionwise"
) -> str:
    """Methods of a run, for the methods section of a paper; references as ``[@key]``.

    Parameters
    ----------
    model, space
        Settings of the run.
    reference
        The space of the sessions: one for each, or one that all visits of the participant share.
    """
    return _filled_in(model=model, space=space, reference=reference, shared=None, methods=())


def group_methods_text(
    model: ModelSettings, shared: SharedGrid | None, methods: Collection[str]
) -> str:
    """Methods of a whole cohort, as `methods_text` gives them for a participant.

    Parameters
    ----------
    model
        Settings with which the images of the participants were made.
    shared
        Grid that all participants share; None if there is none.
    methods
        How images were brought to this grid: ``refit``, ``reslice`` or both.
    """
    stated = None
    if shared is not None:
        grid = {"shape": shared.grid.shape, "voxel_size": shared.grid.voxel_size.tolist()}
        stated = {**asdict(shared.settings), **grid}
    return _filled_in(
        model=model,
        space=SpaceSettings(),
        reference="sessionwise",
        shared=stated,
        methods=methods,
    )


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
    """The publications that a text cites, in the order of `references`."""
    return tuple(reference for key, reference in references().items() if f"@{key}" in text)


def write_citation(output_dir: Path, text: str) -> None:
    """Write ``logs/CITATION.md`` and ``logs/CITATION.bib`` for this run and all earlier runs.

    Runs into the same folder may differ in method and version, and images of earlier runs may
    still be there.

    Parameters
    ----------
    output_dir
        Root of the derivative dataset.
    text
        Methods of this run, from `methods_text` or `group_methods_text`.

    Raises
    ------
    UniResError
        If the files cannot be written.
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
    # Processes for other participants of this run write the same text: nothing is rewritten.
    if content != before or not path.with_suffix(".bib").is_file():
        write_text(path.with_suffix(".bib"), bibtex)
        write_text(path, content)


# Beginning of every methods text; it identifies the lines of earlier runs in the file.
_BEGINNING = "Scans organised as BIDS [@gorgolewski2016] were processed with bids_unires"
_SEVERAL = (
    "Of all runs into this folder, the latest first. The sidecar of an image tells which version "
    "and settings it was made with."
)
