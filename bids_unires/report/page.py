"""Pages that open from disk without a network: templates are filled in here."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..dataset.writing import atomic_path


class DataUrl(str):
    """URL that contains a file, for pictures inside a page."""

    __slots__ = ()

    @classmethod
    def of(cls, content: bytes, media_type: str) -> DataUrl:
        """Encode a file as a URL; ``media_type`` is for example ``image/webp``."""
        return cls(f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}")


@cache
def _environment() -> Environment:
    # Names of datasets and files, and fields of sidecars, are plain text, so markup is escaped.
    environment = Environment(
        loader=PackageLoader("bids_unires.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["url"] = url_of
    environment.globals["zip"] = partial(zip, strict=True)
    return environment


def render_page(template: str, content: Mapping[str, Any]) -> str:
    """Fill in a page.

    Parameters
    ----------
    template
        Name of a file in ``assets``.
    content
        Values of the variables of the template, by name; text is escaped.

    Returns
    -------
    str
        The page in HTML.
    """
    return _environment().get_template(template).render(content)


def url_of(path: PurePosixPath | str) -> str:
    """Relative URL of a file, with any characters in its name; a `DataUrl` is returned unchanged.

    Examples
    --------
    >>> url_of("sub-01/figures/100% sure?.svg")
    'sub-01/figures/100%25%20sure%3F.svg'
    """
    if isinstance(path, DataUrl):
        return path
    # Quoted, since a browser would read a colon in the first part as the end of a URL scheme.
    return quote(str(path), safe="/")


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file completely or not at all; `atomic_path` lists the errors."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path
