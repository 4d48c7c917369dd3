"""Pages that open from disk, without a network: templates filled in, figures beside them."""

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
    """URL that is the file itself, for what a page holds within."""

    __slots__ = ()

    @classmethod
    def of(cls, content: bytes, media_type: str) -> DataUrl:
        """Put a file into a URL; ``media_type`` such as ``image/webp``."""
        return cls(f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}")


@cache
def _environment() -> Environment:
    # Names of datasets and files, and what sidecars say, are text: none of it is markup.
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
        What it asks for; text is escaped.
    """
    return _environment().get_template(template).render(content)


def url_of(path: PurePosixPath | str) -> str:
    """Relative URL of a file, whatever characters its name has; a `DataUrl` stays as it is.

    Examples
    --------
    >>> url_of("sub-01/figures/100% sure?.svg")
    'sub-01/figures/100%25%20sure%3F.svg'
    """
    if isinstance(path, DataUrl):
        return path
    # A colon in the first part would be taken for the end of a scheme.
    return quote(str(path), safe="/")


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file in full or not at all; see `atomic_path` for what can go wrong."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path
